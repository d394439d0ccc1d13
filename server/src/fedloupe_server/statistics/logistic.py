"""Federated logistic regression, ridge or elastic net, from summed gradients and Hessians; equals the pooled fit.

beta = fit_logistic(ask, width, Penalty(5.0, l1_ratio=0.5))      # ask(step, beta) gives every site's NewtonReply
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedloupe.errors import FedLoupeError
from fedloupe.models import ASKS, Descent, Penalty

Vector = NDArray[np.float64]


class NotConverged(FedLoupeError):
    """The logistic regression found no optimum: a site's sums do not fit one likelihood, or the penalty is too weak."""

    code = "FL-735"
    title = "the federated logistic regression did not converge"


class Terms(Protocol):
    """One term of the sum: a site's reply, or a prior."""

    @property
    def gradient(self) -> NDArray[Any]:
        """(1+q) of the log-likelihood."""

    @property
    def hessian(self) -> NDArray[Any]:
        """(1+q, 1+q) negative, of the log-likelihood."""


def fit_logistic(
    ask: Callable[[int, Vector], Sequence[Terms]],
    width: int,
    penalty: Penalty,
    kept: NDArray[np.int64] | None = None,
    where: str = "",
    remedy: str = "raise `evaluation.ridge`; if that does not help, run the same version everywhere",
    over: Callable[[], tuple[str, ...]] = tuple,
) -> Vector:
    """The penalised optimum over the training patients of the sites that are in the last sums.

    Args:
        ask: the sites' sums at these coefficients (1+q); called with the number of the step, from 0.
        width: 1+q.
        penalty: on all but the intercept.
        kept: coefficients that take part, of which the first is not penalised; the others stay zero, which is the
            model without their columns. None: all.
        where: run and baseline, for the error; `remedy` likewise.
        over: the sites in the sums that `ask` gave last: where one left or came, the search goes on from where it is as
            from a new start. Sums over two sets of sites are of two likelihoods, and no step need lower both.

    Returns:
        (1+q); every KKT condition of the summed likelihood holds within 1e-8.

    Raises:
        NotConverged: after 100 steps.
    """
    rows = np.arange(width) if kept is None else kept
    descent, before = Descent(len(rows), penalty), over()
    for step in range(ASKS):
        beta = np.zeros(width)
        beta[rows] = descent.beta
        replies = ask(step, beta)
        sites = over()
        if sites != before:
            descent.restart()
        before = sites
        gradient = np.sum([r.gradient[rows] for r in replies], axis=0)
        if descent.take(gradient, np.sum([r.hessian[np.ix_(rows, rows)] for r in replies], axis=0)):
            return beta
    raise NotConverged(
        f"no optimum within {ASKS} steps",
        where=where,
        remedy=remedy,
    )
