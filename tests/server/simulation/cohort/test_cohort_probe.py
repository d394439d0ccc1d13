"""One latent of the synthetic cohort is for image models alone: scalar radiomics cannot recover polarity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from fedloupe.features import FeatureSettings
from fedloupe_client.radiomics import extract_case
from fedloupe_server.simulation.cohort import CohortSpec, simulate_case
from fedloupe_server.simulation.cohort.probe import Crop, block_means, cross_validated_auc, tumour_crop

SETTINGS = FeatureSettings.model_validate(
    yaml.safe_load((Path(__file__).parents[4] / "configs" / "radiomics-small.yaml").read_text(encoding="utf-8"))
)
SHOWN = ("t2w", "dce_peak")  # the sequences in which polarity shows
SPEC = CohortSpec(seed=6)
PATIENTS = 120
MARGIN = 4  # voxels of 2 mm beyond the 48 mm crop on each side, for the filters


def radiomics(crop: Crop) -> np.ndarray:
    images = {name: crop.volumes[name] for name in SHOWN}
    return extract_case(images, crop.mask, crop.spacing, SETTINGS, dict.fromkeys(SHOWN, "zscore")).values


def inner(wide: Crop) -> Crop:
    cut = (slice(MARGIN, -MARGIN),) * 3
    return Crop({name: volume[cut] for name, volume in wide.volumes.items()}, wide.mask[cut], wide.spacing)


@pytest.fixture(scope="module")
def drawn():
    """Features, block means, latents of patients of two unlike sites, in memory."""
    features, blocks, latents = [], [], []
    sites = (SPEC.site("lakeside"), SPEC.site("island"))
    for number in range(PATIENTS):
        case = simulate_case(SPEC, sites[number % 2], number // 2)
        wide = tumour_crop(case, edge_mm=64, sequences=SHOWN)
        features.append(radiomics(wide))
        blocks.append(block_means(inner(wide)))
        latents.append(case.patient.latents)
    return np.stack(features), np.stack(blocks), latents


class TestMirror:
    def test_every_feature_of_the_frozen_settings_is_blind_to_a_flip_front_to_back(self):
        crop = tumour_crop(simulate_case(SPEC, SPEC.site("island"), 0), edge_mm=64)
        flipped = Crop({n: np.flip(v, 1) for n, v in crop.volumes.items()}, np.flip(crop.mask, 1), crop.spacing)
        one, other = radiomics(crop), radiomics(flipped)
        assert one.size > 3000
        np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-9)
        assert not np.allclose(block_means(flipped), block_means(crop), atol=0.1)


class TestProbe:
    def test_radiomics_do_not_tell_the_polarity(self, drawn):
        features, _, latents = drawn
        assert 0.35 <= cross_validated_auc(features, np.array([p["polarity"] > 0 for p in latents])) <= 0.65

    def test_a_coarse_look_at_the_image_does(self, drawn):
        _, blocks, latents = drawn
        assert cross_validated_auc(blocks, np.array([p["polarity"] > 0 for p in latents])) >= 0.9

    def test_the_same_radiomics_do_tell_the_texture(self, drawn):
        features, _, latents = drawn
        assert cross_validated_auc(features, np.array([p["texture"] > 0 for p in latents])) >= 0.8


class TestRidge:
    def test_out_of_fold_scores_are_scikit_learns(self):
        rng = np.random.default_rng(0)
        features, noise = rng.standard_normal((60, 5)), rng.standard_normal(60)
        event = features[:, 0] + noise > 0
        scores = np.zeros(60)
        for fold in range(5):
            held = np.arange(60) % 5 == fold
            mean, scale = features[~held].mean(axis=0), features[~held].std(axis=0)
            known = (features[~held] - mean) / scale
            model = Ridge(alpha=0.1 * (known**2).sum() / len(known)).fit(known, event[~held].astype(float))
            scores[held] = ((features[held] - mean) / scale) @ model.coef_
        assert cross_validated_auc(features, event) == pytest.approx(roc_auc_score(event, scores), abs=1e-12)

    def test_columns_that_are_missing_or_constant_play_no_part(self):
        rng = np.random.default_rng(1)
        features = rng.standard_normal((40, 3))
        event = features[:, 0] > 0
        useless = np.column_stack([np.full(40, 3.0), np.where(np.arange(40) == 7, np.nan, 1.0)])
        assert cross_validated_auc(np.hstack([features, useless]), event) == cross_validated_auc(features, event)
