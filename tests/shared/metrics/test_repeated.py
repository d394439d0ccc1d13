"""Mean AUC of several fits and paired differences: against DeLong, the definition in pairs, and simulation."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import t as student

from fedloupe.metrics import (
    OneClassOnly,
    Repeated,
    ScoresInvalid,
    TooFewPatients,
    delong,
    paired_delong,
    repeated_auc,
    repeated_difference,
)

TRUE_AUC = 0.7602499  # Phi(1 / sqrt(2)): normals one standard deviation apart


def fits(seed: int, count: int, positives: int = 14, negatives: int = 23) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat([1, 0], [positives, negatives]))
    shared = labels + rng.normal(size=labels.size)
    return labels, np.round(expit(shared + rng.normal(size=(count, labels.size))), 2)


def kernel(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(m, n) of every pair: 1 where the event has the higher score, one half where they are equal."""
    x, y = scores[labels == 1][:, None], scores[labels == 0][None]
    return (x > y) + 0.5 * (x == y)


def in_pairs(pairs: np.ndarray) -> float:
    """DeLong's variance of the mean of a kernel."""
    return pairs.mean(axis=1).var(ddof=1) / len(pairs) + pairs.mean(axis=0).var(ddof=1) / pairs.shape[1]


class TestOneFit:
    @pytest.mark.parametrize("kind", ["plain", "perfect", "opposite", "constant", "one event"])
    def test_it_is_delong(self, kind: str) -> None:
        labels, scores = fits(1, 1)
        if kind in ("perfect", "opposite"):
            scores = np.where(labels == (kind == "perfect"), 0.6, 0.4)[None] + scores / 100
        if kind == "constant":
            scores = np.full_like(scores, 0.5)
        if kind == "one event":
            labels = (np.arange(labels.size) == 3).astype(int)
        found, expected = repeated_auc([Repeated(labels, scores)]), delong(labels, scores[0])
        assert found.auc == expected.auc
        assert (found.se, found.low, found.high) == pytest.approx((expected.se, expected.low, expected.high), abs=1e-12)
        assert found.between == 0

    def test_the_difference_is_paired_delong(self) -> None:
        labels, (a, b) = fits(2, 2)
        found = repeated_difference([Repeated(labels, a[None])], [Repeated(labels, b[None])])
        expected = paired_delong(labels, a, b)
        assert (found.difference, found.se, found.p) == pytest.approx((expected.difference, expected.se, expected.p))
        assert found.high - found.difference == pytest.approx(1.959964 * expected.se, rel=1e-6)

    def test_a_model_does_not_differ_from_itself(self) -> None:
        labels, scores = fits(3, 3)
        one = Repeated(labels, scores)
        found = repeated_difference([one], [one])
        assert (found.difference, found.se, found.low, found.high, found.p) == (0, 0, 0, 0, 1)


class TestTheSamePatients:
    def test_patients_variance_is_that_of_the_averaged_kernel(self) -> None:
        labels, scores = fits(4, 3)
        aucs = np.array([kernel(labels, row).mean() for row in scores])
        within = in_pairs(np.mean([kernel(labels, row) for row in scores], axis=0))
        between = aucs.var(ddof=1)
        found = repeated_auc([Repeated(labels, scores)])
        assert found.auc == pytest.approx(aucs.mean(), abs=1e-12)
        assert found.between == pytest.approx(sqrt(between))
        assert found.se == pytest.approx(sqrt(within + between / 3), abs=1e-12)
        wins = np.mean([kernel(labels, row) for row in scores], axis=0)
        parts = [(wins.mean(axis=axis).var(ddof=1), wins.shape[1 - axis]) for axis in (0, 1)]
        doubt = sum((v / n) ** 2 / (n - 1) for v, n in parts) + (between / 3) ** 2 / 2
        half = student.ppf(0.975, found.se**4 / doubt) * found.se / (found.auc * (1 - found.auc))
        assert logit(found.high) - logit(found.auc) == pytest.approx(half)

    def test_a_difference_is_that_of_the_averaged_kernels(self) -> None:
        labels, scores = fits(5, 4)
        a, b = scores[:2], scores[2:]
        apart = [kernel(labels, x) - kernel(labels, y) for x, y in zip(a, b, strict=True)]
        within, between = in_pairs(np.mean(apart, axis=0)), np.var([d.mean() for d in apart], ddof=1)
        found = repeated_difference([Repeated(labels, a)], [Repeated(labels, b)])
        assert found.difference == pytest.approx(np.mean(apart), abs=1e-12)
        assert found.se == pytest.approx(sqrt(within + between / 2), abs=1e-12)
        freedom = (found.se**2 / (between / 2)) ** 2
        assert found.p == pytest.approx(2 * student.sf(abs(found.difference) / found.se, freedom))

    def test_a_fit_twice_is_no_more_evidence_than_once(self) -> None:
        labels, scores = fits(6, 1)
        once, twice = (repeated_auc([Repeated(labels, np.repeat(scores, n, axis=0))]) for n in (1, 2))
        assert twice.se == pytest.approx(once.se)
        assert (twice.low, twice.high) == pytest.approx((once.low, once.high))

    def test_several_models_of_one_fit_are_averaged_and_their_spread_is_not_that_of_fits(self) -> None:
        labels, scores = fits(15, 6)
        found = repeated_auc([Repeated(labels, scores.reshape(2, 3, -1))])
        aucs = np.array([kernel(labels, row).mean() for row in scores]).reshape(2, 3).mean(axis=1)
        within = in_pairs(np.mean([kernel(labels, row) for row in scores], axis=0))
        assert (found.auc, found.fits) == (pytest.approx(aucs.mean()), 2)
        assert found.se == pytest.approx(sqrt(within + aucs.var(ddof=1) / 2), abs=1e-12)


class TestDifferentPatients:
    def test_fits_on_disjoint_halves_are_as_good_as_the_independent_samples_they_are(self) -> None:
        labels, scores = fits(7, 2, 20, 30)
        first = np.zeros(50, bool)
        for label in (0, 1):
            first[np.flatnonzero(labels == label)[::2]] = True
        scores[0, ~first], scores[1, first] = np.nan, np.nan
        halves = [delong(labels[rows], row[rows]) for rows, row in ((first, scores[0]), (~first, scores[1]))]
        stratum = Repeated(labels, scores)
        # the correction I / (I - 1) is of all patients of an outcome here, of one half's there
        parts = sum(
            ((stratum.parts()[(labels == k) & half]) ** 2).sum() * n / (n - 1)
            for k, n in ((0, 15), (1, 10))
            for half in (first, ~first)
        )
        assert parts == pytest.approx((halves[0].se ** 2 + halves[1].se ** 2) / 4)
        assert stratum.variance() == pytest.approx(parts, rel=0.06)
        assert stratum.patients == 50

    def test_strata_are_independent_and_weighted_by_their_patients(self) -> None:
        (la, sa), (lb, sb) = fits(8, 1, 10, 20), fits(9, 1, 20, 40)
        a, b = delong(la, sa[0]), delong(lb, sb[0])
        found = repeated_auc([Repeated(la, sa), Repeated(lb, sb)])
        assert found.auc == pytest.approx(a.auc / 3 + 2 * b.auc / 3)
        assert found.se == pytest.approx(sqrt(a.se**2 + 4 * b.se**2) / 3)
        alike = repeated_auc([Repeated(la, sa), Repeated(lb, sb)], [1, 1])
        assert alike.auc == pytest.approx((a.auc + b.auc) / 2)


class TestCoverage:
    def test_the_interval_covers_about_as_often_as_it_says_with_few_fits_on_the_same_patients(self) -> None:
        """A patient's scores share four fifths of their noise; each fit by itself has the true AUC."""
        rng = np.random.default_rng(10)
        hits, runs = 0, 400
        for _ in range(runs):
            labels = np.repeat([1, 0], [30, 50])
            scores = expit(labels + sqrt(0.8) * rng.normal(size=80) + sqrt(0.2) * rng.normal(size=(3, 80)))
            found = repeated_auc([Repeated(labels, scores)])
            hits += found.low <= TRUE_AUC <= found.high
        assert 0.92 <= hits / runs <= 0.98

    def test_no_difference_is_called_one_about_as_seldom_as_it_says(self) -> None:
        rng = np.random.default_rng(11)
        false, runs = 0, 400
        for _ in range(runs):
            labels = np.repeat([1, 0], [30, 50])
            shared = labels + 0.8 * rng.normal(size=80)
            a, b = (Repeated(labels, expit(shared + 0.6 * rng.normal(size=(3, 80)))) for _ in range(2))
            false += repeated_difference([a], [b]).p < 0.05
        assert false / runs <= 0.08


class TestRefused:
    def test_shapes_that_do_not_fit(self) -> None:
        labels, scores = fits(12, 2)
        gap = scores.copy()
        gap[1, 3] = np.nan  # of one of two models of the same fit
        for bad in (scores[0], scores[:, 1:], scores[:0], gap[None]):
            with pytest.raises(ScoresInvalid):
                Repeated(labels, bad)

    def test_a_fit_that_scored_one_outcome_alone(self) -> None:
        labels, scores = fits(13, 2)
        scores[1, labels == 1] = np.nan
        with pytest.raises(OneClassOnly):
            Repeated(labels, scores)

    def test_pairs_of_different_patients_and_strata_of_different_fits(self) -> None:
        labels, scores = fits(14, 2)
        whole, gap = Repeated(labels, scores), scores.copy()
        gap[0, 0] = np.nan
        for other in ([Repeated(labels, gap)], [Repeated(1 - labels, scores)], [whole, whole]):
            with pytest.raises(ScoresInvalid):
                repeated_difference([whole], other)
        with pytest.raises(ScoresInvalid):
            repeated_auc([whole, Repeated(labels, scores[:1])])
        with pytest.raises(ScoresInvalid):
            repeated_auc([whole], [0])

    def test_a_pair_with_one_event(self) -> None:
        one = Repeated([1, 0, 0], [[0.5, 0.4, 0.6]])
        with pytest.raises(TooFewPatients):
            repeated_difference([one], [one])
