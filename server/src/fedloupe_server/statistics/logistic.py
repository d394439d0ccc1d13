"""Federated ridge logistic regression by Newton steps on summed gradients and Hessians; equals the pooled fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedloupe.messages import NewtonReply
from fedloupe.models import newton_step as step_from_sums

STEPS = 12
TOLERANCE = 1e-8


def newton_step(
    beta: NDArray[np.float64], replies: Sequence[NewtonReply], ridge: float
) -> tuple[NDArray[np.float64], bool]:
    """One step on every site's gradient and Hessian at `beta`.

    Returns:
        The new coefficients (1+q), and whether the step was smaller than 1e-8.
    """
    gradient = np.sum([r.gradient for r in replies], axis=0)
    hessian = np.sum([r.hessian for r in replies], axis=0)
    step = step_from_sums(beta, gradient, hessian, ridge)
    return beta + step, bool(np.abs(step).max() < TOLERANCE)
