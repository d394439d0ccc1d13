"""ROC and calibration from histograms: the proven bound, and what is exact."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import auc, recall_score, roc_auc_score

from fedloupe.metrics import (
    CountsInvalid,
    OneClassOnly,
    histogram_auc,
    histogram_calibration,
    histogram_roc,
    score_histogram,
    wilson,
)


def cohort(seed: int, n: int = 200, digits: int = 9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.35).astype(int)
    return labels, np.round(expit(1.2 * labels - 0.6 + rng.normal(size=n)), digits)


class TestAuc:
    @pytest.mark.parametrize("bins", [1, 2, 5, 20, 100, 1000])
    @pytest.mark.parametrize("seed", range(5))
    def test_it_is_never_farther_off_than_the_bound(self, bins: int, seed: int) -> None:
        labels, scores = cohort(seed, digits=9 if seed % 2 else 2)
        found = histogram_auc(*score_histogram(labels, scores, bins))
        assert abs(found.auc - roc_auc_score(labels, scores)) <= found.bound + 1e-12

    def test_the_bound_is_half_the_share_of_pairs_within_a_bin(self) -> None:
        labels, scores = cohort(1)
        place = np.minimum((scores * 20).astype(int), 19)
        together = (place[labels == 1][:, None] == place[labels == 0]).mean()
        assert histogram_auc(*score_histogram(labels, scores)).bound == pytest.approx(together / 2, abs=1e-12)

    def test_it_is_the_auc_of_scores_moved_to_their_bins_middle(self) -> None:
        labels, scores = cohort(2)
        middle = np.minimum((scores * 20).astype(int), 19) + 0.5
        found = histogram_auc(*score_histogram(labels, scores))
        assert found.auc == pytest.approx(roc_auc_score(labels, middle), abs=1e-12)

    @pytest.mark.parametrize("above", [True, False])
    def test_the_bound_is_attained(self, above: bool) -> None:
        """All cases at one end of their bins, all controls at the other."""
        rng = np.random.default_rng(3)
        labels, place = rng.integers(0, 2, 80), rng.integers(0, 5, 80)
        scores = (place + np.where((labels == 1) == above, 0.9, 0.1)) / 5
        found = histogram_auc(*score_histogram(labels, scores, 5))
        exact = roc_auc_score(labels, scores)
        assert exact - found.auc == pytest.approx(found.bound if above else -found.bound, abs=1e-12)

    def test_a_hundred_bins_are_near_enough(self) -> None:
        labels, scores = cohort(4, 300)
        found = histogram_auc(*score_histogram(labels, scores, 100))
        assert found.bound < 0.02
        assert found.auc == pytest.approx(roc_auc_score(labels, scores), abs=0.002)

    def test_sites_add_up_to_the_pooled_histogram(self) -> None:
        labels, scores = cohort(5)
        summed = np.sum([score_histogram(labels[i::4], scores[i::4]) for i in range(4)], axis=0)
        assert histogram_auc(*summed) == histogram_auc(*score_histogram(labels, scores))


class TestRoc:
    def test_every_point_is_on_the_patients_own_curve(self) -> None:
        labels, scores = cohort(6, digits=2)
        points = histogram_roc(*score_histogram(labels, scores))
        assert points[0] == (0.0, 0.0)
        assert points[-1] == (1.0, 1.0)
        for number, (x, y) in enumerate(points[1:], start=1):
            called = scores >= (20 - number) / 20
            exact = recall_score(labels, called, pos_label=0), recall_score(labels, called)
            assert (1 - x, y) == pytest.approx(exact, abs=1e-12)

    def test_the_area_under_straight_lines_is_the_histograms_auc(self) -> None:
        histogram = score_histogram(*cohort(7))
        x, y = zip(*histogram_roc(*histogram), strict=True)
        assert auc(x, y) == pytest.approx(histogram_auc(*histogram).auc, abs=1e-12)


class TestCalibration:
    @pytest.mark.parametrize("bins", [10, 50])
    def test_groups_hold_everyone_once_with_exact_rates(self, bins: int) -> None:
        labels, scores = cohort(8)
        found = histogram_calibration(*score_histogram(labels, scores, bins), groups=5)
        assert found.error == 1 / (2 * bins)
        assert sum(group.patients for group in found.groups) == 200
        order, start = np.sort(scores), 0
        for group in found.groups:
            inside = (scores >= order[start]) & (scores <= order[start + group.patients - 1])
            assert inside.sum() == group.patients
            assert group.observed == pytest.approx(labels[inside].mean())
            assert abs(group.predicted - scores[inside].mean()) <= found.error
            interval = wilson(int(labels[inside].sum()), group.patients)
            assert (group.low, group.high) == (interval.low, interval.high)
            start += group.patients

    def test_groups_are_of_about_equal_size(self) -> None:
        found = histogram_calibration([10] * 100, [10] * 100, groups=10)
        assert [group.patients for group in found.groups] == [200] * 10
        assert [group.predicted for group in found.groups] == pytest.approx(np.arange(10) / 10 + 0.05)

    @pytest.mark.parametrize("seed", range(20))
    def test_no_group_is_below_the_minimum(self, seed: int) -> None:
        labels, scores = cohort(seed, 15 + 3 * seed)
        found = histogram_calibration(*score_histogram(labels, scores), groups=10, minimum=7)
        assert all(group.patients >= 7 for group in found.groups)
        assert sum(group.patients for group in found.groups) == 15 + 3 * seed

    def test_too_few_patients_make_no_group(self) -> None:
        assert histogram_calibration([1, 1], [1, 1], minimum=5).groups == ()


class TestRefusals:
    @pytest.mark.parametrize("function", [histogram_auc, histogram_roc, histogram_calibration])
    def test_of_what_is_no_pair_of_histograms(self, function) -> None:
        for positives, negatives in (([1, 2], [1, 2, 3]), ([1, -1], [1, 2]), ([], []), ([1, np.nan], [1, 2])):
            with pytest.raises(CountsInvalid, match="FL-806"):
                function(positives, negatives)
        with pytest.raises(OneClassOnly, match="FL-802"):
            function([0, 0], [1, 2])
