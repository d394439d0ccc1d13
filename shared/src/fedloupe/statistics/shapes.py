"""What the arrays of harmonisation's answers must look like: the gate asks before they leave, the coordinator after.

fits(reply, request, covariates=2)
"""

from __future__ import annotations

import numpy as np

from fedloupe.messages import (
    CrossProductsReply,
    CrossProductsRequest,
    DescribeReply,
    Message,
    PriorReply,
    ResidualsReply,
    ResidualsRequest,
)
from fedloupe.statistics.ring import WORDS
from fedloupe.statistics.shifts import PRIOR_SUMS


def wanted(reply: Message, request: Message, covariates: int) -> dict[str, tuple[int, ...]]:
    """The shape of each integer array of an answer with exact sums; empty for other answers.

    Args:
        reply: the answer.
        request: what was asked.
        covariates: how many the study harmonises with.
    """
    q = covariates
    match reply, request:
        case DescribeReply(), _:
            p = np.size(reply.count)
            return {"count": (p,), "total": (p, WORDS), "square": (p, WORDS)}
        case CrossProductsReply(), CrossProductsRequest():
            p = np.size(request.centre)
            return {"count": (p,), "cross": (p, q, q, WORDS), "moment": (p, q, WORDS)}
        case ResidualsReply(), ResidualsRequest():
            p = np.size(request.centre)
            return {"count": (p,), "total": (p, WORDS), "square": (p, WORDS)}
        case PriorReply(), _:
            return {"sums": (PRIOR_SUMS, WORDS)}
        case _:
            return {}


def fits(reply: Message, request: Message, covariates: int) -> bool:
    """Whether the arrays are integers of the wanted shapes."""
    return all(
        np.shape(getattr(reply, name)) == shape and np.asarray(getattr(reply, name)).dtype == np.int64
        for name, shape in wanted(reply, request, covariates).items()
    )
