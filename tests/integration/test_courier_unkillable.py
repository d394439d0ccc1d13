"""A hospital's courier is killed, frozen, lied to and cut off, with real processes; each time the exchange succeeds.

One hospital, one site process that takes as long for an answer as the request says, and between courier and coordinator
a CONNECT proxy through which the only way leads, and a line that a test can break.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import fedloupe_server.hub.deployment as hub
from fedloupe_server.hub.processes import free_ports

pytestmark = pytest.mark.deployed

SITE = """
import sys, time
from pathlib import Path
from fedloupe_client.site.server import serve

done = {}

def handle(blob):  # as the real one: the same question a second time gets the answer that is there
    with open(sys.argv[2], "a") as log:
        print(blob.decode(), file=log)
    if blob not in done:
        time.sleep(float(blob.split()[0]))
        done[blob] = b"answer to " + blob
    return done[blob]

serve(handle, Path(sys.argv[1])).wait()
"""
# The coordinator's part: asks what stands in a file, one line an exchange, until the file is gone.
ASKER = '''
import json, time
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedloupe_server.hub.app import read_nodes
from fedloupe_server.hub.grid import GridExchange, hasten

app = ServerApp()


@app.main()
def ask(grid: Grid, context: Context) -> None:
    """Ask the one hospital, line by line."""
    hasten()
    work, asks = Path(str(context.run_config["work"])), Path(str(context.run_config["study"]))
    told = []
    exchange = GridExchange(grid, read_nodes(work / "nodes.json"), observer=told.append)
    number = 0
    while asks.is_dir():
        if not (file := asks / f"{number}.ask").is_file():
            time.sleep(0.05)
            continue
        began = time.time()
        replies = exchange({"north": file.read_bytes()}, 150.0)
        answer = {"reply": replies.get("north", b"").decode(), "told": told[-1], "took": time.time() - began}
        part = asks / f"{number}.part"
        part.write_text(json.dumps(answer))
        part.rename(asks / f"{number}.answer")
        number += 1
    (work / "outcome.json").write_text('{"state": "completed"}')
'''


class Line:
    """The only way to the coordinator: an HTTP proxy that knows CONNECT, and behind it a line that tests break.

    TLS ends at the real proxy, so a false answer can only be given by a TLS end of our own: `lie` does that.
    """

    def __init__(self) -> None:
        self.target, self.certificate, self.up = 0, None, True
        self.lies: list[tuple[bytes, int]] = []  # (route, status): answered once
        self.told: list[bytes] = []
        self.traps: dict[bytes, Callable[[], None]] = {}  # (route): called once, the request goes nowhere
        self.connects: list[str] = []
        self._open: list[socket.socket] = []
        line = self

        class Proxy(BaseHTTPRequestHandler):
            def do_CONNECT(self):
                line.connects.append(self.path)
                if not line.up:
                    self.send_error(503)
                    return
                self.send_response(200)
                self.end_headers()
                line.carry(self.connection)
                self.close_connection = True

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def carry(self, near: socket.socket) -> None:
        """End TLS here, with the coordinator's own certificate, and speak to the real proxy, request by request."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate / "server.crt", self.certificate / "server.key")
        trust = ssl.create_default_context(cafile=self.certificate / "ca.crt")
        with contextlib.suppress(OSError), context.wrap_socket(near, server_side=True) as inner:
            self._open.append(inner)
            while (request := read_http(inner)) and self.up:
                route = request.split(b" ", 2)[1]
                if (trap := self.traps.pop(route, None)) is not None:
                    trap()
                    break
                lie = next((one for one in self.lies if route == one[0]), None)
                if lie is not None:
                    self.lies.remove(lie)
                    self.told.append(route)
                    inner.sendall(b"HTTP/1.1 %d Lie\r\ncontent-length: 0\r\n\r\n" % lie[1])
                    continue
                with (
                    socket.create_connection(("127.0.0.1", self.target)) as raw,
                    trust.wrap_socket(raw, server_hostname="localhost") as far,
                ):
                    far.sendall(request)
                    answer = read_http(far)
                if not self.up:
                    break
                inner.sendall(answer)

    def cut(self) -> None:
        self.up = False
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.clear()


def read_http(stream: ssl.SSLSocket) -> bytes:
    """One request or response with a content-length."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (part := stream.recv(65536)):
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(h.split(b":")[1]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-length")), 0)
    while len(body) < length:
        if not (part := stream.recv(65536)):
            return b""
        body += part
    return head + b"\r\n\r\n" + body


class North:
    """The hospital under test and the coordinator's asker."""

    def __init__(self, federation: hub.Federation, line: Line, asks: Path, asked: Path) -> None:
        self.federation, self.line, self._asks, self._asked = federation, line, asks, asked
        self._count = 0
        self.folder = federation.hospitals["north"].folder

    @property
    def state(self) -> dict:
        return json.loads((self.folder / "courier-state.json").read_text())

    def ask(self, seconds: float) -> int:
        """Ask for an answer that takes the site so long."""
        number, self._count = self._count, self._count + 1
        part = self._asks / f"{number}.new"
        part.write_text(f"{seconds} question {number}")
        part.rename(self._asks / f"{number}.ask")
        return number

    def answer(self, number: int, timeout_s: float = 120.0) -> dict:
        file = self._asks / f"{number}.answer"
        self.until(file.is_file, timeout_s)
        answer = json.loads(file.read_text())
        print(answer)
        return answer

    def succeeds(self, number: int) -> dict:
        answer = self.answer(number)
        text = (self._asks / f"{number}.ask").read_text()
        assert answer["reply"] == f"answer to {text}", answer
        return answer

    def deliveries(self, number: int) -> int:
        """How often the site was asked this."""
        lines = self._asked.read_text().splitlines() if self._asked.is_file() else []
        return sum(line.endswith(f"question {number}") for line in lines)

    def at_work(self, number: int) -> None:
        self.until(lambda: self.deliveries(number) > 0, 60.0)

    def until(self, true: Callable[[], bool], timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while not true():
            assert time.monotonic() < end, (self.state, self.log()[-3000:])
            self.federation.processes.check()
            time.sleep(0.05)

    def log(self) -> str:
        return (self.federation.coordinator.work / "logs" / "courier-north.log").read_text()

    @property
    def supervisor(self) -> int:
        return self.federation.processes.running["courier-north"].process.pid

    def pid(self, name: str) -> int:
        """Process id of `supernode` or `executor`."""
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
                if parent == self.supervisor and f"courier.{name}" in (folder / "cmdline").read_text():
                    return int(folder.name)
        raise AssertionError(f"no {name}")


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
        line.target, line.certificate = coordinator.proxy_port, coordinator.work / "tls"
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
            {"north": folder / "north"},
            folder / "work",
            site_command=lambda _, path: [sys.executable, str(folder / "site.py"), str(path), str(asked)],
            progress=lambda text: print(text, flush=True),
            app=folder / "bundle",
        ) as federation:
            running = threading.Thread(
                target=federation.run,
                args=("study", asks, folder / "run"),
                kwargs={"timeout_s": 1200, "progress": print},
            )
            running.start()
            yield North(federation, line, asks, asked)
            for file in asks.iterdir():
                file.unlink()
            asks.rmdir()
            running.join()


class TestThroughTheHospitalsProxy:
    def test_the_only_way_leads_through_connect_and_an_exchange_succeeds(self, north):
        north.succeeds(north.ask(0))
        assert north.line.connects
        assert {path.split(":")[0] for path in north.line.connects} == {"localhost"}, "loopback does not go through it"
        assert north.state["state"] == "online"
        assert north.state["last_message"] is not None


class TestKilledInTheMiddleOfAMessage:
    @pytest.mark.parametrize("victim", ["executor", "supernode"])
    def test_the_same_message_is_answered(self, north, victim):
        number = north.ask(4)
        north.at_work(number)
        os.kill(north.pid(victim), signal.SIGKILL)
        answer = north.succeeds(number)
        assert north.deliveries(number) == 2, "the site was asked again, and had the answer"
        assert answer["took"] < 40.0, "well before Flower's heartbeat of 60 s runs out"

    def test_a_kill_in_the_middle_of_the_answers_upload_costs_no_answer(self, north):
        # The coordinator has the answer's envelope then, and would refuse a second one of another id.
        node = north.pid("supernode")
        north.line.traps[b"/v1/fleet/push-object"] = lambda: os.kill(node, signal.SIGKILL)
        number = north.ask(0)
        north.succeeds(number)
        assert north.deliveries(number) == 2
        assert not north.line.traps

    def test_a_frozen_executor_is_replaced_and_the_message_answered(self, north):
        number = north.ask(1)
        north.at_work(number)
        os.kill(north.pid("executor"), signal.SIGSTOP)
        north.succeeds(number)

    def test_a_killed_supervisor_leaves_nobody_behind_and_its_successor_answers(self, north):
        number = north.ask(4)
        north.at_work(number)
        children = [north.pid("executor"), north.pid("supernode")]
        os.kill(north.supervisor, signal.SIGKILL)
        north.until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 5.0)
        north.succeeds(number)  # the deployment's watch starts the courier again, as a service manager would
        assert north.deliveries(number) == 2


class TestBetweenMessages:
    def test_a_killed_supernode_is_back_within_seconds(self, north):
        north.succeeds(north.ask(0))
        before = north.state["restarts"]
        os.kill(north.pid("supernode"), signal.SIGKILL)
        answer = north.succeeds(north.ask(0))
        assert answer["took"] < 30.0
        assert north.state["restarts"] == before + 1

    def test_a_polite_restart_says_goodbye_and_comes_back_at_once(self, north):
        os.kill(north.pid("supernode"), signal.SIGTERM)
        north.until(lambda: not (north.folder / "node.json").exists(), 20.0)
        north.until((north.folder / "node.json").exists, 30.0)
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
        north.until(lambda: north.state["restarts"] > before, 30.0)
        assert '"event": "ended", "process": "supernode", "exit": 71' in north.log()
        north.succeeds(north.ask(0))

    def test_a_heartbeat_that_dies_ends_the_process_and_another_works(self, north):
        before = north.state["restarts"]
        north.line.lies.append((b"/v1/fleet/send-node-heartbeat", 404))
        north.until(lambda: north.state["restarts"] > before, 60.0)
        assert '"event": "ended", "process": "supernode", "exit": 72' in north.log()
        north.succeeds(north.ask(0))


class TestOutage:
    def test_a_cut_line_is_waited_for_and_said(self, north):
        number = north.ask(3)
        north.at_work(number)
        before = north.state["restarts"]
        north.line.cut()
        north.until(lambda: north.state["state"] == "waiting", 60.0)
        assert north.state["last_code"] == "FL-672"
        time.sleep(5)
        north.line.up = True
        north.succeeds(number)
        assert north.state["restarts"] == before, "it kept trying"
        north.until(lambda: north.state["state"] == "online", 10.0)


class TestPoison:
    def test_a_message_that_kills_each_time_is_given_up_with_a_code(self, north):
        number = north.ask(600)
        north.at_work(number)
        for deliveries in (1, 2, 3):
            north.until(lambda n=deliveries: north.log().count(f'"event": "message", "delivery": {n}') > 0, 60.0)
            north.until(lambda: json.loads((north.folder / "in-hand.json").read_text())["deliveries"] == deliveries, 60)
            time.sleep(0.5)
            os.kill(north.pid("executor"), signal.SIGKILL)
            north.until(lambda: '"event": "ended"' in north.log(), 10.0)
        answer = north.answer(number)
        assert "error 100: FL-674 the courier ended too often during this message" in answer["told"]
