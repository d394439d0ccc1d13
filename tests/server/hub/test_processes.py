"""Processes are kept, tied to who started them, and their logs stay small."""

from __future__ import annotations

import functools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fedloupe_server.hub.processes import ProcessEnded, Processes, _die_with, alive, began, free_ports
from waiting import until

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def processes(tmp_path):
    with Processes(tmp_path / "logs", lambda line: None, pause_s=0.0, log_bytes=1000) as started:
        yield started


def test_one_that_is_kept_is_started_again_and_counted(processes):
    processes.start("one", SLEEP, keep=True)
    first = processes.running["one"].process
    first.kill()
    first.wait()
    processes.check()
    assert processes.running["one"].process.pid != first.pid and processes.running["one"].starts == 2


def test_two_threads_that_watch_start_it_once(processes):
    processes.start("one", SLEEP, keep=True)
    first = processes.running["one"].process
    first.kill()
    first.wait()
    told = []
    processes.progress = lambda line: (told.append(line), time.sleep(0.5))  # so the other has time to do the same
    watchers = [threading.Thread(target=processes.check) for _ in range(2)]
    for one in watchers:
        one.start()
    for one in watchers:
        one.join()
    assert processes.running["one"].starts == 2 and told == ["one ended with code -9; starting it again"]


def test_one_that_is_not_kept_is_an_error_with_its_log(processes):
    processes.start("one", [sys.executable, "-c", "print('because', flush=True); raise SystemExit(3)"])
    processes.running["one"].process.wait()
    with pytest.raises(ProcessEnded, match="code 3: because"):
        processes.check()


def test_started_again_it_is_what_it_was(processes):
    processes.start("one", SLEEP, {"MARK": "1"}, keep=True)
    processes.again("one")
    environment = Path(f"/proc/{processes.running['one'].process.pid}/environ")
    until(lambda: b"MARK=1" in environment.read_bytes())
    assert processes.running["one"].keep and processes.running["one"].starts == 2


def test_a_log_that_grew_is_moved_and_the_process_goes_on_writing(processes, tmp_path):
    script = (
        "import sys, time; from pathlib import Path\n"
        "print('x' * 1500, flush=True)\n"
        "while not Path(sys.argv[1]).exists(): time.sleep(0.01)\n"
        "print('y' * 300, flush=True); time.sleep(60)"
    )
    processes.start("one", [sys.executable, "-c", script, str(tmp_path / "go")])
    log = processes.running["one"].log
    until(lambda: log.stat().st_size > 1000)
    processes.check()
    assert log.with_suffix(".log.1").stat().st_size > 1000
    assert log.stat().st_size == 0
    (tmp_path / "go").touch()
    until(lambda: log.stat().st_size > 200)
    assert not log.read_bytes().startswith(b"\0"), "no hole where the old lines were"


def test_tied_ones_die_with_who_started_them(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from fedloupe_server.hub.processes import Processes\n"
        "p = Processes(Path(sys.argv[1]), print, tied=True).__enter__()\n"
        "p.start('one', [sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(p.running['one'].process.pid, flush=True); time.sleep(60)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], env=env, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    since = began(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until(lambda: not alive(child, since))


def test_a_process_is_told_from_a_later_one_of_its_number():
    process = subprocess.Popen(SLEEP)
    since = began(process.pid)
    assert alive(process.pid, since) and not alive(process.pid, since - 1)
    process.kill()
    until(lambda: began(process.pid) is None)  # a zombie is none
    process.wait()
    assert not alive(process.pid, since)


def test_one_whose_parent_died_before_it_was_tied_does_not_begin():
    began_by = [functools.partial(_die_with, parent) for parent in (os.getpid(), os.getppid())]
    codes = [subprocess.run([sys.executable, "-c", ""], preexec_fn=tied, check=False).returncode for tied in began_by]
    assert codes == [0, 1]


def test_a_port_is_free_and_given_once_and_no_connection_takes_it():
    ports = free_ports(200)
    assert len({*ports, *free_ports(200)}) == 400
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", ports[0]))
        listening.listen()
        with socket.create_connection(listening.getsockname()) as outgoing:
            assert outgoing.getsockname()[1] > max(ports)
