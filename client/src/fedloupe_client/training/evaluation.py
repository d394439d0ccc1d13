"""Scores of a split, and the statistics of them that may leave."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedloupe.messages import EvaluateReply, EvaluateRequest
from fedloupe.metrics import brier, calibration_groups, delong, mean_logits, score_histogram, threshold_metrics
from fedloupe.models import Preparation, logistic_probability
from fedloupe.study import Study
from fedloupe_client.dataset import Cohort, OneClass
from fedloupe_client.training.local import device, model_for
from fedloupe_client.training.trees import tree_probabilities


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
    model = model_for(study, cohort, weights)
    model.eval()
    with torch.no_grad():
        logits = torch.cat(
            [model(*inputs.take(part).to(device()).tensors) for part in torch.arange(len(rows)).split(256)]
        )
    return np.asarray(torch.sigmoid(logits.double()).cpu().numpy(), dtype=np.float64)


def evaluate(
    study: Study, cohort: Cohort, preparation: Preparation, request: EvaluateRequest, minimum_cell: int
) -> EvaluateReply:
    """The reply to an evaluation.

    Raises:
        OneClass: the split holds one outcome only.
    """
    rows = cohort.rows(request.split)
    labels = cohort.labels[rows]
    if len(set(labels.tolist())) < 2:
        raise OneClass(
            "all scored patients have the same outcome, so no AUC exists",
            where=request.site,
            remedy="check the label mapping",
        )
    scores = probabilities(study, cohort, preparation, request.architecture, request.weights, rows)
    area = delong(labels, scores)
    positives, negatives = score_histogram(labels, scores)
    odds = mean_logits(labels, scores)
    at = None if request.threshold is None else threshold_metrics(labels, scores, request.threshold)
    reference = None if cohort.reference is None else delong(labels, cohort.reference[rows]).auc
    return EvaluateReply(
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
        accuracy=at.accuracy if at else None,
        sensitivity=at.sensitivity if at else None,
        specificity=at.specificity if at else None,
        calibration=calibration_groups(labels, scores, groups=5, minimum=minimum_cell),
        logit_positives=odds[0],
        logit_negatives=odds[1],
        reference_auc=reference,
        positives_by_score=positives,
        negatives_by_score=negatives,
    )
