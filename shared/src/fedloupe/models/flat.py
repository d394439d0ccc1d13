"""All parameters of a model as one float32 vector: Flower moves one array fast and hundreds of arrays slowly."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedloupe.errors import FedLoupeError


class WrongSize(FedLoupeError):
    """A weight vector does not belong to this model."""

    code = "FL-602"
    title = "weights do not fit the study's model"


def flatten(model: nn.Module) -> NDArray[np.float32]:
    """(m) float32 in the order of `model.parameters()`; the models here have no buffers."""
    parts = [p.detach().cpu().reshape(-1) for p in model.parameters()]
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)


def unflatten(model: nn.Module, vector: NDArray[Any]) -> None:
    """Load a vector made by `flatten` into the model.

    Raises:
        WrongSize: the vector has another length.
    """
    expected = sum(p.numel() for p in model.parameters())
    if vector.shape != (expected,):
        raise WrongSize(
            f"{vector.shape} numbers arrived, the model has ({expected},)", remedy="run the same study everywhere"
        )
    position = 0
    with torch.no_grad():
        for parameter in model.parameters():
            values = vector[position : position + parameter.numel()].reshape(parameter.shape)
            parameter.copy_(torch.from_numpy(np.array(values, dtype=np.float32)))
            position += parameter.numel()


def digest(*arrays: NDArray[Any]) -> str:
    """SHA-256 over shapes, types and bytes."""
    state = hashlib.sha256()
    for array in arrays:
        state.update(f"{array.dtype.str}{array.shape}".encode())
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()
