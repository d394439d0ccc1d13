"""Histograms, thresholds, Brier score and risk groups."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, recall_score, roc_curve

from fedloupe.metrics import (
    OneClassOnly,
    ScoresInvalid,
    brier,
    calibration_groups,
    score_histogram,
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
    def test_it_is_the_best_point_of_the_roc_curve_over_bins(self, cohort: tuple[np.ndarray, np.ndarray]) -> None:
        labels, scores = cohort
        floored = np.floor(scores * 20) / 20
        false_positive, true_positive, thresholds = roc_curve(labels, floored, drop_intermediate=False)
        best = thresholds[np.argmax(true_positive - false_positive)]
        assert youden_threshold(*score_histogram(labels, scores)) == pytest.approx(best)

    def test_ties_go_to_the_lowest_edge(self) -> None:
        positives, negatives = np.zeros(20, int), np.zeros(20, int)
        positives[12], negatives[3] = 4, 6
        assert youden_threshold(positives, negatives) == 4 / 20

    def test_it_depends_on_the_sum_over_sites_alone(self, cohort: tuple[np.ndarray, np.ndarray]) -> None:
        labels, scores = cohort
        parts = [score_histogram(labels[i::3], scores[i::3]) for i in range(3)]
        summed = [sum(p[k] for p in parts) for k in range(2)]
        assert youden_threshold(*summed) == youden_threshold(*score_histogram(labels, scores))

    def test_withheld_histograms_give_no_threshold(self) -> None:
        with pytest.raises(OneClassOnly, match="withheld"):
            youden_threshold(np.zeros(20), np.ones(20))

    def test_histograms_of_two_binnings_are_refused(self) -> None:
        with pytest.raises(ScoresInvalid):
            youden_threshold(np.ones(20), np.ones(10))


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
