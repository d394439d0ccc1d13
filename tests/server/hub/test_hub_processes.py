"""Processes of a deployment: ended whatever happens, told when they end early, started again where that is meant."""

from __future__ import annotations

import sys

import pytest

from fedloupe_server.hub.processes import ProcessEnded, Processes, free_ports


class TestProcesses:
    def sleeper(self):
        return [sys.executable, "-c", "import time; time.sleep(60)"]

    def test_leaving_the_block_by_an_error_ends_them(self, tmp_path):
        with pytest.raises(ValueError, match="inside"), Processes(tmp_path, print) as processes:
            processes.start("one", self.sleeper())
            process = processes.running["one"].process
            raise ValueError("inside")
        assert process.poll() == -15

    def test_one_that_ends_early_is_told_with_its_log(self, tmp_path):
        with Processes(tmp_path, print) as processes:
            processes.start("one", [sys.executable, "-c", "print('no database'); raise SystemExit(3)"])
            with pytest.raises(ProcessEnded, match=r"FL-730.*code 3: no database"):
                processes.wait_for_port("one", free_ports(1)[0], 60.0)

    def test_one_that_is_never_ready_is_told(self, tmp_path):
        with Processes(tmp_path, print) as processes:
            processes.start("one", self.sleeper())
            with pytest.raises(ProcessEnded, match="not ready"):
                processes.wait_for("one", lambda: False, 0.2)

    def test_an_executor_that_died_is_started_again(self, tmp_path):
        lines = []
        with Processes(tmp_path, lines.append) as processes:
            processes.pause_s = 0.0
            processes.start("executor", self.sleeper(), keep=True)
            first = processes.running["executor"].process
            first.kill()
            first.wait()
            processes.check()
            assert processes.running["executor"].process.pid != first.pid
            assert processes.running["executor"].process.poll() is None
        assert lines == ["executor ended with code -9; starting it again"]

    def test_one_that_keeps_dying_is_not_started_in_a_tight_loop(self, tmp_path):
        lines = []
        with Processes(tmp_path, lines.append, pause_s=3600.0) as processes:
            processes.start("site", [sys.executable, "-c", ""], keep=True)
            processes.running["site"].process.wait()
            processes.check()
        assert lines == []

    def test_a_dead_superlink_is_not_hidden(self, tmp_path):
        with Processes(tmp_path, print) as processes:
            processes.start("superlink", [sys.executable, "-c", ""])
            processes.running["superlink"].process.wait()
            with pytest.raises(ProcessEnded, match="superlink ended with code 0"):
                processes.check()
