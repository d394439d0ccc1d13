"""A case as it might have come out otherwise: what each perturbation changes, and what it leaves."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe.features import BinNumber, BinSize, FeatureSettings, feature_table
from fedloupe_client.imaging import open_case
from fedloupe_client.ingest import load_store
from fedloupe_client.quality.perturbing import noisy, perturbed, with_bins
from fedloupe_client.radiomics import extract_case


@pytest.fixture
def opened(home, study):
    store = load_store(home)
    return open_case(store, store.ready[5], study)


def values(opened, study, case: str = "a") -> list[np.ndarray]:
    return [row for row, _ in perturbed(opened, study, case)]


def as_it_is(opened, study) -> np.ndarray:
    grid, settings = opened.grid(), FeatureSettings.model_validate(study.radiomics.settings)
    return extract_case(grid.images, grid.mask, grid.spacing_mm, settings, grid.intensities).values


def columns(study, start: str) -> np.ndarray:
    names = feature_table(FeatureSettings.model_validate(study.radiomics.settings), ["t1"]).names
    return np.array([name.startswith(start) for name in names])


class TestVersions:
    def test_each_changes_the_features_and_the_same_study_gives_the_same(self, opened, study):
        one, two = values(opened, study), values(opened, study)
        still = as_it_is(opened, study)
        assert len(one) == len(study.quality.perturbations)
        for a, b in zip(one, two, strict=True):
            np.testing.assert_array_equal(a, b)
            assert (a != still).any()

    def test_another_case_and_another_seed_draw_other_noise(self, opened, study, other_study):
        noise = 2
        found = [values(opened, study)[noise], values(opened, study, "b")[noise]]
        found.append(values(opened, other_study(seed=2))[noise])
        assert (found[0] != found[1]).any() and (found[0] != found[2]).any()

    def test_a_larger_mask_has_a_larger_volume_and_noise_leaves_the_shape(self, opened, study):
        still, (_, grown, noise, _) = as_it_is(opened, study), values(opened, study)
        shape = columns(study, "shape|")
        volume = columns(study, "shape|volume_voxel")
        assert grown[volume] > still[volume]
        np.testing.assert_array_equal(noise[shape], still[shape])

    def test_other_grey_levels_change_textures_alone(self, opened, study):
        still, bins = as_it_is(opened, study), values(opened, study)[3]
        texture = columns(study, "t1|original|glcm")
        np.testing.assert_array_equal(bins[~texture], still[~texture])
        assert (bins[texture] != still[texture]).mean() > 0.9

    def test_a_version_without_a_tumour_is_missing_and_says_why(self, opened, other_study):
        study = other_study(quality={"perturbations": [{"grow_mm": -10}, {"grow_mm": 1}]})
        (gone, code), (there, fine) = perturbed(opened, study, "a")
        assert np.isnan(gone).all() and code == "FL-401"
        assert np.isfinite(there).any() and fine == ""


class TestNoise:
    def test_it_has_the_share_of_the_spread_within_the_mask(self, opened):
        grid = opened.grid()
        added = noisy(grid, 0.5, np.random.default_rng(0))["t1"] - grid.images["t1"]
        spread = grid.images["t1"][grid.mask].std()
        voxels = added.size
        assert added.std() == pytest.approx(0.5 * spread, rel=4 / np.sqrt(2 * voxels))  # four standard errors
        assert abs(added.mean()) < 4 * 0.5 * spread / np.sqrt(voxels)


class TestBins:
    def test_half_and_twice_the_levels(self):
        plan = with_bins(FeatureSettings(), 0.5).discretisation
        assert plan.zscore == BinNumber(bins=16) and plan.response == BinNumber(bins=16)
        assert plan.physical == BinSize(origin=0, width=100, limit=32)
        assert with_bins(FeatureSettings(), 2).discretisation.zscore == BinNumber(bins=64)

    def test_they_stay_within_what_the_settings_allow(self):
        assert with_bins(FeatureSettings(), 10).discretisation.physical.limit == 256
        assert with_bins(FeatureSettings(), 0.1).discretisation.hounsfield.limit == 2
