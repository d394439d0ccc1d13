"""Grad-CAM: which places of a convolutional model's last map speak for an outcome (Selvaraju 2017).

if convolutional(model):
    heat = grad_cam(model, patient.inputs, sign=1)       # (D, H, W), for the endpoint; sign -1: against it
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from torch import Tensor, nn
from torch.nn import functional as F

from fedloupe.models import Inputs


@runtime_checkable
class Convolutional(Protocol):
    """A model whose image path ends in maps that a head reads; place i of a map is centred on voxel i * stride."""

    deep: nn.Linear
    stride: int

    def maps(self, mr: Tensor, mr_present: Tensor, ct: Tensor, ct_present: Tensor) -> Tensor:
        """(B, C, d, h, w) the last convolutional map."""

    def head(
        self, maps: Tensor, radiomics: Tensor, radiomics_present: Tensor, clinical: Tensor, clinical_present: Tensor
    ) -> Tensor:
        """(B, width) what the last layer reads."""


def convolutional(model: nn.Module) -> bool:
    """Whether the model has maps and a head."""
    return isinstance(model, Convolutional)


def grad_cam(model: nn.Module, inputs: Inputs, *, sign: int) -> NDArray[np.float64]:
    """(D, H, W) heat, at least 0, in the logit's unit times the map's; interpolated from the map's grid to the crop's.

    With y the logit times `sign`: alpha_k = mean over places of dy/dA_k (eq. 1), heat = ReLU(sum alpha_k A_k) (eq. 2).
    The linear path beside does not depend on the maps and drops out of the gradient.

    Args:
        model: not training; `convolutional`.
        inputs: of one patient, with at least one volume.
        sign: 1 for the endpoint, -1 for its absence.
    """
    assert isinstance(model, Convolutional), "ask `convolutional` first"
    known = inputs.radiomics * inputs.radiomics_present.unsqueeze(-1)
    with torch.no_grad():
        maps = model.maps(inputs.mr, inputs.mr_present, inputs.ct, inputs.ct_present)
    maps.requires_grad_(True)
    vectors = model.head(maps, known, *inputs.tensors[1:4])
    (slope,) = torch.autograd.grad(sign * model.deep(vectors).sum(), maps)
    alpha = slope.mean(dim=(2, 3, 4), keepdim=True)
    heat = F.relu((alpha * maps).sum(dim=1, keepdim=True)).detach()
    size = (inputs.mr if inputs.mr.shape[1] else inputs.ct).shape[-3:]
    places = np.indices(size) / model.stride
    placed = map_coordinates(heat[0, 0].double().numpy(), places, order=1, mode="nearest")
    return np.asarray(placed, dtype=np.float64)
