"""A site's terms of the threshold, and of calibration line, training range and prediction sets (`study.prediction`).

answer(header, request, study, cohort, preparation)      # midpoint, calibrate, embed or conform
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from fedloupe.errors import FedLoupeError
from fedloupe.messages import (
    CalibrateReply,
    CalibrateRequest,
    ConformReply,
    ConformRequest,
    EmbedReply,
    EmbedRequest,
    MidpointReply,
    MidpointRequest,
    Reply,
)
from fedloupe.metrics import summed_logits
from fedloupe.metrics.conformal import distance, distance_counts, misfit_counts
from fedloupe.models import Preparation, logistic_terms, range_vector
from fedloupe.study import Study
from fedloupe_client.dataset import Cohort, OneClass
from fedloupe_client.training.local import BATCH, device, log_odds, model_for

Floats = NDArray[np.float64]


class RangeMisfit(FedLoupeError):
    """The coordinator's training range has another number of dimensions than the patients here."""

    code = "FL-643"
    title = "the training range does not fit the study's model"


def answer(
    header: dict[str, Any],
    request: MidpointRequest | CalibrateRequest | EmbedRequest | ConformRequest,
    study: Study,
    cohort: Cohort,
    preparation: Preparation,
) -> Reply:
    """The answer to one of the four.

    Raises:
        OneClass: of the tuning patients.
        RangeMisfit, WrongSize: see there.
    """
    match request:
        case MidpointRequest():
            rows, labels = _tuning(cohort, request.site)
            scores = expit(model_logits(study, cohort, preparation, request.weights, rows))
            both = np.array(summed_logits(labels, scores))
            return MidpointReply(**header, patients=len(rows), positives=int(labels.sum()), odds=both)
        case CalibrateRequest():
            rows, labels = _tuning(cohort, request.site)
            logits = model_logits(study, cohort, preparation, request.weights, rows)
            spread = study.training.random_intercept
            gradient, hessian = line_terms(labels, logits, np.asarray(request.line), request.targets, spread)
            return CalibrateReply(
                **header, patients=len(rows), positives=int(labels.sum()), gradient=gradient, hessian=hessian
            )
        case EmbedRequest():
            found = vectors(study, cohort, preparation, request.weights, cohort.rows("train"))
            check_range(found.shape[1], request.size, request.site)
            known = (found != 0).astype(np.int64)
            sums = {"count": known.T @ known, "total": found.sum(axis=0), "product": found.T @ found}
            return EmbedReply(**header, patients=len(found), **sums)
        case ConformRequest():
            rows, labels = _tuning(cohort, request.site)
            odds = request.line[0] + request.line[1] * model_logits(study, cohort, preparation, request.weights, rows)
            found = vectors(study, cohort, preparation, request.weights, rows)
            check_range(found.shape[1], np.size(request.centre), request.site)
            return ConformReply(
                **header,
                patients=len(rows),
                positives=int(labels.sum()),
                misfits=misfit_counts(labels, expit(odds)),
                distances=distance_counts(distance(found, request.centre, request.precision)),
            )


def model_logits(
    study: Study, cohort: Cohort, preparation: Preparation, weights: NDArray[Any], rows: NDArray[np.int64]
) -> Floats:
    """(n) log-odds that the study's model gives these patients."""
    return log_odds(model_for(study, cohort, weights), cohort.inputs(preparation, rows))


def vectors(
    study: Study, cohort: Cohort, preparation: Preparation, weights: NDArray[Any], rows: NDArray[np.int64]
) -> Floats:
    """(n, d) what the training range is judged by."""
    model = model_for(study, cohort, weights)
    model.eval()
    inputs = cohort.inputs(preparation, rows)
    with torch.no_grad():
        parts = [range_vector(model, inputs.take(part).to(device())) for part in torch.arange(len(rows)).split(BATCH)]
    return np.asarray(torch.cat(parts).double().cpu().numpy(), dtype=np.float64)


def line_terms(
    labels: NDArray[np.int64],
    logits: Floats,
    line: Floats,
    targets: tuple[float, float],
    spread: float | None = None,
) -> tuple[Floats, Floats]:
    """Gradient (2) and negative Hessian (2, 2) of the log-likelihood of logit(p) = a + b x at `line` (Platt 1999).

    With a spread, as in `newton_terms`, the site has an intercept of its own beside the line.
    """
    design = np.column_stack([np.ones_like(logits), logits])
    return logistic_terms(design, np.where(labels == 1, targets[1], targets[0]), line, spread)


def _tuning(cohort: Cohort, site: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rows = cohort.rows("tune")
    labels = cohort.labels[rows]
    if len(set(labels.tolist())) < 2:
        raise OneClass(
            "all tuning patients have the same outcome, so nothing is fixed on them",
            where=site,
            remedy="check the label mapping, or raise `split.tune`",
        )
    return rows, labels


def check_range(dimensions: int, sent: int, site: str) -> None:
    """The range that was sent, or asked for, is of the vectors that this study's model gives here.

    Raises:
        RangeMisfit: see there.
    """
    if dimensions != sent:
        raise RangeMisfit(
            f"{sent} dimensions came, patients have {dimensions}",
            where=site,
            remedy="run the same FedLoupe version everywhere",
        )
