"""Random-effects pooling against statsmodels and closed forms."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import t
from statsmodels.stats.meta_analysis import combine_effects

from fedloupe.metrics import (
    CountsInvalid,
    NothingToPool,
    ScoresInvalid,
    delong,
    pool_auc,
    pool_observed_expected,
    random_effects,
)

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

    @pytest.mark.parametrize("results", [SPREAD, ALIKE])
    def test_it_is_that_of_the_log_odds(self, results: list[tuple[float, float, int]]) -> None:
        effect, variance = on_logit(results)
        found, plain = pool_auc(results), random_effects(effect, np.sqrt(variance))
        assert (found.low, found.high) == pytest.approx((expit(plain.low), expit(plain.high)), abs=1e-12)
        expected = expit(plain.prediction_low), expit(plain.prediction_high)
        assert (found.prediction_low, found.prediction_high) == pytest.approx(expected, abs=1e-12)

    def test_a_new_site_is_never_surer_than_the_mean(self) -> None:
        for results in (SPREAD, ALIKE):
            found = pool_auc(results)
            assert found.prediction_low is not None and found.prediction_high is not None
            assert found.prediction_low <= found.low < found.auc < found.high <= found.prediction_high
        spread = pool_auc(SPREAD)
        assert spread.prediction_low < spread.low and spread.high < spread.prediction_high

    def test_two_sites_predict_nothing_for_a_third(self) -> None:
        found = pool_auc(SPREAD[:2])
        assert found.prediction_low is found.prediction_high is None

    def test_one_site_keeps_its_own_auc_and_error(self) -> None:
        rng = np.random.default_rng(1)
        labels = np.repeat([1, 0], [30, 40])
        site = delong(labels, expit(labels + rng.normal(size=70)))
        found = pool_auc([(site.auc, site.se, 70)])
        half = 1.959963984540054 * site.se / (site.auc * (1 - site.auc))
        limits = expit(logit(site.auc) - half), expit(logit(site.auc) + half)
        assert (found.auc, found.low, found.high) == pytest.approx((site.auc, *limits))
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
        half = 1.959963984540054 * perfect.se / (0.98 * 0.02)  # the interval in pooling is normal
        assert pool_auc([(1.0, perfect.se, 125)]).low == pytest.approx(expit(logit(0.98) - half), abs=0.01)

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


class TestObservedExpected:
    COUNTS = ((31, 24.4, 120), (18, 29.0, 90), (22, 21.3, 60), (50, 65.1, 200))

    def test_it_is_statsmodels_on_the_log_scale(self) -> None:
        """Standard error sqrt(1/O - 1/N): test_valmeta_1.R of the R package metamisc, with which Debray 2017 comes."""
        o, e, n = np.array(self.COUNTS).T
        reference = combine_effects(np.log(o / e), 1 / o - 1 / n, method_re="dl", use_t=True)
        assert reference.scale_hksj_re > 1
        found = pool_observed_expected(self.COUNTS)
        assert found.ratio == pytest.approx(np.exp(reference.mean_effect_re), abs=1e-12)
        assert (found.low, found.high) == pytest.approx(np.exp(reference.conf_int(use_t=True)[-1]), abs=1e-12)
        assert (found.tau2, found.i2) == pytest.approx((reference.tau2, reference.i2), abs=1e-12)
        assert (found.sites, found.patients) == (4, 470)

    def test_the_prediction_interval_is_back_on_the_ratio(self) -> None:
        o, e, n = np.array(self.COUNTS).T
        plain, found = random_effects(np.log(o / e), np.sqrt(1 / o - 1 / n)), pool_observed_expected(self.COUNTS)
        expected = np.exp([plain.prediction_low, plain.prediction_high])
        assert (found.prediction_low, found.prediction_high) == pytest.approx(expected, abs=1e-12)

    def test_a_site_without_events_takes_part_with_half_an_event(self) -> None:
        found = pool_observed_expected([(0, 2.5, 20), *self.COUNTS])
        by_hand = [(0.5, 3.0, 21), *self.COUNTS]
        o, e, n = np.array(by_hand).T
        assert found.ratio == pytest.approx(np.exp(random_effects(np.log(o / e), np.sqrt(1 / o - 1 / n)).estimate))
        assert found.patients == 490

    def test_no_site(self) -> None:
        with pytest.raises(NothingToPool, match="FL-804"):
            pool_observed_expected([])

    @pytest.mark.parametrize("bad", [(3, 0.0, 9), (10, 5.0, 9), (-1, 5.0, 9), (3, float("nan"), 9), (3, 9.5, 9)])
    def test_events_that_cannot_be_are_refused(self, bad: tuple[float, float, int]) -> None:
        with pytest.raises(CountsInvalid, match="FL-806"):
            pool_observed_expected([bad])
