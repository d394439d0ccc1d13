"""ROC curve and calibration of all sites' patients together, from summed histograms of scores.

positives, negatives = np.sum([score_histogram(...) for site in sites], axis=0)      # summed securely
histogram_auc(positives, negatives)              # HistogramAuc(auc, bound)

A pooled curve mixes differences between sites into discrimination: it stands beside the sites' AUCs, never instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedloupe.metrics.checks import CountsInvalid, OneClassOnly
from fedloupe.metrics.proportions import wilson

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HistogramAuc:
    """AUC from a histogram; that of the patients themselves lies within `bound` of it, certainly."""

    auc: float
    bound: float


@dataclass(frozen=True)
class PooledGroup:
    """Neighbouring bins: mean probability by bin midpoints, observed event rate with its interval, patients."""

    predicted: float
    observed: float
    low: float
    high: float
    patients: int


@dataclass(frozen=True)
class HistogramCalibration:
    """Risk groups from low to high; each `predicted` is off by at most `error`."""

    groups: tuple[PooledGroup, ...]
    error: float


def histogram_auc(positives_by_bin: ArrayLike, negatives_by_bin: ArrayLike) -> HistogramAuc:
    """Share of concordant pairs, pairs within one bin counting half: sum_k P_k (N_1 + ... + N_(k-1) + N_k / 2) / (P N).

    **The bound.** bound = sum_k P_k N_k / (2 P N), half the share of case-control pairs that fall in one bin.

    Proof. The AUC of the patients is the mean over all P N pairs (i, j) of c(i, j) = 1 where the case i scores higher
    than the control j, 0 where lower, 1/2 where equal. Bins are disjoint intervals in ascending order.

    1. Where i is in a higher bin than j, its score is higher: c = 1, and the sum above counts it once (P_k N_l, l < k).
    2. Where i is in a lower bin, c = 0, and the sum has no term for the pair.
    3. Where both are in bin k, c is in [0, 1], and the sum counts the pair as 1/2: off by at most 1/2.

    There are sum_k P_k N_k pairs of the third kind, and the others are exact. The mean is therefore off by at most
    (1/2) sum_k P_k N_k / (P N). It is attained where all cases stand at one end of their bin and all controls at the
    other. QED

    Nothing was assumed of how scores lie within a bin, nor of how patients are spread over sites.

    Args:
        positives_by_bin, negatives_by_bin: (bins) patients with and without the event, bins ascending.

    Raises:
        CountsInvalid: not two rows of counts of equal length, or one below 0.
        OneClassOnly: no patient with, or without, the event.
    """
    positives, negatives = _counts(positives_by_bin, negatives_by_bin)
    pairs = positives.sum() * negatives.sum()
    below = np.cumsum(negatives) - negatives
    within = float((positives * negatives).sum())
    return HistogramAuc(float(((positives * below).sum() + within / 2) / pairs), float(within / (2 * pairs)))


def histogram_roc(positives_by_bin: ArrayLike, negatives_by_bin: ArrayLike) -> tuple[tuple[float, float], ...]:
    """(1 - specificity, sensitivity) at every lower edge of a bin, from (0, 0), nobody called, to (1, 1), everybody.

    Each point lies on the curve of the patients themselves, for whoever reaches an edge is in that bin or above; only
    the way between two points is unknown. Straight lines between them enclose `histogram_auc`.

    Raises:
        CountsInvalid, OneClassOnly: as in `histogram_auc`.
    """
    positives, negatives = _counts(positives_by_bin, negatives_by_bin)
    called = [np.append(0.0, np.cumsum(row[::-1])) / row.sum() for row in (negatives, positives)]
    return tuple((float(x), float(y)) for x, y in zip(*called, strict=True))


def histogram_calibration(
    positives_by_bin: ArrayLike, negatives_by_bin: ArrayLike, groups: int = 10, minimum: int = 5
) -> HistogramCalibration:
    """Risk groups of neighbouring bins, of about equal size; bins of one width over [0, 1], as `score_histogram` makes.

    A score differs from its bin's midpoint by half a bin width at most, and so does the mean of a group's scores from
    the mean of their midpoints: `error` is 1 / (2 bins). The observed rate is exact, with Wilson's interval.

    Args:
        positives_by_bin, negatives_by_bin: (bins) patients with and without the event.
        groups: groups to aim at; a bin is never split.
        minimum: smallest group; a smaller one is merged with its upper neighbour, the last with its lower. Fewer
            patients than that altogether give no group.

    Raises:
        CountsInvalid, OneClassOnly: as in `histogram_auc`.
    """
    positives, negatives = _counts(positives_by_bin, negatives_by_bin)
    both, bins = positives + negatives, positives.size
    running, total = np.cumsum(both), float(both.sum())
    if total < minimum:
        return HistogramCalibration((), 1 / (2 * bins))
    cuts, done = [0], 0.0
    for number in range(1, groups):
        cut = int(np.searchsorted(running, number * total / groups - 1e-9)) + 1
        reached = float(running[min(cut, bins) - 1])
        if reached - done >= max(minimum, 1) and total - reached >= max(minimum, 1):
            cuts.append(cut)
            done = reached
    cuts.append(bins)
    middles = (np.arange(bins) + 0.5) / bins
    found = []
    for start, stop in pairwise(cuts):
        patients, events = round(float(both[start:stop].sum())), round(float(positives[start:stop].sum()))
        interval = wilson(events, patients)
        predicted = float((middles[start:stop] * both[start:stop]).sum() / patients)
        found.append(PooledGroup(predicted, events / patients, interval.low, interval.high, patients))
    return HistogramCalibration(tuple(found), 1 / (2 * bins))


def _counts(positives_by_bin: ArrayLike, negatives_by_bin: ArrayLike) -> tuple[Floats, Floats]:
    positives, negatives = (np.asarray(row, dtype=np.float64) for row in (positives_by_bin, negatives_by_bin))
    whole = positives.ndim == 1 and positives.shape == negatives.shape and positives.size > 0
    if not whole or min(positives.min(), negatives.min()) < 0 or not np.isfinite(positives + negatives).all():
        raise CountsInvalid(
            f"histograms of shape {positives.shape} and {negatives.shape}", remedy="use `score_histogram`'s counts"
        )
    if not positives.sum() or not negatives.sum():
        raise OneClassOnly("no patient of one outcome in the histograms", remedy="let more sites take part")
    return positives, negatives
