"""A frozen model as every site of its study keeps it: what `fedloupe-site predict` needs, in one file.

release = Release.read(home / "models" / "demo-rectal.safetensors")
release.probability(logits)             # (n) calibrated
release.allowed(probabilities)          # (n, 2) bool: which outcomes the prediction set holds, 0 then 1
release.distance(vectors)               # (n) how far from the training patients; beyond `release.limit` abstain
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from scipy.special import expit

from fedloupe.errors import FedLoupeError
from fedloupe.metrics.conformal import allowed, distance

Floats = NDArray[np.float64]
_ARRAYS = ("weights", "line", "centre", "precision", "mean", "scale", "projection")


class ReleaseDamaged(FedLoupeError):
    """A released model's file cannot be read."""

    code = "FL-618"
    title = "a released model is damaged"


class ReleaseUnreadable(FedLoupeError):
    """A released model's file is not there or may not be read."""

    code = "FL-619"
    title = "a released model cannot be opened"


@dataclass(frozen=True)
class Release:
    """What is frozen; the study itself is the approved one with this fingerprint.

    Attributes:
        fingerprint: of the study.
        run: name of the run that made it.
        weights: (m) float32, all parameters.
        line: (2) intercept and slope of the calibrated log-odds on the model's logit.
        threshold: on the calibrated probability, in [0, 1].
        admitted: largest 1 - p(outcome) with which the prediction set holds an outcome, in [0, 1].
        centre: (d) mean of the training patients' vectors (`fedloupe.models.range_vector`).
        precision: (d, d) inverse of their shrunk covariance.
        limit: distance beyond which a case lies outside the training range.
        mean: (p) of the preparation; `scale` (p), `projection` (p, K) likewise.
        patients: training patients of all sites.
        shifts: SHA-256 of the site's own shifts of the run, where its features are harmonised.
    """

    fingerprint: str
    run: str
    weights: NDArray[np.float32]
    line: Floats
    threshold: float
    admitted: float
    centre: Floats
    precision: Floats
    limit: float
    mean: Floats
    scale: Floats
    projection: NDArray[np.float32]
    patients: int
    shifts: str | None = None

    def probability(self, logits: NDArray[Any]) -> Floats:
        """(n) calibrated probability of the event for the model's logits (Platt 1999)."""
        return np.asarray(expit(self.line[0] + self.line[1] * np.asarray(logits, dtype=np.float64)))

    def allowed(self, probabilities: NDArray[Any]) -> NDArray[np.bool_]:
        """(n, 2) whether the prediction set holds no event, and event; see `fedloupe.metrics.conformal.allowed`."""
        return allowed(probabilities, self.admitted)

    def distance(self, vectors: NDArray[Any]) -> Floats:
        """(n) of (n, d) vectors from the training patients; see `fedloupe.metrics.conformal.distance`."""
        return distance(vectors, self.centre, self.precision)

    def to_bytes(self) -> bytes:
        """As a safetensors file."""
        words = {k: v for k, v in vars(self).items() if k not in _ARRAYS}
        arrays = {k: np.ascontiguousarray(getattr(self, k)) for k in _ARRAYS}
        return save(arrays, metadata={"release": json.dumps(words, sort_keys=True)})

    @classmethod
    def read(cls, path: Path) -> Release:
        """A release from disk.

        Raises:
            ReleaseUnreadable: the file is absent, or may not be read.
            ReleaseDamaged: it is not one.
        """
        try:
            with safe_open(str(path), framework="numpy") as file:
                arrays = {name: file.get_tensor(name) for name in _ARRAYS}
                return cls(**arrays, **json.loads((file.metadata() or {})["release"]))
        except OSError as error:
            raise ReleaseUnreadable(
                f"opening failed: {error.strerror or error}",
                where=str(path),
                remedy="check that the file is there and that the site's user may read it; do not delete it",
            ) from None
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise ReleaseDamaged(
                f"not a released model: {type(error).__name__}",
                where=str(path),
                remedy="let the coordinator start the run again: it goes on, and sends the model again",
            ) from None
