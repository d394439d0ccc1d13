"""The CNN: its last map can be asked for, keeps where something is, and does not grow its head with the crop."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedloupe.models import RadiomicsCnn, Schema, build_model

GROUPS = ("shape", "t2w", "adc")


@pytest.fixture
def architecture() -> str:
    return "cnn"


@pytest.fixture
def study(make_study):
    return make_study(imaging={"spacing_mm": 2.0, "crop_mm": 48})


@pytest.fixture
def model(study, schema) -> RadiomicsCnn:
    made = build_model(study, schema).eval()
    assert isinstance(made, RadiomicsCnn)
    return made


class TestMaps:
    def test_the_head_of_the_maps_is_the_embedding(self, model, schema, make_inputs):
        inputs = make_inputs(schema)
        with torch.no_grad():
            maps = model.maps(inputs.mr, inputs.mr_present, inputs.ct, inputs.ct_present)
            assert maps.shape == (5, 16, 3, 3, 3)
            assert torch.equal(model.head(maps, *inputs.tensors[:4]), model.embed(inputs))

    def test_a_logit_has_a_gradient_at_every_place(self, model, schema, make_inputs):
        inputs = make_inputs(schema)
        maps = model.maps(inputs.mr, inputs.mr_present, inputs.ct, inputs.ct_present)
        logits = model.deep(model.head(maps, *inputs.tensors[:4]))
        (slope,) = torch.autograd.grad(logits.sum(), maps)
        assert (slope.abs().sum(dim=1) > 0).all()

    def test_a_place_is_centred_on_every_eighth_voxel(self, model, schema, make_inputs):
        inputs = make_inputs(schema, size=1)
        for place in ((0, 0, 0), (2, 0, 1), (1, 2, 2), (1, 1, 1)):
            spot = torch.zeros_like(inputs.mr)
            spot[(0, 0, *(8 * i for i in place))] = 5.0
            with torch.no_grad():
                before, after = (
                    model.maps(mr, inputs.mr_present, inputs.ct * 0, inputs.ct_present) for mr in (spot * 0, spot)
                )
            changes = (after - before).square().sum(dim=1)[0]
            assert divmod(int(changes.argmax()), 9) == (place[0], 3 * place[1] + place[2])

    def test_a_study_without_crops_has_an_empty_map(self, make_study, make_inputs):
        study = make_study(model={"image": False, "components": 3})
        schema = Schema.of(study, GROUPS)
        model, inputs = build_model(study, schema).eval(), make_inputs(schema)
        maps = model.maps(inputs.mr, inputs.mr_present, inputs.ct, inputs.ct_present)
        assert maps.numel() == 0
        assert torch.equal(model.head(maps, *inputs.tensors[:4]), model.embed(inputs))


class TestPosition:
    @pytest.mark.parametrize("axis", [-3, -2, -1])
    def test_mirrored_crops_have_another_embedding(self, model, schema, make_inputs, axis):
        inputs = make_inputs(schema)
        mirrored = replace(inputs, mr=inputs.mr.flip(axis), ct=inputs.ct.flip(axis))
        with torch.no_grad():
            apart = (model.embed(inputs) - model.embed(mirrored)).abs().amax(dim=1)
        assert (apart > 1e-3).all()

    @pytest.mark.parametrize("axis", [-3, -2, -1])
    def test_a_map_seen_elsewhere_has_another_embedding(self, model, schema, make_inputs, axis):
        """An average over the crop would not tell the two apart."""
        inputs = make_inputs(schema)
        with torch.no_grad():
            maps = model.maps(inputs.mr, inputs.mr_present, inputs.ct, inputs.ct_present)
            here, there = (model.head(m, *inputs.tensors[:4]) for m in (maps, maps.flip(axis)))
        assert ((here - there).abs().amax(dim=1) > 1e-3).all()


class TestSize:
    @pytest.mark.parametrize(("voxels", "parts"), [(8, 1), (9, 2), (16, 2), (24, 3), (40, 3), (64, 3)])
    def test_the_flattened_layer_grows_with_the_crop_up_to_three_parts_an_axis(
        self, make_study, make_inputs, voxels, parts
    ):
        study = make_study(imaging={"spacing_mm": 1.0, "crop_mm": voxels})
        schema = Schema.of(study, GROUPS)
        model = build_model(study, schema).eval()
        assert model.flat.in_features == 16 * parts**3
        with torch.no_grad():
            assert torch.isfinite(model(*make_inputs(schema, size=1).tensors)).all()

    def test_depth_is_the_number_of_convolutions_in_a_residual_unit(self, make_study):
        sizes = []
        for depth in (1, 2, 3):
            study = make_study(model={"components": 3, "width": 16, "depth": depth})
            model = build_model(study, Schema.of(study, GROUPS))
            sizes.append(sum(p.numel() for p in model.parameters()))
        # one more in each unit: a kernel of 27 from 8 to 8 and from 16 to 16 channels, their biases, their GroupNorms
        more = 27 * (8 * 8 + 16 * 16) + (8 + 16) + 2 * (8 + 16)
        assert [sizes[1] - sizes[0], sizes[2] - sizes[1]] == [more, more]
