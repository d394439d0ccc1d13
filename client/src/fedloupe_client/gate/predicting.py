"""What leaves of the tuning and training patients on which threshold, line, sets and range are fitted."""

from __future__ import annotations

import numpy as np

from fedloupe.messages import CalibrateReply, ConformReply, EmbedReply, MidpointReply
from fedloupe_client.gate.cells import changed, check_cells, coarsen
from fedloupe_client.gate.errors import ReplyRefused

Fitted = MidpointReply | CalibrateReply | EmbedReply | ConformReply


def protect(reply: Fitted, cell: int) -> Fitted:
    """The answer as it may leave.

    A number that is not zero in fewer than `cell` patients, such as a clinical value of one of them, counts as zero in
    all; two numbers that fewer patients both have count as never seen together. Small bins are
    merged from the largest value down: the upper quantiles are what is read from them.

    Raises:
        CellTooSmall: fewer than `cell` tuning patients with or without the event.
        ReplyRefused: bins that do not count the patients.
    """
    match reply:
        case MidpointReply() | CalibrateReply():
            check_cells(reply.patients, reply.positives, cell, "split `tune`")
            return reply
        case EmbedReply():
            count = np.asarray(reply.count)
            keep = count >= cell
            total = np.where(np.diagonal(keep), reply.total, 0.0)
            product = np.where(keep, reply.product, 0.0)
            return changed(reply, count=np.where(keep, count, 0), total=total, product=product)
        case ConformReply():
            check_cells(reply.patients, reply.positives, cell, "split `tune`")
            merged = {name: _merged(reply, name, cell) for name in reply.tensors}
            return changed(reply, **merged)


def _merged(reply: ConformReply, name: str, cell: int) -> object:
    counts = np.asarray(getattr(reply, name))
    if (counts < 0).any() or (counts != np.rint(counts)).any() or counts.sum() != reply.patients:
        raise ReplyRefused(
            f"`{name}` does not count the patients",
            remedy="this is a fault of the site's software: report it; nothing left",
        )
    merged, _ = coarsen(counts[::-1], np.zeros_like(counts), cell)
    return merged[::-1]
