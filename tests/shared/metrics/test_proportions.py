"""Wilson intervals and shares at a threshold against statsmodels and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, precision_score, recall_score
from statsmodels.stats.proportion import proportion_confint

from fedloupe.metrics import Confusion, CountsInvalid, Interval, wilson


class TestWilson:
    @pytest.mark.parametrize(("count", "n"), [(0, 1), (1, 1), (0, 30), (30, 30), (3, 17), (174, 200), (1, 5000)])
    def test_it_is_statsmodels(self, count: int, n: int) -> None:
        found = wilson(count, n)
        assert (found.low, found.high) == pytest.approx(proportion_confint(count, n, 0.05, "wilson"), abs=1e-12)

    def test_the_ends_are_exact(self) -> None:
        assert wilson(0, 12).low == 0.0
        assert wilson(12, 12).high == 1.0

    @pytest.mark.parametrize(("count", "n"), [(0, 0), (-1, 5), (6, 5)])
    def test_what_is_no_share_is_refused(self, count: int, n: int) -> None:
        with pytest.raises(CountsInvalid, match="FL-806"):
            wilson(count, n)


class TestConfusion:
    @pytest.fixture
    def cohort(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(3)
        labels = rng.integers(0, 2, 150)
        return labels, np.round(np.clip(0.3 * labels + rng.random(150) * 0.7, 0, 1), 2)

    def test_shares_are_scikit_learns(self, cohort) -> None:
        labels, scores = cohort
        called = (scores >= 0.5).astype(int)
        tn, fp, fn, tp = confusion_matrix(labels, called).ravel().tolist()
        found = Confusion(tp=tp, fp=fp, tn=tn, fn=fn)
        assert found.patients == 150
        assert found.accuracy.value == pytest.approx(accuracy_score(labels, called))
        assert found.sensitivity.value == pytest.approx(recall_score(labels, called))
        assert found.specificity.value == pytest.approx(recall_score(labels, called, pos_label=0))
        assert found.ppv.value == pytest.approx(precision_score(labels, called))
        assert found.npv.value == pytest.approx(precision_score(labels, called, pos_label=0))

    def test_each_share_has_the_interval_of_its_own_denominator(self) -> None:
        found = Confusion(tp=8, fp=3, tn=20, fn=5)
        denominators = {"accuracy": (28, 36), "sensitivity": (8, 13), "specificity": (20, 23), "ppv": (8, 11)}
        for name, (count, n) in {**denominators, "npv": (20, 25)}.items():
            share = getattr(found, name)
            assert share.value == count / n
            assert Interval(share.low, share.high) == wilson(count, n)

    def test_a_share_of_nobody_is_none(self) -> None:
        assert Confusion(tp=0, fp=0, tn=4, fn=2).ppv is None
        assert Confusion(tp=4, fp=2, tn=0, fn=0).npv is None
        assert Confusion(tp=0, fp=2, tn=3, fn=0).sensitivity is None
        assert Confusion(tp=2, fp=0, tn=0, fn=1).specificity is None
        assert Confusion(tp=0, fp=0, tn=0, fn=0).accuracy is None

    def test_refusals(self) -> None:
        with pytest.raises(CountsInvalid):
            Confusion(tp=1, fp=-1, tn=0, fn=0)
