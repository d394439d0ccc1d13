"""Each patient's own gradient, exact for every layer of the models, in the way that is fastest for each.

    gradients = PerPatient(model)
    gradients.of(batch, labels)          # afterwards p.grad_sample is (B, ...) for every trained parameter

A model with an image stem: PyTorch's function transforms over the whole model, `vmap` of `grad`. Opacus's hooks unfold
a 3-D convolution, which takes more time and memory. Any other model: Opacus's hooks, with closed forms for the two
layers that hold raw parameters; there the transforms cost more than they save. `benchmarks/dp_step.py` has the ratios.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from opacus import GradSampleModule
from opacus.grad_sample import register_grad_sampler
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from fedloupe.models import Inputs, RadiomicsModel
from fedloupe.models.layers import GroupTokens, Places


class PerPatient:
    """Gradients of the summed loss, a patient each.

    Args:
        model: in train mode; a parameter that needs no gradient gets none.
    """

    def __init__(self, model: RadiomicsModel) -> None:
        self._model = model
        self._trained: dict[str, Any] = {name: p for name, p in model.named_parameters() if p.requires_grad}
        convolves = any(isinstance(m, nn.Conv3d) and m.weight.requires_grad for m in model.modules())
        self._wrapped = None if convolves else GradSampleModule(model, loss_reduction="sum")
        self._mapped: Callable[..., dict[str, Tensor]] = vmap(
            grad(self._loss), in_dims=(None, 0, *(0,) * 8), randomness="different"
        )

    def of(self, batch: Inputs, labels: Tensor) -> None:
        """Put `grad_sample`, (B, ...), beside every trained parameter.

        Args:
            batch: of B patients, none is allowed.
            labels: (B) float, 0 or 1.
        """
        if not len(batch):
            for parameter in self._trained.values():
                parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))
        elif self._wrapped is not None:
            loss = F.binary_cross_entropy_with_logits(self._wrapped(*batch.tensors), labels, reduction="sum")
            with warnings.catch_warnings():
                # a layer whose inputs are data: its hook has all that the closed forms read
                warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)
                loss.backward()
        else:
            now = {name: parameter.detach() for name, parameter in self._trained.items()}
            for name, own in self._mapped(now, labels, *batch.tensors).items():
                self._trained[name].grad_sample = own

    def _loss(self, parameters: dict[str, Tensor], label: Tensor, *tensors: Tensor) -> Tensor:
        """The loss of one patient, whose tensors lack the batch's axis."""
        logit = functional_call(self._model, parameters, tuple(tensor.unsqueeze(0) for tensor in tensors))
        return F.binary_cross_entropy_with_logits(logit, label.unsqueeze(0), reduction="sum")


def _sampler(layer: type[nn.Module]) -> Callable[[Any], Any]:
    register: Callable[[Any], Any] = register_grad_sampler(layer)
    return register


@_sampler(GroupTokens)
def group_tokens(layer: GroupTokens, activations: list[Tensor], backprops: Tensor) -> dict[nn.Parameter, Tensor]:
    """(B, ...) of a linear map a group and its missing token."""
    values, there = activations[0][..., :-1], activations[0][..., -1:]
    known = there * backprops
    return {
        layer.weight: torch.einsum("bgk,bgd->bgkd", values, known),
        layer.bias: known,
        layer.missing: (1 - there) * backprops,
    }


@_sampler(Places)
def places(layer: Places, activations: list[Tensor], backprops: Tensor) -> dict[nn.Parameter, Tensor]:
    """(B, ...) of the places and of the shift a missing volume."""
    absent = activations[0][..., layer.place.shape[1] :]
    return {layer.place: backprops, layer.missing: torch.einsum("bnc,bnd->bcd", absent, backprops)}
