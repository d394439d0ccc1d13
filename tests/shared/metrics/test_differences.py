"""Standardised differences against SciPy's Mahalanobis distance and closed forms."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis

from fedloupe.metrics import CountsInvalid, EstimateInvalid, standardized_levels, standardized_mean, standardized_share


class TestMean:
    def test_it_is_the_difference_in_units_of_the_mean_variance(self) -> None:
        rng = np.random.default_rng(1)
        a, b = rng.normal(60, 8, 50), rng.normal(64, 11, 50)
        pooled = np.concatenate([a - a.mean(), b - b.mean()])
        cohen = (a.mean() - b.mean()) / sqrt((pooled**2).sum() / 98)  # Cohen's d, equal sizes
        found = standardized_mean((a.mean(), a.std(ddof=1)), (b.mean(), b.std(ddof=1)))
        assert found == pytest.approx(cohen, abs=1e-12)

    def test_without_spread(self) -> None:
        assert standardized_mean((3.0, 0.0), (3.0, 0.0)) == 0.0
        assert standardized_mean((3.0, 0.0), (4.0, 0.0)) is None

    @pytest.mark.parametrize("bad", [((1.0, -1.0), (1.0, 1.0)), ((float("nan"), 1.0), (1.0, 1.0))])
    def test_what_is_no_summary_is_refused(self, bad) -> None:
        with pytest.raises(EstimateInvalid, match="FL-805"):
            standardized_mean(*bad)


class TestShare:
    def test_it_is_that_of_the_column_of_zeros_and_ones(self) -> None:
        p, q = 0.31, 0.42
        expected = standardized_mean((p, sqrt(p * (1 - p))), (q, sqrt(q * (1 - q))))
        assert standardized_share(p, q) == pytest.approx(expected, abs=1e-12)
        assert standardized_share(p, q) == -standardized_share(q, p)

    def test_without_spread(self) -> None:
        assert standardized_share(1.0, 1.0) == 0.0
        assert standardized_share(1.0, 0.0) is None

    def test_a_share_above_one_is_refused(self) -> None:
        with pytest.raises(EstimateInvalid, match="FL-805"):
            standardized_share(1.2, 0.5)


class TestLevels:
    A, B = [20, 55, 12, 9], [31, 40, 30, 2]

    @pytest.mark.parametrize("dropped", range(4))
    def test_it_is_the_mahalanobis_distance_whichever_level_is_left_out(self, dropped: int) -> None:
        p, q = (np.delete(np.array(x) / sum(x), dropped) for x in (self.A, self.B))
        covariance = sum((np.diag(x) - np.outer(x, x)) / 2 for x in (p, q))
        found = standardized_levels(self.A, self.B)
        assert found == pytest.approx(mahalanobis(p, q, np.linalg.inv(covariance)), abs=1e-12)

    def test_two_levels_are_a_share(self) -> None:
        found = standardized_levels([31, 69], [84, 116])
        assert found == pytest.approx(abs(standardized_share(0.31, 0.42)), abs=1e-12)

    def test_levels_of_nobody_do_not_count(self) -> None:
        with_empty = standardized_levels([0, *self.A, 0], [0, *self.B, 0])
        assert with_empty == pytest.approx(standardized_levels(self.A, self.B), abs=1e-12)

    def test_a_level_that_one_group_lacks_is_far_but_not_endless(self) -> None:
        found = standardized_levels([10, 10, 0], [10, 10, 10])
        p, q = np.array([0.5, 0.0]), np.array([1 / 3, 1 / 3])
        covariance = sum((np.diag(x) - np.outer(x, x)) / 2 for x in (p, q))
        assert found == pytest.approx(mahalanobis(p, q, np.linalg.inv(covariance)), abs=1e-12)

    def test_groups_without_a_common_level_have_no_distance(self) -> None:
        assert standardized_levels([5, 5, 0, 0], [0, 0, 3, 7]) is None
        assert standardized_levels([5, 0], [0, 7]) is None

    def test_groups_alike(self) -> None:
        assert standardized_levels([5, 10, 15], [10, 20, 30]) == pytest.approx(0.0, abs=1e-9)
        assert standardized_levels([5], [9]) == 0.0

    @pytest.mark.parametrize(("a", "b"), [([1, 2], [1]), ([1, -2], [1, 2]), ([0, 0], [1, 2]), ([], [])])
    def test_what_are_no_counts_is_refused(self, a: list[int], b: list[int]) -> None:
        with pytest.raises(CountsInvalid, match="FL-806"):
            standardized_levels(a, b)
