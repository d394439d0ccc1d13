"""Random effects against statsmodels, closed forms and a Monte-Carlo version; published trials: test_published.py."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import chi2, norm, t
from statsmodels.stats.meta_analysis import combine_effects

from fedloupe.metrics import EstimateInvalid, NothingToPool, random_effects


def sites(seed: int, k: int, tau: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    ses = rng.uniform(0.15, 0.45, k)
    return rng.normal(0.8, np.hypot(tau, ses)), ses


class TestAgainstStatsmodels:
    @pytest.mark.parametrize(("seed", "k", "tau"), [(1, 3, 0.5), (4, 8, 0.4), (0, 20, 0.8)])
    def test_mean_heterogeneity_and_hartung_knapp_interval(self, seed: int, k: int, tau: float) -> None:
        effects, ses = sites(seed, k, tau)
        reference = combine_effects(effects, ses**2, method_re="dl", use_t=True)
        assert reference.scale_hksj_re > 1
        found = random_effects(effects, ses)
        assert found.sites == k
        assert found.estimate == pytest.approx(reference.mean_effect_re, abs=1e-12)
        assert found.se == pytest.approx(reference.sd_eff_w_re_hksj, abs=1e-12)
        assert (found.tau2, found.i2, found.q) == pytest.approx((reference.tau2, reference.i2, reference.q), abs=1e-12)
        assert (found.low, found.high) == pytest.approx(reference.conf_int(use_t=True)[-1], abs=1e-12)

    def test_sites_that_agree_by_luck_are_not_believed(self) -> None:
        reference = combine_effects(np.array([1.0, 1.01, 0.99]), np.full(3, 0.04), method_re="dl")
        found = random_effects([1.0, 1.01, 0.99], [0.2, 0.2, 0.2])
        assert found.se == pytest.approx(reference.sd_eff_w_fe, abs=1e-12)
        assert found.high - found.estimate == pytest.approx(t.ppf(0.975, 2) * 0.2 / sqrt(3), abs=1e-12)
        assert found.tau2 == found.i2 == 0


class TestNewSite:
    @pytest.mark.parametrize("k", [3, 4, 7, 15])
    def test_without_sampling_error_it_is_the_interval_of_one_more_observation(self, k: int) -> None:
        effects = np.random.default_rng(k).normal(size=k)
        found = random_effects(effects, np.full(k, 1e-7))
        half = t.ppf(0.975, k - 1) * effects.std(ddof=1) * sqrt(1 + 1 / k)
        assert found.prediction_low == pytest.approx(effects.mean() - half, abs=1e-9)
        assert found.prediction_high == pytest.approx(effects.mean() + half, abs=1e-9)

    @pytest.mark.parametrize(("seed", "k", "tau"), [(1, 5, 0.4), (2, 8, 0.2), (3, 12, 0.6)])
    def test_it_is_what_drawing_from_the_confidence_distribution_gives(self, seed: int, k: int, tau: float) -> None:
        effects, ses = sites(seed, k, tau)
        rng, drawn = np.random.default_rng(0), []

        def centre_and_q(tau2: float) -> tuple[float, float, float]:
            weight = 1 / (ses**2 + tau2)
            centre = np.average(effects, weights=weight)
            return centre, (weight * (effects - centre) ** 2).sum(), weight.sum()

        for q in chi2.ppf((np.arange(4000) + 0.5) / 4000, k - 1):
            high = 1e4
            tau2 = 0.0 if centre_and_q(0.0)[1] < q else brentq(lambda x, q=q: centre_and_q(x)[1] - q, 0.0, high)
            centre, _, weight = centre_and_q(tau2)
            drawn.append(rng.normal(centre, sqrt(tau2 + 1 / weight), 100))
        found = random_effects(effects, ses)
        expected = np.quantile(np.concatenate(drawn), [0.025, 0.975])
        width = expected[1] - expected[0]  # Monte-Carlo error of a limit: about 0.005 of the width
        assert (found.prediction_low, found.prediction_high) == pytest.approx(expected, abs=0.015 * width)

    @pytest.mark.parametrize("seed", range(20))
    def test_a_new_site_is_never_surer_than_the_mean(self, seed: int) -> None:
        found = random_effects(*sites(seed, 3 + seed % 4, 0.1 * (seed % 3)))
        assert found.prediction_low <= found.low < found.estimate < found.high <= found.prediction_high

    def test_sites_that_agree_exactly(self) -> None:
        found = random_effects([0.7] * 4, [0.1, 0.2, 0.1, 0.3])
        assert found.estimate == pytest.approx(0.7)
        assert (found.prediction_low, found.prediction_high) == (found.low, found.high)

    def test_scale_and_place_do_not_matter(self) -> None:
        effects, ses = sites(5, 6, 0.5)
        plain, moved = random_effects(effects, ses), random_effects(1000 * effects - 300, 1000 * ses)
        assert moved.prediction_low == pytest.approx(1000 * plain.prediction_low - 300, abs=1e-6)
        assert moved.prediction_high == pytest.approx(1000 * plain.prediction_high - 300, abs=1e-6)

    def test_two_sites_predict_nothing_for_a_third(self) -> None:
        found = random_effects([0.2, 0.9], [0.1, 0.1])
        assert found.prediction_low is found.prediction_high is None


class TestEdges:
    def test_one_site_keeps_its_own_normal_interval(self) -> None:
        found = random_effects([0.4], [0.3])
        half = norm.ppf(0.975) * 0.3
        assert (found.estimate, found.se, found.low, found.high) == pytest.approx((0.4, 0.3, 0.4 - half, 0.4 + half))
        assert found.tau2 == found.i2 == found.q == 0
        assert found.prediction_low is None

    def test_no_site(self) -> None:
        with pytest.raises(NothingToPool, match="FL-804"):
            random_effects([], [])

    @pytest.mark.parametrize(
        ("effects", "ses"),
        [([1.0], [0.1, 0.2]), ([1.0, np.nan], [0.1, 0.1]), ([1.0, 2.0], [0.1, 0.0]), ([1.0, 2.0], [0.1, np.inf])],
    )
    def test_what_is_no_estimate_is_refused(self, effects: list[float], ses: list[float]) -> None:
        with pytest.raises(EstimateInvalid, match="FL-805"):
            random_effects(effects, ses)
