"""A site's terms of federated sums: each function returns a sum over training patients, nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloupe.models import Descent, Penalty, Preparation, design_matrix, logistic_terms, standardise
from fedloupe.statistics import Moments, OutOfRange
from fedloupe.statistics.ring import LARGEST
from fedloupe_client.dataset import Cohort

Floats = NDArray[np.float64]
ALONE = 12


def describe(cohort: Cohort) -> Moments:
    """Count, sum and sum of squares of each feature over training patients, exact; missing values count nowhere.

    Raises:
        OutOfRange: naming the columns.
    """
    return Moments.of(within_range(cohort.features[cohort.rows("train")], cohort.names))


def within_range(features: Floats, names: tuple[str, ...]) -> Floats:
    """The features, whatever is not finite as missing.

    Raises:
        OutOfRange: a value is too large for exact sums.
    """
    known = np.where(np.isfinite(features), features, np.nan)
    with np.errstate(invalid="ignore"):
        large = np.any(np.abs(known) >= LARGEST, axis=0)
    if np.any(large):
        columns = [name for name, wrong in zip(names, np.atleast_1d(large).tolist(), strict=True) if wrong]
        raise OutOfRange(
            f"{len(columns)} columns hold values of {LARGEST:.0e} or more, e.g. {columns[:3]}",
            where="the site's features of training patients",
            remedy="find out how they came about, then mend the table or leave the columns out (`exclude`)",
        )
    return known


def sketch(cohort: Cohort, mean: NDArray[Any], scale: NDArray[Any], probe: NDArray[Any]) -> Floats:
    """The site's X'X Omega, group by group.

    Args:
        cohort: the site's patients.
        mean: (p) pooled mean.
        scale: (p) pooled standard deviation.
        probe: (p, k) Omega.

    Returns:
        (p, k): rows of group g are X_g' X_g Omega_g over training patients, X standardised and clipped.
    """
    scores = standardise(cohort.features[cohort.rows("train")], mean, scale)
    columns = np.array(cohort.columns)
    result = np.zeros(probe.shape)
    for group in cohort.feature_groups:
        rows = np.flatnonzero(columns == group)
        block = scores[:, rows]
        result[rows] = block.T @ (block @ probe[rows].astype(np.float64))
    return result


def newton_terms(
    cohort: Cohort, preparation: Preparation, beta: NDArray[Any], spread: float | None = None
) -> tuple[Floats, Floats]:
    """Gradient (1+q) and negative Hessian (1+q, 1+q) of the log-likelihood at `beta` over training patients; with a
    spread, of a model in which the site has an intercept of its own (`fedloupe.models.logistic_terms`)."""
    rows = cohort.rows("train")
    return logistic_terms(design_matrix(cohort.inputs(preparation, rows)), cohort.labels[rows], beta, spread)


def logistic_alone(cohort: Cohort, preparation: Preparation, ridge: float, l1_ratio: float = 0.0) -> Floats:
    """The logistic baseline on the site's own training patients, (1+q): where its own model starts.

    A start need not be an optimum, so it takes `ALONE` steps at most.
    """
    width = 1 + len(cohort.feature_groups) * preparation.projection.shape[1] + cohort.clinical.shape[1]
    descent = Descent(width, Penalty(ridge, l1_ratio))
    for _ in range(ALONE):
        if descent.take(*newton_terms(cohort, preparation, descent.beta)):
            break
    return descent.beta
