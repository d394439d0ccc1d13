"""Client-level privacy at the door: an update beyond the study's bound does not leave.

The training code clips; this measures again, by arithmetic of its own, on the very numbers that would be sent. It is
what makes the bound hold for this hospital whatever is wrong with the code behind it.
"""

from __future__ import annotations

import math

import numpy as np

from fedloupe.messages import TrainReply, TrainRequest
from fedloupe_client.gate.cells import changed
from fedloupe_client.gate.errors import UpdateTooLong


def protect(reply: TrainReply, request: TrainRequest, clip: float) -> TrainReply:
    """The answer to a round of a client-level study, as it may leave: weights alone.

    Its loss is outside the account. Its epsilon would be the site's record-level one, which this study does not spend.

    Args:
        reply: with weights of the shape that was asked.
        request: with the round's weights.
        clip: the study's bound on the L2 norm of the update.

    Raises:
        UpdateTooLong: the update is longer, or no number.
    """
    update = np.asarray(reply.weights, np.float64) - np.asarray(request.weights, np.float64)
    length = math.sqrt(np.sum(update * update))
    if not length <= clip:  # also where it is not a number
        raise UpdateTooLong(
            f"the update's L2 norm is {length:.9g}, the study's bound is {clip:g}",
            where=f"run {reply.run}, round {reply.round}",
            remedy="this is a fault of the site's software, which must clip its update: report it; nothing left",
        )
    return changed(reply, loss=None, epsilon=None)
