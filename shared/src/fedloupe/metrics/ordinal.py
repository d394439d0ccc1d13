"""A score of a binary endpoint against an outcome in grades, such as the categories of RECIST.

    ordinal_concordance(grades, scores)      # of two patients of different grade, how often the better scores higher

Grades are integers, a higher one is nearer to the event that the score predicts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from fedloupe.metrics.checks import OneClassOnly, ScoresInvalid, checked
from fedloupe.metrics.discrimination import Z95, placements


@dataclass(frozen=True)
class Concordance:
    """Share of concordant pairs in [0, 1] over `pairs` pairs of patients of different grade.

    Standard error and 95 % interval are None where they cannot be estimated: a grade with a single patient, or a share
    of exactly 0 or 1.
    """

    value: float
    se: float | None
    low: float | None
    high: float | None
    pairs: int


def ordinal_concordance(grades: ArrayLike, scores: ArrayLike) -> Concordance:
    """Probability that of two patients of different grade the one of higher grade has the higher score, ties half.

    (D + 1) / 2 with Somers' D of the score on the grade (Somers, Am Sociol Rev 1962;27:799): the mean of the AUCs of
    each two grades, weighted by their pairs. It is a generalised U-statistic; its variance is that of DeLong 1988 with
    more than two groups: with r(i) patient i's share in all pairs' concordance, sum over grades of n / (n - 1) times
    the sum of squares of r(i) about the grade's mean. With two grades both are those of `delong`. Interval on the logit
    scale.

    Args:
        grades: (n) integers.
        scores: (n) in [0, 1].

    Raises:
        ScoresInvalid: see `fedloupe.metrics.checks.checked`; or grades that are not integers.
        OneClassOnly: all patients have the same grade.
    """
    grade, value = _checked(grades, scores)
    levels, sizes = np.unique(grade, return_counts=True)
    wins, pairs = np.zeros(grade.size), 0
    for lower, upper in combinations(levels, 2):
        chosen = (grade == lower) | (grade == upper)
        above = grade[chosen] == upper
        by_upper, by_lower = placements(above, value[chosen])
        pairs += by_upper.size * by_lower.size
        wins[grade == upper] += by_upper * by_lower.size
        wins[grade == lower] += by_lower * by_upper.size
    share = float(wins.sum()) / (2 * pairs)
    if sizes.min() == 1 or not 0 < share < 1:
        return Concordance(share, None, None, None, pairs)
    se = sqrt(sum(n * float(wins[grade == level].var(ddof=1)) for level, n in zip(levels, sizes, strict=True))) / pairs
    half = Z95 * se / (share * (1 - share))
    return Concordance(share, se, float(expit(logit(share) - half)), float(expit(logit(share) + half)), pairs)


def _checked(grades: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    grade = np.asarray(grades)
    _, value = checked(np.zeros(grade.shape, dtype=np.int64), scores)
    if not np.issubdtype(grade.dtype, np.integer):
        raise ScoresInvalid("a grade is not an integer", remedy="number the grades, the best response highest")
    if np.ptp(grade) == 0:
        raise OneClassOnly("all patients have the same grade", remedy="widen the cohort or the split")
    return grade.astype(np.int64), value
