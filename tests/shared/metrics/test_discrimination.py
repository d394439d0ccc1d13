"""AUC, DeLong and Hanley-McNeil against scikit-learn, the definition in pairs, and numbers by hand."""

from __future__ import annotations

from itertools import product
from math import sqrt

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import t, ttest_ind
from sklearn.metrics import roc_auc_score

from fedloupe.metrics import OneClassOnly, ScoresInvalid, TooFewPatients, delong, hanley_mcneil_se, paired_delong


def cohort(seed: int, positives: int, negatives: int, ties: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat([1, 0], [positives, negatives]))
    shared = labels + rng.normal(size=labels.size)
    scores = [expit(shared + rng.normal(size=labels.size)) for _ in range(2)]
    return (labels, *(np.round(s, 1) if ties else s for s in scores))


def by_pairs(labels: np.ndarray, *models: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUCs and their covariance as DeLong 1988 defines them: every pair of patients compared."""
    by_positive, by_negative = [], []
    for scores in models:
        x, y = scores[labels == 1], scores[labels == 0]
        wins = np.array([[1.0 if a > b else 0.5 if a == b else 0.0 for b in y] for a in x])
        by_positive.append(wins.mean(axis=1))
        by_negative.append(wins.mean(axis=0))
    aucs = np.mean(by_positive, axis=1)
    return aucs, np.cov(by_positive) / (labels == 1).sum() + np.cov(by_negative) / (labels == 0).sum()


class TestDelong:
    @pytest.mark.parametrize(("ties", "seed"), list(product((False, True), range(4))))
    def test_auc_is_scikit_learns_and_variance_is_the_definition(self, ties: bool, seed: int) -> None:
        labels, scores, _ = cohort(seed, 17, 41, ties)
        found = delong(labels, scores)
        _, covariance = by_pairs(labels, scores)
        assert found.auc == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        assert found.se == pytest.approx(sqrt(covariance), abs=1e-12)

    def test_a_case_done_by_hand(self) -> None:
        # Positives 0.9, 0.4; negatives 0.5, 0.2. Components (1, 1/2) and (1/2, 1): variance 1/8 each, over 2 each.
        found = delong([1, 1, 0, 0], [0.9, 0.4, 0.5, 0.2])
        assert found.auc == 0.75
        assert found.se == pytest.approx(sqrt(1 / 8))

    def test_the_interval_is_welchs_on_the_logit_scale(self) -> None:
        """Degrees of freedom and error of the two placements are those of SciPy's unequal-variance t-test."""
        labels, scores, _ = cohort(3, 30, 50, False)
        found = delong(labels, scores)
        wins = scores[labels == 1][:, None] > scores[labels == 0]
        welch = ttest_ind(wins.mean(axis=1), wins.mean(axis=0) - 1, equal_var=False)
        assert found.se == pytest.approx(1 / welch.statistic, abs=1e-12)
        half = t.ppf(0.975, welch.df) * found.se / (found.auc * (1 - found.auc))
        assert logit(found.high) - logit(found.auc) == pytest.approx(half, rel=1e-6)
        assert logit(found.auc) - logit(found.low) == pytest.approx(half, rel=1e-6)

    def test_the_interval_covers_the_true_auc_about_as_often_as_it_says(self) -> None:
        rng = np.random.default_rng(11)
        truth, hits, runs = 0.7602499, 0, 400  # Phi(1 / sqrt(2)): normals one standard deviation apart
        for _ in range(runs):
            scores = expit(np.r_[rng.normal(1, 1, 40), rng.normal(0, 1, 60)])
            found = delong(np.repeat([1, 0], [40, 60]), scores)
            hits += found.low <= truth <= found.high
        assert 0.92 <= hits / runs <= 0.98

    def test_the_order_of_patients_does_not_matter(self) -> None:
        labels, scores, _ = cohort(5, 12, 20, True)
        assert delong(labels, scores).auc == delong(labels[::-1], scores[::-1]).auc
        assert delong(labels, scores).se == pytest.approx(delong(labels[::-1], scores[::-1]).se, abs=1e-14)


class TestDelongWithoutVariance:
    @pytest.mark.parametrize("flip", [False, True])
    def test_perfect_separation_keeps_its_auc_but_not_certainty(self, flip: bool) -> None:
        labels = np.repeat([1, 0], [8, 20])
        scores = np.r_[np.linspace(0.7, 0.9, 8), np.linspace(0.1, 0.4, 20)]
        found = delong(labels, 1 - scores if flip else scores)
        # One of 8 positives in the middle of the negatives: components seven 1 and one 1/2; ten 1 and ten 7/8.
        expected = sqrt((8 / 7 * (1 / 8 - 1 / 64) / 4) / 8 + (20 / 19 * 1 / 256) / 20)
        assert found.auc == (0.0 if flip else 1.0)
        assert found.se == pytest.approx(expected)
        first, second = (8 / 7 * (1 / 8 - 1 / 64) / 4) / 8, (20 / 19 * 1 / 256) / 20
        freedom = (first + second) ** 2 / (first**2 / 7 + second**2 / 19)
        inner = expit(logit(1 - 1 / 16) - t.ppf(0.975, freedom) * expected / (15 / 256))
        assert (found.low, found.high) == pytest.approx((0.0, 1 - inner) if flip else (inner, 1.0), abs=1e-7)

    def test_a_constant_model_has_the_wilcoxon_error_not_zero(self) -> None:
        found = delong(np.repeat([1, 0], [10, 30]), np.full(40, 0.3))
        assert found.auc == 0.5
        assert found.se == pytest.approx(sqrt(41 / 3600))
        assert 0.5 - found.low == pytest.approx(found.high - 0.5)

    def test_one_patient_of_a_class_says_nothing(self) -> None:
        found = delong([1, 0, 0, 0], [0.6, 0.1, 0.7, 0.2])
        assert (found.auc, found.se, found.low, found.high) == (pytest.approx(2 / 3), 0.5, 0.0, 1.0)


class TestRefusals:
    @pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
    def test_one_class_is_refused(self, labels: list[int]) -> None:
        with pytest.raises(OneClassOnly, match="FL-802"):
            delong(labels, [0.1, 0.2, 0.3])

    @pytest.mark.parametrize(
        ("labels", "scores"),
        [([1, 0], [0.5]), ([1, 2], [0.5, 0.5]), ([1, 0], [0.5, float("nan")]), ([1, 0], [0.5, 1.2]), ([], [])],
    )
    def test_what_is_not_a_probability_for_a_label_is_refused(self, labels: list[int], scores: list[float]) -> None:
        with pytest.raises(ScoresInvalid, match="FL-801"):
            delong(labels, scores)

    def test_a_paired_comparison_needs_two_of_each(self) -> None:
        with pytest.raises(TooFewPatients, match="FL-803"):
            paired_delong([1, 0, 0], [0.5, 0.2, 0.1], [0.1, 0.2, 0.3])


class TestPaired:
    @pytest.mark.parametrize("ties", [False, True])
    def test_difference_and_error_are_the_definition_in_pairs(self, ties: bool) -> None:
        labels, a, b = cohort(9, 25, 33, ties)
        aucs, covariance = by_pairs(labels, a, b)
        found = paired_delong(labels, a, b)
        variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
        assert found.difference == pytest.approx(aucs[0] - aucs[1], abs=1e-12)
        assert found.se == pytest.approx(sqrt(variance), abs=1e-12)

    def test_p_is_uniform_when_the_models_are_equally_good(self) -> None:
        p = []
        for seed in range(300):
            labels, a, b = cohort(100 + seed, 30, 40, False)
            p.append(paired_delong(labels, a, b).p)
        assert 0.02 <= np.mean(np.array(p) < 0.05) <= 0.09
        assert 0.4 <= np.mean(np.array(p) < 0.5) <= 0.6

    def test_a_model_against_itself_differs_by_nothing(self) -> None:
        labels, a, _ = cohort(2, 10, 10, False)
        found = paired_delong(labels, a, a)
        assert (found.difference, found.se, found.p) == (0.0, 0.0, 1.0)

    def test_swapping_the_models_changes_the_sign_only(self) -> None:
        labels, a, b = cohort(4, 20, 20, True)
        one, other = paired_delong(labels, a, b), paired_delong(labels, b, a)
        assert one.difference == -other.difference
        assert one.p == other.p

    def test_perfect_against_constant_is_not_certain(self) -> None:
        labels = np.repeat([1, 0], [5, 5])
        found = paired_delong(labels, np.r_[np.full(5, 0.9), np.full(5, 0.1)], np.full(10, 0.5))
        assert found.difference == 0.5
        assert 0 < found.se < 0.3


class TestHanleyMcneil:
    @pytest.mark.parametrize(("patients", "half"), [(30, 0.24), (50, 0.19), (100, 0.13), (200, 0.09), (500, 0.06)])
    def test_half_widths_at_auc_075_and_a_fifth_of_events(self, patients: int, half: float) -> None:
        events = patients // 5
        assert 1.96 * hanley_mcneil_se(0.75, events, patients - events) == pytest.approx(half, abs=0.006)

    def test_at_chance_it_is_the_wilcoxon_error(self) -> None:
        # AUC 1/2: q1 = q2 = 1/3, so the variance is (m + n + 1) / (12 m n).
        assert hanley_mcneil_se(0.5, 12, 30) == pytest.approx(sqrt(43 / (12 * 12 * 30)))
