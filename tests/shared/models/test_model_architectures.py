"""Every deep architecture: one start everywhere, every parameter in every batch, no patient seen by another."""

from __future__ import annotations

import warnings
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedloupe.models import (
    Inputs,
    RadiomicsCnn,
    RadiomicsGcn,
    RadiomicsTransformer,
    Schema,
    build_model,
    digest,
    flatten,
    unflatten,
)
from fedloupe.models.flat import WrongSize
from fedloupe.study import Model
from fedloupe_client.training.per_patient import PerPatient

ALL = ("radiomics", "clinical", "mr", "ct")
CLASSES = {"transformer": RadiomicsTransformer, "cnn": RadiomicsCnn, "gcn": RadiomicsGcn}


DEEP = [name for name in get_args(Model.model_fields["architecture"].annotation) if name != "logistic"]


@pytest.fixture(params=DEEP)
def architecture(request) -> str:
    return request.param


@pytest.fixture
def trained(study, schema):
    """A model whose every parameter is away from its start: `wide` starts at zero and would hide the linear path."""
    model = build_model(study, schema)
    rng = np.random.default_rng(3)
    vector = flatten(model)
    unflatten(model, vector + 0.05 * rng.standard_normal(vector.shape).astype(np.float32))
    return model.eval()


class TestStart:
    def test_it_is_the_architecture_that_the_study_names(self, study, schema, architecture, make_inputs):
        model = build_model(study, schema)
        assert type(model) is CLASSES[architecture]
        assert model.embed(make_inputs(schema)).shape == (5, study.model.width)

    def test_the_same_study_gives_the_same_parameters(self, study, schema):
        assert np.array_equal(flatten(build_model(study, schema)), flatten(build_model(study, schema)))

    def test_another_seed_gives_others(self, make_study, study, schema):
        other = make_study(seed=2)
        assert not np.array_equal(flatten(build_model(study, schema)), flatten(build_model(other, schema)))

    def test_the_global_random_state_is_neither_read_nor_moved(self, study, schema):
        torch.manual_seed(11)
        before = torch.get_rng_state()
        first = flatten(build_model(study, schema))
        assert torch.equal(before, torch.get_rng_state())
        torch.manual_seed(12)
        assert np.array_equal(first, flatten(build_model(study, schema)))

    def test_the_linear_path_starts_at_zero(self, study, schema):
        model = build_model(study, schema)
        assert not model.wide.weight.any() and not model.wide.bias.any()

    def test_there_is_no_batch_statistic_and_no_buffer(self, study, schema):
        model = build_model(study, schema)
        assert not [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
        assert not list(model.buffers())


class TestFlat:
    def test_there_and_back_is_the_same_model(self, study, make_study, schema, make_inputs):
        source, target = build_model(study, schema).eval(), build_model(make_study(seed=9), schema).eval()
        inputs = make_inputs(schema)
        unflatten(target, flatten(source))
        assert np.array_equal(flatten(target), flatten(source))
        assert torch.equal(source(*inputs.tensors), target(*inputs.tensors))

    def test_the_vector_is_float32_with_every_parameter(self, study, schema):
        model = build_model(study, schema)
        vector = flatten(model)
        assert vector.dtype == np.float32
        assert vector.shape == (sum(p.numel() for p in model.parameters()),)

    @pytest.mark.parametrize("change", [-1, 1])
    def test_a_vector_of_another_length_is_refused_and_changes_nothing(self, study, schema, change):
        model = build_model(study, schema)
        before = flatten(model)
        with pytest.raises(WrongSize):
            unflatten(model, np.zeros(len(before) + change, np.float32))
        with pytest.raises(WrongSize):
            unflatten(model, np.zeros((len(before), 1), np.float32))
        assert np.array_equal(flatten(model), before)

    def test_a_digest_sees_values_shapes_and_types(self):
        base = np.arange(6, dtype=np.float32)
        digests = {digest(a) for a in (base, base + 1, base.reshape(2, 3), base.astype(np.float64), base[:5])}
        assert len(digests) == 5
        assert digest(base) == digest(base.copy()) != digest(base, base)


class TestEveryBatch:
    @pytest.mark.parametrize("gone", [(), ("ct",), ("clinical", "ct"), ALL], ids=str)
    def test_every_parameter_has_a_gradient_and_all_is_finite(self, study, schema, make_inputs, missing, gone):
        model = build_model(study, schema).train()
        logits = model(*missing(make_inputs(schema), *gone).tensors)
        assert logits.shape == (5,) and torch.isfinite(logits).all()
        F.binary_cross_entropy_with_logits(logits, torch.tensor([0.0, 1, 0, 1, 1])).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name

    def test_no_parameter_is_idle(self, trained, schema, make_inputs, missing):
        """With patients of whom all is there and others of whom nothing is."""
        whole = make_inputs(schema)
        nothing = missing(whole, *ALL)
        both = Inputs(*(torch.cat(pair) for pair in zip(whole.tensors, nothing.tensors, strict=True)))
        (trained(*both.tensors) * torch.linspace(1, 2, 10)).sum().backward()
        for name, parameter in trained.named_parameters():
            assert parameter.grad.abs().max() > 0, name

    @pytest.mark.parametrize(
        ("sequences", "clinical", "groups", "changes"),
        [
            ([], [], ("table",), {"radiomics": {"source": "table"}}),
            ([], [{"name": "age", "column": "age"}], ("table",), {"radiomics": {"source": "table"}}),
            ([{"name": "t2w"}], [], (), {"radiomics": {"source": "none"}}),
            ([{"name": "t2w"}], [{"name": "age", "column": "age"}], (), {"radiomics": {"source": "none"}}),
            ([{"name": "t2w"}], [], ("shape", "t2w"), {"model": {"image": False, "components": 3}}),
        ],
        ids=["table only", "table and clinical", "image only", "image and clinical", "features of images only"],
    )
    def test_a_study_with_fewer_kinds_of_inputs_trains_too(
        self, make_study, make_inputs, sequences, clinical, groups, changes
    ):
        study = make_study(sequences=sequences, clinical=clinical, **changes)
        schema = Schema.of(study, groups)
        model = build_model(study, schema).train()
        logits = model(*make_inputs(schema).tensors)
        logits.sum().backward()
        assert all(p.grad is not None for p in model.parameters())

    def test_a_study_of_images_alone_is_built_without_a_warning(self, make_study):
        study = make_study(sequences=[{"name": "t2w"}], clinical=[], radiomics={"source": "none"})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            build_model(study, Schema.of(study, ()))

    @pytest.mark.parametrize("gone", ALL)
    def test_a_missing_modality_is_told_from_one_of_zeros(self, trained, schema, make_inputs, missing, gone):
        whole = make_inputs(schema)
        absent = missing(whole, gone)
        parts = {name: getattr(absent, name) for name in Inputs.__dataclass_fields__}
        zeros = Inputs(**{**parts, f"{gone}_present": torch.ones_like(parts[f"{gone}_present"])})
        with torch.no_grad():
            apart = (trained(*absent.tensors) - trained(*zeros.tensors)).abs()
        assert (apart > 1e-5).all()

    @pytest.mark.parametrize("gone", ["radiomics", "clinical"])
    def test_the_values_behind_a_missing_mark_do_not_matter(self, trained, schema, make_inputs, missing, gone):
        whole = make_inputs(schema)
        absent = missing(whole, gone)
        parts = {name: getattr(absent, name) for name in Inputs.__dataclass_fields__}
        stale = Inputs(**{**parts, gone: getattr(whole, gone)})
        with torch.no_grad():
            assert torch.equal(trained(*absent.tensors), trained(*stale.tensors))

    @pytest.mark.parametrize("kind", ALL)
    def test_every_modality_reaches_the_output(self, trained, schema, make_inputs, kind):
        first, second = make_inputs(schema), make_inputs(schema, seed=1)
        parts = {name: getattr(first, name) for name in Inputs.__dataclass_fields__}
        changed = Inputs(**{**parts, kind: getattr(second, kind)})
        with torch.no_grad():
            assert ((trained(*first.tensors) - trained(*changed.tensors)).abs() > 1e-5).all()


class TestPatients:
    def test_evaluation_is_deterministic_and_training_disturbs(self, trained, schema, make_inputs):
        inputs = make_inputs(schema)
        with torch.no_grad():
            assert torch.equal(trained(*inputs.tensors), trained(*inputs.tensors))
            trained.train()
            assert not torch.equal(trained(*inputs.tensors), trained(*inputs.tensors))

    def test_no_patient_changes_another(self, trained, schema, make_inputs):
        first, second = make_inputs(schema), make_inputs(schema, seed=1)
        mixed = Inputs(*(torch.cat([a[:1], b[1:]]) for a, b in zip(first.tensors, second.tensors, strict=True)))
        with torch.no_grad():
            alone = trained(*first.take(torch.tensor([0])).tensors)
            together, among_others = trained(*first.tensors), trained(*mixed.tensors)
        torch.testing.assert_close(together[0], alone[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(among_others[0], alone[0], rtol=1e-5, atol=1e-6)
        assert (together[1:] - among_others[1:]).abs().min() > 1e-5

    def test_a_layer_that_mixes_patients_has_no_gradient_a_patient(self, study, schema, make_inputs):
        model = build_model(study, schema).train()
        name, stem = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.GroupNorm))
        holder = model.get_submodule(name.rpartition(".")[0])
        setattr(holder, name.rpartition(".")[2], nn.BatchNorm3d(stem.num_channels))
        with pytest.raises((RuntimeError, NotImplementedError)):
            PerPatient(model).of(make_inputs(schema), torch.zeros(len(make_inputs(schema))))

    @pytest.mark.parametrize("tokens", ["every kind", "no image", "images alone"])
    def test_each_patients_own_gradient_is_autograds(self, make_study, make_inputs, missing, tokens):
        """One patient at a time; the second half of the batch lacks what may be missing."""
        still = {"components": 3, "width": 16, "depth": 1, "heads": 2}
        still |= {"dropout": 0, "feature_dropout": 0, "feature_noise": 0}
        if tokens == "every kind":
            study, groups = make_study(model=still), ("shape", "t2w", "adc")
        elif tokens == "no image":
            study, groups = make_study(model={**still, "image": False}), ("shape", "t2w", "adc")
        else:
            study = make_study(model=still, sequences=[{"name": "t2w"}], clinical=[], radiomics={"source": "none"})
            groups = ()
        schema = Schema.of(study, groups)
        model = build_model(study, schema).train()
        vector = flatten(model)
        unflatten(model, vector + 0.05 * np.random.default_rng(5).standard_normal(len(vector)).astype(np.float32))
        # In double precision: a convolution's bias is nearly undone by the GroupNorm behind it, and its small gradient
        # is rounding in single.
        model.double()
        whole = make_inputs(schema, size=4)
        partly = missing(whole, "ct", "clinical")
        halves = zip(whole.tensors, partly.tensors, strict=True)
        inputs = Inputs(*(torch.cat([a[:2], b[2:]]).double() for a, b in halves))
        labels = torch.tensor([0.0, 1.0, 1.0, 0.0]).double()
        expected = []
        for patient in range(4):
            model.zero_grad()
            logit = model(*inputs.take(torch.tensor([patient])).tensors)
            F.binary_cross_entropy_with_logits(logit, labels[[patient]], reduction="sum").backward()
            expected.append([p.grad.clone() for p in model.parameters()])
        model.zero_grad()
        PerPatient(model).of(inputs, labels)
        for position, (name, parameter) in enumerate(model.named_parameters()):
            for patient in range(4):
                right = expected[patient][position]
                bound = 1e-5 * float(right.norm()) + 1e-12
                assert float((parameter.grad_sample[patient] - right).norm()) <= bound, (name, patient)
