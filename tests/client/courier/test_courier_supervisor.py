"""The courier's supervisor with small programs in the place of its two processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from fedloupe_client.courier.service import Courier, CourierRuns, alone
from fedloupe_client.courier.supervise import Supervisor, Times

QUICK = Times(silent=30, stuck=30, steady=0.6, first=0.1, refused=0.3, longest=0.6, goodbye=2.0, look=0.02)
# What a fake says first; then it says `alive` for ever, unless told to be still. The line that it writes says that it
# is tethered; a late one writes it before, and then waits until it may go on.
FAKE = """
import json, os, sys, time
from pathlib import Path
from fedloupe_client.courier.tether import tether

fd, parent, events, tail = int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4]
log = Path(sys.argv[5])
def started():
    with log.open("a") as lines:
        print(os.getpid(), time.monotonic(), file=lines)
if tail == "late":
    started()
    while not log.with_name("go").exists():
        time.sleep(0.02)
say = tether(fd, parent, every_s=0.1)
if tail != "late":
    started()
for event in events:
    say(**event)
if tail == "end":
    time.sleep(0.05); sys.exit(3)
while True:
    time.sleep(0.1)
    if tail in ("working", "late"):
        say("contact")
"""
REFUSED = {"event": "refused", "code": "FL-671", "title": "refused"}
CONTACT, MESSAGE, DONE = {"event": "contact"}, {"event": "message", "delivery": 1}, {"event": "done"}


class Remembering(Supervisor):
    """Remembers what it says in its log."""

    def __init__(self, *given, **named):
        self.said = []
        super().__init__(*given, **named)

    def _say(self, event, **fields):
        self.said.append((event, fields))
        super()._say(event, **fields)

    def pauses(self, name):
        return [said["next_start_s"] for event, said in self.said if event == "ended" and said["process"] == name]


class Bench:
    """A supervisor over fakes whose behaviour a test sets by the count of the start."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.script, self.go = folder, folder / "fake.py", folder / "go"
        self.script.write_text(FAKE, encoding="utf-8")
        self.plans = {"supernode": [([CONTACT], "working")], "executor": [([], "still")]}
        self._started = {"supernode": 0, "executor": 0}
        self.stop = threading.Event()

    def command(self, name):
        def make(report):
            plans = self.plans[name]
            events, tail = plans[min(self._started[name], len(plans) - 1)]
            self._started[name] += 1
            tied = [str(report), str(os.getpid())]
            return [sys.executable, str(self.script), *tied, json.dumps(events), tail, str(self.folder / name)]

        return make

    @contextlib.contextmanager
    def running(self, times=QUICK):
        """In a thread."""
        supervisor = self.supervisor(times)
        thread = threading.Thread(target=supervisor.run, args=(self.stop,))
        thread.start()
        try:
            yield supervisor
        finally:
            self.stop.set()
            thread.join()

    @contextlib.contextmanager
    def by_hand(self, times):
        """It looks when it is told to, and takes for the time what it is told."""
        supervisor = self.supervisor(times)
        try:
            yield supervisor
        finally:
            self.stop.set()
            supervisor.run(self.stop)

    def supervisor(self, times):
        return Remembering({name: self.command(name) for name in self.plans}, self.folder, times=times)

    def starts(self, name):
        file = self.folder / name
        lines = file.read_text().splitlines() if file.is_file() else []
        return [(int(pid), float(at)) for pid, at in (line.split() for line in lines)]

    @property
    def state(self):
        return json.loads((self.folder / "courier-state.json").read_text())

    def until(self, true, timeout_s=60.0):
        end = time.monotonic() + timeout_s
        while not true():
            assert time.monotonic() < end, (self.state, {n: self.starts(n) for n in self.plans})
            time.sleep(0.02)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


class TestEnds:
    def test_a_killed_supernode_is_started_again_and_the_executor_stays(self, bench):
        with bench.running():
            bench.until(lambda: bench.state["state"] == "online" and bench.starts("executor"))
            os.kill(bench.starts("supernode")[0][0], signal.SIGKILL)
            bench.until(lambda: bench.state["restarts"] and bench.state["state"] == "online")
            assert len(bench.starts("supernode")) == 2
            assert len(bench.starts("executor")) == 1
            assert bench.state["restarts"] == 1

    @pytest.mark.parametrize("victim", ["supernode", "executor"])
    def test_in_the_middle_of_a_message_both_are_started_again(self, bench, victim):
        bench.plans["supernode"] = [([CONTACT, MESSAGE], "working"), ([CONTACT], "working")]
        with bench.running() as supervisor:
            bench.until(lambda: supervisor._in_hand and bench.starts("executor"))
            os.kill(bench.starts(victim)[0][0], signal.SIGKILL)
            bench.until(lambda: len(bench.starts("supernode")) == 2 and len(bench.starts("executor")) == 2)
            time.sleep(0.3)
            assert len(bench.starts("supernode")) == len(bench.starts("executor")) == 2
            assert bench.state["last_message"] is not None

    def test_being_killed_for_the_other_half_is_no_failure_of_ones_own(self, bench):
        bench.plans["supernode"] = [([CONTACT, MESSAGE], "working")] * 2 + [([CONTACT], "working")]
        with bench.running(Times(steady=600, first=4.0, longest=9, look=0.02)) as supervisor:
            for starts in (1, 2):
                bench.until(lambda n=starts: len(bench.starts("supernode")) == len(bench.starts("executor")) == n)
                bench.until(lambda: supervisor._in_hand)
                os.kill(bench.starts("executor")[-1][0], signal.SIGKILL)
            bench.until(lambda: len(bench.starts("supernode")) == 3)
            assert supervisor.pauses("executor") == [0.0, 4.0]
            assert supervisor.pauses("supernode") == [0.0, 0.0], "at once, although the executor pauses now"

    def test_after_a_message_the_executor_is_started_again_alone(self, bench):
        bench.plans["supernode"] = [([CONTACT, MESSAGE, DONE], "working")]
        with bench.running() as supervisor:
            bench.until(lambda: bench.state["last_message"] and not supervisor._in_hand and bench.starts("executor"))
            os.kill(bench.starts("executor")[0][0], signal.SIGKILL)
            bench.until(lambda: len(bench.starts("executor")) == 2)
            assert len(bench.starts("supernode")) == 1

    def test_pauses_grow_while_nothing_works_and_the_state_says_failed(self, bench):
        bench.plans["supernode"] = [([], "end")]
        with bench.running(Times(steady=600, first=0.2, longest=0.5, look=0.02)) as supervisor:
            bench.until(lambda: len(bench.starts("supernode")) == 6)
            at = [when for _, when in bench.starts("supernode")]
            pauses = [b - a for a, b in pairwise(at)]
            assert [pause > least for pause, least in zip(pauses[1:], (0.2, 0.4, 0.5, 0.5), strict=True)] == [True] * 4
            assert supervisor.pauses("supernode")[:5] == [0.0, 0.2, 0.4, 0.5, 0.5], "the first time at once"
            assert (bench.state["state"], bench.state["last_code"]) == ("failed", "FL-677")

    def test_a_failing_executor_is_seen_although_the_supernode_is_online(self, bench):
        bench.plans["executor"] = [([], "end")]
        with bench.running(Times(steady=600, first=0.1, longest=0.2, look=0.02)):
            bench.until(lambda: bench.state["state"] == "failed")
            time.sleep(0.3)
            assert bench.state["state"] == "failed"

    def test_an_answered_message_ends_the_growth_of_pauses(self, bench):
        bench.plans["supernode"] = [([], "end")] * 3 + [([CONTACT, MESSAGE, DONE], "end"), ([CONTACT], "working")]
        with bench.running(Times(steady=600, first=1.0, longest=9.0, look=0.02)) as supervisor:
            bench.until(lambda: len(bench.starts("supernode")) == 5)
            at = [when for _, when in bench.starts("supernode")]
            assert at[3] - at[2] > 2.0
            assert supervisor.pauses("supernode") == [0.0, 1.0, 2.0, 0.0]


class TestRefusal:
    def test_a_refused_start_is_tried_again_after_a_pause_and_then_works(self, bench):
        bench.plans["supernode"] = [([REFUSED], "end"), ([REFUSED], "end"), ([CONTACT], "late")]
        with bench.running():
            bench.until(lambda: bench.state["state"] == "refused")
            assert (bench.state["last_code"], bench.state["last_title"]) == ("FL-671", "refused")
            bench.go.touch()
            bench.until(lambda: bench.state["state"] == "online")
            at = [when for _, when in bench.starts("supernode")]
            assert min(at[1] - at[0], at[2] - at[1]) > QUICK.refused
            assert bench.state["last_code"] == "FL-671", "the last error stays readable"

    def test_an_absent_coordinator_is_waited_for_without_a_restart(self, bench):
        away = {"event": "trouble", "code": "FL-672", "title": "away"}
        bench.plans["supernode"] = [([CONTACT, away], "still")]
        with bench.running(Times(look=0.02)):
            bench.until(lambda: bench.state["state"] == "waiting")
            assert bench.state["last_contact"] is not None
            assert len(bench.starts("supernode")) == 1


class TestStandstill:
    @pytest.mark.parametrize("victim", ["supernode", "executor"])
    def test_a_stopped_process_is_killed_and_replaced(self, bench, victim):
        with bench.by_hand(Times(silent=10, stuck=100)) as supervisor:
            child = supervisor.node if victim == "supernode" else supervisor.executor
            bench.until(lambda: supervisor.look(0.0) or (bench.starts(victim) and child.spoke))
            pid = child.process.pid
            os.kill(pid, signal.SIGSTOP)
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
            supervisor.look(0.0)
            supervisor.look(9.0)
            assert child.running
            bench.until(lambda: supervisor.look(11.0) or len(bench.starts(victim)) == 2)
            assert not lives(pid)

    def test_a_slow_start_is_waited_for(self, bench):
        bench.plans["supernode"] = [([CONTACT], "late")]
        with bench.by_hand(Times(silent=10, stuck=100)) as supervisor:
            bench.until(lambda: supervisor.look(0.0) or bench.starts("supernode"))
            supervisor.look(99.0)
            assert supervisor.node.running
            bench.go.touch()
            bench.until(lambda: supervisor.look(99.0) or bench.state["state"] == "online")
            assert len(bench.starts("supernode")) == 1

    def test_a_supernode_that_lives_but_asks_nothing_is_killed_and_replaced(self, bench):
        bench.plans["supernode"] = [([CONTACT], "still"), ([CONTACT], "working")]
        with bench.by_hand(Times(silent=100, stuck=10)) as supervisor:
            bench.until(lambda: supervisor.look(0.0) or bench.state["state"] == "online")
            supervisor.look(9.0)
            assert supervisor.node.running
            bench.until(lambda: supervisor.look(11.0) or len(bench.starts("supernode")) == 2)
            bench.until(lambda: supervisor.look(11.0) or bench.state["state"] == "online")
            bench.until(lambda: supervisor.look(20.0) or supervisor.node.moved == 20.0)
            supervisor.look(29.0)
            assert supervisor.node.running and len(bench.starts("supernode")) == 2


class TestOrphans:
    def test_nothing_outlives_a_killed_supervisor(self, tmp_path):
        bench = Bench(tmp_path)
        program = (
            "import sys, threading; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
            "from test_courier_supervisor import Bench\n"
            "with Bench(Path(sys.argv[2])).running(): threading.Event().wait()"
        )
        here = str(Path(__file__).parent)
        supervisor = subprocess.Popen([sys.executable, "-c", program, here, str(tmp_path)])
        bench.until(lambda: bench.starts("supernode") and bench.starts("executor"))
        os.kill(bench.starts("executor")[0][0], signal.SIGSTOP)  # it can notice nothing by itself
        supervisor.kill()
        supervisor.wait()
        bench.until(lambda: not any(lives(bench.starts(name)[0][0]) for name in bench.plans))

    def test_a_stop_ends_both_and_says_so(self, bench):
        with bench.running():
            bench.until(lambda: bench.starts("supernode") and bench.starts("executor"))
        assert not any(lives(bench.starts(name)[0][0]) for name in bench.plans)
        assert bench.state["state"] == "stopped"

    def test_two_couriers_do_not_work_in_one_folder(self, tmp_path):
        with alone(tmp_path), pytest.raises(CourierRuns, match="FL-676"), alone(tmp_path):
            pass
        with alone(tmp_path):
            pass


class TestCommands:
    courier = Courier(
        coordinator="localhost:443",
        authority=Path("ca.crt"),
        key=Path("courier.key"),
        socket=Path("/run/site.sock"),
        home=Path("home"),
        state=Path("state"),
    )

    def test_the_supernode_listens_on_loopback_runs_nothing_and_never_goes_without_tls(self):
        command = self.courier.commands["supernode"](3)
        assert command[command.index("--host") + 1] == "127.0.0.1"
        assert command[command.index("--node-config") + 1] == 'site-socket="/run/site.sock"'
        assert command[command.index("--isolation") + 1] == "process"
        assert command[command.index("--superexec-auth-secret-file") + 1] == "state/executor.secret"
        assert "--insecure" not in command
        assert "--allow-runtime-dependency-installation" not in command

    def test_each_start_makes_a_fresh_secret_that_only_its_owner_reads(self, tmp_path, monkeypatch):
        seen, environments = [], []

        def look(self, stop):
            seen.append((courier.secret.read_bytes(), courier.secret.stat().st_mode & 0o777))
            environments.append((self.node._env, self.executor._env))

        monkeypatch.setattr(Supervisor, "run", look)
        monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
        courier = Courier("localhost:443", Path("ca"), Path("key"), Path("sock"), tmp_path / "home", tmp_path / "state")
        courier.start(threading.Event())
        courier.start(threading.Event())
        assert [mode for _, mode in seen] == [0o600, 0o600]
        assert len({secret for secret, _ in seen}) == 2
        assert min(len(secret) for secret, _ in seen) >= 32
        node, executor = environments[0]
        assert node["HTTPS_PROXY"] == "http://proxy:3128"
        assert "HTTPS_PROXY" not in executor, "the executor dials loopback alone"
