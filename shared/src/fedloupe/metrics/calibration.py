"""Do predicted probabilities mean what they say? Brier score and risk groups.

calibration_groups(labels, scores, groups=5, minimum=5)   # ((mean predicted, observed rate, patients), ...)
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from fedloupe.metrics.checks import checked


def brier(labels: ArrayLike, scores: ArrayLike) -> float:
    """Mean squared difference of probability and outcome, in [0, 1] (Brier, Mon Weather Rev 1950;78:1).

    Raises:
        ScoresInvalid: see `fedloupe.metrics.checks.checked`.
    """
    truth, value = checked(labels, scores)
    return float(np.mean((value - truth) ** 2))


def calibration_groups(
    labels: ArrayLike, scores: ArrayLike, groups: int = 5, minimum: int = 5
) -> tuple[tuple[float, float, int], ...]:
    """Risk groups of about equal size, from low to high risk.

    Equal scores never fall into two groups, so the order of patients does not matter. A group below `minimum` is
    merged with its upper neighbour (the last one with its lower); a cohort below `minimum` gives no group at all.

    Args:
        labels: (n) 0 or 1.
        scores: (n) predicted probability in [0, 1].
        groups: groups to aim at, 1 or more.
        minimum: smallest group that the site's policy allows to be shown.

    Returns:
        (mean predicted probability, observed event rate, patients) a group.

    Raises:
        ScoresInvalid: see `fedloupe.metrics.checks.checked`.
    """
    truth, value = checked(labels, scores)
    if truth.size < minimum:
        return ()
    order = np.lexsort((truth, value))
    truth, value = truth[order], value[order]
    cuts = [0]
    for number in range(1, groups):
        cut = int(np.searchsorted(value, value[round(number * value.size / groups) - 1], side="right"))
        if cut - cuts[-1] >= max(minimum, 1) and value.size - cut >= max(minimum, 1):
            cuts.append(cut)
    cuts.append(value.size)
    return tuple(
        (float(value[start:stop].mean()), float(truth[start:stop].mean()), stop - start)
        for start, stop in pairwise(cuts)
    )
