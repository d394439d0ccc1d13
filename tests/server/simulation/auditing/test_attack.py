"""The ranking of members, against scikit-learn and statsmodels; what epsilon allows, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from fedloupe_server.simulation.auditing import Attack, Caught, Promise


class TestRanking:
    def test_the_area_is_scikit_learns_ties_and_all(self):
        rng = np.random.default_rng(2)
        members, others = np.round(rng.normal(0.3, 1, 80), 1), np.round(rng.normal(0, 1, 50), 1)
        found = Attack.of(members, others)
        truth = np.repeat([1, 0], [80, 50])
        assert found.auc == pytest.approx(roc_auc_score(truth, np.concatenate([members, others])), abs=1e-12)
        assert (found.members, found.others) == (80, 50) and found.low < found.auc < found.high

    def test_members_are_caught_below_the_limits_of_false_alarms(self):
        others = np.linspace(0, 1, 99)  # the largest and the fifth largest of 99: 1 and 5 of 100
        found = Attack.of(np.array([1.01, 0.99, 0.97, 0.9599, 0.9582, 0.1]), others)
        assert {share: one.share for share, one in found.caught.items()} == pytest.approx({0.01: 1 / 6, 0.05: 4 / 6})

    @pytest.mark.parametrize(("found", "members"), [(0, 30), (3, 40), (40, 40)])
    def test_the_interval_is_statsmodels(self, found, members):
        one = Caught.of(found, members)
        low, high = proportion_confint(found, members, 0.05, method="beta")
        assert (one.share, one.low, one.high) == pytest.approx((found / members, max(0, low), min(1, high)))

    @pytest.mark.parametrize("size", [19, 25, 39, 60, 99])
    def test_guessing_catches_no_more_than_the_false_alarms(self, size):
        """Members and others from one distribution, 2,000 times; four standard errors of the mean are 0.01 at most."""
        rng = np.random.default_rng(size)
        caught = [Attack.of(rng.random(40), rng.random(size)).caught for _ in range(2000)]
        for share in caught[0]:
            assert np.mean([one[share].share for one in caught]) <= share + 0.01

    def test_too_few_others_show_nothing(self):
        assert Attack.of(np.array([0.1, 0.2, 0.3]), np.array([0.2, 0.4, 0.5])).caught == {}
        assert set(Attack.of(np.arange(9.0), np.arange(98.0)).caught) == {0.05}


class TestPromise:
    def test_randomised_response_reaches_it_and_nothing_passes(self):
        """Warner 1965: the truth with probability e^eps / (1 + e^eps)."""
        truth = np.exp(2.0) / (1 + np.exp(2.0))
        assert Promise(2.0, 0.0).caught(1 - truth) == pytest.approx(truth)
        assert Promise(2.0, 0.0).auc == pytest.approx(truth)

    @pytest.mark.parametrize("mu", [0.5, 1.5, 3.0])
    def test_the_gaussian_mechanism_stays_below_and_touches(self, mu):
        """Its ROC is Phi(Phi^-1(a) + mu); its delta at epsilon is known (Balle & Wang 2018, theorem 8)."""
        eps = 1.0
        delta = norm.cdf(mu / 2 - eps / mu) - np.exp(eps) * norm.cdf(-mu / 2 - eps / mu)
        promise = Promise(eps, float(delta))
        alarms = np.linspace(1e-6, 1, 20_001)
        room = np.array([promise.caught(a) for a in alarms]) - norm.cdf(norm.ppf(alarms) + mu)
        assert room.min() > -1e-9 and room.min() < 1e-4
        area = np.trapezoid([promise.caught(a) for a in np.linspace(0, 1, 20_001)], dx=1 / 20_000)
        assert promise.auc == pytest.approx(area, abs=1e-4)

    def test_a_large_epsilon_promises_nothing_and_zero_promises_guessing(self):
        assert Promise(1000.0, 1e-5).auc == pytest.approx(1.0) and Promise(1000.0, 1e-5).caught(0.01) == 1.0
        assert Promise(0.0, 0.0).auc == 0.5 and Promise(0.0, 0.0).caught(0.05) == pytest.approx(0.05)

    def test_an_attack_that_certainly_finds_more_breaks_it(self):
        rng = np.random.default_rng(1)
        clear, weak = (Attack.of(rng.normal(shift, 1, 200), rng.normal(0, 1, 200)) for shift in (3.0, 0.2))
        promise = Promise(1.0, 1e-5)  # an area of 0.73
        assert promise.broken_by(clear) and not promise.broken_by(weak)
        assert not Promise(8.0, 1e-5).broken_by(clear)

    def test_the_area_breaks_it_where_so_few_others_show_no_share(self):
        found = Attack.of(np.arange(20.0, 50.0), np.arange(15.0))
        assert found.caught == {} and Promise(0.5, 1e-5).broken_by(found)

    def test_few_found_far_out_break_it_where_the_area_does_not(self):
        rng = np.random.default_rng(1)
        members, others = rng.normal(0, 1, 400), rng.normal(0, 1, 400)
        members[:40] += 100
        found = Attack.of(members, others)
        assert found.low < Promise(1.0, 1e-5).auc and Promise(1.0, 1e-5).broken_by(found)
