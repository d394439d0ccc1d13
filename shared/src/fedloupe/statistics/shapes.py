"""The shape of exact sums in answers: the gate asks before they leave, the coordinator after.

fits(reply, request, covariates=2)
"""

from __future__ import annotations

import numpy as np

from fedloupe.messages import (
    BucketsReply,
    BucketsRequest,
    CovarianceReply,
    CovarianceRequest,
    CrossProductsReply,
    CrossProductsRequest,
    DescribeReply,
    Message,
    PriorReply,
    ResidualsReply,
    ResidualsRequest,
    SummaryReply,
)
from fedloupe.statistics.ring import WORDS
from fedloupe.statistics.shifts import PRIOR_SUMS
from fedloupe.statistics.sketch import BUCKETS


def wanted(reply: Message, request: Message, covariates: int) -> dict[str, tuple[int, ...]]:
    """The shape of each integer array of an answer with exact sums; empty for other answers.

    Args:
        reply: the answer.
        request: what was asked.
        covariates: how many the study harmonises with.
    """
    found: dict[str, tuple[int, ...]] = {}
    match reply, request:
        case DescribeReply(), _:
            found = _sums((np.size(reply.count),), "total", "square")
        case SummaryReply(), _:
            m = np.size(reply.count)
            sums = ("total", "square", "told_total", "told_square", "event_total")
            found = _sums((m,), *sums) | {"told_count": (m,), "event_count": (m,)}
        case BucketsReply(), BucketsRequest():
            found = {"counts": (np.size(request.centre), BUCKETS)}
        case CovarianceReply(), CovarianceRequest():
            k = np.size(request.columns)
            found = _sums((k, k), "total", "square", "product")
        case CrossProductsReply(), CrossProductsRequest():
            p, q = np.size(request.centre), covariates
            found = {"count": (p,), "cross": (p, q, q, WORDS), "moment": (p, q, WORDS)}
        case ResidualsReply(), ResidualsRequest():
            found = _sums((np.size(request.centre),), "total", "square")
        case PriorReply(), _:
            found = {"sums": (PRIOR_SUMS, WORDS)}
        case _:
            pass
    return found


def _sums(shape: tuple[int, ...], *names: str) -> dict[str, tuple[int, ...]]:
    return {"count": shape, **dict.fromkeys(names, (*shape, WORDS))}


def fits(reply: Message, request: Message, covariates: int) -> bool:
    """Whether the arrays are integers of the wanted shapes."""
    return all(
        np.shape(getattr(reply, name)) == shape and np.asarray(getattr(reply, name)).dtype == np.int64
        for name, shape in wanted(reply, request, covariates).items()
    )
