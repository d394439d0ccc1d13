"""Sites in worker processes: the same answers as in this process, errors that come through, no process left behind."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal

import pytest
import SimpleITK as sitk
import torch

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
        before = multiprocessing.active_children()
        with working_sites(homes, LOADS, workers=2, log=tmp_path / "log") as handlers:
            started = [process for process in multiprocessing.active_children() if process not in before]
            exchange = inprocess_exchange(handlers, at_once=3)
            assert set(ask_once(exchange, dict.fromkeys(homes, b"junk"), 60.0)) == set(homes)
            first = min(started, key=lambda process: int(process.name.rpartition("-")[2]))
            os.kill(first.pid, signal.SIGKILL)
            first.join()
            assert set(ask_once(exchange, dict.fromkeys(homes, b"junk"), 60.0)) == {"south", "east"}


class TestOneProcess:
    @pytest.fixture
    def threads(self):
        """Of PyTorch and of ITK; three each."""
        itk = sitk.ProcessObject
        before = torch.get_num_threads(), itk.GetGlobalDefaultNumberOfThreads()
        torch.set_num_threads(3)
        itk.SetGlobalDefaultNumberOfThreads(3)
        yield lambda: (torch.get_num_threads(), itk.GetGlobalDefaultNumberOfThreads())
        torch.set_num_threads(before[0])
        itk.SetGlobalDefaultNumberOfThreads(before[1])

    def test_is_afterwards_as_it_was(self, homes, tmp_path, threads, caplog):
        logger, file = logging.getLogger("fedloupe_client"), tmp_path / "own"
        own = logging.FileHandler(file, mode="w")
        logger.addHandler(own)
        logger.warning("before")
        with working_sites(homes, LOADS, workers=1, log=tmp_path / "log"):
            assert threads() == (1, 1)
            logger.warning("inside")
        assert threads() == (3, 3)
        logger.warning("afterwards")
        logger.removeHandler(own)
        own.close()
        assert caplog.messages == file.read_text().splitlines() == ["before", "afterwards"]
        assert [line.split()[-1] for line in (tmp_path / "log").read_text().splitlines()] == ["inside"]


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
