"""Small cells of a description: what leaves of columns that few patients have, or few with the event."""

from __future__ import annotations

import numpy as np

from fedloupe.messages import BucketsReply, CovarianceReply, SummaryReply
from fedloupe.statistics.sketch import merge_small
from fedloupe_client.gate.cells import changed
from fedloupe_client.gate.policy import Policy


def protect(
    reply: SummaryReply | BucketsReply | CovarianceReply, policy: Policy, *, secure: bool = False
) -> SummaryReply | BucketsReply | CovarianceReply:
    """The answer as it may leave.

    Where it leaves in a secure sum, a column is in all of its sums or in none: were this site left out of one of two
    that are equal at the others, the difference of the two totals would be its own. The sum hides its small cells.

    A column, or a pair of columns, known in fewer than `minimum_cell` patients is reported as absent. Where fewer with,
    or without, the event have a value, nothing is told of the two apart. Small buckets are merged.
    """
    cell = policy.minimum_cell
    match reply:
        case BucketsReply():
            merged = np.array([merge_small(row, cell) for row in np.asarray(reply.counts)], dtype=np.int64)
            return changed(reply, counts=merged.reshape(np.shape(reply.counts)))
        case CovarianceReply():
            keep = np.asarray(reply.count) >= cell
            if secure:
                keep = np.outer(np.diagonal(keep), np.diagonal(keep))
            sums = {name: getattr(reply, name) * keep[..., None] for name in ("total", "square", "product")}
            return changed(reply, count=np.where(keep, reply.count, 0), **sums)
        case SummaryReply():
            count, with_event = np.asarray(reply.count), np.asarray(reply.event_count)
            keep = count >= cell
            told = keep if secure else keep & (with_event >= cell) & (count - with_event >= cell)
            told_sums = ("told_total", "told_square", "event_total")
            return changed(
                reply,
                count=np.where(keep, count, 0),
                told_count=np.where(told, count, 0),
                event_count=np.where(told, with_event, 0),
                **{name: getattr(reply, name) * keep[:, None] for name in ("total", "square")},
                **{name: getattr(reply, name) * told[:, None] for name in told_sums},
            )
