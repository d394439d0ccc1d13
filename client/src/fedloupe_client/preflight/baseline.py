"""What this site can learn alone: ridge logistic regression on its own features, judged by cross-validation.

    result = local_baseline(cohort, study)            # Baseline, or a sentence that says why there is none

The same baseline as the federation's, with scaling and projection fitted anew in every fold. Test patients of a
training site take no part: they stay unseen until the federated model is frozen. It is never sent anywhere.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fedloupe.metrics import delong
from fedloupe.models import Descent, Penalty, Preparation, design_matrix, logistic_probability, standardise
from fedloupe.study import Study
from fedloupe_client.dataset import Cohort
from fedloupe_client.preflight.findings import Frozen

FOLDS = 5
FEWEST = 10
"""Patients of each outcome below which no AUC is given."""
NEWTON_STEPS = 12
HONESTY = (
    "The interval is DeLong's over the patients scored; it does not count that another sample would have trained "
    "another model, so the truth is wider still."
)


class Baseline(Frozen):
    """Cross-validated discrimination of the site's own logistic regression.

    Attributes:
        patients, events: that took part.
        folds: of the cross-validation, stratified by outcome.
        auc, low, high: of the out-of-fold probabilities, with the 95 % interval (DeLong, logit scale).
    """

    patients: int
    events: int
    folds: int
    auc: float
    low: float
    high: float


def local_baseline(cohort: Cohort, study: Study, site: str) -> Baseline | str:
    """Five-fold cross-validated AUC over training and tuning patients.

    Returns:
        The result, or why there is none.
    """
    if study.role(site) == "validate":
        return "a validate-only site's outcomes stay unopened until the model is frozen"
    if not (cohort.features.shape[1] or cohort.clinical.shape[1]):
        return "the study has neither features nor clinical variables"
    rows = np.union1d(cohort.rows("train"), cohort.rows("tune"))
    labels = cohort.labels[rows]
    events = int(labels.sum())
    if min(events, len(rows) - events) < FEWEST:
        return f"{min(events, len(rows) - events)} patients of the rarer outcome are too few for an AUC"
    none = np.zeros((len(cohort.cases), 0), np.float32)
    small = replace(cohort, mr=none, mr_present=none, ct=none, ct_present=none)  # images take no part
    folds = _folds(study, site, cohort, rows)
    scores = np.zeros(len(rows))
    for fold in range(FOLDS):
        held = folds == fold
        scores[held] = _fit_and_score(small, study, rows[~held], rows[held])
    area = delong(labels, scores)
    return Baseline(patients=len(rows), events=events, folds=FOLDS, auc=area.auc, low=area.low, high=area.high)


def own_preparation(cohort: Cohort, study: Study, rows: NDArray[np.int64] | None = None) -> Preparation:
    """Scaling and principal components of each feature group, from this site's patients alone.

    Args:
        cohort: the site's patients.
        study: its number of components.
        rows: patients to fit on; training patients where None, all where there are none.
    """
    if rows is None:
        rows = cohort.rows("train") if len(cohort.rows("train")) else cohort.rows("all")
    features = cohort.features[rows]
    known = np.isfinite(features)
    count = known.sum(axis=0)
    mean = np.where(known, features, 0).sum(axis=0) / np.maximum(count, 1)
    scale = np.sqrt(np.where(known, (features - mean) ** 2, 0).sum(axis=0) / np.maximum(count - 1, 1))
    scores = standardise(features, mean, scale)
    projection = np.zeros((features.shape[1], study.model.components))
    columns = np.array(cohort.columns)
    for group in cohort.feature_groups:
        members = np.flatnonzero(columns == group)
        _, spread, loadings = np.linalg.svd(scores[:, members], full_matrices=False)
        kept = loadings[: study.model.components][spread[: study.model.components] > 1e-3 * spread[0]]
        kept *= np.where(kept.sum(axis=1) < 0, -1.0, 1.0)[:, None]
        first = spread[0] / np.sqrt(max(len(rows) - 1, 1))  # as the federation does: its first has unit variance
        projection[members, : len(kept)] = kept.T / max(first, 1e-6)
    return Preparation(mean, scale, projection.astype(np.float32), "federated")


def _folds(study: Study, site: str, cohort: Cohort, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Fold of each patient: within each outcome by a hash, so blind to the order of cases."""
    folds = np.zeros(len(rows), dtype=np.int64)
    for label in (0, 1):
        members = [i for i, row in enumerate(rows) if cohort.labels[row] == label]
        members.sort(key=lambda i: _digest(study, site, cohort.cases[rows[i]]))
        folds[members] = np.arange(len(members)) % FOLDS
    return folds


def _digest(study: Study, site: str, case: str) -> bytes:
    return hashlib.sha256(f"{study.seed}|{site}|fold|{case}".encode()).digest()


def _fit_and_score(
    cohort: Cohort, study: Study, fit: NDArray[np.int64], held: NDArray[np.int64]
) -> NDArray[np.float64]:
    preparation = own_preparation(cohort, study, fit)
    design, labels = design_matrix(cohort.inputs(preparation, fit)), cohort.labels[fit]
    descent = Descent(design.shape[1], Penalty(study.evaluation.ridge, study.evaluation.l1_ratio))
    for _ in range(NEWTON_STEPS):
        probability = expit(design @ descent.beta)
        hessian = (design * (probability * (1 - probability))[:, None]).T @ design
        if descent.take(design.T @ (labels - probability), hessian):
            break
    return logistic_probability(cohort.inputs(preparation, held), descent.beta)
