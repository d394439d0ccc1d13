"""Scores of a split, and the statistics of them that may leave."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from fedloupe.messages import EvaluateReply, EvaluateRequest
from fedloupe.metrics import (
    brier,
    calibration_groups,
    calibration_in_the_large,
    calibration_slope,
    delong,
    expected_calibration_error,
    score_histogram,
    threshold_metrics,
)
from fedloupe.metrics.conformal import allowed, distance, share_se
from fedloupe.models import Preparation, logistic_probability
from fedloupe.study import Study
from fedloupe_client.dataset import Cohort, OneClass
from fedloupe_client.training.predicting import check_range, model_logits, vectors
from fedloupe_client.training.trees import tree_probabilities

EXTREME = 1e-12
"""How near to 0 and 1 a probability may come before its log-odds are taken."""


def probabilities(
    study: Study,
    cohort: Cohort,
    preparation: Preparation,
    architecture: str,
    weights: NDArray[Any],
    rows: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Probability of the endpoint for these patients, (n)."""
    if architecture == "trees":
        return tree_probabilities(study, cohort, preparation, weights, rows)
    inputs = cohort.inputs(preparation, rows)
    if architecture == "logistic":
        return logistic_probability(inputs, weights)
    return np.asarray(expit(model_logits(study, cohort, preparation, weights, rows)), dtype=np.float64)


def evaluate(
    study: Study, cohort: Cohort, preparation: Preparation, request: EvaluateRequest, minimum_cell: int
) -> tuple[EvaluateReply, NDArray[np.float64]]:
    """The reply to an evaluation, and the probability of each patient, (n), which stays here.

    Raises:
        OneClass: the split holds one outcome only.
        RangeMisfit: see there.
    """
    rows = cohort.rows(request.split)
    labels = cohort.labels[rows]
    if len(set(labels.tolist())) < 2:
        raise OneClass(
            "all scored patients have the same outcome, so no AUC exists",
            where=request.site,
            remedy="check the label mapping",
        )
    scores, more = _scores(study, cohort, preparation, request, rows)
    area = delong(labels, scores)
    positives, negatives = score_histogram(labels, scores)
    at = threshold_metrics(labels, scores, request.threshold)
    reference = None if cohort.reference is None else delong(labels, cohort.reference[rows]).auc
    reply = EvaluateReply(
        version=request.version,
        fingerprint=request.fingerprint,
        run=request.run,
        site=request.site,
        label=request.label,
        split=request.split,
        patients=len(rows),
        positives=int(labels.sum()),
        auc=area.auc,
        auc_se=area.se,
        auc_low=area.low,
        auc_high=area.high,
        brier=brier(labels, scores),
        accuracy=at.accuracy,
        sensitivity=at.sensitivity,
        specificity=at.specificity,
        calibration=calibration_groups(labels, scores, groups=5, minimum=minimum_cell),
        reference_auc=reference,
        positives_by_score=positives,
        negatives_by_score=negatives,
        **more,
    )
    return reply, scores


def _scores(
    study: Study, cohort: Cohort, preparation: Preparation, request: EvaluateRequest, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """(n) probabilities, and in a study with `prediction` what else is said of them."""
    if request.line is None:
        scores = probabilities(study, cohort, preparation, request.architecture, request.weights, rows)
    else:
        odds = request.line[0] + request.line[1] * model_logits(study, cohort, preparation, request.weights, rows)
        scores = np.asarray(expit(odds), dtype=np.float64)
    if study.prediction is None:
        return scores, {}
    labels, odds = cohort.labels[rows], logit(np.clip(scores, EXTREME, 1 - EXTREME))
    slope, large = calibration_slope(labels, odds), calibration_in_the_large(labels, odds)
    found: dict[str, Any] = {"in_the_large": large.value, "in_the_large_se": large.se}
    found |= {"slope": slope.value, "slope_se": slope.se} if slope else {}
    found["ece"] = expected_calibration_error(labels, scores)
    if request.admitted is None or request.limit is None:
        return scores, found
    sets = allowed(scores, request.admitted)
    places = vectors(study, cohort, preparation, request.weights, rows)
    check_range(places.shape[1], np.size(request.centre), request.site)
    far = distance(places, request.centre, request.precision)
    covered = float(sets[np.arange(len(rows)), labels].mean())
    found |= {"covered": covered, "covered_se": share_se(covered, len(rows))}
    return scores, {
        **found,
        "single": float((sets.sum(axis=1) == 1).mean()),
        "beyond": float((far > request.limit).mean()),
    }
