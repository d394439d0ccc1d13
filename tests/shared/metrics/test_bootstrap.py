"""The bootstrap interval against SciPy's BCa of two samples, and what it does at the edges."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import bootstrap, norm, rankdata, t, ttest_ind

from fedloupe.metrics import Interval, OneClassOnly, ScoresInvalid, bootstrap_auc, delong
from fedloupe.metrics import bootstrap as room


def cohort(seed: int, positives: int, negatives: int, apart: float, digits: int = 9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat([1, 0], [positives, negatives])
    return labels, np.round(expit(labels * apart + rng.normal(size=labels.size)), digits)


def auc_of(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mann-Whitney share along the last axis, by ranks of both samples together."""
    ranks = rankdata(np.concatenate([x, y], axis=axis), axis=axis)
    m, n = x.shape[axis], y.shape[axis]
    return (ranks[..., :m].sum(axis=-1) - m * (m + 1) / 2) / (m * n)


class TestAgainstScipy:
    @pytest.mark.parametrize(
        ("positives", "negatives", "apart", "digits"), [(20, 80, 1.2, 9), (12, 30, 2.2, 9), (40, 60, 0.6, 1)]
    )
    def test_limits_agree_to_their_monte_carlo_error(
        self, positives: int, negatives: int, apart: float, digits: int
    ) -> None:
        labels, scores = cohort(positives, positives, negatives, apart, digits)
        cases, controls = scores[labels == 1], scores[labels == 0]
        wins = (cases[:, None] > controls) + 0.5 * (cases[:, None] == controls)
        welch = ttest_ind(wins.mean(axis=1), wins.mean(axis=0), equal_var=False).df
        plain = wins.mean(axis=1).var() / positives + wins.mean(axis=0).var() / negatives
        reach = t.ppf(0.975, welch) * delong(labels, scores).se / sqrt(plain)
        assert reach > 2
        reference = bootstrap(
            (cases, controls),
            auc_of,
            confidence_level=norm.cdf(reach) - norm.cdf(-reach),
            n_resamples=20_000,
            method="BCa",
            vectorized=True,
            rng=np.random.default_rng(0),
        ).confidence_interval
        found = bootstrap_auc(labels, scores, resamples=20_000, seed=1)
        # rank error of a percentile of 20,000 draws: 0.001, here some 0.03 SD of the AUC; its steps are 1 / (m n)
        error = 0.1 * delong(labels, scores).se + 2 / (positives * negatives)
        assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=error)
        assert found.high - found.low == pytest.approx(reference.high - reference.low, rel=0.05)


class TestWhatItDepends:
    def test_the_same_seed_gives_the_same_limits_and_another_gives_others(self) -> None:
        labels, scores = cohort(1, 20, 30, 1.0)
        first, again, other = (bootstrap_auc(labels, scores, seed=seed) for seed in (7, 7, 8))
        assert first == again != other

    def test_many_patients_are_drawn_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        labels, scores = cohort(2, 30, 70, 1.0)
        whole = bootstrap_auc(labels, scores, seed=3)
        drawn, draw = [], room._drawn
        monkeypatch.setattr(room, "CHUNK", 10_000)
        monkeypatch.setattr(room, "_drawn", lambda *args: drawn.append(args[2]) or draw(*args))
        parts = bootstrap_auc(labels, scores, seed=3)
        assert drawn == [100] * 40  # 2,000 resamples of 100 patients: twenty parts, of each outcome
        assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), abs=0.02)

    def test_monotone_changes_of_the_scores_change_nothing(self) -> None:
        labels, scores = cohort(4, 20, 40, 1.0)
        assert bootstrap_auc(labels, scores, seed=1) == bootstrap_auc(labels, scores**3, seed=1)


class TestEdges:
    @pytest.mark.parametrize("flip", [False, True])
    def test_perfect_separation_is_not_certain(self, flip: bool) -> None:
        labels = np.repeat([1, 0], [10, 30])
        scores = np.where(labels == (0 if flip else 1), 0.8, 0.3) + np.arange(40) / 1000
        found = bootstrap_auc(labels, scores, seed=1)
        assert (found.low if flip else found.high) == (0.0 if flip else 1.0)
        assert 0.02 < (found.high if flip else 1 - found.low) < 0.4

    def test_a_constant_score_says_one_half(self) -> None:
        assert bootstrap_auc([1, 1, 0, 0, 0], [0.5] * 5, seed=1) == Interval(0.5, 0.5)

    def test_one_patient_of_a_class_says_nothing(self) -> None:
        assert bootstrap_auc([1, 0, 0], [0.5, 0.2, 0.7], seed=1) == Interval(0.0, 1.0)

    def test_refusals(self) -> None:
        with pytest.raises(OneClassOnly):
            bootstrap_auc([1, 1], [0.2, 0.3], seed=1)
        with pytest.raises(ScoresInvalid):
            bootstrap_auc([1, 0], [0.2, 1.3], seed=1)
