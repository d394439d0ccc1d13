"""The second accountant against Opacus's, the closed form without sampling, and a numerical integral."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from fedloupe.privacy import Spend, SpendInvalid, epsilon, renyi_epsilon
from fedloupe.privacy.renyi import ORDERS, divergences

DELTA = 1e-5


class TestDivergences:
    @pytest.mark.parametrize(("noise", "rate"), [(1.5, 0.2), (4.0, 0.25), (0.8, 0.05)])
    @pytest.mark.parametrize("order", [2, 5, 16])
    def test_are_the_integral_over_the_mechanisms_densities(self, noise, rate, order):
        """E over N(0, s^2) of (mixture / N(0, s^2))^order; the mixture is N(0, s^2) with 1 - q and N(1, s^2) with q."""

        def integrand(x: float) -> float:
            ratio = 1 - rate + rate * math.exp((2 * x - 1) / (2 * noise**2))
            return float(norm.pdf(x, scale=noise)) * ratio**order

        top = order + 12 * noise  # the integrand's weight moves to `order`, where the ratio is largest
        moment = quad(integrand, -12 * noise, top, points=[0.0, float(order)], limit=500)[0]
        found = divergences(noise, rate)[order == ORDERS][0]
        assert found == pytest.approx(math.log(moment) / (order - 1), rel=1e-6)

    def test_without_sampling_are_the_gaussians(self):
        np.testing.assert_allclose(divergences(3.0, 1.0), ORDERS / 18)
        np.testing.assert_allclose(divergences(3.0, 1 - 1e-12), ORDERS / 18, rtol=1e-6)


class TestEpsilon:
    @pytest.mark.parametrize(
        "spends",
        [
            [Spend(3.486, 1 / 7, 280)],
            [Spend(9.14, 1 / 7, 280)],
            [Spend(8.83, 1.0, 40)],
            [Spend(3.5, 0.25, 8), Spend(2.0, 0.1, 30), Spend(6.0, 0.5, 12)],
        ],
    )
    def test_is_opacus_within_its_grid_of_orders_and_bounds_the_tight_one(self, spends):
        found = renyi_epsilon(spends, DELTA)
        assert found == pytest.approx(epsilon(spends, DELTA, "rdp"), rel=2e-3)
        assert epsilon(spends, DELTA) < found < 1.2 * epsilon(spends, DELTA)

    def test_of_nothing_is_nothing(self):
        assert renyi_epsilon([], DELTA) == 0.0

    def test_refuses_a_delta_that_is_no_probability(self):
        with pytest.raises(SpendInvalid):
            renyi_epsilon([Spend(3.0, 0.1, 5)], 1.0)
