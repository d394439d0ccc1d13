"""Prediction sets and training range from counts in bins, which sites may add up (split conformal: Papadopoulos 2002).

    counts = misfit_counts(labels, probabilities)           # (MISFITS) at each site, on patients that did not train
    admitted = quantile(north + south, MISFIT_EDGES, rank(patients, 0.9))

A set holds every outcome whose 1 - p is at most `admitted`. Where patients are exchangeable it holds what happened in
at least 90 % of new ones (Vovk 2005), but for three things: the line that turned log-odds into p was fitted on the same
patients; a bin's patients count as evenly spread over it (at most 0.02 off); and a site merges small bins, so that
inside a merged bin the rank is off by fewer patients than it holds at that site.
"""

from __future__ import annotations

from math import ceil, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedloupe.metrics.checks import checked

MISFITS = 50
MISFIT_EDGES = np.arange(MISFITS + 1) / MISFITS
DISTANCES = 200
DISTANCE_EDGES = np.arange(DISTANCES + 1) / 20
"""The last bin also holds whatever lies farther."""


def misfit_counts(labels: ArrayLike, probabilities: ArrayLike) -> NDArray[np.int64]:
    """(MISFITS) patients by 1 - p(what happened), in [0, 1].

    Args:
        labels: (n) 0 or 1.
        probabilities: (n) of the event.

    Raises:
        ScoresInvalid: see `fedloupe.metrics.checks.checked`.
    """
    truth, value = checked(labels, probabilities)
    return _counts(np.where(truth, 1 - value, value), MISFIT_EDGES)


def distance_counts(distances: NDArray[np.float64]) -> NDArray[np.int64]:
    """(DISTANCES) patients by distance (n), >= 0, from the training patients."""
    return _counts(distances, DISTANCE_EDGES)


def rank(patients: int, share: float) -> int:
    """Which of the sorted values is the conformal quantile: ceil((n + 1) share); n + 1 or more: none of them."""
    return ceil(round((patients + 1) * share, 9))


def quantile(counts: NDArray[np.floating] | NDArray[np.int64], edges: NDArray[np.float64], wanted: int) -> float:
    """The value of this rank, patients spread evenly over their bin.

    Args:
        counts: (bins), >= 0.
        edges: (bins + 1), ascending.
        wanted: from 1; beyond the last patient, the upper edge of the last bin that holds one.
    """
    running = np.cumsum(counts, dtype=np.float64)
    target = min(float(wanted), float(running[-1])) - 1e-9  # spread counts are fractions
    place = int(np.searchsorted(running, target))
    before = float(running[place] - counts[place])
    part = min(1.0, (target + 1e-9 - before) / float(counts[place]))
    return float(edges[place] + part * (edges[place + 1] - edges[place]))


def allowed(probabilities: ArrayLike, admitted: float) -> NDArray[np.bool_]:
    """(n, 2) whether each patient's set holds no event, and event (split conformal, Papadopoulos 2002).

    Args:
        probabilities: (n) of the event.
        admitted: largest 1 - p with which a set holds an outcome.
    """
    event = np.asarray(probabilities, dtype=np.float64)
    return np.stack([event <= admitted, 1 - event <= admitted], axis=1)


def distance(vectors: ArrayLike, centre: NDArray[np.float64], precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n) Mahalanobis distance of (n, d) vectors from a point, a dimension: sqrt(d2 / d).

    Args:
        vectors: (n, d).
        centre: (d).
        precision: (d, d) inverse covariance.
    """
    apart = np.asarray(vectors, dtype=np.float64) - centre
    squares = np.einsum("ni,ij,nj->n", apart, precision, apart)
    found: NDArray[np.float64] = np.sqrt(np.maximum(squares, 0.0) / max(1, centre.size))
    return found


def share_se(share: float, patients: int) -> float:
    """Standard error of a share, never 0: two successes and two failures added (Agresti & Coull 1998)."""
    middle = (share * patients + 2) / (patients + 4)
    return sqrt(middle * (1 - middle) / (patients + 4))


def _counts(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    last = len(edges) - 2
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, last)
    return np.bincount(place, minlength=last + 1).astype(np.int64)
