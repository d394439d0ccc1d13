"""Pooled mean and standard deviation from the sites' counts, sums and sums of squares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedloupe.messages import DescribeReply

MINIMUM_COUNT = 2


def pooled_scaling(replies: Sequence[DescribeReply]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each feature over all sites, (p) each; see `scaling_from_sums`."""
    count = np.sum([r.count for r in replies], axis=0)
    total = np.sum([r.total for r in replies], axis=0)
    return scaling_from_sums(count, total, np.sum([r.square for r in replies], axis=0))


def scaling_from_sums(
    count: NDArray[np.float64], total: NDArray[np.float64], square: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation (n - 1), (p) each; scale 0 where constant or hardly ever present.

    The variance comes from sums of squares; a spread below 1e-7 of the mean's size is rounding, and counts as constant.
    """
    enough = count >= MINIMUM_COUNT
    safe = np.where(enough, count, MINIMUM_COUNT)
    mean = np.where(enough, total / safe, 0.0)
    variance = np.clip(square - safe * mean**2, 0.0, None) / (safe - 1)
    scale = np.where(enough, np.sqrt(variance), 0.0)
    return mean, np.where(scale > 1e-7 * np.abs(mean), scale, 0.0)
