"""What labels and scores must be before anything is computed from them, and the errors when they are not.

labels, scores = checked(labels, scores)      # bool (n), float64 (n) in [0, 1]
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedloupe.errors import FedLoupeError


class ScoresInvalid(FedLoupeError):
    """Labels or scores are not what a metric can be computed from."""

    code = "FL-801"
    title = "labels or scores are not valid"


class OneClassOnly(FedLoupeError):
    """All patients have the event, or none has: discrimination is not defined."""

    code = "FL-802"
    title = "only one class among the patients"


class TooFewPatients(FedLoupeError):
    """A comparison needs at least two patients of each class."""

    code = "FL-803"
    title = "too few patients of one class"


class NothingToPool(FedLoupeError):
    """No site brought a usable number."""

    code = "FL-804"
    title = "no site result to pool"


class EstimateInvalid(FedLoupeError):
    """A site's estimate, its standard error, or a mean and standard deviation, is not one."""

    code = "FL-805"
    title = "an estimate is not valid"


class CountsInvalid(FedLoupeError):
    """Counts of patients contradict each other, or are none."""

    code = "FL-806"
    title = "counts of patients are not valid"


def checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Labels as bool (n) and scores as float64 (n).

    Raises:
        ScoresInvalid: not one-dimensional, of unequal length, or empty; a label not 0 or 1; a score outside [0, 1].
    """
    truth, value = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != value.shape or not truth.size:
        raise ScoresInvalid(
            f"labels of shape {truth.shape} and scores of shape {value.shape}",
            remedy="give one label and one score a patient",
        )
    if not np.isin(truth, (0, 1)).all():
        raise ScoresInvalid("a label is neither 0 nor 1", remedy="map the endpoint to 0 and 1 first")
    if not ((value >= 0) & (value <= 1)).all():  # also false for NaN
        raise ScoresInvalid("a score is not a probability in [0, 1]", remedy="check that training did not diverge")
    return truth.astype(bool), value


def two_classes(labels: NDArray[np.bool_]) -> None:
    """Refuse a cohort without events, or with nothing else.

    Raises:
        OneClassOnly: see there.
    """
    positives = int(labels.sum())
    if positives in (0, labels.size):
        raise OneClassOnly(
            f"{positives} of {labels.size} patients have the event",
            remedy="a split needs patients with and without the event: widen the cohort or the split",
        )
