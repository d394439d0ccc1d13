"""What stands apart, by median and median absolute deviation, so that the odd ones do not hide themselves.

    robust_scores([3.0, 3.0, 3.1, 6.0, 2.9])      # modified z-scores; beyond 3.5 stands apart

Iglewicz & Hoaglin, How to Detect and Handle Outliers, 1993: 0.6745 (x - median) / MAD, limit 3.5. Where more than half
of the values are equal the MAD is zero, and 1.2533 times the mean absolute deviation takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LIMIT = 3.5
FEWEST = 5
"""Cases below which nothing is called unusual."""
RULE = (
    "Rule: 0.6745 (x - median) / MAD beyond 3.5 (Iglewicz and Hoaglin 1993) and at least a tenth away from the median; "
    "sizes and intensities on a log scale; from five cases on. A warning, not a verdict."
)
SCALE_OF_MEAN_DEVIATION = 1.2533141373155001  # sqrt(pi / 2): the normal distribution's sigma over its mean deviation


def robust_scores(values: Sequence[float]) -> NDArray[np.float64]:
    """Modified z-scores, (n); zeros where all values are equal."""
    x = np.asarray(values, dtype=np.float64)
    apart = x - np.median(x) if x.size else x
    mad = float(np.median(np.abs(apart))) if x.size else 0.0
    if mad > 0:
        return np.asarray(0.6745 * apart / mad, dtype=np.float64)
    mean = float(np.abs(apart).mean()) if x.size else 0.0
    return np.asarray(apart / (SCALE_OF_MEAN_DEVIATION * mean), dtype=np.float64) if mean > 0 else np.zeros(x.size)


def standing_apart(values: Sequence[float], *, log: bool, least: float = 0.1) -> NDArray[np.bool_]:
    """Which values stand apart, (n); none of fewer than `FEWEST`.

    Args:
        values: one a case.
        log: compare ratios: for positive quantities. A value that is not positive is compared as the smallest that is.
        least: distance from the median that is never called unusual: relative with `log`, else absolute.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size < FEWEST:
        return np.zeros(x.size, bool)
    if log:
        positive = x[x > 0]
        if not positive.size:
            return np.zeros(x.size, bool)
        x = np.log(np.maximum(x, positive.min()))
        least = float(np.log1p(least))
    far = np.abs(x - np.median(x)) > least
    return np.asarray(far & (np.abs(robust_scores(x.tolist())) > LIMIT))
