"""Quantiles from counts in buckets that every site shares: a sketch that merges by adding integers.

    counts = bucket_counts(features, mean, sd)                # (p, BUCKETS) at each site, the pooled mean and SD known
    quantiles(counts_north + counts_south, mean, sd, (0.25, 0.5, 0.75))

Buckets are logarithmic in the distance from the pooled mean, as DDSketch's are in the value (Masson, Rim & Lee 2019),
so shifted features cost no accuracy. A bucket's representative is within ACCURACY of each value's distance from the
mean: a quantile at z standard deviations is off by at most ACCURACY |z| SD, or by CENTRE SD near the mean. No value
overflows as long as patients are fewer than 2^20: |z| <= sqrt(n - 1).

Where a site's policy merged small buckets (`merge_small`), ranks are off by fewer than 2 cells at that site as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ACCURACY = 0.05
CENTRE = 0.01
"""Standard deviations from the mean that count as none."""
FARTHEST = 2.0**10
_RATIO = (1 + ACCURACY) / (1 - ACCURACY)
SIDE = int(np.ceil(np.log(FARTHEST / CENTRE) / np.log(_RATIO)))
BUCKETS = 2 * SIDE + 1


def representatives() -> Floats:
    """(BUCKETS) standard deviations from the mean that stand for each bucket, ascending."""
    edges = CENTRE * _RATIO ** np.arange(SIDE)
    upper = edges * (1 + ACCURACY)
    return np.concatenate([-upper[::-1], [0.0], upper])


def bucket_counts(features: Floats, mean: Floats, sd: Floats) -> NDArray[np.int64]:
    """Patients by bucket.

    Args:
        features: (n, p), NaN where missing.
        mean: (p) pooled.
        sd: (p) pooled; a feature of SD 0 counts in the middle.

    Returns:
        (p, BUCKETS).
    """
    there = np.isfinite(features)
    scores = np.where(there & (sd > 0), (features - mean) / np.where(sd > 0, sd, 1.0), 0.0)
    distance = np.abs(scores)
    steps = np.floor(np.log(np.maximum(distance, CENTRE) / CENTRE) / np.log(_RATIO)).astype(np.int64)
    place = SIDE + np.where(distance < CENTRE, 0, np.sign(scores).astype(np.int64) * (1 + np.minimum(steps, SIDE - 1)))
    counts = np.zeros((features.shape[1], BUCKETS), dtype=np.int64)
    rows, columns = np.nonzero(there)
    np.add.at(counts, (columns, place[rows, columns]), 1)
    return counts


def quantiles(counts: NDArray[np.int64], mean: Floats, sd: Floats, wanted: Sequence[float]) -> Floats:
    """Quantiles of each feature from the summed counts, (p, len(wanted)); NaN where nobody was counted.

    The quantile q is the value of rank floor(q (n - 1)), counted from 0.
    """
    centres = representatives()
    running = np.cumsum(counts, axis=1)
    n = running[:, -1]
    found = np.full((len(counts), len(wanted)), np.nan)
    for column, q in enumerate(wanted):
        rank = np.floor(q * np.maximum(n - 1, 0)).astype(np.int64)
        place = (running <= rank[:, None]).sum(axis=1).clip(max=BUCKETS - 1)
        found[:, column] = np.where(n > 0, mean + sd * centres[place], np.nan)
    return found


def merge_small(counts: NDArray[np.int64], cell: int) -> NDArray[np.int64]:
    """One feature's buckets with no count between 1 and `cell` - 1; the total stays.

    Neighbouring buckets are joined from below until they hold `cell` patients; a rest joins the group before. A group
    stands in the bucket at the mean place of its patients. Fewer than `cell` patients in all: none are shown.

    Args:
        counts: (BUCKETS).
        cell: smallest group that may be shown.
    """
    merged = np.zeros_like(counts)
    if counts.sum() < cell:
        return merged
    groups: list[tuple[int, int]] = []  # patients, sum of their places
    patients = places = 0
    for place in np.flatnonzero(counts):
        patients += int(counts[place])
        places += int(counts[place]) * int(place)
        if patients >= cell:
            groups.append((patients, places))
            patients = places = 0
    if patients:
        last = groups.pop()
        groups.append((last[0] + patients, last[1] + places))
    for size, total in groups:
        merged[round(total / size)] += size
    return merged
