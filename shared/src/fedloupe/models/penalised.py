"""Penalised logistic regression from sums alone: where to ask the sites next, and when the optimum is reached.

    descent = Descent(width, Penalty(5.0, l1_ratio=0.5))
    while not descent.take(*sums_at(descent.beta)):      # gradient and Hessian, summed over patients
        pass
    descent.beta                                         # (1+q), intercept first

Minimises f(b) + lambda (alpha |b|_1 + (1 - alpha)/2 |b|^2), f the negative log-likelihood, intercept free (Friedman,
Hastie & Tibshirani 2010, eq. 9 and 15, lambda a sum's and not a mean's). Alpha 0 is ridge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

ASKS = 100
TOLERANCE = 1e-8
SUFFICIENT = 0.9
ARMIJO = 0.25
SWEEPS = 1000


@dataclass(frozen=True)
class Penalty:
    """lambda (alpha |b|_1 + (1 - alpha)/2 |b|^2) on everything but the first coefficient.

    Attributes:
        strength: lambda, >= 0.
        l1_ratio: alpha, 0 (ridge) to 1 (lasso).
    """

    strength: float
    l1_ratio: float = 0.0

    def l1(self, width: int) -> Vector:
        """(width) weight of each |b_j|."""
        return self._free(width, self.strength * self.l1_ratio)

    def l2(self, width: int) -> Vector:
        """(width) weight of each b_j^2 / 2."""
        return self._free(width, self.strength * (1 - self.l1_ratio))

    def value(self, beta: Vector) -> float:
        """The penalty of (1+q) coefficients."""
        width = len(beta)
        return float(self.l1(width) @ np.abs(beta) + self.l2(width) @ beta**2 / 2)

    def violation(self, beta: Vector, gradient: NDArray[Any]) -> float:
        """How far `beta` is from the optimum: the largest element of the smallest subgradient, 0 at the optimum.

        Args:
            beta: (1+q).
            gradient: (1+q) of the log-likelihood at `beta`, summed over patients.
        """
        l1, slope = self.l1(len(beta)), self.l2(len(beta)) * beta - gradient
        least = np.where(beta == 0, np.clip(np.abs(slope) - l1, 0, None), np.abs(slope + l1 * np.sign(beta)))
        return float(least.max())

    def minimise(self, beta: Vector, gradient: NDArray[Any], curvature: NDArray[Any]) -> Vector:
        """(1+q) the minimum of -g'(b - beta) + (b - beta)'H(b - beta)/2 + penalty(b).

        Coordinate descent finds which coefficients are zero and the others' signs; given these it is a linear system.
        """
        # 1e-9 keeps the system solvable where a component is constant; the optimum does not move.
        hessian = curvature + 1e-9 * np.eye(len(beta))
        l1, l2 = self.l1(len(beta)), self.l2(len(beta))
        if not l1.any():
            return np.asarray(beta + np.linalg.solve(hessian + np.diag(l2), gradient - l2 * beta), dtype=np.float64)
        pull = gradient + hessian @ beta  # the quadratic model's gradient is H b - pull
        exact = 1e-12 * (1 + np.abs(pull).max())
        found = beta.copy()
        for _ in range(SWEEPS):
            for j in range(len(found)):
                z = pull[j] - hessian[j] @ found + hessian[j, j] * found[j]
                found[j] = np.sign(z) * max(abs(z) - l1[j], 0.0) / (hessian[j, j] + l2[j])
            active = (found != 0) | (l1 == 0)
            system = hessian[np.ix_(active, active)] + np.diag(l2[active])
            guess = np.zeros_like(found)
            guess[active] = np.linalg.solve(system, pull[active] - (l1 * np.sign(found))[active])
            same_signs = bool((np.sign(guess) == np.sign(found))[l1 > 0].all())
            for candidate in (guess, found) if same_signs else (found,):
                if self.violation(candidate, pull - hessian @ candidate) <= exact:
                    return candidate
            if same_signs:
                found = guess  # the minimum for these signs is no worse than the sweep's end
        return found

    def _free(self, width: int, value: float) -> Vector:
        weights = np.full(width, value)
        weights[0] = 0.0
        return weights


class Descent:
    """Proximal Newton (Lee, Sun & Saunders 2014) whose line search needs gradients only, no value of the likelihood.

    The minimum of the quadratic model at b, b + d, counts if its violation is below 0.9 of the least so far. Otherwise
    the step is halved until b + t d lowers the objective F for certain: f is convex, so

        F(b + t d) - F(b) <= f'(b + t d) t d + penalty(b + t d) - penalty(b),

    and the right side, which the sums at b + t d give, must be below t/4 (f'(b) d + penalty(b + d) - penalty(b)), which
    is negative. That is Armijo's condition, and holds for small t. So either points count by their violation again and
    again, and it goes to zero geometrically, or in the end every step satisfies Armijo's condition, with which proximal
    Newton converges from anywhere.

    Attributes:
        beta: (1+q) where sums are wanted next, zero at first; the optimum once `take` says so.
    """

    def __init__(self, width: int, penalty: Penalty) -> None:
        self.beta: Vector = np.zeros(width)
        self.penalty = penalty
        self._from = self.beta
        self._step = np.zeros(width)
        self._decline = 0.0
        self._part = 1.0
        self._least = np.inf

    def take(self, gradient: NDArray[Any], hessian: NDArray[Any]) -> bool:
        """Move on, given the sums at `beta`.

        Args:
            gradient: (1+q) of the log-likelihood.
            hessian: (1+q, 1+q) negative Hessian of the log-likelihood.

        Returns:
            Whether `beta` is the optimum: every KKT condition holds within 1e-8.
        """
        violation = self.penalty.violation(self.beta, gradient)
        if violation <= TOLERANCE:
            return True
        if violation <= SUFFICIENT * self._least or self._lowers(gradient):
            self._from, self._part = self.beta, 1.0
            self.beta = self.penalty.minimise(self._from, gradient, hessian)
            self._step = self.beta - self._from
            ahead = self.penalty.value(self.beta) - self.penalty.value(self._from)
            self._decline = float(ahead - gradient @ self._step)
        else:
            self._part /= 2
            self.beta = self._from + self._part * self._step
        self._least = min(self._least, violation)
        return False

    def restart(self) -> None:
        """Begin anew from `beta`: the sums that come are of other patients, with another optimum."""
        self._least = np.inf

    def _lowers(self, gradient: NDArray[Any]) -> bool:
        moved = self.beta - self._from
        bound = self.penalty.value(self.beta) - self.penalty.value(self._from) - gradient @ moved
        return bool(bound <= ARMIJO * self._part * self._decline)
