"""Versions on disk, and the sums that a site gives of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fedloupe.metrics import intraclass
from fedloupe_client.dataset import derive, load_cohort
from fedloupe_client.quality import (
    chosen_rows,
    derive_versions,
    load_versions,
    own_quality,
    redundancy,
    stability,
)
from fedloupe_client.quality.own import NotJudged
from fedloupe_client.quality.versions import versions_folder


@pytest.fixture
def cohort(home, study):
    derive(home, study)
    return load_cohort(home, study, "alpha")


class TestDeriving:
    def test_it_goes_on_where_it_stopped_and_keeps_what_is_there(self, home, study, cohort):
        cases = [cohort.cases[row] for row in chosen_rows(cohort, study)][:4]
        derive_versions(home, study, cases[:3])
        folder = versions_folder(home, study)
        before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}
        gone = next(iter(before))
        gone.unlink()
        told: list[tuple[int, int]] = []
        derive_versions(home, study, cases, progress=lambda done, total, _: told.append((done, total)))
        after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}
        assert told == [(3, 4), (4, 4)]
        assert all(after[path] == was for path, was in before.items() if path != gone)
        assert after[gone][1] == before[gone][1]

    def test_version_0_is_the_case_as_the_model_sees_it(self, home, study, cohort):
        rows = chosen_rows(cohort, study)[:2]
        cases = [cohort.cases[row] for row in rows]
        derive_versions(home, study, cases)
        versions = load_versions(home, study, cases, cohort.features[rows])
        assert versions.shape == (2, len(cohort.names), 5)
        np.testing.assert_array_equal(versions[:, :, 0], cohort.features[rows])

    def test_other_perturbations_stand_elsewhere(self, home, study, other_study):
        changed = other_study(quality={"perturbations": [{"rotate_deg": 5}]})
        limits = other_study(quality={"perturbations": study.model_dump()["quality"]["perturbations"], "patients": 10})
        assert versions_folder(home, changed) != versions_folder(home, study)
        assert versions_folder(home, limits) == versions_folder(home, study)


class TestChoice:
    def test_only_training_patients_and_no_more_than_asked(self, study, other_study, cohort):
        rows = chosen_rows(cohort, study)
        assert len(rows) == 12 and set(cohort.split[rows]) == {"train"}
        fewer = chosen_rows(cohort, other_study(quality={"patients": 10}))
        assert len(fewer) == 10 and set(fewer) < set(rows)
        everyone = chosen_rows(cohort, other_study(quality={"patients": 1000}))
        assert everyone.tolist() == cohort.rows("train").tolist()


class TestSums:
    def test_centred_and_scaled_versions_have_the_correlation_of_the_values(self, study):
        rng = np.random.default_rng(2)
        values = 1000 + rng.standard_normal((15, 3, 1)) + 0.3 * rng.standard_normal((15, 3, 4))
        values[2, 1, 3] = np.nan
        mean, scale = np.full(3, 1000.0), np.array([2.0, 1.0, 0.0])
        found = stability(values, mean, scale)
        assert found.count.tolist() == [15, 14, 0]  # a feature without spread is left out
        table = values[:, 0]
        between, within = 4 * table.mean(axis=1).var(ddof=1), table.var(axis=1, ddof=1).mean()
        expected = (between - within) / (between + 3 * within)
        assert intraclass(found, "one-way").value[0] == pytest.approx(expected, abs=1e-10)

    def test_products_are_those_of_clipped_scores_over_training_patients(self, cohort):
        p = cohort.features.shape[1]
        mean, scale = np.nanmean(cohort.features, axis=0), np.nanstd(cohort.features, axis=0)
        scale[3] = 0.0
        rows, columns = np.arange(p), np.array([5, 3, 40])
        pairs, product, total = redundancy(cohort, mean, scale, rows, columns)
        train = cohort.features[cohort.rows("train")]
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.clip(np.nan_to_num((train - mean) / scale, posinf=0, neginf=0), -4, 4)
        z[:, 3] = 0
        np.testing.assert_allclose(product, z.T @ z[:, columns], atol=1e-9)
        np.testing.assert_allclose(total, z[:, columns].sum(axis=0), atol=1e-9)
        assert pairs.shape == (p, 3) and pairs.max() == len(train)


class TestOwnTable:
    def test_it_is_kept_at_the_site_and_noise_in_the_image_leaves_the_volume_alone(self, home, study):
        found, path = own_quality(home, study, "alpha")
        assert json.loads(path.read_text())["patients"] == 12
        volume = next(v for v in found.features if v.name == "shape|volume_mesh")
        assert (volume.kinds["noise"], volume.kinds["bins"]) == (1, 1) and volume.kinds["contour"] < 1
        assert {row.group: row.offered for row in found.by_filter} == {"shape": 21, "original": 43}
        assert {row.group for row in found.by_family} == {"shape", "firstorder", "glcm"}

    def test_a_study_that_perturbs_nothing_has_none(self, home, other_study):
        with pytest.raises(NotJudged):
            own_quality(home, other_study(quality=None), "alpha")
