"""Do predicted probabilities mean what they say? Brier score, risk groups, slope and intercept.

calibration_groups(labels, scores, groups=5, minimum=5)   # ((mean predicted, observed rate, patients), ...)
calibration_slope(labels, logits)                         # Estimate(value, se); 1 is right, below 1 too extreme
observed_expected(labels, scores)                         # ObservedExpected(ratio, low, high, se); 1 is right
recalibrate(labels, logits, "line")                       # (a, b): log-odds a + b x are right for these patients
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import exp, log, sqrt
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from fedloupe.metrics.checks import ScoresInvalid, checked, two_classes
from fedloupe.metrics.discrimination import Z95

NEWTON_STEPS = 100


@dataclass(frozen=True)
class Estimate:
    """A maximum-likelihood estimate and its standard error from the observed information."""

    value: float
    se: float


@dataclass(frozen=True)
class ObservedExpected:
    """Observed events over the sum of predicted probabilities, its 95 % interval, and the standard error of its log."""

    ratio: float
    low: float
    high: float
    se: float


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


def calibration_slope(labels: ArrayLike, logits: ArrayLike) -> Estimate | None:
    """Slope b of logit(p) = a + b x, fitted to these patients (Cox, Biometrika 1958;45:562).

    1: log-odds spread as they should; below 1: predictions too extreme; at or below 0: they do not rank.

    Args:
        labels: (n) 0 or 1, both present.
        logits: (n) log-odds that the model gives.

    Returns:
        None where no finite slope is the most likely: one outcome's log-odds lie all above, or at, the other's
        (Albert & Anderson, Biometrika 1984;71:1).

    Raises:
        ScoresInvalid, OneClassOnly: see `fedloupe.metrics.checks`.
    """
    truth, odds = checked_logits(labels, logits)
    fit = _line(truth, odds)
    return None if fit is None else Estimate(fit[1], fit[2])


def calibration_in_the_large(labels: ArrayLike, logits: ArrayLike) -> Estimate:
    """Intercept a of logit(p) = a + x, slope fixed at 1: above 0 the model predicts too few events (Cox 1958).

    Args:
        labels: (n) 0 or 1, both present.
        logits: (n) log-odds that the model gives.

    Raises:
        ScoresInvalid, OneClassOnly: see `fedloupe.metrics.checks`.
    """
    truth, odds = checked_logits(labels, logits)
    beta, covariance = most_likely(np.ones((odds.size, 1)), truth, odds)
    return Estimate(float(beta[0]), sqrt(float(covariance[0, 0])))


def observed_expected(labels: ArrayLike, scores: ArrayLike) -> ObservedExpected:
    """O/E: above 1 the model predicts too few events (Debray et al., BMJ 2017;356:i6460).

    The interval is exp(log(O/E) +- 1.96 se), see `log_observed_expected`. Where no patient, or every one, has the
    event, `ratio` stays exact and is in the interval, which comes from the corrected counts.

    Args:
        labels: (n) 0 or 1.
        scores: (n) predicted probability in [0, 1].

    Raises:
        ScoresInvalid: see `fedloupe.metrics.checks.checked`; or every probability is 0.
    """
    truth, value = checked(labels, scores)
    observed, expected = float(truth.sum()), float(value.sum())
    if not expected:
        raise ScoresInvalid("every predicted probability is 0", remedy="check what the model gives")
    centre, se = log_observed_expected(observed, expected, truth.size)
    ratio = observed / expected
    return ObservedExpected(ratio, min(ratio, exp(centre - Z95 * se)), max(ratio, exp(centre + Z95 * se)), se)


def log_observed_expected(observed: float, expected: float, patients: int) -> tuple[float, float]:
    """log(O/E) and its standard error sqrt(1/O - 1/N): binomial events, probabilities as given (Debray et al. 2017).

    Where O is 0 or N, half an event is added to O and E and one patient to N, as usual for a table with an empty cell.
    """
    if observed in (0, patients):
        observed, expected, patients = observed + 0.5, expected + 0.5, patients + 1
    return log(observed / expected), sqrt(1 / observed - 1 / patients)


def recalibrate(
    labels: ArrayLike, logits: ArrayLike, kind: Literal["intercept", "line"] = "intercept"
) -> tuple[float, float] | None:
    """(a, b) with which log-odds a + b x are right for these patients (Cox 1958; Steyerberg, Stat Med 2004;23:2567).

    Args:
        labels: (n) 0 or 1, both present; of patients on whom nothing is then judged.
        logits: (n) log-odds x that the model gives.
        kind: `intercept` leaves b at 1 (recalibration in the large); `line` fits both by maximum likelihood. A b below
            0 turns the ranking round.

    Returns:
        None where `line` has no finite optimum, see `calibration_slope`.

    Raises:
        ScoresInvalid, OneClassOnly: see `fedloupe.metrics.checks`.
    """
    if kind == "intercept":
        return calibration_in_the_large(labels, logits).value, 1.0
    truth, odds = checked_logits(labels, logits)
    fit = _line(truth, odds)
    return None if fit is None else fit[:2]


def expected_calibration_error(labels: ArrayLike, scores: ArrayLike, groups: int = 10, least: int = 10) -> float:
    """Mean distance of predicted and observed over groups of equal size, weighted by patients (Naeini, AAAI 2015).

    With few patients it is above 0 by chance even where every probability is true.

    Args:
        labels: (n) 0 or 1.
        scores: (n) predicted probability in [0, 1].
        groups: at most; equal scores stay together.
        least: patients that a group has at least; fewer patients than that are one group.

    Returns:
        In [0, 1].

    Raises:
        ScoresInvalid: see `fedloupe.metrics.checks.checked`.
    """
    truth, value = checked(labels, scores)
    many = max(1, min(groups, truth.size // least))
    parts = calibration_groups(truth, value, groups=many, minimum=min(least, truth.size))
    return sum(size * abs(predicted - observed) for predicted, observed, size in parts) / truth.size


def checked_logits(labels: ArrayLike, logits: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Labels as bool (n) and log-odds as float64 (n).

    Raises:
        ScoresInvalid, OneClassOnly: see `fedloupe.metrics.checks`.
    """
    odds = np.asarray(logits, dtype=np.float64)
    truth, _ = checked(labels, expit(odds))
    two_classes(truth)
    return truth, odds


def _line(truth: NDArray[np.bool_], odds: NDArray[np.float64]) -> tuple[float, float, float] | None:
    """Intercept, slope and the slope's standard error; None where no finite slope is the most likely."""
    with_event, without = odds[truth], odds[~truth]
    if with_event.min() >= without.max() or without.min() >= with_event.max():
        return None
    middle, unit = float(odds.mean()), float(odds.std())
    design = np.column_stack([np.ones_like(odds), (odds - middle) / unit])
    beta, covariance = most_likely(design, truth, np.zeros_like(odds))
    slope = float(beta[1]) / unit
    return float(beta[0]) - slope * middle, slope, sqrt(float(covariance[1, 1])) / unit


def most_likely(
    design: NDArray[np.float64], truth: NDArray[np.bool_], offset: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients of a logistic regression and their covariance (inverse information), by Newton's method.

    Where its step would lower the likelihood, the step of the curvature's upper bound X'X/4 is taken, which never does
    (Boehning & Lindsay, Ann Inst Stat Math 1988;40:641).
    """

    def likelihood(beta: NDArray[np.float64]) -> float:
        odds = design @ beta + offset
        return float((truth * odds - np.logaddexp(0, odds)).sum())

    def slopes(beta: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        odds = design @ beta + offset
        risk = expit(odds)
        return design.T @ (truth - risk), (design * (risk * expit(-odds))[:, None]).T @ design

    beta: NDArray[np.float64] = np.zeros(design.shape[1])
    for _ in range(NEWTON_STEPS):
        gradient, information = slopes(beta)
        if np.abs(gradient).max() <= 1e-10 * truth.size:
            break
        step = np.linalg.lstsq(information, gradient, rcond=None)[0]
        if not likelihood(beta + step) >= likelihood(beta):
            step = np.linalg.solve(design.T @ design / 4, gradient)
        beta = beta + step
    return beta, np.asarray(np.linalg.inv(slopes(beta)[1]), dtype=np.float64)
