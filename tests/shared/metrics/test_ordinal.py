"""Concordance with graded outcomes against SciPy's Somers' D, DeLong and counting pairs."""

from __future__ import annotations

from itertools import combinations
from math import sqrt

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import somersd

from fedloupe.metrics import OneClassOnly, ScoresInvalid, delong, ordinal_concordance


def graded(seed: int, sizes: tuple[int, ...] = (12, 20, 15, 9), digits: int = 9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    grades = np.repeat(np.arange(len(sizes)), sizes)
    return grades, np.round(expit(0.6 * grades - 1 + rng.normal(size=grades.size)), digits)


class TestConcordance:
    @pytest.mark.parametrize(("seed", "digits"), [(1, 9), (2, 9), (3, 1)])
    def test_it_is_somers_d(self, seed: int, digits: int) -> None:
        grades, scores = graded(seed, digits=digits)
        found = ordinal_concordance(grades, scores)
        assert found.value == pytest.approx((somersd(grades, scores).statistic + 1) / 2, abs=1e-12)
        assert found.pairs == sum(a * b for a, b in combinations((12, 20, 15, 9), 2))

    @pytest.mark.parametrize("digits", [9, 1])
    def test_two_grades_are_delong(self, digits: int) -> None:
        grades, scores = graded(4, (25, 40), digits)
        found, expected = ordinal_concordance(grades + 3, scores), delong(grades, scores)
        assert (found.value, found.se) == pytest.approx((expected.auc, expected.se), abs=1e-12)

    @pytest.mark.parametrize("digits", [9, 1])
    def test_its_variance_is_that_of_the_weighted_sum_of_pairwise_aucs(self, digits: int) -> None:
        """From kernels of all pairs: covariances of their row and column means within each grade (DeLong 1988)."""
        grades, scores = graded(5, digits=digits)
        of = [scores[grades == g] for g in range(4)]
        total = sum(len(a) * len(b) for a, b in combinations(of, 2))
        influence = [np.zeros(len(x)) for x in of]
        for low, high in combinations(range(4), 2):
            wins = (of[high][:, None] > of[low]) + 0.5 * (of[high][:, None] == of[low])
            weight = wins.size / total
            influence[high] += weight * wins.mean(axis=1)
            influence[low] += weight * wins.mean(axis=0)
        expected = sqrt(sum(x.var(ddof=1) / len(x) for x in influence))
        found = ordinal_concordance(grades, scores)
        assert found.se == pytest.approx(expected, abs=1e-12)
        half = 1.959963984540054 * expected / (found.value * (1 - found.value))
        assert (logit(found.low), logit(found.high)) == pytest.approx(
            (logit(found.value) - half, logit(found.value) + half), abs=1e-9
        )

    def test_the_interval_covers_about_as_often_as_it_says(self) -> None:
        _, many = graded(0, (2000,) * 4)
        grades = np.repeat(np.arange(4), 2000)
        truth = ordinal_concordance(grades, many).value
        hits = [
            found.low <= truth <= found.high
            for found in (ordinal_concordance(*graded(seed, (25, 25, 25, 25))) for seed in range(1, 301))
        ]
        assert 0.91 <= np.mean(hits) <= 0.985

    def test_numbers_of_grades_do_not_matter_but_their_order(self) -> None:
        grades, scores = graded(6)
        assert ordinal_concordance(grades * 7 - 3, scores) == ordinal_concordance(grades, scores)
        back = ordinal_concordance(-grades, scores)
        assert back.value == pytest.approx(1 - ordinal_concordance(grades, scores).value)

    def test_where_nothing_can_be_estimated_nothing_is_said(self) -> None:
        alone = ordinal_concordance([0, 0, 1, 1, 2], [0.1, 0.5, 0.4, 0.8, 0.6])
        assert alone.value == pytest.approx(6 / 8)
        assert alone.se is alone.low is alone.high is None
        perfect = ordinal_concordance([0, 0, 1, 1, 2, 2], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
        assert (perfect.value, perfect.se) == (1.0, None)


class TestRefusals:
    def test_of_what_is_not_graded(self) -> None:
        with pytest.raises(OneClassOnly, match="FL-802"):
            ordinal_concordance([2, 2, 2], [0.1, 0.2, 0.3])
        for grades, scores in (([0.5, 1.5], [0.1, 0.2]), ([0, 1], [0.1, 1.2]), ([0, 1], [0.1])):
            with pytest.raises(ScoresInvalid, match="FL-801"):
                ordinal_concordance(grades, scores)
