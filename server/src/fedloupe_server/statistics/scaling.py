"""Pooled mean and standard deviation from the sites' exact sums: bit for bit those of the pooled patients."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedloupe.errors import FedLoupeError
from fedloupe.messages import DescribeReply
from fedloupe.statistics import Moments

MINIMUM_COUNT = 2
NO_SPREAD = 1e-9
"""Standard deviation, as a share of the mean's size, up to which a feature counts as constant: features agree over
processors to this much, so a smaller spread is rounding of the feature engine."""


class SumsDiffer(FedLoupeError):
    """Sums are of another number of features than the study's."""

    code = "FL-725"
    title = "sums are not of the study's features"


def pooled_moments(total: DescribeReply, features: int) -> Moments:
    """The sums over all sites.

    Args:
        total: summed over sites.
        features: how many there must be.

    Raises:
        SumsDiffer: there are others.
    """
    if len(total.count) != features:
        raise SumsDiffer(
            f"{len(total.count)} sums, {features} features",
            where=total.run,
            remedy="run the same FedLoupe version everywhere",
        )
    return Moments(total.count, total.total, total.square)


def scaling(moments: Moments) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation (n - 1), (p) each; scale 0 where constant or hardly ever present."""
    enough = moments.count >= MINIMUM_COUNT
    mean = np.where(enough, moments.mean, 0.0)
    scale = np.where(enough, moments.sd, 0.0)
    return mean, np.where(scale > NO_SPREAD * np.abs(mean), scale, 0.0)
