"""Where a long training stands, so that a killed process goes on inside the round and ends with the same bits.

if checkpoint.due():
    checkpoint.save(capture(model, optimiser, place))     # between two batches
if state := checkpoint.load():
    place = restore(state, model, optimiser)

Training knows this much and no folder: the site brings the file (`fedloupe_client.site.checkpoint`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedloupe.models import flatten, unflatten

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """A point between two batches.

    Attributes:
        number: the round, from 1.
        epoch: of the round, from 0.
        batches: of this epoch that are done.
        total: loss of these, summed over patients.
        last: mean loss of the epoch before; NaN in the first.
        order: (patients) int64, the permutation of this epoch.
    """

    number: int
    epoch: int
    batches: int
    total: float
    last: float
    order: Tensor


@dataclass(frozen=True)
class State:
    """Everything that the next batch depends on: twice the model beside the model, and the generators.

    Attributes:
        place: where.
        weights: (m) float32 as from `flatten`.
        first, second: (m) float32, AdamW's running means of gradient and squared gradient, in the same order.
        steps: (tensors) float32, AdamW's count for each parameter tensor.
        random: (r) uint8, PyTorch's generator on the CPU.
        cuda: (c) uint8, the generator of the GPU where the model is on one, else empty.
    """

    place: Place
    weights: NDArray[np.float32]
    first: NDArray[np.float32]
    second: NDArray[np.float32]
    steps: NDArray[np.float32]
    random: NDArray[np.uint8]
    cuda: NDArray[np.uint8]


class Checkpoint(Protocol):
    """One training's place to keep its state."""

    def load(self) -> State | None:
        """What was saved last by this very training; None where there is nothing to go on from."""

    def due(self) -> bool:
        """Whether it is time to save."""

    def save(self, state: State) -> None:
        """Keep the state instead of the one before."""


def capture(model: nn.Module, optimiser: torch.optim.AdamW, place: Place) -> State:
    """The state after a batch; the optimiser holds the model's parameters in their order."""
    parameters = list(model.parameters())
    kept = [optimiser.state.get(p, {}) for p in parameters]

    def flat(name: str) -> NDArray[np.float32]:
        parts = [state.get(name, torch.zeros_like(p)) for state, p in zip(kept, parameters, strict=True)]
        return np.asarray(torch.cat([part.detach().cpu().reshape(-1) for part in parts]).numpy(), dtype=np.float32)

    on_gpu = parameters[0].is_cuda
    return State(
        place=place,
        weights=flatten(model),
        first=flat("exp_avg"),
        second=flat("exp_avg_sq"),
        steps=np.array([float(state.get("step", 0.0)) for state in kept], dtype=np.float32),
        random=torch.get_rng_state().numpy(),
        cuda=torch.cuda.get_rng_state(parameters[0].device).numpy() if on_gpu else np.zeros(0, np.uint8),
    )


def restore(state: State, model: nn.Module, optimiser: torch.optim.AdamW) -> Place:
    """Put model, optimiser and generators where they were.

    Raises:
        WrongSize: the state is of another model.
    """
    unflatten(model, state.weights)
    position = 0
    for parameter, step in zip(model.parameters(), state.steps, strict=True):
        part = slice(position, position + parameter.numel())
        position += parameter.numel()
        optimiser.state[parameter] = {
            "step": torch.tensor(float(step)),
            "exp_avg": _like(parameter, state.first[part]),
            "exp_avg_sq": _like(parameter, state.second[part]),
        }
    torch.set_rng_state(torch.from_numpy(state.random.copy()))
    device = next(model.parameters()).device
    if device.type == "cuda" and len(state.cuda):
        torch.cuda.set_rng_state(torch.from_numpy(state.cuda.copy()), device)
    place = state.place
    _log.info("goes on in round %d, epoch %d, after %d batches", place.number, place.epoch + 1, place.batches)
    return place


def _like(parameter: Tensor, values: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(values.copy()).reshape(parameter.shape).to(parameter.device)
