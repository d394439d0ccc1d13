"""Scaling and whitening against the formula, missing values, and the file."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe.models import Preparation, group_order, standardise
from fedloupe.models.preparation import CLIP, PreparationDamaged

COLUMNS = ("shape", "t2w", "t2w", "shape", "t2w")


@pytest.fixture
def preparation() -> Preparation:
    rng = np.random.default_rng(0)
    scale = np.array([1.0, 2.0, 0.5, 3.0, 0.0])
    return Preparation(rng.standard_normal(5), scale, rng.standard_normal((5, 2)).astype(np.float32), "federated")


class TestApply:
    def test_it_is_the_formula_group_by_group(self, preparation):
        features = np.random.default_rng(1).standard_normal((6, 5)) * 2
        components, present = preparation.apply(features, COLUMNS)
        for patient in range(6):
            for place, group in enumerate(("shape", "t2w")):
                expected = np.zeros(2)
                for j in range(5):
                    if COLUMNS[j] == group and preparation.scale[j] > 0:
                        z = (features[patient, j] - preparation.mean[j]) / preparation.scale[j]
                        expected += min(max(z, -4.0), 4.0) * preparation.projection[j].astype(float)
                assert components[patient, place] == pytest.approx(expected, abs=1e-12)
        assert present.tolist() == [[1, 1]] * 6

    def test_a_missing_value_stands_at_the_mean(self, preparation):
        features = np.random.default_rng(1).standard_normal((2, 5))
        features[1] = features[0]
        features[0, 1], features[1, 1] = np.nan, preparation.mean[1]
        components, present = preparation.apply(features, COLUMNS)
        assert np.array_equal(components[0], components[1])
        assert present.all()

    def test_a_whole_missing_group_is_zero_and_marked(self, preparation):
        features = np.random.default_rng(1).standard_normal((3, 5))
        features[1, [1, 2, 4]] = np.nan
        components, present = preparation.apply(features, COLUMNS)
        assert present.tolist() == [[1, 1], [1, 0], [1, 1]]
        assert not components[1, 1].any() and components[0, 1].any()

    def test_everything_missing_is_all_zero(self, preparation):
        components, present = preparation.apply(np.full((1, 5), np.nan), COLUMNS)
        assert not components.any() and not present.any()

    def test_no_features_and_no_patients_are_served(self, preparation):
        none = Preparation(np.zeros(0), np.zeros(0), np.zeros((0, 2), np.float32), "federated")
        assert [a.shape for a in none.apply(np.zeros((3, 0)), ())] == [(3, 0, 2), (3, 0)]
        assert [a.shape for a in preparation.apply(np.zeros((0, 5)), COLUMNS)] == [(0, 2, 2), (0, 2)]

    def test_outliers_are_clipped_and_constants_are_zero(self):
        scores = standardise(
            np.array([[1e30, -1e30, 7.0], [np.inf, -np.inf, np.nan]]), np.zeros(3), np.array([1, 1, 0])
        )
        assert scores[0].tolist() == [CLIP, -CLIP, 0.0]
        assert np.isfinite(scores).all()

    def test_groups_come_in_the_order_of_their_first_column(self):
        assert group_order(("b", "a", "b", "c", "a")) == ("b", "a", "c")


class TestFile:
    def test_there_and_back_is_the_same(self, preparation, tmp_path):
        file = tmp_path / "p.safetensors"
        public = Preparation(preparation.mean, preparation.scale, preparation.projection, "public")
        for one in (preparation, public):
            file.write_bytes(one.to_bytes())
            again = Preparation.read(file)
            assert again.origin == one.origin
            assert again.digest == one.digest
            for name in ("mean", "scale", "projection"):
                assert np.array_equal(getattr(again, name), getattr(one, name))

    def test_absence_is_none(self, tmp_path):
        assert Preparation.read(tmp_path / "absent.safetensors") is None

    def test_the_same_preparation_is_the_same_bytes(self, preparation):
        assert preparation.to_bytes() == preparation.to_bytes()

    @pytest.mark.parametrize("name", ["mean", "scale", "projection"])
    def test_the_digest_sees_every_array(self, preparation, name):
        arrays = {key: getattr(preparation, key).copy() for key in ("mean", "scale", "projection")}
        arrays[name].flat[1] += 0.25
        assert Preparation(**arrays, origin="federated").digest != preparation.digest

    def test_damage_is_refused_and_named(self, preparation, tmp_path):
        file = tmp_path / "p.safetensors"
        whole = preparation.to_bytes()
        for damaged in (b"", whole[:-1], whole[:20], b"\0" * 64):
            file.write_bytes(damaged)
            with pytest.raises(PreparationDamaged, match=r"p\.safetensors"):
                Preparation.read(file)

    def test_another_safetensors_file_is_refused(self, tmp_path):
        from safetensors.numpy import save

        file = tmp_path / "p.safetensors"
        file.write_bytes(save({"mean": np.zeros(2)}))
        with pytest.raises(PreparationDamaged):
            Preparation.read(file)
