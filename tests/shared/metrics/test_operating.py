"""Histograms, thresholds, Brier score and risk groups."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.metrics import brier_score_loss, recall_score

from fedloupe.metrics import (
    OneClassOnly,
    brier,
    calibration_groups,
    score_histogram,
    summed_logits,
    threshold_metrics,
    youden_threshold,
)


@pytest.fixture
def cohort() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    scores = rng.beta(2, 3, 300)
    return (rng.random(300) < scores).astype(int), scores


class TestThresholdMetrics:
    def test_they_are_scikit_learns(self, cohort: tuple[np.ndarray, np.ndarray]) -> None:
        labels, scores = cohort
        found = threshold_metrics(labels, scores, 0.4)
        called = scores >= 0.4
        assert found.accuracy == pytest.approx((called == labels).mean())
        assert found.sensitivity == pytest.approx(recall_score(labels, called))
        assert found.specificity == pytest.approx(recall_score(labels, called, pos_label=0))

    def test_a_score_on_the_threshold_is_called_positive(self) -> None:
        assert threshold_metrics([1, 0], [0.5, 0.4], 0.5).sensitivity == 1.0

    def test_one_class_is_refused(self) -> None:
        with pytest.raises(OneClassOnly):
            threshold_metrics([1, 1], [0.5, 0.4], 0.5)


class TestScoreHistogram:
    def test_every_patient_is_in_one_bin_of_their_class(self, cohort: tuple[np.ndarray, np.ndarray]) -> None:
        labels, scores = cohort
        positives, negatives = score_histogram(labels, scores)
        assert positives.shape == negatives.shape == (20,)
        assert positives.dtype == negatives.dtype == np.int64
        assert (positives.sum(), negatives.sum()) == (labels.sum(), (1 - labels).sum())

    def test_zero_is_in_the_first_bin_and_one_in_the_last(self) -> None:
        positives, negatives = score_histogram([1, 0], [1.0, 0.0])
        assert positives.nonzero()[0].tolist() == [19]
        assert negatives.nonzero()[0].tolist() == [0]

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_bins_agree_with_the_threshold_at_every_edge(self, dtype: type) -> None:
        scores = np.nextafter(np.repeat(np.arange(20) / 20, 3), np.tile([-1, 0.5, 2], 20)).clip(0, 1).astype(dtype)
        labels = np.ones(scores.size, dtype=int)
        labels[0] = 0
        positives, _ = score_histogram(labels, scores)
        for bin_, edge in enumerate(np.arange(20) / 20):
            share = threshold_metrics(labels, scores, float(edge)).sensitivity
            assert positives[bin_:].sum() / positives.sum() == pytest.approx(share)


class TestYouden:
    def test_it_is_the_maximum_of_youdens_index_for_normal_log_odds(self) -> None:
        # brute force on the two normal distributions themselves
        grid = np.linspace(-6, 6, 120_001)
        index = norm.sf(grid, 1.3, 0.9) - norm.sf(grid, -0.8, 0.9)
        best = expit(grid[np.argmax(index)])
        assert youden_threshold((1.3 * 40, 40), (-0.8 * 60, 60)) == pytest.approx(best, abs=1e-4)

    def test_sites_give_the_pooled_answer(self, cohort: tuple[np.ndarray, np.ndarray]) -> None:
        labels, scores = cohort
        odds = logit(np.clip(scores, 1e-6, 1 - 1e-6))
        pooled = expit((odds[labels == 1].mean() + odds[labels == 0].mean()) / 2)
        without, with_event = np.sum([summed_logits(labels[i::3], scores[i::3]) for i in range(3)], axis=0)
        events = int(labels.sum())
        found = youden_threshold((with_event, events), (without, len(labels) - events))
        assert found == pytest.approx(pooled, abs=1e-12)

    def test_summed_logits_are_the_sums_of_each_group(self) -> None:
        odds = np.array([-1.0, 0.5, 2.0, -3.0])
        assert summed_logits([0, 1, 1, 0], expit(odds)) == (pytest.approx(-4.0), pytest.approx(2.5))

    def test_one_outcome_alone_gives_no_threshold(self) -> None:
        with pytest.raises(OneClassOnly):
            youden_threshold((0.0, 0), (-5.0, 5))


class TestCalibration:
    def test_brier_is_scikit_learns(self, cohort: tuple[np.ndarray, np.ndarray]) -> None:
        assert brier(*cohort) == pytest.approx(brier_score_loss(*cohort))

    def test_groups_hold_everyone_once_and_keep_the_means(self, cohort: tuple[np.ndarray, np.ndarray]) -> None:
        labels, scores = cohort
        groups = calibration_groups(labels, scores)
        sizes = np.array([n for *_, n in groups])
        assert sizes.tolist() == [60] * 5
        assert sum(p * n for p, _, n in groups) / 300 == pytest.approx(scores.mean())
        assert sum(o * n for _, o, n in groups) / 300 == pytest.approx(labels.mean())
        assert [p for p, *_ in groups] == sorted(p for p, *_ in groups)

    @pytest.mark.parametrize("patients", range(1, 40))
    def test_no_group_is_ever_below_the_minimum(self, patients: int) -> None:
        rng = np.random.default_rng(patients)
        scores, labels = np.round(rng.random(patients), 1), rng.integers(0, 2, patients)
        groups = calibration_groups(labels, scores, groups=5, minimum=6)
        assert all(n >= 6 for *_, n in groups)
        assert sum(n for *_, n in groups) == (patients if patients >= 6 else 0)

    def test_equal_scores_stay_together_whatever_the_order(self) -> None:
        scores = np.repeat([0.1, 0.5, 0.9], [7, 20, 7])
        labels = np.r_[np.zeros(17), np.ones(17)].astype(int)
        groups = calibration_groups(labels, scores, minimum=5)
        assert [n for *_, n in groups] == [7, 20, 7]
        shuffled = np.random.default_rng(0).permutation(34)
        assert calibration_groups(labels[shuffled], scores[shuffled], minimum=5) == groups
