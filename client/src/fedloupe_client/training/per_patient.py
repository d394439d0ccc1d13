"""Each patient's own gradient, exact, from one backward pass over the batch.

    gradients = PerPatient(model)
    gradients.of(batch, labels)          # afterwards p.grad_sample is (B, ...) for every trained parameter

The pass goes to the outputs of the layers that hold trained parameters instead of to the parameters; a layer's input
and the gradient at its output then give each patient's gradient in closed form (Goodfellow 2015), by `RULES`. A layer
without a rule is refused. The tests hold every architecture to autograd, one patient at a time;
`benchmarks/dp_step.py` has the cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional as F
from torch.nn import grad as convolution_gradients

from fedloupe.models import Inputs, RadiomicsModel
from fedloupe.models.layers import GroupTokens, Places


class PerPatient:
    """Gradients of the summed loss, a patient each.

    Args:
        model: in train mode; a parameter that needs no gradient gets none.

    Raises:
        NotImplementedError: a layer has no rule, or may mix patients (an architecture's fault).
    """

    def __init__(self, model: RadiomicsModel) -> None:
        self._model = model
        self._trained: list[Any] = [p for p in model.parameters() if p.requires_grad]
        self._layers = [m for m in model.modules() if any(p.requires_grad for p in m.parameters(recurse=False))]
        self._counted = False
        for layer in self._layers:
            plain = not isinstance(layer, nn.Conv3d) or (layer.padding_mode == "zeros" and layer.padding != "same")
            if type(layer) not in RULES or not plain:
                raise NotImplementedError(f"no rule for a patient's gradient in {layer}")
        for layer in model.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm) or any(True for _ in layer.buffers(recurse=False)):
                raise NotImplementedError(f"patients may be mixed in {layer}")

    def of(self, batch: Inputs, labels: Tensor) -> None:
        """Put `grad_sample`, (B, ...), beside every trained parameter.

        Args:
            batch: of B patients, none is allowed.
            labels: (B) float, 0 or 1.

        Raises:
            RuntimeError: a trained parameter works outside the layer that holds it, or not at all (an architecture's
                fault).
        """
        for parameter in self._trained:
            parameter.grad_sample = None if len(batch) else parameter.new_zeros((0, *parameter.shape))
        if not len(batch):
            return
        calls: list[tuple[nn.Module, Tensor, GradientEdge]] = []

        def keep(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            calls.append((layer, inputs[0].detach(), get_gradient_edge(output)))

        hooks = [layer.register_forward_hook(keep) for layer in self._layers]
        try:
            logits = self._model(*batch.tensors)
        finally:
            for hook in hooks:
                hook.remove()
        loss = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
        self._count(loss, [layer for layer, _, _ in calls])
        backward = torch.autograd.grad(loss, [edge for _, _, edge in calls])
        for (layer, inputs, _), gradient in zip(calls, backward, strict=True):
            if len(gradient) != len(batch):
                raise RuntimeError(f"the first axis is not the patients' in {layer}")
            for parameter, own in RULES[type(layer)](layer, inputs, gradient).items():
                if parameter.requires_grad:  # a layer that works twice has the sum of both
                    before = parameter.grad_sample
                    parameter.grad_sample = own if before is None else before + own

    def _count(self, loss: Tensor, called: list[nn.Module]) -> None:
        """Once: every parameter enters the graph as often as its layer was called, and does so at least once."""
        if self._counted:
            return
        expected = Counter(p for layer in called for p in layer.parameters(recurse=False) if p.requires_grad)
        if expected != _entries(loss) or len(expected) != len(self._trained):
            raise RuntimeError("a trained parameter works outside the layer that holds it, or not at all")
        self._counted = True


def _entries(loss: Tensor) -> Counter[Any]:
    """How often each leaf enters the graph of `loss`."""
    entries: Counter[Any] = Counter()
    seen, ahead = {loss.grad_fn}, [loss.grad_fn]
    while ahead:
        node: Any = ahead.pop()
        for source, _ in node.next_functions:
            if hasattr(source, "variable"):
                entries[source.variable] += 1
            elif source is not None and source not in seen:
                seen.add(source)
                ahead.append(source)
    return entries


def _rows(values: Tensor, own: int = 1) -> Tensor:
    """(B, N, ...) of (B, ...): all axes but the first and the last `own` as one."""
    if values.dim() == own + 2:
        return values
    return values.unsqueeze(1) if values.dim() == own + 1 else values.flatten(1, -own - 1)


def _linear(layer: nn.Linear, inputs: Tensor, gradient: Tensor) -> dict[Any, Tensor]:
    rows = _rows(gradient)
    own: dict[Any, Tensor] = {layer.weight: torch.bmm(rows.mT, _rows(inputs))}
    if layer.bias is not None:
        own[layer.bias] = rows.sum(1)
    return own


def _layer_norm(layer: nn.LayerNorm, inputs: Tensor, gradient: Tensor) -> dict[Any, Tensor]:
    normed = F.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)
    own: dict[Any, Tensor] = {layer.weight: _rows(normed.mul_(gradient), layer.weight.dim()).sum(1)}
    if layer.bias is not None:
        own[layer.bias] = _rows(gradient, layer.bias.dim()).sum(1)
    return own


def _conv3d(layer: nn.Conv3d, inputs: Tensor, gradient: Tensor) -> dict[Any, Tensor]:
    """The patients as groups of one convolution, whose weights are then a patient's each."""
    batch, (padding, stride, dilation) = len(inputs), (layer.padding, layer.stride, layer.dilation)
    weight = convolution_gradients.conv3d_weight(
        inputs.reshape(1, -1, *inputs.shape[2:]),
        (batch * layer.out_channels, *layer.weight.shape[1:]),
        gradient.reshape(1, -1, *gradient.shape[2:]),
        stride,
        padding,
        dilation,
        batch * layer.groups,
    )
    own: dict[Any, Tensor] = {layer.weight: weight.view(batch, *layer.weight.shape)}
    if layer.bias is not None:
        own[layer.bias] = gradient.flatten(2).sum(2)
    return own


def _group_norm(layer: nn.GroupNorm, inputs: Tensor, gradient: Tensor) -> dict[Any, Tensor]:
    normed = F.group_norm(inputs, layer.num_groups, eps=layer.eps)
    return {layer.weight: normed.mul_(gradient).flatten(2).sum(2), layer.bias: gradient.flatten(2).sum(2)}


def _group_tokens(layer: GroupTokens, inputs: Tensor, gradient: Tensor) -> dict[Any, Tensor]:
    values, there = inputs[..., :-1], inputs[..., -1:]
    known = there * gradient
    return {
        layer.weight: values.unsqueeze(3) * known.unsqueeze(2),
        layer.bias: known,
        layer.missing: (1 - there) * gradient,
    }


def _places(layer: Places, inputs: Tensor, gradient: Tensor) -> dict[Any, Tensor]:
    absent = inputs[..., layer.place.shape[1] :]
    return {layer.place: gradient, layer.missing: absent.transpose(1, 2) @ gradient}


RULES: dict[type[nn.Module], Callable[[Any, Tensor, Tensor], dict[Any, Tensor]]] = {
    nn.Linear: _linear,
    nn.LayerNorm: _layer_norm,
    nn.Conv3d: _conv3d,
    nn.GroupNorm: _group_norm,
    GroupTokens: _group_tokens,
    Places: _places,
}
"""Layers whose gradients a patient, (B, ...) by parameter, follow from the first input (B, ...) and the gradient at the
output (B, ...). A subclass is another layer."""
