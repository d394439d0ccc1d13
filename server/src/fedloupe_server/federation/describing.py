"""The description of the training sites' patients: `statistics.json` and `statistics.csv` in the run's folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloupe.messages import (
    BucketsReply,
    BucketsRequest,
    CovarianceReply,
    CovarianceRequest,
    SummaryReply,
    SummaryRequest,
)
from fedloupe.models import group_order
from fedloupe.statistics import Moments, Products
from fedloupe.statistics.sketch import ACCURACY, CENTRE
from fedloupe.study import Study, clinical_inputs
from fedloupe_server.federation.conversation import Conversation
from fedloupe_server.federation.journal import Journal, write_atomic
from fedloupe_server.statistics.description import describe, table

WIDEST = 64
"""Columns of a group up to which its covariance is asked; with the clinical values."""


def describe_sites(
    study: Study,
    talk: Conversation,
    sites: tuple[str, ...],
    features: tuple[str, ...],
    groups: tuple[str, ...],
    journal: Journal,
) -> None:
    """Ask, work out, write; once a run.

    Raises:
        SiteRefused, WrongAnswer: the run can be continued.
    """
    path = journal.folder / "statistics.json"
    if path.exists():
        return
    names = (*features, *(variable.name for variable in clinical_inputs(study)))
    total = talk.sums.all(sites, lambda header: SummaryRequest(**header), SummaryReply)
    if len(total.count) != len(names):
        raise talk.wrong_answer("the sites", "described other columns")
    described = talk.sums.sites
    moments = Moments(total.count, total.total, total.square)
    buckets = talk.sums.all(
        sites, lambda header: BucketsRequest(**header, centre=moments.mean, scale=moments.sd), BucketsReply
    )
    rows = describe(names, total, buckets.counts)
    content = {
        "study": study.study,
        "fingerprint": study.fingerprint,
        "sites": list(described),
        "patients": total.patients,
        "events": total.events,
        "quantiles": {"relative_error_of_distance_from_mean": ACCURACY, "sd_near_the_mean": CENTRE},
        "variables": [asdict(row) for row in rows],
        "covariance": _covariances(talk, sites, names, groups),
    }
    write_atomic(journal.folder / "statistics.csv", table(rows).encode())
    write_atomic(path, (json.dumps(content, indent=1) + "\n").encode())


def _covariances(
    talk: Conversation, sites: tuple[str, ...], names: tuple[str, ...], groups: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Of each feature group with the clinical values, where these are not too many columns; null where not known."""
    clinical = np.arange(len(groups), len(names))
    found = []
    for group in group_order(groups) or ("",):
        members = np.flatnonzero(np.array(groups) == group)
        places = np.concatenate([members, clinical]).astype(np.int64)
        if not 1 < len(places) <= WIDEST:
            continue

        def ask(header: dict[str, Any], places: NDArray[np.int64] = places) -> CovarianceRequest:
            return CovarianceRequest(**header, columns=places)

        total = talk.sums.all(sites, ask, CovarianceReply)
        sums = Products(total.count, total.total, total.square, total.product)
        matrices = {"covariance": sums.covariance, "correlation": sums.correlation}
        found.append(
            {
                "group": group,
                "columns": [names[i] for i in places],
                "patients": sums.count.tolist(),
                **{key: [[v if np.isfinite(v) else None for v in row] for row in m] for key, m in matrices.items()},
            }
        )
    return found
