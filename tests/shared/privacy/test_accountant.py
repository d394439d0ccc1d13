"""Epsilon against Google's PLD accountant, a closed form and published settings; noise for a budget."""

from __future__ import annotations

import math

import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.pld import PLDAccountant
from scipy.optimize import brentq
from scipy.stats import norm

from fedloupe.privacy import NoNoiseSuffices, Spend, SpendInvalid, epsilon, noise_for

DELTA = 1e-5


def pld(spends: list[Spend], delta: float) -> float:
    accountant = PLDAccountant()
    for s in spends:
        accountant.compose(PoissonSampledDpEvent(s.sampling_rate, GaussianDpEvent(s.noise_multiplier)), s.steps)
    return float(accountant.get_epsilon(delta))


def gaussian(spends: list[Spend], delta: float) -> float:
    """Balle & Wang 2018, theorem 8; Gaussian mechanisms compose to mu^2 = sum steps / sigma^2."""
    mu = math.sqrt(sum(s.steps / s.noise_multiplier**2 for s in spends))

    def excess(eps: float) -> float:
        return float(norm.cdf(mu / 2 - eps / mu) - math.exp(eps) * norm.cdf(-mu / 2 - eps / mu) - delta)

    return float(brentq(excess, 0, 100))


class TestEpsilon:
    @pytest.mark.parametrize(("noise", "expected"), [(3.486, 3.00), (1.641, 7.99)])
    def test_of_280_steps_at_a_seventh_is_the_measured_one(self, noise, expected):
        assert epsilon([Spend(noise, 1 / 7, 280)], DELTA) == pytest.approx(expected, abs=0.01)

    @pytest.mark.parametrize(
        "spends",
        [
            [Spend(3.486, 1 / 7, 280)],
            [Spend(1.641, 1 / 7, 280)],
            [Spend(1.2, 0.25, 40), Spend(2.5, 0.1, 100)],
            [Spend(0.8, 0.02, 300)],
        ],
    )
    def test_agrees_with_the_privacy_loss_distribution_of_dp_accounting(self, spends):
        assert epsilon(spends, DELTA) == pytest.approx(pld(spends, DELTA), abs=0.05)

    @pytest.mark.parametrize("spends", [[Spend(5.0, 1.0, 10)], [Spend(5.0, 1.0, 10), Spend(4.0, 1.0, 3)]])
    def test_without_sampling_composes_as_the_closed_form(self, spends):
        found = epsilon(spends, DELTA)
        assert gaussian(spends, DELTA) <= found <= gaussian(spends, DELTA) + 0.025

    def test_rounds_add_up_to_the_whole_whatever_their_order(self):
        rounds = [Spend(3.486, 1 / 7, 14)] * 20
        assert epsilon(rounds, DELTA) == epsilon([Spend(3.486, 1 / 7, 280)], DELTA)
        mixed = [Spend(2.0, 0.1, 5), Spend(3.0, 0.2, 7)]
        assert epsilon(mixed, DELTA) == epsilon(mixed[::-1], DELTA)

    def test_rdp_is_looser_and_never_below(self):
        spends = [Spend(3.486, 1 / 7, 280)]
        assert epsilon(spends, DELTA, "rdp") == pytest.approx(3.25, abs=0.01)

    def test_of_nothing_is_nothing(self):
        assert epsilon([], DELTA) == 0.0

    def test_beyond_any_budget_is_still_a_finite_bound(self):
        assert 1e4 < epsilon([Spend(0.01, 0.5, 10)], DELTA) < math.inf

    def test_gaussian_dp_is_refused(self):
        with pytest.raises(SpendInvalid, match="under-reports"):
            epsilon([Spend(1.0, 0.1, 1)], DELTA, "gdp")

    @pytest.mark.parametrize("delta", [0.0, 1.0, math.nan])
    def test_refuses_a_delta_that_is_none(self, delta):
        with pytest.raises(SpendInvalid):
            epsilon([Spend(1.0, 0.1, 1)], delta)


class TestSpend:
    @pytest.mark.parametrize(
        "values", [(0.0, 0.1, 1), (math.inf, 0.1, 1), (1.0, 0.0, 1), (1.0, 1.1, 1), (1.0, 0.1, 0), (math.nan, 0.1, 1)]
    )
    def test_refuses_what_has_no_price(self, values):
        with pytest.raises(SpendInvalid):
            Spend(*values)


class TestNoiseFor:
    @pytest.mark.parametrize(("target", "noise"), [(3.0, 3.49), (8.0, 1.64)])
    def test_is_the_measured_noise_and_meets_the_target(self, target, noise):
        found = noise_for(target, DELTA, 1 / 7, 280)
        assert found == pytest.approx(noise, rel=0.005)
        assert target - 0.03 < epsilon([Spend(found, 1 / 7, 280)], DELTA) <= target

    def test_counts_what_was_spent_before(self):
        already = [Spend(4.0, 0.1, 20)]
        found = noise_for(2.0, DELTA, 0.1, 20, already)
        assert epsilon([Spend(found, 0.1, 20)], DELTA) < 1.97  # alone it would leave budget over
        assert 1.97 < epsilon([*already, Spend(found, 0.1, 20)], DELTA) <= 2.0

    def test_serves_targets_that_rdp_cannot_reach(self):
        found = noise_for(0.1, DELTA, 0.1, 10)
        assert 0.05 < epsilon([Spend(found, 0.1, 10)], DELTA) <= 0.1

    def test_refuses_when_nothing_is_left(self):
        with pytest.raises(NoNoiseSuffices, match="already spent"):
            noise_for(2.0, DELTA, 0.25, 40, [Spend(1.0, 0.25, 40)])
