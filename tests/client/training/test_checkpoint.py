"""A training that was interrupted between two batches ends with the bits of one that was not."""

from __future__ import annotations

import logging
from functools import partial

import numpy as np
import pytest

from fedloupe_client.site.checkpoint import FileCheckpoint, key_of
from fedloupe_client.site.files import RunFileUnreadable, RunFileUnwritable
from fedloupe_client.training.local import fine_tune, train_alone, train_round

HEADER = {"version": "1", "fingerprint": "f" * 64, "run": "r", "site": "north"}
TRAINING = {"rounds": 3, "local_epochs": 2, "batch_size": 8}
BATCHES = 4  # 32 training patients in batches of 8


class Stopped(Exception):
    """The process is killed."""


class Stopping(FileCheckpoint):
    """Every batch is written; after `left` of them the process dies."""

    left: int | None = None

    def save(self, state) -> None:
        super().save(state)
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise Stopped


@pytest.fixture
def noisy(make_study):
    """Dropout and feature noise draw on the generator in every batch."""
    model = {"components": 2, "width": 8, "depth": 1, "heads": 2, "image": False, "dropout": 0.2}
    return make_study(model=model, training={**TRAINING, "strategy": "fedprox", "proximal_mu": 0.1})


def interrupted(work, path, key: str, batches: int):
    """The result of `work` that died after so many batches and was begun again with nothing but the file."""
    stopping = Stopping(path, key, 0)
    stopping.left = batches
    with pytest.raises(Stopped):
        work(checkpoint=stopping)
    assert path.exists()
    counting = Stopping(path, key, 0)
    counting.left = 0
    result = work(checkpoint=counting)
    return result, -counting.left


class TestARound:
    @pytest.mark.parametrize("batches", [1, 2, BATCHES, BATCHES + 1, 2 * BATCHES])
    def test_goes_on_and_ends_with_the_same_bits(self, noisy, cohort, preparation, start, tmp_path, batches):
        work = partial(train_round, noisy, "north", cohort, preparation, start, number=2)
        whole = work()
        result, after = interrupted(work, tmp_path / "state", "k", batches)
        assert result.weights.tobytes() == whole.weights.tobytes() and result.loss == whole.loss
        assert after == 2 * BATCHES - batches, "no batch is trained twice"

    def test_that_is_not_interrupted_has_the_same_bits_with_and_without(
        self, noisy, cohort, preparation, start, tmp_path
    ):
        work = partial(train_round, noisy, "north", cohort, preparation, start, number=2)
        kept = work(checkpoint=FileCheckpoint(tmp_path / "state", "k", 0))
        assert kept.weights.tobytes() == work().weights.tobytes()

    def test_that_is_short_writes_nothing(self, noisy, cohort, preparation, start, tmp_path):
        path = tmp_path / "state"
        train_round(noisy, "north", cohort, preparation, start, number=2, checkpoint=FileCheckpoint(path, "k"))
        assert not path.exists()


class TestModelsOfTheSitesOwn:
    @pytest.mark.parametrize("batches", [3, 2 * BATCHES, 2 * BATCHES + 1, 5 * BATCHES])
    def test_the_local_model_goes_on_in_the_round_that_it_had_reached(
        self, noisy, cohort, preparation, start, tmp_path, batches
    ):
        work = partial(train_alone, noisy, "north", cohort, preparation, start)
        whole = work()
        result, after = interrupted(work, tmp_path / "state", "k", batches)
        assert result.weights.tobytes() == whole.weights.tobytes() and result.loss == whole.loss
        assert after == 3 * 2 * BATCHES - batches

    def test_so_does_the_personal_one(self, make_study, cohort, preparation, start, tmp_path):
        study = make_study(personalisation={"epochs": 3})
        work = partial(fine_tune, study, "north", cohort, preparation, start)
        result, after = interrupted(work, tmp_path / "state", "k", 5)
        assert result.weights.tobytes() == work().weights.tobytes()
        assert after == 3 * BATCHES - 5


class TestTheFile:
    def state(self, noisy, cohort, preparation, start, path, key="k"):
        """A file as a process leaves it that dies after two batches."""
        stopping = Stopping(path, key, 0)
        stopping.left = 2
        with pytest.raises(Stopped):
            train_round(noisy, "north", cohort, preparation, start, number=2, checkpoint=stopping)

    def test_of_another_training_is_dropped(self, noisy, cohort, preparation, start, tmp_path):
        path = tmp_path / "state"
        self.state(noisy, cohort, preparation, start, path)
        work = partial(train_round, noisy, "north", cohort, preparation, start * 2, number=2)
        result = work(checkpoint=FileCheckpoint(path, "other"))
        assert result.weights.tobytes() == work().weights.tobytes()
        assert not path.exists()

    @pytest.mark.parametrize("how", ["cut", "flipped", "empty", "text"])
    def test_that_is_damaged_is_dropped_with_a_warning(self, noisy, cohort, preparation, start, tmp_path, caplog, how):
        path = tmp_path / "state"
        self.state(noisy, cohort, preparation, start, path)
        blob = bytearray(path.read_bytes())
        blob[-1] ^= 1
        path.write_bytes({"cut": blob[: len(blob) // 2], "flipped": blob, "empty": b"", "text": b"x" * 40}[how])
        work = partial(train_round, noisy, "north", cohort, preparation, start, number=2)
        with caplog.at_level(logging.WARNING):
            result = work(checkpoint=FileCheckpoint(path, "k"))
        assert "FL-660" in caplog.text
        assert result.weights.tobytes() == work().weights.tobytes()
        assert not path.exists()

    def test_that_cannot_be_written_is_an_error_with_a_remedy(self, noisy, cohort, preparation, start, tmp_path):
        checkpoint = FileCheckpoint(tmp_path / "file" / "state", "k", 0)
        (tmp_path / "file").write_text("in the folder's place")
        with pytest.raises(RunFileUnwritable, match="writing failed"):
            train_round(noisy, "north", cohort, preparation, start, number=2, checkpoint=checkpoint)

    def test_that_may_not_be_read_is_not_called_damaged_and_stays(self, noisy, cohort, preparation, start, tmp_path):
        path = tmp_path / "state"
        path.mkdir()  # a folder cannot be opened, whoever asks
        checkpoint = FileCheckpoint(path, "k", 0)
        with pytest.raises(RunFileUnreadable, match="opening failed"):
            train_round(noisy, "north", cohort, preparation, start, number=2, checkpoint=checkpoint)
        assert path.exists()

    def test_is_twice_the_model_beside_the_model_and_for_its_owner_only(
        self, noisy, cohort, preparation, start, tmp_path
    ):
        path = tmp_path / "state"
        self.state(noisy, cohort, preparation, start, path)
        assert path.stat().st_size < 3 * start.nbytes + 16_000
        assert path.stat().st_mode & 0o077 == 0

    def test_every_part_of_the_key_counts(self, start):
        keys = {
            key_of(HEADER, "federated", 1, start),
            key_of(HEADER, "federated", 2, start),
            key_of(HEADER, "local", 1, start),
            key_of(HEADER, "federated", 1, start + 1),
            key_of(HEADER, "federated", 1, start, np.zeros(1)),
            *(key_of({**HEADER, name: "x"}, "federated", 1, start) for name in HEADER),
        }
        assert len(keys) == 5 + len(HEADER)
