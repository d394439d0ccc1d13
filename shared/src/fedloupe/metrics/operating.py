"""From probabilities to decisions: score histograms that can be summed over sites, and a threshold from them.

positives, negatives = score_histogram(labels, scores)        # at each site
threshold = youden_threshold((total, n), (total, n))   # at the coordinator, from sums alone
threshold_metrics(labels, scores, threshold)                  # at each site, threshold frozen
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from fedloupe.metrics.checks import OneClassOnly, checked, two_classes


@dataclass(frozen=True)
class ThresholdMetrics:
    """Shares in [0, 1]; a patient counts as predicted positive when the score reaches the threshold."""

    accuracy: float
    sensitivity: float
    specificity: float


def threshold_metrics(labels: ArrayLike, scores: ArrayLike, threshold: float) -> ThresholdMetrics:
    """Accuracy, sensitivity and specificity of `score >= threshold`.

    Raises:
        ScoresInvalid: see `fedloupe.metrics.checks.checked`.
        OneClassOnly: sensitivity or specificity would have no patient.
    """
    truth, value = checked(labels, scores)
    two_classes(truth)
    called = value >= threshold
    return ThresholdMetrics(
        accuracy=float((called == truth).mean()),
        sensitivity=float(called[truth].mean()),
        specificity=float((~called[~truth]).mean()),
    )


def score_histogram(
    labels: ArrayLike, scores: ArrayLike, bins: int = 20
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Patients with and without the event by score bin.

    Bin k holds k/bins <= score < (k+1)/bins; the last also holds 1. Whoever reaches a bin's lower edge in
    `threshold_metrics` is in that bin or above.

    Returns:
        Two (bins) int64 arrays: positives, negatives.

    Raises:
        ScoresInvalid: see `fedloupe.metrics.checks.checked`.
    """
    truth, value = checked(labels, scores)
    # Edges as quotients, the very numbers that a person reads: value * bins would round some across.
    place = np.minimum(np.searchsorted(_edges(bins), value, side="right") - 1, bins - 1)
    return (
        np.bincount(place[truth], minlength=bins).astype(np.int64),
        np.bincount(place[~truth], minlength=bins).astype(np.int64),
    )


def summed_logits(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """Summed log-odds of the scores of patients without and with the event; what `youden_threshold` needs of a site.

    Args:
        labels: (n) 0 or 1, both present.
        scores: (n) probabilities; held within [1e-6, 1 - 1e-6].

    Raises:
        ScoresInvalid, OneClassOnly: see `delong`.
    """
    truth, values = checked(labels, scores)
    two_classes(truth)
    odds = logit(np.clip(values, 1e-6, 1 - 1e-6))
    return float(odds[~truth].sum()), float(odds[truth].sum())


def youden_threshold(positives: tuple[float, int], negatives: tuple[float, int]) -> float:
    """The probability that maximises Youden's index where log-odds are normal with one variance in both groups.

    That is the point half way between the two means (Fluss, Faraggi & Reiser 2005, equal variances). Sums over
    sites give exactly the pooled answer, and a few dozen tuning patients fix it where a histogram would not.

    Args:
        positives: summed log-odds and number of the patients with the event, over all sites.
        negatives: likewise without the event.

    Returns:
        A threshold in (0, 1).

    Raises:
        OneClassOnly: no patient in a group.
    """
    if not positives[1] or not negatives[1]:
        raise OneClassOnly("no tuning patient of one outcome", remedy="let more sites take part, or raise `split.tune`")
    means = [total / n for total, n in (positives, negatives)]
    return float(expit((means[0] + means[1]) / 2))


def _edges(bins: int) -> NDArray[np.float64]:
    return np.arange(bins + 1) / bins
