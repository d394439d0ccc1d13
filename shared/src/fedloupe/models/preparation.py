"""Scaling and projection that every site applies alike: fitted on the training sites' sums, or on a public artefact.

prep = Preparation(mean, scale, projection, "federated")
components, present = prep.apply(features, columns)     # (n, G, K), (n, G)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fedloupe.errors import FedLoupeError
from fedloupe.models.flat import digest

CLIP = 4.0
"""Standardised features are clipped to this many standard deviations: texture features have heavy tails."""


class PreparationDamaged(FedLoupeError):
    """A preparation file cannot be read."""

    code = "FL-606"
    title = "a preparation file is damaged"


@dataclass(frozen=True)
class Preparation:
    """Agreed scaling and projection.

    Attributes:
        mean: (p) float64.
        scale: (p) float64, zero for a constant feature.
        projection: (p, K) float32; the rows of a group project it to its K principal components.
        origin: where it was fitted.
    """

    mean: NDArray[Any]
    scale: NDArray[Any]
    projection: NDArray[Any]
    origin: Literal["federated", "public"]

    @property
    def digest(self) -> str:
        """SHA-256 over the three arrays."""
        return digest(self.mean, self.scale, self.projection)

    def to_bytes(self) -> bytes:
        """As a safetensors file."""
        arrays = {"mean": self.mean, "scale": self.scale, "projection": self.projection}
        return save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, metadata={"origin": self.origin})

    @classmethod
    def read(cls, path: Path) -> Preparation | None:
        """A preparation from disk, or None where the file is absent.

        Raises:
            PreparationDamaged: the file is not one.
        """
        if not path.exists():
            return None
        try:
            with safe_open(str(path), framework="numpy") as file:
                arrays = [file.get_tensor(name) for name in ("mean", "scale", "projection")]
                origin = (file.metadata() or {}).get("origin")
        except (SafetensorError, OSError) as error:
            raise PreparationDamaged(
                f"not a preparation: {error}",
                where=str(path),
                remedy="restore it, or delete it: its step is then repeated",
            ) from None
        return cls(arrays[0], arrays[1], arrays[2], "public" if origin == "public" else "federated")

    def apply(
        self, features: NDArray[np.float64], columns: tuple[str, ...]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Principal components by group.

        Args:
            features: (n, p), NaN where missing.
            columns: group of each of the p columns.

        Returns:
            (n, G, K) components, zero where the whole group is missing, and (n, G) presence.
        """
        scaled = standardise(features, self.mean, self.scale)
        order = group_order(columns)
        components = np.zeros((len(features), len(order), self.projection.shape[1]))
        present = np.zeros((len(features), len(order)))
        for position, group in enumerate(order):
            rows = np.flatnonzero(np.array(columns) == group)
            components[:, position] = scaled[:, rows] @ self.projection[rows].astype(np.float64)
            present[:, position] = np.isfinite(features[:, rows]).any(axis=1)
        return components * present[:, :, None], present


def group_order(columns: tuple[str, ...]) -> tuple[str, ...]:
    """The distinct groups in the order in which they first appear."""
    return tuple(dict.fromkeys(columns))


def standardise(features: NDArray[np.float64], mean: NDArray[Any], scale: NDArray[Any]) -> NDArray[np.float64]:
    """(n, p) features as clipped z-scores; missing values and constant features become 0, the mean."""
    safe = np.where(scale > 0, scale, 1.0)
    scores = np.where(scale > 0, (features - mean) / safe, 0.0)
    clipped: NDArray[np.float64] = np.clip(np.nan_to_num(scores, nan=0.0), -CLIP, CLIP)
    return clipped
