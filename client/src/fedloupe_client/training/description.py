"""A site's terms of the description: of features as measured and clinical values, over training patients."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloupe.errors import FedLoupeError
from fedloupe.messages import (
    BucketsReply,
    BucketsRequest,
    CovarianceReply,
    CovarianceRequest,
    SummaryReply,
    SummaryRequest,
)
from fedloupe.statistics import Moments, Products
from fedloupe.statistics.sketch import bucket_counts
from fedloupe.study import Study, clinical_inputs
from fedloupe_client.dataset import Cohort
from fedloupe_client.training.statistics import within_range

WIDEST = 64
"""Columns whose covariance may be asked at once."""


class ColumnsUnknown(FedLoupeError):
    """A description was asked of columns that the site has not, or of too many at once."""

    code = "FL-616"
    title = "a description asks for columns that the site does not have"


def columns(study: Study, cohort: Cohort) -> NDArray[np.float64]:
    """(n, m) training patients: the features as measured, then the clinical values in the units of the site's table.

    Raises:
        OutOfRange: see there.
    """
    rows = cohort.rows("train")
    scale = np.array([variable.scale for variable in clinical_inputs(study)])
    centre = np.array([variable.centre for variable in clinical_inputs(study)])
    names = (*cohort.names, *(variable.name for variable in clinical_inputs(study)))
    return within_range(np.hstack([cohort.features[rows], cohort.clinical[rows] * scale + centre]), names)


def answer(
    header: dict[str, Any],
    request: SummaryRequest | BucketsRequest | CovarianceRequest,
    study: Study,
    cohort: Cohort,
) -> SummaryReply | BucketsReply | CovarianceReply:
    """The answer to one request.

    Raises:
        OutOfRange: see there.
        ColumnsUnknown: see there.
    """
    values = columns(study, cohort)
    match request:
        case SummaryRequest():
            event = cohort.labels[cohort.rows("train")] == 1
            all_, some = Moments.of(values), Moments.of(values[event])
            return SummaryReply(
                **header,
                patients=len(values),
                events=int(event.sum()),
                **vars(all_),
                **{f"told_{name}": sums for name, sums in vars(all_).items()},
                event_count=some.count,
                event_total=some.total,
            )
        case BucketsRequest():
            if np.shape(request.centre) != values.shape[1:] or np.shape(request.scale) != values.shape[1:]:
                raise _unknown(study, f"{np.shape(request.centre)} means")
            return BucketsReply(**header, counts=bucket_counts(values, request.centre, request.scale))
        case CovarianceRequest():
            places = np.asarray(request.columns)
            if places.dtype != np.int64 or places.ndim != 1 or len(places) > WIDEST:
                raise _unknown(study, f"columns {places.dtype} {places.shape}")
            if len(places) and not (places.min() >= 0 and places.max() < values.shape[1]):
                raise _unknown(study, f"column {places.max()} of {values.shape[1]}")
            return CovarianceReply(**header, **vars(Products.of(values[:, places])))


def _unknown(study: Study, what: str) -> ColumnsUnknown:
    return ColumnsUnknown(f"{what} were asked", where=study.study, remedy="run the same FedLoupe version everywhere")
