"""Sites in worker processes: the same answers as in this process, errors that come through, no process left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal

import pytest

from fedloupe.errors import FedLoupeError
from fedloupe.messages import Failure, decode
from fedloupe_server.federation.exchange import ask_once
from fedloupe_server.hub.inprocess import inprocess_exchange
from fedloupe_server.simulation.sites import make_home
from fedloupe_server.simulation.working import shared_out, working_sites


class _Seeded:
    seed = 1


@pytest.fixture
def homes(tmp_path):
    source = {"format": "table", "root": ".", "clinical": {"file": "c.csv"}, "features": "f.csv"}
    return {name: make_home(tmp_path / name, _Seeded(), name, source, {}) for name in ("north", "south", "east")}


LOADS = {"north": 5, "south": 3, "east": 3}


class TestAnswers:
    def test_are_those_of_one_process(self, homes, tmp_path):
        answers = []
        for workers in (1, 2):
            with working_sites(homes, LOADS, workers=workers, log=tmp_path / "log") as handlers:
                answers.append({name: decode(handlers[name](b"junk")) for name in sorted(handlers)})
        assert answers[0] == answers[1]
        assert all(isinstance(answer, Failure) for answer in answers[0].values())
        assert list(answers[0]) == ["east", "north", "south"]

    def test_a_worker_that_died_makes_its_sites_absent_and_no_other(self, homes, tmp_path):
        with working_sites(homes, LOADS, workers=2, log=tmp_path / "log") as handlers:
            exchange = inprocess_exchange(handlers, at_once=3)
            assert set(ask_once(exchange, dict.fromkeys(homes, b"junk"), 5.0)) == set(homes)
            first = min(multiprocessing.active_children(), key=lambda process: process.pid)
            os.kill(first.pid, signal.SIGKILL)
            first.join()
            assert set(ask_once(exchange, dict.fromkeys(homes, b"junk"), 5.0)) == {"south", "east"}


class TestOpening:
    def test_a_home_without_a_configuration_is_that_error_and_leaves_no_process(self, homes, tmp_path):
        (homes["south"] / "site.yaml").unlink()
        with (
            pytest.raises(FedLoupeError, match=r"site\.yaml"),
            working_sites(homes, LOADS, workers=2, log=tmp_path / "log"),
        ):
            pass
        assert multiprocessing.active_children() == []


class TestSharing:
    def test_the_largest_go_first_to_whoever_has_least(self):
        loads = {"a": 80, "b": 70, "c": 60, "d": 60, "e": 40, "f": 0}
        # 80 | 70, then 60 to the second, 60 to the first, 40 to the second: 140 | 170
        assert shared_out(loads, 2) == [["a", "d", "f"], ["b", "c", "e"]]
        assert sorted(name for share in shared_out(loads, 3) for name in share) == sorted(loads)
