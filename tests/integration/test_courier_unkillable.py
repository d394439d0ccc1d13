"""A hospital's courier is killed, frozen, lied to and cut off, with real processes; each time the exchange succeeds.

One hospital, one site process that takes as long for an answer as the request says, and between courier and coordinator
a CONNECT proxy through which the only way leads, and a line that a test can break.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

import fedloupe_server.hub.deployment as hub
from breakable import Hospital, Line
from fedloupe_server.hub.processes import began, free_ports
from wire_study import write_wire_study

pytestmark = pytest.mark.deployed

SITE = """
import sys, time
from pathlib import Path
from fedloupe_client.site.server import desk_of, serve

done = {}

def handle(blob):  # as the real one: the same question a second time gets the answer that is there
    with open(sys.argv[2], "a") as log:
        print(blob.decode(), file=log)
    if blob not in done:
        time.sleep(float(blob.split()[0]))
        done[blob] = b"answer to " + blob
    return done[blob]

serve(desk_of(handle), Path(sys.argv[1])).wait()
"""
# The coordinator's part: asks what stands in a file, one line an exchange, until the file is gone.
ASKER = '''
import json, time
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedloupe_server.federation.exchange import ask_once
from fedloupe_server.hub.grid import GridExchange, hasten
from fedloupe_server.hub.job import read_job

app = ServerApp()


@app.main()
def ask(grid: Grid, context: Context) -> None:
    """Ask the one hospital, line by line."""
    hasten()
    work, asks = Path(str(context.run_config["work"])), Path(str(context.run_config["study"]))
    told = []
    exchange = GridExchange(grid, read_job(work).table, observer=told.append)
    number = 0
    while asks.is_dir():
        if not (file := asks / f"{number}.ask").is_file():
            time.sleep(0.05)
            continue
        began = time.time()
        replies = ask_once(exchange, {"north": file.read_bytes()}, 900.0)
        answer = {"reply": replies.get("north", b"").decode(), "told": told[-1], "took": time.time() - began}
        part = asks / f"{number}.part"
        part.write_text(json.dumps(answer))
        part.rename(asks / f"{number}.answer")
        number += 1
    (work / "outcome.json").write_text('{"state": "completed"}')
'''


@pytest.fixture(scope="module")
def north(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unkillable")
    (folder / "site.py").write_text(SITE, encoding="utf-8")
    (folder / "bundle").mkdir()
    source = Path(__file__).parents[2] / "configs" / "app"
    text = (source / "pyproject.toml").read_text()
    (folder / "bundle" / "pyproject.toml").write_text(text.replace("fedloupe_server.hub.app:app", "asker_app:app"))
    (folder / "bundle" / "LICENSE").write_bytes((source / "LICENSE").read_bytes())
    (folder / "asker_app.py").write_text(ASKER, encoding="utf-8")
    asks, asked = folder / "asks", folder / "asked.log"
    asks.mkdir()
    line = Line()
    closed = free_ports(1)[0]

    def start_courier(processes, coordinator, hospital):
        """As the deployment does, but the coordinator's address is a port that nothing listens on."""
        line.target, line.certificate = coordinator.proxy_port, coordinator.federation / "tls"
        (port,) = free_ports(1)
        processes.start(
            "courier-north",
            [
                *(sys.executable, "-m", "fedloupe_client.courier", "start", "--coordinator", f"localhost:{closed}"),
                *("--authority", str(hospital.folder / "ca.crt"), "--key", str(hospital.folder / "courier.key")),
                *("--socket", str(hospital.socket), "--home", str(hospital.folder / "flower"), "--port", str(port)),
            ],
            {**os.environ, "HTTPS_PROXY": line.address, "HTTP_PROXY": line.address, "NO_PROXY": ""},
            keep=True,
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub, "start_courier", start_courier)
        patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        with hub.deployment(
            write_wire_study(folder / "study.json", "north"),
            {"north": folder / "north"},
            folder / "work",
            site_command=lambda _, path: [sys.executable, str(folder / "site.py"), str(path), str(asked)],
            progress=lambda text: print(text, flush=True),
            app=folder / "bundle",
        ) as federation:
            running = threading.Thread(
                target=federation.run,
                args=("study", asks, folder / "run"),
                kwargs={"timeout_s": 7200, "progress": print},
            )
            running.start()
            yield Hospital(federation, line, asks, asked)
            for file in asks.iterdir():
                file.unlink()
            asks.rmdir()
            running.join()


class TestThroughTheHospitalsProxy:
    def test_the_only_way_leads_through_connect_and_an_exchange_succeeds(self, north):
        north.succeeds(north.ask(0))
        assert north.line.connects
        assert {path.split(":")[0] for path in north.line.connects} == {"localhost"}, "loopback does not go through it"
        north.until(lambda: (s := north.state)["state"] == "online" and s["last_message"] is not None, 60.0)


def was_restarted_at_once(north, victim, since):
    """The courier's log says so of a process that was killed when the log had this length."""
    log = north.log()[since:]
    assert f'"event": "ended", "process": "{victim}", "exit": -9, "next_start_s": 0.0' in log
    assert "taking up node" in log, "before the coordinator missed the hospital"


class TestKilledInTheMiddleOfAMessage:
    @pytest.mark.parametrize("victim", ["executor", "supernode"])
    def test_the_same_message_is_answered(self, north, victim):
        number = north.ask(4)
        north.at_work(number)
        since = len(north.log())
        os.kill(north.pid(victim), signal.SIGKILL)
        north.succeeds(number)
        assert north.deliveries(number) == 2, "the site was asked again, and had the answer"
        was_restarted_at_once(north, victim, since)

    def test_a_kill_in_the_middle_of_the_answers_upload_costs_no_answer(self, north):
        # The coordinator has the answer's envelope then, and would refuse a second one of another id.
        node = north.pid("supernode")
        north.line.traps[b"/v1/fleet/push-object"] = lambda: os.kill(node, signal.SIGKILL)
        number = north.ask(0)
        north.succeeds(number)
        assert north.deliveries(number) == 2
        assert not north.line.traps

    def test_a_frozen_executor_is_replaced_and_the_message_answered(self, north):
        number = north.ask(10)
        north.at_work(number)
        os.kill(north.pid("executor"), signal.SIGSTOP)
        north.succeeds(number)
        assert north.deliveries(number) > 1, "the site was asked again"

    def test_a_killed_supervisor_leaves_nobody_behind_and_its_successor_answers(self, north):
        number = north.ask(4)
        north.at_work(number)
        children = [north.pid("executor"), north.pid("supernode")]
        os.kill(north.supervisor, signal.SIGKILL)
        north.until(lambda: all(began(pid) is None for pid in children), 60.0)
        north.succeeds(number)  # the deployment's watch starts the courier again, as a service manager would
        assert north.deliveries(number) == 2


class TestBetweenMessages:
    def test_a_killed_supernode_is_back_at_once(self, north):
        north.succeeds(north.ask(0))
        north.idle()
        before, since = north.state["restarts"], len(north.log())
        os.kill(north.pid("supernode"), signal.SIGKILL)
        north.succeeds(north.ask(0))
        was_restarted_at_once(north, "supernode", since)
        assert north.state["restarts"] == before + 1

    def test_a_polite_restart_says_goodbye_and_comes_back_at_once(self, north):
        north.idle()
        os.kill(north.pid("supernode"), signal.SIGTERM)
        north.until(lambda: not (north.folder / "node.json").exists(), 120.0)
        north.until((north.folder / "node.json").exists, 240.0)
        north.succeeds(north.ask(0))


class TestLies:
    @pytest.mark.parametrize("route", ["pull-messages", "push-messages", "push-object", "pull-object", "get-run"])
    def test_one_500_costs_nothing_but_a_moment(self, north, route):
        before = north.state["restarts"]
        north.line.lies.append((f"/v1/fleet/{route}".encode(), 500))
        if route != "get-run":  # asked once a run and SuperNode
            north.succeeds(north.ask(0))
            assert f"/v1/fleet/{route}".encode() in north.line.told
            assert north.state["restarts"] == before
        else:
            os.kill(north.pid("supernode"), signal.SIGKILL)
            north.succeeds(north.ask(0))
            assert f"/v1/fleet/{route}".encode() in north.line.told

    def test_an_answer_that_ends_flowers_loop_ends_the_process_and_another_works(self, north):
        before = north.state["restarts"]
        north.line.lies.append((b"/v1/fleet/pull-messages", 404))
        north.until(lambda: north.state["restarts"] > before, 120.0)
        assert '"event": "ended", "process": "supernode", "exit": 71' in north.log()
        north.succeeds(north.ask(0))

    def test_a_heartbeat_that_dies_ends_the_process_and_another_works(self, north):
        before = north.state["restarts"]
        north.line.lies.append((b"/v1/fleet/send-node-heartbeat", 404))
        north.until(lambda: north.state["restarts"] > before, 120.0)
        assert '"event": "ended", "process": "supernode", "exit": 72' in north.log()
        north.succeeds(north.ask(0))


class TestOutage:
    def test_a_cut_line_is_waited_for_and_said(self, north):
        number = north.ask(3)
        north.at_work(number)
        before = north.state["restarts"]
        north.line.cut()
        north.until(lambda: north.state["state"] == "waiting", 120.0)
        assert north.state["last_code"] == "FL-672"
        time.sleep(5)
        north.line.up = True
        north.succeeds(number)
        assert north.state["restarts"] == before, "it kept trying"
        north.until(lambda: north.state["state"] == "online", 120.0)


class TestPoison:
    def test_a_message_that_kills_each_time_is_given_up_with_a_code(self, north):
        asked = len(north.log())
        number = north.ask(600)
        north.at_work(number)
        for deliveries in (1, 2, 3):
            north.until(lambda n=deliveries: f'"event": "message", "delivery": {n}' in north.log()[asked:], 240.0)
            assert json.loads((north.folder / "in-hand.json").read_text())["deliveries"] == deliveries
            time.sleep(0.5)
            killed = len(north.log())
            os.kill(north.pid("executor"), signal.SIGKILL)
            north.until(lambda n=killed: '"event": "ended", "process": "executor"' in north.log()[n:], 120.0)
        answer = north.answer(number)
        assert "error 100: FL-674 the courier ended too often during this message" in answer["told"]
