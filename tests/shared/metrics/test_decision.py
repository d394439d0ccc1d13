"""Decision curves by counting patients; published numbers: test_published.py."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from fedloupe.metrics import CountsInvalid, decision_curve, net_benefit, score_histogram


@pytest.fixture
def cohort() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    labels = (rng.random(300) < 0.3).astype(int)
    scores = np.clip(0.25 * labels + rng.beta(2, 5, 300), 0, 1)
    scores[:40] = np.round(scores[:40], 2)  # some stand on an edge
    return labels, scores


class TestNetBenefit:
    def test_by_hand(self) -> None:
        """At a threshold of 0.2 four false positives weigh as much as one true: (20 - 40 / 4) / 100."""
        assert net_benefit(20, 40, 100, 0.2) == pytest.approx(0.1)

    @pytest.mark.parametrize("bad", [(1, 1, 0, 0.2), (5, 6, 10, 0.2), (-1, 2, 10, 0.2), (1, 1, 10, 1.0)])
    def test_what_cannot_be_is_refused(self, bad: tuple[int, int, int, float]) -> None:
        with pytest.raises(CountsInvalid, match="FL-806"):
            net_benefit(*bad)


class TestCurve:
    def test_every_point_is_that_of_the_patients_themselves(self, cohort) -> None:
        labels, scores = cohort
        histogram = score_histogram(labels, scores, bins=100)
        rows = decision_curve(*histogram, np.arange(101) / 100, 0.05, 0.6)
        assert [round(100 * row.threshold) for row in rows] == list(range(5, 61))
        for row in rows:
            (tn, fp), (fn, tp) = confusion_matrix(labels, scores >= row.threshold)
            weight = row.threshold / (1 - row.threshold)
            assert row.model == pytest.approx((tp - weight * fp) / 300, abs=1e-12)
            assert row.treat_all == pytest.approx((tp + fn - weight * (fp + tn)) / 300, abs=1e-12)
            assert row.treat_none == 0
            assert row.standardized == pytest.approx(row.model / labels.mean(), abs=1e-12)
            assert row.standardized_all == pytest.approx(row.treat_all / labels.mean(), abs=1e-12)

    def test_sites_add_up(self, cohort) -> None:
        labels, scores = cohort
        whole = decision_curve(*score_histogram(labels, scores), np.arange(21) / 20, 0.1, 0.5)
        parts = [score_histogram(labels[i::3], scores[i::3]) for i in range(3)]
        assert decision_curve(*np.sum(parts, axis=0), np.arange(21) / 20, 0.1, 0.5) == whole

    def test_a_perfect_model_has_the_event_rate(self) -> None:
        rows = decision_curve([0, 0, 0, 6], [14, 0, 0, 0], np.arange(5) / 4, 0, 1)
        assert [row.threshold for row in rows] == [0.25, 0.5, 0.75]
        assert {(row.model, row.standardized) for row in rows} == {(0.3, 1.0)}

    def test_without_an_event_nothing_is_standardized(self) -> None:
        (row,) = decision_curve([0, 0], [5, 5], [0, 0.5, 1], 0.5, 0.5)
        assert row.standardized is row.standardized_all is None
        assert row.model == pytest.approx(-0.5)

    @pytest.mark.parametrize(
        ("positives", "negatives", "edges"),
        [
            ([1, 2], [1, 2], [0, 1]),
            ([1, 2], [1, 2, 3], [0, 0.5, 1]),
            ([1, -2], [1, 2], [0, 0.5, 1]),
            ([0, 0], [0, 0], [0, 0.5, 1]),
            ([1, 2], [1, 2], [0, 0.7, 0.6]),
            ([], [], [0]),
        ],
    )
    def test_what_is_no_histogram_is_refused(self, positives, negatives, edges) -> None:
        with pytest.raises(CountsInvalid, match="FL-806"):
            decision_curve(positives, negatives, edges, 0, 1)
