"""A public preparation: what a federation of these cohorts would fit, and made for a synthetic study that needs one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

from fedloupe.models import Preparation, standardise
from fedloupe.study import Study, load_study
from fedloupe_client.dataset import Cohort
from fedloupe_server.simulation import showing
from fedloupe_server.simulation.phantoms import fit_preparation

CONFIGS = Path(__file__).parents[3] / "configs"
FEATURES = 12


def make_cohort(seed: int, patients: int) -> Cohort:
    """Two groups of features that lie near a plane each; a third of the patients does not train and lies far away."""
    rng = np.random.default_rng(seed)
    planes = np.random.default_rng(99).standard_normal((2, 2, FEATURES // 2))
    hidden = rng.standard_normal((patients, 2, 2)) * [3.0, 1.0]
    features = np.einsum("ngk,gkp->ngp", hidden, planes).reshape(patients, FEATURES)
    features += 0.1 * rng.standard_normal(features.shape)
    split = np.where(np.arange(patients) % 3 == 0, "test", "train")
    features[split == "test"] += 100
    none = np.zeros((patients, 0), np.float32)
    images = np.zeros((patients, 0, 0, 0, 0), np.float32)
    return Cohort(
        cases=tuple(f"{seed}-{i}" for i in range(patients)),
        labels=np.arange(patients) % 2,
        split=split,
        names=tuple(f"f{i}" for i in range(FEATURES)),
        columns=("shape",) * 6 + ("t2w",) * 6,
        features=features,
        clinical=none.astype(np.float64),
        mr=images,
        mr_present=none,
        ct=images,
        ct_present=none,
        reference=None,
    )


class TestFit:
    @pytest.fixture
    def cohorts(self) -> list[Cohort]:
        return [make_cohort(1, 60), make_cohort(2, 90)]

    def test_it_is_the_principal_components_of_the_training_patients(self, cohorts):
        found = fit_preparation(cohorts, 2, seed=1, origin="public")
        rows = np.concatenate([c.features[c.split == "train"] for c in cohorts])
        np.testing.assert_allclose(found.mean, rows.mean(axis=0), atol=1e-9)
        np.testing.assert_allclose(found.scale, rows.std(axis=0, ddof=1), rtol=1e-9)
        assert found.origin == "public"
        scores = standardise(rows, found.mean, found.scale)[:, :6]
        expected = PCA(2).fit(scores)
        loadings = found.projection[:6].T
        cosine = np.abs(np.sum(loadings * expected.components_, axis=1)) / np.linalg.norm(loadings, axis=1)
        np.testing.assert_allclose(cosine, 1, atol=1e-3)

    def test_cohorts_apart_give_what_they_give_together(self, cohorts):
        first, second = cohorts
        both = replace(
            first,
            cases=first.cases + second.cases,
            split=np.concatenate([first.split, second.split]),
            features=np.concatenate([first.features, second.features]),
        )
        apart, together = (fit_preparation(c, 2, seed=1, origin="federated") for c in (cohorts, [both]))
        np.testing.assert_allclose(apart.projection, together.projection, atol=1e-6)


class TestRun:
    """`fedloupe run` of a synthetic study: the phantoms' part alone, without hospitals."""

    @pytest.fixture
    def made(self, monkeypatch) -> list[Path]:
        calls: list[Path] = []

        def public(study: Study, folder: Path, tell: object) -> Preparation:
            calls.append(folder)
            return Preparation(np.zeros(3), np.ones(3), np.zeros((3, 4), np.float32), "public")

        monkeypatch.setattr(showing, "public_preparation", public)
        monkeypatch.setattr(showing, "run_here", lambda *_, **__: None)
        return calls

    def run(self, name: str, folder: Path) -> Path:
        study = load_study(CONFIGS / f"{name}.yaml")
        screen = showing.Screen(quiet=True)
        showing.run_files(study, CONFIGS / f"{name}.sites.yaml", None, folder, fresh=False, screen=screen)
        return folder / study.study / "public-preparation.safetensors"

    def test_a_private_one_gets_its_preparation_from_phantoms_once(self, made, tmp_path):
        file = self.run("demo-large-private", tmp_path)
        assert Preparation.read(file).origin == "public"
        self.run("demo-large-private", tmp_path)
        assert made == [tmp_path / "phantoms"]

    def test_one_that_fits_its_own_gets_none(self, made, tmp_path):
        assert not self.run("demo-large", tmp_path).exists()
        assert made == []
