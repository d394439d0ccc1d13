"""What makes a model a site's own, kept in the run's folder and never sent.

own = OwnNorms(home / "runs" / run / "norms.safetensors")     # local-norm: scales and shifts between rounds
start, before = own.overlay(weights, positions, number)
own.keep(number, before, trained[positions])

`personal.safetensors` beside it holds the fine-tuned weights, `alone.safetensors` those of the site's patients alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save as save_tensors

from fedloupe.errors import FedLoupeError
from fedloupe_client.site.files import keep, opened

Vector = NDArray[np.float32]


class NormsMissing(FedLoupeError):
    """A personal model is asked of a site that has trained in no round of the run."""

    code = "FL-662"
    title = "the site has no normalisation of its own in this run"


class OwnDamaged(FedLoupeError):
    """A file of the site's own parameters cannot be read."""

    code = "FL-663"
    title = "the site's own parameters of a run are damaged"


class RoundPassed(FedLoupeError):
    """An earlier round is asked again with other weights, and what the site began it with is gone."""

    code = "FL-664"
    title = "the round lies behind the site's own normalisation"


@dataclass(frozen=True)
class Norms:
    """A site's scales and shifts after its last round, and what the round began with, so that it can be repeated.

    Attributes:
        number: the round, from 1.
        before: (k) float32 laid over the received weights; (0) in the site's first round, where nothing was.
        after: (k) float32.
    """

    number: int
    before: Vector
    after: Vector


class OwnNorms:
    """FedBN at one site (Li 2021, arXiv 2102.07623): parameters of normalisation layers stay from round to round.

    Args:
        path: of the file; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def overlay(self, weights: NDArray[Any], positions: NDArray[np.bool_], number: int) -> tuple[NDArray[Any], Vector]:
        """Weights that a round starts from, and what was laid over them: the same again for a repeated round.

        Args:
            weights: (m) as received.
            positions: (m) bool, k of them True.
            number: the round, from 1.

        Raises:
            RoundPassed: the site has trained a later round.
            OwnDamaged: the file cannot be read, or is of another model.
        """
        kept = self._read()
        if kept is None:
            return weights, np.zeros(0, np.float32)
        if kept.number > number:
            raise RoundPassed(
                f"round {number} is asked with other weights, the site has trained round {kept.number}",
                where=str(self._path),
                remedy="let the coordinator start a run under another name",
            )
        before = kept.before if kept.number == number else kept.after
        return (self._laid(weights, positions, before) if len(before) else weights), before

    def keep(self, number: int, before: Vector, after: Vector) -> None:
        """Remember a round's end, and its start."""
        tensors = {"before": before, "after": np.ascontiguousarray(after)}
        keep(self._path, save_tensors(tensors, metadata={"round": str(number)}))

    def personal(self, weights: NDArray[Any], positions: NDArray[np.bool_]) -> NDArray[Any]:
        """(m) these weights with the site's own scales and shifts.

        Raises:
            NormsMissing: the site has trained in no round.
            OwnDamaged: see `overlay`.
        """
        kept = self._read()
        if kept is None:
            raise NormsMissing(
                "no round of this run was trained here", where=str(self._path), remedy="score the federation's model"
            )
        return self._laid(weights, positions, kept.after)

    def _laid(self, weights: NDArray[Any], positions: NDArray[np.bool_], own: Vector) -> NDArray[Any]:
        if own.shape != (int(positions.sum()),):
            raise _damaged(self._path, f"{own.shape} numbers for {int(positions.sum())} of the model")
        laid = np.array(weights)
        laid[positions] = own
        return laid

    def _read(self) -> Norms | None:
        found = read(self._path, ("before", "after"), "round")
        if found is not None and not found[1].isdigit():
            raise _damaged(self._path, "its round is no number")
        return None if found is None else Norms(int(found[1]), *found[0])


def read(path: Path, names: tuple[str, ...], mark: str) -> tuple[list[Vector], str] | None:
    """Arrays of a file and one entry of its header; None where there is no file.

    Raises:
        OwnDamaged: not such a file.
        RunFileUnreadable: see there.
    """
    if not path.exists():
        return None
    try:
        with opened(path) as file:
            return [np.asarray(file.get_tensor(name)) for name in names], dict(file.metadata() or {})[mark]
    except (SafetensorError, KeyError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from None


def read_own(path: Path, key: str) -> Vector | None:
    """The weights made under this key, or None.

    Raises:
        OwnDamaged: the file cannot be read.
    """
    found = read(path, ("weights",), "key")
    return found[0][0] if found and found[1] == key else None


def write_own(path: Path, key: str, weights: Vector) -> None:
    """Keep them, whole or not at all."""
    keep(path, save_tensors({"weights": weights}, metadata={"key": key}))


def _damaged(path: Path, why: str) -> OwnDamaged:
    return OwnDamaged(
        why,
        where=str(path),
        remedy="restore it from a backup, or start a run under another name; `personal.safetensors` and "
        "`alone.safetensors` may be deleted: they are made again",
    )
