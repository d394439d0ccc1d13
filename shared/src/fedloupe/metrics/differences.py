"""How far apart two groups of patients are in one variable, from summary numbers alone.

standardized_mean((61.2, 9.8), (64.0, 11.1))             # means and SDs
standardized_share(0.31, 0.42)                           # of a yes/no variable
standardized_levels([20, 55, 12], [31, 40, 30])          # patients by level

About 0.1 is the customary limit of a difference that matters (Austin, Stat Med 2009;28:3083). Sample size plays no
part, unlike in a test: 0.1 is 0.1 in a hundred patients and in ten thousand.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, sqrt

import numpy as np

from fedloupe.metrics.checks import CountsInvalid, EstimateInvalid


def standardized_mean(first: tuple[float, float], second: tuple[float, float]) -> float | None:
    """(m1 - m2) / sqrt((s1^2 + s2^2) / 2) (Austin 2009, equation for continuous variables).

    Args:
        first, second: mean and standard deviation of each group.

    Returns:
        None where the means differ and neither group has any spread.

    Raises:
        EstimateInvalid: not finite, or a standard deviation below 0.
    """
    (m1, s1), (m2, s2) = first, second
    if not all(isfinite(x) for x in (m1, s1, m2, s2)) or min(s1, s2) < 0:
        raise EstimateInvalid("a mean or standard deviation is not one", remedy="leave the variable out where unknown")
    return _over(m1 - m2, sqrt((s1**2 + s2**2) / 2))


def standardized_share(first: float, second: float) -> float | None:
    """(p1 - p2) / sqrt((p1 (1 - p1) + p2 (1 - p2)) / 2) (Austin 2009, for dichotomous variables).

    Returns:
        None where everybody of one group has it and nobody of the other.

    Raises:
        EstimateInvalid: a share outside [0, 1].
    """
    if not (0 <= first <= 1 and 0 <= second <= 1):
        raise EstimateInvalid(f"shares {first} and {second}", remedy="give shares in [0, 1]")
    return _over(first - second, sqrt((first * (1 - first) + second * (1 - second)) / 2))


def standardized_levels(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Mahalanobis distance of two distributions over levels, sqrt((T - C)' S^-1 (T - C)), at least 0.

    T and C are the groups' shares of all levels but one, S the mean of their multinomial covariances, diag(p) - p p'
    (Yang & Dalton, SAS Global Forum 2012, paper 335). Which level is left out does not matter; levels that neither
    group has are dropped. With two levels it is the size of `standardized_share`.

    Args:
        first, second: patients by level, in the same order.

    Returns:
        None where levels can be parted so that the groups share none: the distance has no limit.

    Raises:
        CountsInvalid: not the same levels, a count below 0, or nobody in a group.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or not a.size or min(a.min(), b.min()) < 0 or not (a.sum() and b.sum()):
        raise CountsInvalid(f"{a.size} and {b.size} levels", remedy="count patients of both groups in the same levels")
    known = (a + b) > 0
    t, c = ((x / x.sum())[known][1:] for x in (a, b))
    if not t.size:
        return 0.0
    spread = sum((np.diag(p) - np.outer(p, p)) / 2 for p in (t, c))
    apart = t - c
    solved = np.linalg.lstsq(spread, apart, rcond=1e-10)[0]
    if np.abs(spread @ solved - apart).max() > 1e-9:
        return None
    return sqrt(max(0.0, float(apart @ solved)))


def _over(apart: float, spread: float) -> float | None:
    if not apart:
        return 0.0
    return apart / spread if spread else None
