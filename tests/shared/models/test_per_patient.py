"""Each patient's own gradient: right where a layer is unusual, refused where it could be wrong."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedloupe.models import Schema, build_model
from fedloupe_client.training.per_patient import RULES, PerPatient

STILL = {"components": 3, "width": 16, "depth": 2, "heads": 2, "dropout": 0, "feature_dropout": 0, "feature_noise": 0}
LABELS = torch.tensor([0.0, 1, 0, 1, 1], dtype=torch.double)


@pytest.fixture
def made(make_study, make_inputs):
    """A model in double precision, whose linear path is not at zero, and five patients."""

    def make(image=False):
        study = make_study(model={**STILL, "image": image})
        schema = Schema.of(study, ("shape", "t2w", "adc"))
        model = build_model(study, schema).train().double()
        nn.init.normal_(model.wide.weight)
        inputs = make_inputs(schema)
        return model, type(inputs)(*(tensor.double() for tensor in inputs.tensors))

    return make


def is_autograds(model, inputs) -> bool:
    PerPatient(model).of(inputs, LABELS)
    trained = [p for p in model.parameters() if p.requires_grad]
    for patient in range(5):
        logit = model(*inputs.take(torch.tensor([patient])).tensors)
        loss = F.binary_cross_entropy_with_logits(logit, LABELS[[patient]], reduction="sum")
        for parameter, right in zip(trained, torch.autograd.grad(loss, trained), strict=True):
            torch.testing.assert_close(parameter.grad_sample[patient], right, rtol=1e-5, atol=1e-9)
    return True


class TestRight:
    def test_a_layer_that_works_twice(self, made):
        model, inputs = made()
        model.blocks = nn.ModuleList([model.blocks[0], model.blocks[0]])
        assert is_autograds(model, inputs)

    def test_a_parameter_of_two_layers(self, made):
        model, inputs = made()
        model.blocks[1].feed[0].weight = model.blocks[0].feed[0].weight
        assert is_autograds(model, inputs)

    def test_a_layer_without_a_bias_and_one_that_trains_it_alone(self, made):
        model, inputs = made()
        model.blocks[0].norm1 = nn.LayerNorm(16, bias=False).double()
        model.blocks[1].attention.qkv.weight.requires_grad_(False)
        assert is_autograds(model, inputs)

    def test_a_frozen_stem(self, made):
        model, inputs = made(image=True)
        for layer in model.modules():
            if isinstance(layer, nn.Conv3d):
                layer.requires_grad_(False)
        assert is_autograds(model, inputs)
        assert not hasattr(model.tokens.mr.stem[0].conv.weight, "grad_sample")

    @pytest.mark.parametrize(
        "options",
        [{"stride": 2, "padding": 1}, {"stride": (1, 2, 3), "padding": (0, 1, 2)}, {"dilation": 2, "groups": 2}],
        ids=str,
    )
    def test_a_convolution_of_any_form(self, options):
        torch.manual_seed(1)
        layer = nn.Conv3d(4, 6, (3, 2, 3), bias=False, **options).double()
        inputs = torch.randn(3, 4, 7, 8, 9, dtype=torch.double)
        output = layer(inputs)
        gradient = torch.randn_like(output)
        (found,) = RULES[nn.Conv3d](layer, inputs, gradient).values()
        for patient in range(3):
            (right,) = torch.autograd.grad(layer(inputs[[patient]]), layer.weight, gradient[[patient]])
            torch.testing.assert_close(found[patient], right)

    @pytest.mark.parametrize("image", [False, True])
    def test_no_patient_has_no_gradient(self, made, image):
        model, inputs = made(image)
        gradients = PerPatient(model)
        gradients.of(inputs, LABELS)
        gradients.of(inputs.take(torch.arange(0)), LABELS[:0])
        assert all(p.grad_sample.shape == (0, *p.shape) for p in model.parameters())


class TestRefused:
    @pytest.mark.parametrize("layer", [nn.PReLU(), nn.modules.linear.NonDynamicallyQuantizableLinear(16, 16)], ids=str)
    def test_a_layer_without_a_rule(self, made, layer):
        """Also a subclass of one that has a rule: it may do something else."""
        model, _ = made()
        model.blocks[0].drop = layer
        with pytest.raises(NotImplementedError, match="no rule"):
            PerPatient(model)

    def test_a_convolution_that_pads_in_another_way(self, made):
        model, _ = made(image=True)
        model.tokens.mr.stem[0].conv.padding_mode = "circular"
        with pytest.raises(NotImplementedError, match="no rule"):
            PerPatient(model)

    @pytest.mark.parametrize("layer", [nn.BatchNorm1d(10, affine=False, track_running_stats=False), nn.BatchNorm1d(10)])
    def test_a_layer_that_mixes_patients(self, made, layer):
        """Whether it has parameters or none; on features that are all frozen, too."""
        model, _ = made()
        model.blocks[0].drop = layer.requires_grad_(False)
        with pytest.raises(NotImplementedError, match="mixed"):
            PerPatient(model)

    def test_a_parameter_that_works_outside_its_layer(self, made):
        model, inputs = made()
        model.deep.register_forward_hook(lambda layer, values, output: output + layer.weight.sum())
        with pytest.raises(RuntimeError, match="outside"):
            PerPatient(model).of(inputs, LABELS)

    def test_a_layer_that_does_not_work(self, made):
        model, inputs = made()
        model.idle = nn.Linear(2, 2).double()
        with pytest.raises(RuntimeError, match="not at all"):
            PerPatient(model).of(inputs, LABELS)

    def test_a_layer_whose_first_axis_is_not_the_patients(self, made):
        model, inputs = made()
        model.blocks[0].feed = Folded(model.blocks[0].feed)
        with pytest.raises(RuntimeError, match="first axis"):
            PerPatient(model).of(inputs, LABELS)


class Folded(nn.Module):
    """Patients and tokens as one axis."""

    def __init__(self, within: nn.Module) -> None:
        super().__init__()
        self.within = within

    def forward(self, tokens):
        return self.within(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])


def test_the_model_keeps_no_hook(made):
    """Neither after a fault in its forward pass."""
    model, inputs = made()
    gradients = PerPatient(model)
    gradients.of(inputs, LABELS)
    with pytest.raises(RuntimeError):
        gradients.of(type(inputs)(*(t[:, :0] for t in inputs.tensors)), LABELS)
    assert not any(module._forward_hooks for module in model.modules())
