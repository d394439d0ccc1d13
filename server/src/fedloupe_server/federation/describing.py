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
from fedloupe.statistics import Products
from fedloupe.statistics.sketch import ACCURACY, CENTRE
from fedloupe.study import Study, clinical_inputs
from fedloupe_server.federation.conversation import Conversation, WrongAnswer
from fedloupe_server.federation.journal import Journal, write_atomic
from fedloupe_server.statistics.description import describe, pooled, table

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
    summaries = list(talk.ask_all(sites, lambda header: SummaryRequest(**header), SummaryReply).values())
    if other := [reply.site for reply in summaries if len(reply.count) != len(names)]:
        raise WrongAnswer(
            f"{other[0]} described other columns", where=other[0], remedy="run the same version everywhere"
        )
    moments = pooled(summaries)
    replies = talk.ask_all(
        sites, lambda header: BucketsRequest(**header, centre=moments.mean, scale=moments.sd), BucketsReply
    )
    counts: NDArray[np.int64] = np.sum([reply.counts for reply in replies.values()], axis=0)
    rows = describe(names, summaries, counts)
    content = {
        "study": study.study,
        "fingerprint": study.fingerprint,
        "sites": list(sites),
        "patients": sum(reply.patients for reply in summaries),
        "events": sum(reply.events for reply in summaries),
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

        replies = talk.ask_all(sites, ask, CovarianceReply)
        sums = Products.sum([Products(r.count, r.total, r.square, r.product) for r in replies.values()])
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
