"""The engine's self-check: it passes here, and a kernel that is a little wrong does not."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe_client.radiomics import aggregate, extract
from fedloupe_client.radiomics.conformance import (
    EngineDeviates,
    check_engine,
    consensus,
    generated_case,
    generated_values,
    golden_values,
)


class TestThisMachine:
    def test_every_value_agrees(self):
        seen = check_engine()
        assert seen.passed
        assert seen.problem is None
        assert len(golden_values()) == 1405
        assert seen.line == "482 of 482 IBSI values, 1,405 of 1,405 golden values"

    def test_the_golden_vector_holds_every_value_of_the_case_and_no_other(self):
        assert list(golden_values()) == list(generated_values())
        assert np.isfinite(list(golden_values().values())).all()

    def test_it_covers_every_family_and_every_kind_of_filter(self):
        names = [name.removeprefix("2.5D|").split("|") for name in golden_values()]
        assert {parts[-2] for parts in names} == {item.family for item in consensus().values()}
        kinds = {parts[-3].split("_")[0] for parts in names if len(parts) > 2}
        assert kinds == {"original", "log", "wavelet", "simoncelli", "laws"}
        assert any("rim_2mm" in parts for parts in names)
        assert any(parts[0] == "u:t" for parts in names)

    def test_the_case_is_made_of_whole_numbers_that_single_precision_holds(self):
        images, mask = generated_case()
        for image in images.values():
            assert image.dtype == np.float32
            assert np.array_equal(image, np.round(image))
            assert np.abs(image).max() < 2**24
        assert 1000 < mask.sum() < mask.size / 4


class TestABrokenEngine:
    def _problem(self) -> EngineDeviates:
        problem = check_engine().problem
        assert problem is not None
        assert problem.code == "FL-406"
        return problem

    def test_a_lost_pair_of_voxels_is_noticed(self, monkeypatch):
        right = aggregate.count_pairs_and_runs

        def wrong(*args):
            glcm, glrlm = right(*args)
            glcm[0, 0] -= glcm[0, 0] > 0
            return glcm, glrlm

        monkeypatch.setattr(aggregate, "count_pairs_and_runs", wrong)
        problem = self._problem()
        assert "cm_" in problem.what
        assert "1,405 of 1,405" not in problem.what

    def test_a_change_that_three_digits_do_not_show_is_noticed_by_the_golden_values_alone(self, monkeypatch):
        right = aggregate.ngtdm_features
        monkeypatch.setattr(aggregate, "ngtdm_features", lambda *args: right(*args) * (1 + 2e-6))
        seen = check_engine()
        assert seen.published_missed == ()
        assert seen.golden_missed
        assert all("|ngtdm|" in name for name in seen.golden_missed)

    def test_a_change_below_the_tolerance_passes(self, monkeypatch):
        right = aggregate.ngtdm_features
        monkeypatch.setattr(aggregate, "ngtdm_features", lambda *args: right(*args) * (1 + 5e-7))
        assert check_engine().passed

    def test_a_shifted_filter_is_noticed(self, monkeypatch):
        right = extract.filter_responses

        def shifted(*args):
            for name, response in right(*args):
                yield name, np.roll(response, 1, axis=0)

        monkeypatch.setattr(extract, "filter_responses", shifted)
        seen = check_engine()
        assert seen.published_missed == ()
        assert any("|laws_" in name for name in seen.golden_missed)

    def test_a_value_that_is_missing_is_missed(self, monkeypatch):
        right = aggregate.glcm_features
        monkeypatch.setattr(aggregate, "glcm_features", lambda glcm: np.full_like(right(glcm), np.nan))
        assert "cm_joint_max_2D_avg" in check_engine().published_missed


@pytest.mark.parametrize("name", ["t|original|glcm|contrast", "2.5D|t|laws_L5E5|firstorder|mean"])
def test_golden_values_are_read_by_name(name):
    assert golden_values()[name] > 0
