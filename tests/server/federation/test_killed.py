"""A coordinator killed by SIGKILL at any instant ends with the bits of one that was not; one process a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedloupe_server.federation import run_study
from fedloupe_server.federation.journal import Intent, Journal
from fedloupe_server.federation.opening import RunTaken, alone

ROOT = Path(__file__).parents[3]


class TestKilled:
    @pytest.mark.parametrize("aggregation", ["plain", "secure"])
    def test_started_again_it_ends_with_the_same_bits(self, tmp_path, aggregation):
        command = [sys.executable, "-m", "tests.server.federation.killed", aggregation, str(tmp_path)]
        env = {**os.environ, "PYTHONSAFEPATH": ""}  # a command that was tested here before may have set it
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        instants = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(instants) == 12
        assert all(one["killed"] == -9 for one in instants), "it was killed"
        assert {one["rounds"] for one in instants} >= {0, 1, 2}, "before its rounds and in the middle of them"
        assert [one["at"] for one in instants if not one["same"]] == []


class TestIntent:
    def test_it_is_on_disk_before_anybody_is_asked(self, study, hospitals, run_dir):
        seen = []

        def hook(r):
            if r.kind == "train" and r.scope == "federated":
                seen.append(json.loads((run_dir / "rounds" / f"{r.round:04d}.intent.json").read_text()))
            return ...

        hospitals.hook = hook
        results = run_study(study, hospitals, run_dir)
        assert {tuple(one["sites"]) for one in seen} == {("north", "south", "east")}
        assert {one["deadlines"]["south"] for one in seen if one["round"] == 1} == {study.quorum.timeout_s}
        assert {one["weights"] for one in seen if one["round"] == 2} == {results.rounds[0].weights}

    def test_a_round_that_was_announced_asks_whom_it_was_announced_to(self, study, hospitals, run_dir, stopped):
        """Killed in round 2; whoever is there now, the round goes on with those of its intent."""

        def hook(r):
            if r.kind == "train" and r.scope == "federated" and r.round == 2:
                raise stopped
            return ...

        hospitals.hook = hook
        with pytest.raises(stopped):
            run_study(study, hospitals, run_dir)
        journal = Journal(run_dir)
        weights = journal.rounds()[0].weights
        journal.intend(Intent(round=2, sites=("north", "south"), deadlines={}, weights=weights))
        hospitals.hook = lambda r: ...
        results = run_study(study, hospitals, run_dir)
        assert [r.participants for r in results.rounds][1:] == [("north", "south"), ("east", "north", "south")]

    def test_one_of_other_weights_does_not_count(self, tmp_path):
        journal = Journal(tmp_path)
        journal.intend(Intent(round=2, sites=("north",), deadlines={}, weights="a"))
        assert journal.intent(2, "b") is None and journal.intent(1, "a") is None
        assert journal.intent(2, "a").sites == ("north",)


class TestOneProcess:
    def test_a_second_one_is_refused_and_asks_nobody(self, study, hospitals, run_dir):
        holds = "import sys; from pathlib import Path\nfrom fedloupe_server.federation.opening import alone\n"
        holds += "with alone(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()\n"
        run_dir.mkdir()
        command = [sys.executable, "-c", holds, str(run_dir)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout.readline() == "held\n"
            with pytest.raises(RunTaken, match="FL-709"):
                run_study(study, hospitals, run_dir)
            assert hospitals.log == []
            other.kill()
        run_study(study, hospitals, run_dir)

    def test_it_is_free_again_after_an_error(self, tmp_path):
        with pytest.raises(ZeroDivisionError), alone(tmp_path):
            raise ZeroDivisionError
        with alone(tmp_path):
            pass
