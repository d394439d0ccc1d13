"""A training's state as one file in the run's folder, whole or absent, and good for that training alone.

checkpoint = FileCheckpoint(home / "runs" / run / "training.safetensors", key_of(header, "federated", 3, weights))
train_round(..., checkpoint=checkpoint)
checkpoint.remove()                              # once the answer is stored
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save as save_tensors

from fedloupe.errors import FedLoupeError
from fedloupe.models import digest
from fedloupe_client.site.files import keep, opened
from fedloupe_client.training.checkpoint import Place, State

INTERVAL_S = 20.0
"""A training that ends sooner writes nothing."""
ARRAYS = ("weights", "first", "second", "steps", "random", "cuda", "order", "counts", "losses")
_log = logging.getLogger(__name__)


class CheckpointDamaged(FedLoupeError):
    """The state of an interrupted training cannot be read; it is dropped, and the training begins anew."""

    code = "FL-660"
    title = "the state of an interrupted training is damaged"


def key_of(header: Mapping[str, str], scope: str, number: int, *arrays: NDArray[Any]) -> str:
    """SHA-256 of what makes a training this one.

    Args:
        header: of the answer: version, study, run, site.
        scope: `federated`, `local` or `personal`.
        number: the round.
        arrays: what it starts from: weights, scaling and projection.
    """
    said = json.dumps([dict(header), scope, number, digest(*arrays)], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


class FileCheckpoint:
    """See `fedloupe_client.training.checkpoint.Checkpoint`.

    Args:
        path: of the file; its folder exists.
        key: of the training, from `key_of`.
        interval_s: seconds between two writings, measured from the end of one to the start of the next.
    """

    def __init__(self, path: Path, key: str, interval_s: float = INTERVAL_S) -> None:
        self._path, self._key, self._interval_s = path, key, interval_s
        self._written = time.monotonic()

    def load(self) -> State | None:
        """What this training saved; a file of another training is removed, and so is a damaged one, with a warning.

        Raises:
            RunFileUnreadable: see there.
        """
        if not self._path.exists():
            return None
        try:
            key, state = _read(self._path)
        except CheckpointDamaged as error:
            _log.warning("%s", error)
            self.remove()
            return None
        if key != self._key:
            self.remove()
            return None
        return state

    def due(self) -> bool:
        """Whether the interval is over."""
        return time.monotonic() - self._written >= self._interval_s

    def save(self, state: State) -> None:
        """Write aside, fsync, rename.

        Raises:
            RunFileUnwritable: see there.
        """
        place = state.place
        tensors = {name: getattr(state, name) for name in ARRAYS[:6]}
        tensors["order"] = place.order.numpy()
        tensors["counts"] = np.array([place.number, place.epoch, place.batches], np.int64)
        tensors["losses"] = np.array([place.total, place.last], np.float64)
        made = {"key": self._key, "digest": digest(*(tensors[name] for name in ARRAYS))}
        keep(self._path, save_tensors(tensors, metadata=made))
        self._written = time.monotonic()

    def remove(self) -> None:
        """The training is over, or never goes on."""
        self._path.unlink(missing_ok=True)


def _read(path: Path) -> tuple[str, State]:
    try:
        with opened(path) as file:
            made = dict(file.metadata() or {})
            found = {name: np.asarray(file.get_tensor(name)) for name in ARRAYS}
    except SafetensorError as error:
        raise _damaged(path, str(error)) from None
    if made.get("digest") != digest(*found.values()):
        raise _damaged(path, "its content is not what was written")
    number, epoch, batches = (int(v) for v in found["counts"])
    total, last = (float(v) for v in found["losses"])
    place = Place(number, epoch, batches, total, last, torch.from_numpy(found["order"].copy()))
    return made.get("key", ""), State(place=place, **{name: found[name] for name in ARRAYS[:6]})


def _damaged(path: Path, why: str) -> CheckpointDamaged:
    return CheckpointDamaged(
        why, where=str(path), remedy="nothing is lost: the training begins anew; if it happens again, check the disk"
    )
