"""A smooth calibration curve: the event rate that goes with each predicted probability.

smooth_calibration(labels, logits)       # Curve(predicted, observed, low, high), or None
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog
from scipy.special import expit

from fedloupe.metrics.calibration import checked_logits, most_likely
from fedloupe.metrics.discrimination import Z95

Floats = NDArray[np.float64]
KNOTS = (-1.28, 0.0, 1.28)  # in SD: the 10th, 50th and 90th percentile of a normal distribution
REACH = 1.64  # likewise the 5th and 95th


@dataclass(frozen=True)
class Curve:
    """Points of a calibration curve, ascending; all are probabilities.

    Attributes:
        predicted: what the model says.
        observed: the event rate fitted there.
        low, high: pointwise 95 % limits of the latter.
    """

    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def smooth_calibration(labels: ArrayLike, logits: ArrayLike, *, points: int = 21, least: int = 10) -> Curve | None:
    """Logistic regression of the outcome on a restricted cubic spline of the model's log-odds.

    Three knots, linear beyond the outer ones (Harrell, Regression Modeling Strategies, 2nd ed. 2015, section 2.4.5; for
    calibration: Austin & Steyerberg, Stat Med 2014;33:517). Knots stand at the mean and 1.28 SD to either side, and the
    curve runs over the mean +- 1.64 SD: at order statistics, as is usual, they would be single patients' scores. Bands
    are expit(x'b +- 1.96 sqrt(x'Cx)), C the inverse information (delta method).

    Args:
        labels: (n) 0 or 1, both present.
        logits: (n) log-odds that the model gives.
        points: 2 or more, evenly spaced in log-odds.
        least: patients with the event, and without it, below which there is no curve.

    Returns:
        None where the curve is not identified: too few patients, fewer than three different log-odds, or outcomes that
        the spline parts, wholly or but for ties (Albert & Anderson, Biometrika 1984;71:1).

    Raises:
        ScoresInvalid, OneClassOnly: see `fedloupe.metrics.checks`.
    """
    truth, odds = checked_logits(labels, logits)
    spread = float(odds.std())
    if min(int(truth.sum()), int((~truth).sum())) < least or spread <= 1e-9 * max(1.0, float(np.abs(odds).max())):
        return None
    design = _spline((odds - odds.mean()) / spread)
    if np.linalg.matrix_rank(design) < design.shape[1] or _parted(design, truth):
        return None
    beta, covariance = most_likely(design, truth, np.zeros_like(odds))
    at = np.linspace(-REACH, REACH, points)
    rows = _spline(at)
    fitted, half = rows @ beta, Z95 * np.sqrt(np.einsum("ni,ij,nj->n", rows, covariance, rows))
    return Curve(*(tuple(expit(x).tolist()) for x in (odds.mean() + spread * at, fitted, fitted - half, fitted + half)))


def _spline(x: Floats) -> Floats:
    """(n, 3): 1, x, and the one cubic term of three knots, over the squared distance of the outer ones."""
    first, middle, last = KNOTS
    a, b, c = (np.maximum(x - knot, 0.0) ** 3 for knot in KNOTS)
    bend = a - b * (last - first) / (last - middle) + c * (middle - first) / (last - middle)
    return np.column_stack([np.ones_like(x), x, bend / (last - first) ** 2])


def _parted(design: Floats, truth: NDArray[np.bool_]) -> bool:
    """Whether some combination of columns is nowhere on the wrong side of 0, and not 0 throughout.

    A linear programme: the largest sum of signed scores, none below 0, coefficients within [-1, 1].
    """
    signed = np.where(truth, 1.0, -1.0)[:, None] * design
    best = linprog(-signed.sum(axis=0), A_ub=-signed, b_ub=np.zeros(len(signed)), bounds=(-1, 1)).fun
    return best is not None and -float(best) > 1e-7 * len(signed)
