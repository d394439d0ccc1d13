"""One family's features, complete or with the reason why some are missing.

    settle("glcm", values)                  # NaN and infinity become NaN, named in the reason
    absent("glcm", "one grey level")

A family that is not defined for a region is NaN and says why; its neighbours are not touched.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedloupe.features import FEATURES
from fedloupe_client.radiomics.kernel import Floats


@dataclass(frozen=True)
class Block:
    """One family's features: float64 `values` without infinities, and why some are NaN (None: none is)."""

    values: Floats
    reason: str | None = None


def absent(family: str, reason: str) -> Block:
    """A family that is not defined at all."""
    return Block(np.full(len(FEATURES[family]), np.nan), reason)


def settle(family: str, values: Floats) -> Block:
    """Values as computed, with NaN for what is not finite, and a reason that names those features."""
    undefined = ~np.isfinite(values)
    if not undefined.any():
        return Block(values)
    names = ", ".join(feature.name for feature, flag in zip(FEATURES[family], undefined, strict=True) if flag)
    return Block(np.where(undefined, np.nan, values), f"undefined for this region: {names}")
