"""The canary audit stays below the accountant for the mechanism as it is, and above it where the build is broken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binom

from fedloupe.privacy import SecureNoise, Spend
from fedloupe.study import DpSgd
from fedloupe_client.training import private
from fedloupe_server.simulation.auditing import audit_canaries, epsilon_bound
from fedloupe_server.simulation.auditing.canaries import chance

THREE = Spend(3.49, 1 / 7, 280)  # epsilon 3.00 at delta 1e-5
EIGHT = Spend(1.641, 1 / 7, 280)
ONE = Spend(9.14, 1 / 7, 280)
PRIVACY = DpSgd(mode="dp-sgd", epsilon=3)


class Silent(SecureNoise):
    """No noise."""

    def normal(self, shape, std=1.0):
        return np.zeros(shape)


class Everyone(SecureNoise):
    """Every patient in every step, whatever the ledger was told."""

    def poisson(self, patients, rate):
        return np.arange(patients)


class TestBound:
    def test_right_guesses_of_all_refute_what_a_coin_of_that_bias_would_not_reach(self):
        """Without delta: the bias p / r-th root; e^eps / (1 + e^eps) = 0.05^(1/100)."""
        bias = 0.05 ** (1 / 100)
        assert epsilon_bound(1000, 100, 100, 0.0, 0.05) == pytest.approx(np.log(bias / (1 - bias)), abs=1e-5)

    def test_half_of_them_refute_nothing(self):
        assert epsilon_bound(1000, 100, 50, 1e-5, 0.05) == 0.0

    def test_delta_is_paid_for(self):
        assert epsilon_bound(1000, 100, 100, 1e-5, 0.05) < epsilon_bound(1000, 100, 100, 0.0, 0.05)
        assert chance(1000, 40, 30, 0.5, 0.0) == pytest.approx(binom.sf(29, 40, 1 / (1 + np.exp(-0.5))))

    @pytest.mark.parametrize("eps", [0.5, 1.0, 3.0])
    def test_whoever_guesses_as_well_as_epsilon_allows_refutes_it_no_more_often_than_is_said(self, eps):
        """Randomised response lets each guess be right with e^eps / (1 + e^eps), and no mechanism more."""
        rng, guesses = np.random.default_rng(7), 100
        right = rng.binomial(guesses, 1 / (1 + np.exp(-eps)), 4000)
        bound = {int(hits): epsilon_bound(1000, guesses, int(hits), 0.0, 0.05) for hits in np.unique(right)}
        refuted = np.mean([bound[int(hits)] > eps for hits in right])
        assert 0.005 < refuted < 0.05 + 4 * (0.05 * 0.95 / 4000) ** 0.5


class TestHonest:
    @pytest.mark.parametrize("spend", [ONE, THREE, EIGHT], ids=["epsilon 1", "epsilon 3", "epsilon 8"])
    @pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
    def test_the_mechanism_as_it_is_stays_below_its_epsilon(self, spend, seed):
        found = audit_canaries(spend, PRIVACY, seed=seed)
        assert not found.broken and found.empirical < found.formal
        assert found.empirical > 0 or spend == ONE  # it does find something: the audit is not blind
        assert found.empirical < found.ceiling and found.tells == (spend != EIGHT)


class TestBroken:
    def test_at_a_large_epsilon_no_fault_could_show_and_it_says_so(self):
        """Every guess right proves 4.7 with a thousand canaries: less than the 8 that is promised."""
        found = audit_canaries(EIGHT, PRIVACY, source=Silent())
        assert found.right == found.guesses and found.empirical == found.ceiling
        assert not found.broken and not found.tells

    def test_no_noise(self):
        assert audit_canaries(THREE, PRIVACY, source=Silent()).broken

    def test_no_clipping(self, monkeypatch):
        class Unclipped(private.NoisySgd):
            @torch.no_grad()
            def step(self):
                (parameter,) = self._parameters
                noise = self._source.normal(tuple(parameter.shape), self._noise * self._clip).astype(np.float32)
                update = parameter.grad_sample.sum(0) + torch.from_numpy(noise)
                parameter.sub_(update * self._rate / self._expected)

        monkeypatch.setattr(private, "NoisySgd", Unclipped)
        assert audit_canaries(THREE, PRIVACY).broken

    def test_no_sampling_where_it_was_priced(self):
        assert audit_canaries(THREE, PRIVACY, source=Everyone()).broken

    def test_an_accountant_begun_anew_each_round(self):
        """The price of one round of twenty for all of them."""
        found = audit_canaries(Spend(2.0, 0.25, 160), PRIVACY)
        one = audit_canaries(Spend(2.0, 0.25, 8), PRIVACY, canaries=10).formal
        assert found.empirical > one
