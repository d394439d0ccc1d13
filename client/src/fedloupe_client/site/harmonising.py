"""The site's answers to the rounds of harmonisation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloupe.messages import (
    CrossProductsReply,
    CrossProductsRequest,
    HarmoniseReply,
    HarmoniseRequest,
    PriorReply,
    PriorRequest,
    Reply,
    ResidualsReply,
    ResidualsRequest,
)
from fedloupe.models import digest
from fedloupe.statistics.combat import Harmoniser
from fedloupe.statistics.shifts import prior_sums
from fedloupe.study import Study
from fedloupe_client.dataset import Cohort
from fedloupe_client.harmonising import Harmonised, cross_products, residuals
from fedloupe_client.site.files import keep


def answer(
    header: dict[str, Any],
    request: CrossProductsRequest | ResidualsRequest | PriorRequest | HarmoniseRequest,
    study: Study,
    cohort: Cohort,
    path: Path,
) -> Reply:
    """The answer to one round.

    Args:
        header: of the answer.
        request: as admitted.
        study: as approved.
        cohort: the site's patients, features as measured.
        path: where the site keeps its own shifts of this run.

    Raises:
        HarmonisationMisfit, BatchTooSmall: see there.
    """
    site = header["site"]
    match request:
        case CrossProductsRequest():
            first = cross_products(study, cohort, request.centre, request.scale)
            return CrossProductsReply(**header, **vars(first))
        case ResidualsRequest():
            second = residuals(study, cohort, site, request.centre, request.scale, request.beta)
            return ResidualsReply(**header, **vars(second))
        case PriorRequest():
            own = Harmonised.fit(study, cohort, site, _harmoniser(request, np.zeros(0)), "train")
            return PriorReply(**header, sums=prior_sums(list(own.shifts.values())))
        case HarmoniseRequest():
            own = Harmonised.fit(study, cohort, site, _harmoniser(request, request.prior), request.scope)
            keep(path, own.to_bytes())
            made = digest(*own.harmoniser.arrays.values())
            return HarmoniseReply(**header, harmoniser=made, batches=len(own.shifts), small=own.small)


def _harmoniser(request: PriorRequest | HarmoniseRequest, prior: NDArray[Any]) -> Harmoniser:
    return Harmoniser(request.centre, request.scale, request.beta, request.level, request.spread, prior)
