"""Intraclass correlation from sums: against a published table, against its definition, and whatever the split."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe.metrics import intraclass, mean_correlation, repeat_sums

# Shrout & Fleiss 1979, table 2: six targets, four judges.
RATINGS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float)


def by_definition(table: np.ndarray, form: str) -> float:
    """From the mean squares of a two-way analysis of variance of one complete (n, k) table."""
    n, k = table.shape
    grand, rows, columns = table.mean(), table.mean(axis=1), table.mean(axis=0)
    bms = k * ((rows - grand) ** 2).sum() / (n - 1)
    wms = ((table - rows[:, None]) ** 2).sum() / (n * (k - 1))
    jms = n * ((columns - grand) ** 2).sum() / (k - 1)
    ems = ((table - rows[:, None] - columns[None, :] + grand) ** 2).sum() / ((n - 1) * (k - 1))
    return {
        "one-way": (bms - wms) / (bms + (k - 1) * wms),
        "agreement": (bms - ems) / (bms + (k - 1) * ems + k * (jms - ems) / n),
        "consistency": (bms - ems) / (bms + (k - 1) * ems),
    }[form]


@pytest.fixture
def values() -> np.ndarray:
    """(23 patients, 5 features, 4 versions): from hardly to very repeatable, some missing."""
    rng = np.random.default_rng(3)
    patients = rng.standard_normal((23, 5, 1))
    noise = rng.standard_normal((23, 5, 4)) * np.array([0.05, 0.2, 0.5, 1, 3])[None, :, None]
    found = patients + noise + 0.3 * rng.standard_normal((1, 5, 4))
    found[rng.random(found.shape) < 0.03] = np.nan
    return found


class TestPublishedTable:
    @pytest.mark.parametrize(("form", "published"), [("one-way", 0.17), ("agreement", 0.29), ("consistency", 0.71)])
    def test_the_six_targets_of_shrout_and_fleiss(self, form, published):
        found = intraclass(repeat_sums(RATINGS[:, None, :]), form).value
        assert round(found[0], 2) == published

    @pytest.mark.parametrize(
        ("form", "low", "high"),
        # As the R package psych prints them for this table.
        [("one-way", -0.133, 0.723), ("agreement", 0.019, 0.761), ("consistency", 0.342, 0.946)],
    )
    def test_their_intervals(self, form, low, high):
        found = intraclass(repeat_sums(RATINGS[:, None, :]), form)
        assert (round(found.low[0], 3), round(found.high[0], 3)) == (low, high)


@pytest.mark.parametrize("form", ["one-way", "agreement", "consistency"])
class TestSums:
    def test_it_is_the_definition_over_complete_patients(self, form, values):
        found = intraclass(repeat_sums(values), form).value
        for feature in range(values.shape[1]):
            table = values[:, feature]
            whole = table[np.isfinite(table).all(axis=1)]
            assert len(whole) < len(table)
            assert found[feature] == pytest.approx(by_definition(whole, form), abs=1e-10)

    def test_sites_together_are_the_pooled_patients(self, form, values):
        pooled = intraclass(repeat_sums(values), form)
        nobody = repeat_sums(values[:0])
        parts = sum((repeat_sums(values[part]) for part in (slice(0, 4), slice(4, 15), slice(15, 23))), nobody)
        found = intraclass(parts, form)
        for name in ("value", "low", "high"):
            np.testing.assert_allclose(getattr(found, name), getattr(pooled, name), atol=1e-10)

    def test_the_order_of_patients_does_not_matter(self, form, values):
        shuffled = values[np.random.default_rng(0).permutation(len(values))]
        one, two = (intraclass(repeat_sums(v), form).value for v in (values, shuffled))
        np.testing.assert_allclose(one, two, atol=1e-12)

    def test_some_versions_alone_are_those_columns(self, form, values):
        whole = values[np.isfinite(values).all(axis=(1, 2))]
        some = intraclass(repeat_sums(whole).of((0, 3, 1)), form)
        alone = intraclass(repeat_sums(whole[:, :, [0, 3, 1]]), form)
        np.testing.assert_allclose(some.value, alone.value, atol=1e-12)
        np.testing.assert_allclose(some.high, alone.high, atol=1e-12)

    def test_unit_and_zero_of_a_feature_do_not_matter(self, form, values):
        one, two = (intraclass(repeat_sums(v), form).value for v in (values, 3.5 - 2 * values))
        np.testing.assert_allclose(one, two, atol=1e-10)


class TestForms:
    def test_a_shift_that_all_share_counts_in_agreement_alone(self):
        patients = np.random.default_rng(1).standard_normal((12, 1, 1))
        shifted = repeat_sums(np.concatenate([patients, patients + 1], axis=2))
        assert intraclass(shifted, "consistency").value[0] == pytest.approx(1, abs=1e-12)
        assert intraclass(shifted, "one-way").value[0] < 0.9
        assert intraclass(shifted, "agreement").value[0] < 0.9

    @pytest.mark.parametrize("form", ["one-way", "agreement", "consistency"])
    def test_the_interval_covers_the_truth_as_often_as_it_says(self, form):
        """Truth by construction: patients' variance 3, noise 1, so 0.75 in all three forms; 2000 drawn studies."""
        rng = np.random.default_rng(5)
        drawn = np.sqrt(3) * rng.standard_normal((15, 2000, 1)) + rng.standard_normal((15, 2000, 3))
        found = intraclass(repeat_sums(drawn), form, confidence=0.9)
        covered = np.mean((found.low <= 0.75) & (found.high >= 0.75))
        assert abs(covered - 0.9) < 4 * np.sqrt(0.9 * 0.1 / 2000)  # four standard errors of the simulation


class TestScaledVersions:
    def test_it_is_the_consistency_of_versions_brought_to_one_spread(self, values):
        whole = values[np.isfinite(values).all(axis=(1, 2))]
        stretched = whole * np.array([1, 4, 0.2, 30]) + np.array([0, 5, -1, 100])
        scaled = (whole - whole.mean(axis=0)) / whole.std(axis=0)
        found = mean_correlation(repeat_sums(stretched))
        np.testing.assert_allclose(found, intraclass(repeat_sums(scaled), "consistency").value, atol=1e-10)

    def test_it_is_the_mean_of_pearsons_correlations(self, values):
        whole = values[np.isfinite(values).all(axis=(1, 2))]
        matrix = np.corrcoef(whole[:, 3].T)
        assert mean_correlation(repeat_sums(whole))[3] == pytest.approx(matrix[np.triu_indices(4, 1)].mean(), abs=1e-10)

    def test_a_version_without_spread_correlates_with_nothing(self):
        table = np.random.default_rng(0).standard_normal((9, 1, 2))
        table[:, :, 1] = 0.1
        assert np.isnan(mean_correlation(repeat_sums(table))[0])


class TestDegenerate:
    @pytest.mark.parametrize("form", ["one-way", "agreement", "consistency"])
    def test_nothing_is_claimed_without_patients_or_spread(self, form):
        one_patient = np.ones((1, 1, 3))
        constant = np.full((8, 1, 3), 2.0)
        missing = np.full((8, 1, 3), np.nan)
        for table in (one_patient, constant, missing):
            assert np.isnan(intraclass(repeat_sums(table), form).value[0])

    @pytest.mark.parametrize("form", ["one-way", "agreement", "consistency"])
    def test_versions_without_any_difference_agree_fully(self, form):
        same = np.repeat(np.arange(5.0)[:, None, None], 3, axis=2)
        found = intraclass(repeat_sums(same), form)
        assert (found.value[0], found.low[0], found.high[0]) == (1, 1, 1)

    def test_sums_add_only_what_is_there(self):
        table = np.array([[[1.0, 2.0]], [[np.nan, 3.0]]])
        sums = repeat_sums(table)
        assert (sums.count.tolist(), sums.total.tolist(), sums.product.tolist()) == ([1], [[1, 2]], [[1, 2, 4]])
