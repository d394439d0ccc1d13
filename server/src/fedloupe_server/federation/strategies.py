"""How the sites' mean becomes the next round's weights: one small class a strategy, its mathematics in its text.

The mean comes from a sum of integers (`federation.summing`), so a result depends on who took part and on nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedloupe.study import Training

Vector = NDArray[np.float32]


class Strategy(Protocol):
    """Aggregation with a state that the journal can keep."""

    def aggregate(self, current: Vector, mean: NDArray[np.float64]) -> Vector:
        """The next weights from the current ones and the sites' weighted mean, sum_k n_k w_k / sum_k n_k."""
        ...

    def state(self) -> dict[str, NDArray[Any]]:
        """What must survive a restart."""
        ...

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take up a state that `state` gave."""
        ...


class FedAvg:
    """w' = sum_k (n_k / n) w_k (McMahan 2017, alg. 1). FedProx aggregates alike; its term acts at the sites."""

    def aggregate(self, current: Vector, mean: NDArray[np.float64]) -> Vector:
        """The weighted mean of the sites' weights."""
        return mean.astype(np.float32)

    def state(self) -> dict[str, NDArray[Any]]:
        """Nothing."""
        return {}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Nothing to take up."""


class FedAdam:
    """Adam on the pseudo-gradient d = mean_k w_k - w (Reddi 2021, alg. 2).

    m' = b1 m + (1-b1) d;  v' = b2 v + (1-b2) d^2;  w' = w + eta m' / (sqrt(v') + tau); b1 .9, b2 .99, tau 1e-3.
    """

    beta1, beta2, tau = 0.9, 0.99, 1e-3

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.m: NDArray[np.float64] | None = None
        self.v: NDArray[np.float64] | None = None

    def aggregate(self, current: Vector, mean: NDArray[np.float64]) -> Vector:
        """The current weights after one server step."""
        change = mean - current.astype(np.float64)
        m = np.zeros_like(change) if self.m is None else self.m
        v = np.zeros_like(change) if self.v is None else self.v
        self.m = self.beta1 * m + (1 - self.beta1) * change
        self.v = self.beta2 * v + (1 - self.beta2) * change**2
        return (current + self.rate * self.m / (np.sqrt(self.v) + self.tau)).astype(np.float32)

    def state(self) -> dict[str, NDArray[Any]]:
        """Both moments."""
        return {} if self.m is None or self.v is None else {"m": self.m, "v": self.v}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Both moments, or a fresh start where there are none."""
        self.m, self.v = state.get("m"), state.get("v")


def strategy_for(training: Training) -> Strategy:
    """The study's strategy."""
    return FedAdam(training.server_learning_rate) if training.strategy == "fedadam" else FedAvg()
