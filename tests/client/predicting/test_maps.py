"""Maps and their checks against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fedloupe.models import Schema
from fedloupe_client.predicting.gradcam import convolutional, grad_cam
from fedloupe_client.predicting.inputs import read_patient
from fedloupe_client.predicting.occlusion import cube_corners, occlusion
from fedloupe_client.predicting.sanity import deletion, randomised_maps, rank_correlation


class Linear(nn.Module):
    """Logit: the sum of weight times voxel."""

    def __init__(self, weight: np.ndarray) -> None:
        super().__init__()
        self.weight = torch.from_numpy(weight.astype(np.float32))

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        return (tensors[4] * self.weight).sum(dim=(1, 2, 3, 4))


@pytest.fixture
def volumes() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 16, 16, 16))


class TestOcclusion:
    def test_of_a_linear_model_is_the_weighted_deviation_from_the_mean(self, volumes, image_inputs):
        weight = np.random.default_rng(1).standard_normal(volumes.shape)
        found = occlusion(Linear(weight), image_inputs(volumes))
        part = (weight * (volumes - volumes.mean(axis=(1, 2, 3), keepdims=True))).sum(axis=0)
        total, count = np.zeros((16,) * 3), np.zeros((16,) * 3)
        for z in (0, 4, 8):
            for y in (0, 4, 8):
                for x in (0, 4, 8):
                    cube = np.s_[z : z + 8, y : y + 8, x : x + 8]
                    total[cube] += part[cube].sum()
                    count[cube] += 1
        np.testing.assert_allclose(found.map, total / count, atol=2e-4)
        assert found.corners.shape == (27, 3) and found.edge == 8

    def test_cubes_reach_the_rim_of_a_crop_that_is_no_multiple_of_them(self):
        assert sorted(set(cube_corners(18, 8, 4)[:, 0])) == [0, 4, 8, 10]

    def test_a_crop_smaller_than_two_cubes_has_smaller_cubes(self, volumes, image_inputs):
        small = volumes[:, :8, :8, :8]
        assert occlusion(Linear(small), image_inputs(small)).edge == 4

    def test_a_flat_volume_has_nothing_to_hide(self, image_inputs):
        flat = np.full((1, 16, 16, 16), 3.0)
        np.testing.assert_allclose(occlusion(Linear(np.ones(flat.shape)), image_inputs(flat)).map, 0, atol=1e-2)


class OneConvolution(nn.Module):
    """Two channels, a times the voxel each; the head averages over places."""

    stride = 1

    def __init__(self) -> None:
        super().__init__()
        self.deep = nn.Linear(2, 1)
        with torch.no_grad():
            self.deep.weight.copy_(torch.tensor([[3.0, -1.0]]))

    def maps(self, mr, mr_present, ct, ct_present):
        return torch.cat([2 * mr, 5 * mr**2], dim=1)

    def head(self, maps, radiomics, radiomics_present, clinical, clinical_present):
        return maps.mean(dim=(2, 3, 4))


class TestGradCam:
    @pytest.mark.parametrize("sign", [1, -1])
    def test_of_one_convolution_by_hand(self, volumes, image_inputs, sign):
        """alpha = (3, -1) / N, so heat = ReLU(sign (6 v - 5 v^2) / N)."""
        one = volumes[:1]
        found = grad_cam(OneConvolution(), image_inputs(one), sign=sign)
        expected = np.maximum(0, sign * (6 * one[0] - 5 * one[0] ** 2) / 16**3)
        np.testing.assert_allclose(found, expected, atol=1e-7)

    def test_a_coarse_map_is_laid_where_its_places_are(self, image_inputs):
        """Places at voxels 0 and 8 see one voxel each, so heat falls linearly between them and stays beyond."""

        class Coarse(OneConvolution):
            stride = 8

            def maps(self, mr, mr_present, ct, ct_present):
                return super().maps(mr, mr_present, ct, ct_present)[..., ::8, ::8, ::8]

        spot = np.zeros((1, 16, 16, 16))
        spot[0, 0, 8, 0] = 0.5
        found = grad_cam(Coarse(), image_inputs(spot), sign=1)
        assert np.unravel_index(found.argmax(), found.shape) == (0, 8, 0)
        np.testing.assert_allclose(found[0, :, 0] / found.max(), [k / 8 for k in range(8)] + [1.0] * 8, atol=1e-6)
        np.testing.assert_allclose(found[:9, 8, 0] / found.max(), [1 - k / 8 for k in range(9)], atol=1e-6)

    def test_only_models_with_maps_and_a_head_have_it(self, clinic):
        assert convolutional(OneConvolution())
        assert not convolutional(clinic.frozen.model)


class TestRandomWeights:
    def test_change_the_map_of_the_released_model(self, clinic):
        frozen = clinic.frozen
        inputs = read_patient(frozen, frozen.store.ready[0]).inputs
        own = occlusion(frozen.model, inputs).map
        found = randomised_maps(
            clinic.study, Schema.of(clinic.study, frozen.groups), own, lambda model: occlusion(model, inputs).map
        )
        assert not np.allclose(found.first, own)
        assert len(set(found.correlations)) == 4 and max(np.abs(found.correlations)) < 0.999
        assert found.passed == (np.mean(np.abs(found.correlations)) < 0.5)

    def test_do_not_change_a_map_that_never_asked_the_model_and_it_fails(self, clinic, volumes):
        edges = np.abs(np.gradient(volumes[0])[0])
        schema = Schema.of(clinic.study, clinic.frozen.groups)
        found = randomised_maps(clinic.study, schema, edges, lambda model: edges)
        assert found.correlations == pytest.approx([1.0] * 4)
        assert not found.passed

    def test_a_flat_map_is_compared_with_nothing_and_fails(self, clinic):
        flat = np.zeros((4, 4, 4))
        found = randomised_maps(
            clinic.study, Schema.of(clinic.study, clinic.frozen.groups), flat, lambda model: flat + 1
        )
        assert np.isnan(found.correlations).all() and not found.passed

    def test_rank_correlation_is_spearmans(self, volumes):
        from scipy.stats import spearmanr

        expected = spearmanr(volumes[0].ravel(), volumes[1].ravel()).statistic
        assert rank_correlation(volumes[0], volumes[1]) == pytest.approx(expected)


class TestDeletion:
    def blocks(self) -> np.ndarray:
        """Four blocks matter (8, 4, 2 and 1 log-odds when blank), the others not at all."""
        weight = np.zeros((1, 16, 16, 16))
        for power, corner in enumerate([(0, 0, 0), (8, 0, 0), (0, 8, 0), (0, 0, 8)]):
            z, y, x = corner
            weight[0, z : z + 8, y : y + 8, x : x + 8] = 2.0 ** (3 - power) / 512
        return weight

    def test_of_a_linear_model_falls_by_the_largest_block_first(self, image_inputs):
        weight = self.blocks()
        image = weight > 0
        mean = image.mean()
        model, inputs = Linear(weight), image_inputs(image)
        found = deletion(model, inputs, occlusion(model, inputs).map, seed=1)
        steps = 15 - np.cumsum([0, 8, 4, 2, 1, 0, 0, 0, 0]) * (1 - mean)
        np.testing.assert_allclose(found.ordered, steps, atol=1e-4)
        assert found.area > 0 and found.sooner == 1.0 and found.passed

    def test_a_map_that_marks_the_wrong_places_fails(self, image_inputs):
        weight = self.blocks()
        model, inputs = Linear(weight), image_inputs(weight > 0)
        found = deletion(model, inputs, -occlusion(model, inputs).map, seed=1)
        assert found.area < 0 and not found.passed

    def test_what_speaks_against_is_removed_first_where_the_crop_speaks_against(self, image_inputs):
        weight = -self.blocks()
        model, inputs = Linear(weight), image_inputs(weight < 0)
        found = deletion(model, inputs, occlusion(model, inputs).map, seed=1)
        assert found.ordered[1] - found.ordered[0] == pytest.approx(4, abs=1e-3)  # 8 x (1 - half the crop)
        assert found.passed

    @pytest.mark.parametrize(("scale", "passes"), [(0.05, True), (0.001, False)])
    def test_an_order_that_is_right_about_next_to_nothing_passes_nothing(self, image_inputs, scale, passes):
        """The first test's model and order with weights so small that all blank is 0.37 or 0.007 log-odds away."""
        weight = scale * self.blocks()
        model, inputs = Linear(weight), image_inputs(weight > 0)
        found = deletion(model, inputs, occlusion(model, inputs).map, seed=1)
        share = 1 - (weight > 0).mean()
        assert found.moved == pytest.approx(15 * scale * share, rel=1e-3) and found.sooner == 1.0
        assert (found.matters, found.passed) == (passes, passes)

    def test_of_a_model_that_reads_no_image_passes_nothing(self, volumes, image_inputs):
        model = Linear(np.zeros(volumes.shape))
        found = deletion(model, image_inputs(volumes), np.random.default_rng(0).random((16, 16, 16)), seed=1)
        assert found.area == 0 and not found.passed
