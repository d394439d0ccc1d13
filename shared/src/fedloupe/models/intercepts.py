"""A hospital's own intercept while a common model is fitted: a random intercept of known spread (Laird & Ware 1982).

    u = own_intercept(odds, targets, spread=1.0)                          # where the model is held fixed
    gradient, hessian = logistic_terms(design, targets, beta, spread)     # where it is fitted with it

Hospitals differ in their event rate and in their scanner. With one intercept for all, a model learns to read the event
rate from the scanner, and is wrong at a hospital with another pair of the two. With an intercept u for each it learns
from differences within hospitals. u maximises the hospital's log-likelihood minus u^2 / (2 spread^2), and each hospital
works it out on its own patients. What a new hospital gets is the mean.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

Floats = NDArray[np.float64]


def own_intercept(odds: NDArray[Any], targets: NDArray[Any], spread: float) -> float:
    """The hospital's intercept beside a model that is held fixed.

    Args:
        odds: (n) log-odds under the common model.
        targets: (n) outcomes, in [0, 1].
        spread: standard deviation of hospitals' intercepts, in log-odds, above 0.
    """
    precision = spread**-2
    bound = len(odds) / precision + 1  # the sum of n residuals lies within -n and n

    def slope(u: float) -> float:
        return float((targets - expit(odds + u)).sum() - precision * u)

    return float(brentq(slope, -bound, bound, xtol=1e-13, rtol=8.9e-16, maxiter=500))


def logistic_terms(
    design: NDArray[Any], targets: NDArray[Any], beta: NDArray[Any], spread: float | None = None
) -> tuple[Floats, Floats]:
    """Gradient (q) and negative Hessian (q, q) of a hospital's log-likelihood of a logistic model at `beta`.

    With a spread it is the likelihood at the own intercept that maximises it (the profile likelihood, whose Hessian is
    the Schur complement of the joint one): sums over hospitals lead to the joint optimum over `beta` and every u.

    Args:
        design: (n, q), the intercept its first column.
        targets: (n) outcomes, in [0, 1].
        beta: (q).
        spread: as in `own_intercept`; None: no own intercept.
    """
    odds = design @ beta
    own = 0.0 if spread is None else own_intercept(odds, targets, spread)
    risk = expit(odds + own)
    weight = risk * (1 - risk)
    gradient = design.T @ (targets - risk)
    hessian = (design * weight[:, None]).T @ design
    if spread is not None:
        across = design.T @ weight
        hessian -= np.outer(across, across) / (weight.sum() + spread**-2)
    return gradient, hessian
