"""Random-effects pooling against statsmodels and closed forms."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import t
from statsmodels.stats.meta_analysis import combine_effects

from fedloupe.metrics import NothingToPool, ScoresInvalid, delong, pool_auc

SPREAD = [(0.91, 0.03, 120), (0.72, 0.05, 90), (0.84, 0.06, 60), (0.66, 0.04, 150)]
ALIKE = [(0.80, 0.05, 80), (0.81, 0.05, 90), (0.80, 0.06, 60)]


def on_logit(results: list[tuple[float, float, int]]) -> tuple[np.ndarray, np.ndarray]:
    auc, se, _ = (np.array(column, dtype=float) for column in zip(*results, strict=True))
    return logit(auc), (se / (auc * (1 - auc))) ** 2


class TestAgainstStatsmodels:
    def test_dersimonian_laird_and_hartung_knapp(self) -> None:
        reference = combine_effects(*on_logit(SPREAD), method_re="dl", use_t=True)
        found = pool_auc(SPREAD)
        assert found.auc == pytest.approx(expit(reference.mean_effect_re), abs=1e-12)
        assert found.tau2 == pytest.approx(reference.tau2, abs=1e-12)
        assert found.i2 == pytest.approx(reference.i2, abs=1e-12)
        *_, hartung_knapp = reference.conf_int(use_t=True)
        assert reference.scale_hksj_re > 1
        assert (found.low, found.high) == pytest.approx(expit(hartung_knapp), abs=1e-12)
        assert (found.sites, found.patients) == (4, 420)

    def test_without_heterogeneity_the_mean_is_the_fixed_effect_one(self) -> None:
        effect, variance = on_logit(ALIKE)
        found = pool_auc(ALIKE)
        assert found.tau2 == found.i2 == 0
        assert found.auc == pytest.approx(expit((effect / variance).sum() / (1 / variance).sum()), abs=1e-12)


class TestIntervals:
    def test_sites_that_agree_by_luck_do_not_narrow_the_interval(self) -> None:
        effect, variance = on_logit(ALIKE)
        half = t.ppf(0.975, 2) / sqrt((1 / variance).sum())
        centre = (effect / variance).sum() / (1 / variance).sum()
        found = pool_auc(ALIKE)
        assert (found.low, found.high) == pytest.approx((expit(centre - half), expit(centre + half)))

    def test_the_prediction_interval_is_higgins(self) -> None:
        found = pool_auc(SPREAD)
        se = (logit(found.high) - logit(found.auc)) / t.ppf(0.975, 3)
        wide = t.ppf(0.975, 2) * sqrt(found.tau2 + se**2)
        assert found.prediction_low == pytest.approx(expit(logit(found.auc) - wide))
        assert found.prediction_high == pytest.approx(expit(logit(found.auc) + wide))

    def test_a_new_site_is_always_less_sure_than_the_mean(self) -> None:
        for results in (SPREAD, ALIKE):
            found = pool_auc(results)
            assert found.prediction_low is not None and found.prediction_high is not None
            assert found.prediction_low < found.low < found.auc < found.high < found.prediction_high

    def test_two_sites_predict_nothing_for_a_third(self) -> None:
        found = pool_auc(SPREAD[:2])
        assert found.prediction_low is found.prediction_high is None

    def test_one_site_keeps_its_own_interval(self) -> None:
        rng = np.random.default_rng(1)
        labels = np.repeat([1, 0], [30, 40])
        site = delong(labels, expit(labels + rng.normal(size=70)))
        found = pool_auc([(site.auc, site.se, 70)])
        assert (found.auc, found.low, found.high) == pytest.approx((site.auc, site.low, site.high))
        assert found.tau2 == found.i2 == 0


class TestPerfectSites:
    def test_a_perfect_small_site_moves_the_mean_but_does_not_rule_it(self) -> None:
        labels = np.repeat([1, 0], [6, 14])
        perfect = delong(labels, labels.astype(float))
        with_it = pool_auc([*ALIKE, (perfect.auc, perfect.se, 20)])
        assert pool_auc(ALIKE).auc < with_it.auc < 0.88
        assert with_it.high < 1

    def test_the_correction_in_pooling_is_the_one_in_delong(self) -> None:
        labels = np.repeat([1, 0], [25, 100])
        perfect = delong(labels, labels.astype(float))
        assert perfect.se == pytest.approx(1 / 50, rel=0.1)  # the corrected AUC is 1 - 1/50
        assert pool_auc([(1.0, perfect.se, 125)]).low == pytest.approx(perfect.low, abs=0.01)

    def test_zero_mirrors_one(self) -> None:
        zeros, ones = pool_auc([(0.0, 0.1, 9), (0.0, 0.2, 9)]), pool_auc([(1.0, 0.1, 9), (1.0, 0.2, 9)])
        assert (zeros.auc, zeros.low) == (pytest.approx(1 - ones.auc), pytest.approx(1 - ones.high))

    def test_a_perfect_site_alone_keeps_its_auc_without_certainty(self) -> None:
        found = pool_auc([(1.0, 0.1, 9)])
        assert (found.auc, found.high) == (1.0, 1.0)
        assert found.low == pytest.approx(expit(logit(0.9) - 1.959964 * 0.1 / 0.09))


class TestRefusals:
    def test_no_site(self) -> None:
        with pytest.raises(NothingToPool, match="FL-804"):
            pool_auc([])

    @pytest.mark.parametrize("bad", [(0.8, 0.0, 9), (1.1, 0.1, 9), (0.8, float("nan"), 9), (1.0, 1.5, 9)])
    def test_a_number_that_cannot_be_an_auc(self, bad: tuple[float, float, int]) -> None:
        with pytest.raises(ScoresInvalid):
            pool_auc([bad])
