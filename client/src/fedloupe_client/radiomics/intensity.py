"""First-order statistics and the intensity histogram of the region's voxels.

    firstorder_features(values)           # 18, in the order of fedloupe.features
    histogram_features(levels, highest)   # 23

A value that is not defined (skewness of a constant, say) comes out as NaN or infinity; `extract` declares it.
"""

from __future__ import annotations

import numpy as np

from fedloupe_client.radiomics.kernel import Floats, Ints, kernel

# Shares whose percentiles are read.
PERCENTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@kernel
def _percentile(ordered: Floats, fraction: float) -> float:
    """Linear interpolation between order statistics, as `numpy.percentile`."""
    position = fraction * (ordered.shape[0] - 1)
    below = int(np.floor(position))
    above = min(below + 1, ordered.shape[0] - 1)
    return float(ordered[below] + (position - below) * (ordered[above] - ordered[below]))


def firstorder_features(values: Floats) -> Floats:
    """IBSI intensity-based statistics (UHIW), not discretised.

    Args:
        values: (N) finite intensities, N >= 1.

    Returns:
        (18): mean, variance, skewness, excess kurtosis, median, minimum, 10th and 90th percentile, maximum,
        interquartile range, range, mean, robust mean and median absolute deviation, coefficient of variation,
        quartile coefficient of dispersion, energy, root mean square.
    """
    n = len(values)
    below = [int(np.floor(fraction * (n - 1))) for fraction in PERCENTILES]
    # Only the ranks that are read need their place: a third of a full sort's time.
    return _statistics(values, np.partition(values, [0, *below, *(min(k + 1, n - 1) for k in below), n - 1]))


@kernel
def _statistics(values: Floats, ordered: Floats) -> Floats:
    """`firstorder_features` of values (N) and the same values (N) with the ranks that percentiles read in order."""
    n = values.shape[0]
    mean = values.sum() / n
    second, third, fourth, energy, absolute = 0.0, 0.0, 0.0, 0.0, 0.0
    for value in values:
        d = value - mean
        second += d * d
        third += d * d * d
        fourth += d * d * d * d
        absolute += abs(d)
        energy += value * value
    second, third, fourth, absolute = second / n, third / n, fourth / n, absolute / n
    median = _percentile(ordered, 0.5)
    p10, p25, p75, p90 = (
        _percentile(ordered, 0.1),
        _percentile(ordered, 0.25),
        _percentile(ordered, 0.75),
        _percentile(ordered, 0.9),
    )
    from_median, inner, inner_total = 0.0, 0, 0.0
    for value in values:
        from_median += abs(value - median)
        if p10 <= value <= p90:
            inner += 1
            inner_total += value
    robust = 0.0
    for value in values:
        if p10 <= value <= p90:
            robust += abs(value - inner_total / inner)
    out = np.empty(18, dtype=np.float64)
    out[0], out[1], out[2], out[3] = mean, second, third / second**1.5, fourth / second**2 - 3
    out[4], out[5], out[6], out[7], out[8] = median, ordered[0], p10, p90, ordered[-1]
    out[9], out[10] = p75 - p25, ordered[-1] - ordered[0]
    out[11], out[12], out[13] = absolute, robust / inner, from_median / n
    out[14], out[15] = np.sqrt(second) / mean, (p75 - p25) / (p75 + p25)
    out[16], out[17] = energy, np.sqrt(energy / n)
    return out


@kernel
def histogram_features(levels: Ints, highest: int) -> Floats:
    """IBSI intensity histogram (ZVCW) over levels 1..`highest`.

    Args:
        levels: (N) grey levels.
        highest: number of levels, at least 2.

    Returns:
        (23): the statistics of `firstorder_features` up to the quartile coefficient, with the mode after the
        maximum; entropy (bits), uniformity, maximum gradient and its level, minimum gradient and its level.
    """
    n = levels.shape[0]
    counts = np.zeros(highest, dtype=np.int64)
    for level in levels:
        counts[level - 1] += 1
    ordered = np.empty(n, dtype=np.float64)
    filled = 0
    for i in range(highest):
        ordered[filled : filled + counts[i]] = i + 1
        filled += counts[i]
    statistics = _statistics(levels.astype(np.float64), ordered)
    # Of several modes the one nearest the mean counts, then the lower (IBSI AMMC).
    mode = 1
    entropy, uniformity = 0.0, 0.0
    for i in range(highest):
        if counts[i] > counts[mode - 1] or (
            counts[i] == counts[mode - 1] and abs(i + 1 - statistics[0]) < abs(mode - statistics[0])
        ):
            mode = i + 1
        if counts[i] > 0:
            p = counts[i] / n
            entropy -= p * np.log2(p)
            uniformity += p * p
    steepest_up, steepest_down = -np.inf, np.inf
    up_level, down_level = 1, 1
    for i in range(highest):
        before, after = max(i - 1, 0), min(i + 1, highest - 1)
        gradient = (counts[after] - counts[before]) / (after - before)
        if gradient > steepest_up:
            steepest_up, up_level = gradient, i + 1
        if gradient < steepest_down:
            steepest_down, down_level = gradient, i + 1
    out = np.empty(23, dtype=np.float64)
    out[:9] = statistics[:9]
    out[9] = mode
    out[10:17] = statistics[9:16]
    out[17], out[18] = entropy, uniformity
    out[19], out[20], out[21], out[22] = steepest_up, up_level, steepest_down, down_level
    return out
