"""From probabilities to decisions: score histograms that can be summed over sites, and a threshold from them.

positives, negatives = score_histogram(labels, scores)        # at each site
threshold = youden_threshold(sum_of_positives, sum_of_negatives)
threshold_metrics(labels, scores, threshold)                  # at each site, threshold frozen
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedloupe.metrics.checks import OneClassOnly, ScoresInvalid, checked, two_classes


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
    # Edges as quotients, the very numbers that youden_threshold returns: value * bins would round some across.
    place = np.minimum(np.searchsorted(_edges(bins), value, side="right") - 1, bins - 1)
    return (
        np.bincount(place[truth], minlength=bins).astype(np.int64),
        np.bincount(place[~truth], minlength=bins).astype(np.int64),
    )


def youden_threshold(positives_by_bin: ArrayLike, negatives_by_bin: ArrayLike) -> float:
    """The bin edge with the largest sensitivity + specificity - 1 (Youden, Cancer 1950;3:32); ties to the lowest.

    Args:
        positives_by_bin, negatives_by_bin: (bins) counts, summed over sites.

    Returns:
        A lower bin edge in [0, 1).

    Raises:
        ScoresInvalid: the histograms differ in length or hold a negative count.
        OneClassOnly: a histogram is empty, for want of patients or because they were withheld.
    """
    positives, negatives = np.asarray(positives_by_bin), np.asarray(negatives_by_bin)
    if positives.ndim != 1 or positives.shape != negatives.shape or min(positives.min(), negatives.min()) < 0:
        raise ScoresInvalid(
            f"histograms of shape {positives.shape} and {negatives.shape}", remedy="sum histograms of one binning"
        )
    if not positives.sum() or not negatives.sum():
        raise OneClassOnly(
            "the summed score histograms hold only one class",
            remedy="let more sites take part, or ask sites whether their policy withheld the histograms",
        )
    reached = positives[::-1].cumsum()[::-1]
    spared = negatives.cumsum() - negatives
    # Rounded, so that equal Youden indices compare as equal: merged bins hold fractions of patients.
    index = np.round(reached * float(negatives.sum()) + spared * float(positives.sum()), 6)
    return float(_edges(positives.size)[int(np.argmax(index))])


def _edges(bins: int) -> NDArray[np.float64]:
    return np.arange(bins + 1) / bins
