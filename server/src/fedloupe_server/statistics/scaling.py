"""Pooled mean and standard deviation from the sites' exact sums: bit for bit those of the pooled patients."""

from __future__ import annotations

from collections.abc import Sequence

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
    """A site's sums are of another number of features than the others' or the study's."""

    code = "FL-725"
    title = "sites sent sums of different numbers of features"


def pooled_moments(replies: Sequence[DescribeReply], features: int | None = None) -> Moments:
    """The sums over all sites.

    Args:
        replies: one a site.
        features: how many there must be; as many as in the first reply where None.

    Raises:
        SumsDiffer: naming a site.
    """
    wanted = len(replies[0].count) if features is None else features
    if other := [reply for reply in replies if len(reply.count) != wanted]:
        raise SumsDiffer(
            f"{len(other[0].count)} sums, {wanted} features",
            where=other[0].site,
            remedy="run the same FedLoupe version everywhere",
        )
    return Moments.sum([Moments(r.count, r.total, r.square) for r in replies])


def scaling(moments: Moments) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation (n - 1), (p) each; scale 0 where constant or hardly ever present."""
    enough = moments.count >= MINIMUM_COUNT
    mean = np.where(enough, moments.mean, 0.0)
    scale = np.where(enough, moments.sd, 0.0)
    return mean, np.where(scale > NO_SPREAD * np.abs(mean), scale, 0.0)
