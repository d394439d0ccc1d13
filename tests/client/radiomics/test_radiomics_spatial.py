"""Spatial, local and volume families against sums over all pairs, spheres and voxels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from fedloupe.features import FEATURES, VolumeBinNumber, VolumeBinSize
from fedloupe_client.radiomics.local import RADIUS_MM, local_features
from fedloupe_client.radiomics.region import make_region
from fedloupe_client.radiomics.spatial import spatial_features
from fedloupe_client.radiomics.volume import volume_features


def _case(seed: int = 0, shape=(7, 9, 8), fill=0.6):
    generator = np.random.default_rng(seed)
    mask = generator.random(shape) < fill
    mask[0, 0, 0] = mask[-1, -1, -1] = True
    return generator.normal(size=shape), mask


def _named(family: str, values: np.ndarray) -> dict[str, float]:
    return dict(zip((feature.name for feature in FEATURES[family]), values.tolist(), strict=True))


class TestSpatial:
    @pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 0.75, 0.75)], ids=["cubes", "thick"])
    def test_autocorrelations_equal_the_sum_over_all_pairs(self, spacing):
        image, mask = _case()
        x = image[mask]
        distance = cdist(*[np.argwhere(mask) * spacing] * 2)
        weights = np.divide(1, distance, out=np.zeros_like(distance), where=distance > 0)
        deviations = x - x.mean()
        n, total, squares = len(x), weights.sum(), (deviations**2).sum()
        found = _named("spatial", spatial_features(x, make_region(mask, spacing), 1.0))
        assert found["moran_i"] == pytest.approx(n / total * (deviations @ weights @ deviations) / squares, rel=1e-11)
        differences = (weights * (x[:, None] - x[None, :]) ** 2).sum()
        assert found["geary_c"] == pytest.approx((n - 1) / (2 * total) * differences / squares, rel=1e-11)

    def test_two_voxels_are_perfectly_anticorrelated(self):
        region = make_region(np.ones((1, 1, 2), dtype=bool), 1.0)
        found = _named("spatial", spatial_features(np.array([1.0, 3.0]), region, 1.0))
        assert found["moran_i"] == pytest.approx(-1)
        assert found["geary_c"] == pytest.approx(1)  # (2 - 1) / (2 * 2) * 2 * 4 / 2

    def test_brightness_at_one_end_moves_the_centre_of_mass_towards_it(self):
        region = make_region(np.ones((1, 1, 3), dtype=bool), (4.0, 2.0, 2.0))
        found = _named("spatial", spatial_features(np.array([1.0, 1.0, 2.0]), region, 10.0))
        assert found["centre_of_mass_shift"] == pytest.approx(2 * (5 / 4 - 1))
        assert found["integrated_intensity"] == pytest.approx(10 * 4 / 3)

    def test_the_centre_of_the_outline_counts_where_voxels_were_taken_out(self):
        outline = np.ones((1, 1, 5), dtype=bool)
        mask = outline.copy()
        mask[0, 0, :2] = False
        region = make_region(mask, 1.0, outline=outline)
        assert spatial_features(np.ones(3), region, 1.0)[0] == pytest.approx(1.0)

    def test_one_voxel_and_a_constant_have_no_autocorrelation(self):
        for shape, values in (((1, 1, 1), [5.0]), ((1, 2, 2), [5.0] * 4)):
            found = _named("spatial", spatial_features(np.array(values), make_region(np.ones(shape, bool), 1.0), 2.0))
            assert np.isnan([found["moran_i"], found["geary_c"]]).all()
            assert found["integrated_intensity"] == 10


class TestLocal:
    @pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (3.0, 1.5, 1.5)], ids=["cubes", "thick"])
    def test_peaks_equal_means_over_all_voxels_within_the_sphere(self, spacing):
        image, mask = _case(1, (9, 13, 12), 0.3)
        mask[:3] = False
        places = np.argwhere(np.ones_like(mask)) * spacing
        within = cdist(np.argwhere(mask) * spacing, places) <= RADIUS_MM
        means = within @ image.ravel() / within.sum(axis=1)
        local, highest = local_features(image, make_region(mask, spacing))
        assert local == pytest.approx(means[image[mask].argmax()], rel=1e-12)
        assert highest == pytest.approx(means.max(), rel=1e-12)

    def test_the_sphere_holds_a_cubic_centimetre(self):
        assert 4 / 3 * np.pi * RADIUS_MM**3 == pytest.approx(1000)

    def test_of_two_brightest_voxels_the_one_among_brighter_neighbours_counts(self):
        image = np.zeros((1, 1, 40))
        image[0, 0, [5, 30]] = 9
        image[0, 0, 31] = 4
        mask = np.zeros_like(image, dtype=bool)
        mask[0, 0, [5, 30]] = True
        local, _ = local_features(image, make_region(mask, 2.0))
        assert local == pytest.approx(13 / 7)


class TestVolumeHistogram:
    def test_ten_levels_give_the_fractions_that_can_be_counted(self):
        # 1 .. 11 once each: level k has (12 - k) of 11 voxels at or above it, and lies at (k - 1) / 10 of the range
        found = _named("ivh", volume_features(np.arange(1.0, 12.0), VolumeBinSize(origin=0.5, width=1, limit=11)))
        assert found["volume_fraction_10"] == pytest.approx(10 / 11)
        assert found["volume_fraction_90"] == pytest.approx(2 / 11)
        assert found["intensity_10"] == 11  # one voxel of eleven is at most a tenth
        assert found["intensity_90"] == 3  # nine of eleven are, ten are not
        assert found["intensity_difference"] == 8

    def test_a_bin_size_measures_in_the_unit_over_its_whole_range(self):
        found = _named(
            "ivh", volume_features(np.array([100.0] * 9 + [0.0]), VolumeBinSize(origin=0, width=10, limit=100))
        )
        assert found["volume_fraction_10"] == 0.9  # bin 11 of 100 is the first at a tenth of the range
        assert found["intensity_90"] == 15
        assert found["volume_fraction_90"] == 0

    def test_a_bin_number_does_not_depend_on_the_unit(self):
        values = np.random.default_rng(0).normal(size=200)
        rule = VolumeBinNumber()
        assert np.array_equal(volume_features(values, rule), volume_features(8 * values - 64, rule))
