"""At sampling rate 1 the account is that of the Gaussian mechanism, whose epsilon has a closed form."""

from __future__ import annotations

import math

import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from fedloupe.privacy import Spend, epsilon, noise_for


def analytic(noise: float, rounds: int, delta: float) -> float:
    """Balle & Wang 2018, theorem 8: T Gaussian mechanisms are one with mu = sqrt(T) / noise."""
    mu = math.sqrt(rounds) / noise

    def excess(eps: float) -> float:
        return float(norm.cdf(mu / 2 - eps / mu) - math.exp(eps + norm.logcdf(-mu / 2 - eps / mu))) - delta

    return float(brentq(excess, 0.0, 500.0, xtol=1e-12))


def test_the_reference_is_the_papers():
    """At epsilon 1 and delta 1e-5 one release needs a standard deviation of 3.730632 (its algorithm 1)."""
    assert analytic(3.730632, 1, 1e-5) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("rounds", [1, 7, 50, 300])
@pytest.mark.parametrize("target", [0.5, 3.0, 8.0, 20.0])
def test_composed_rounds_cost_what_the_closed_form_says(target, rounds):
    noise = noise_for(target, 1e-5, sampling_rate=1.0, steps=rounds)
    spent, exact = epsilon([Spend(noise, 1.0, rounds)], 1e-5), analytic(noise, rounds, 1e-5)
    assert exact <= spent <= target
    assert spent - exact < 0.0125  # 0.01 is the accountant's own bound of its numerical error, always added


def test_the_noise_is_the_least_that_does():
    noise = noise_for(8.0, 1e-5, sampling_rate=1.0, steps=50)
    assert analytic(0.99 * noise, 50, 1e-5) > 8.0
