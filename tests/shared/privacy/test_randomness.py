"""The noise is normal, the sample is Poisson, and only the unseeded source calls itself private."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from fedloupe.privacy import SecureNoise, SeededNoise

SOURCES = [SecureNoise(), SeededNoise(7)]


class TestNormal:
    @pytest.mark.parametrize("source", SOURCES)
    def test_moments_are_those_of_the_normal(self, source):
        x = source.normal((400_000,), std=2.0) / 2.0
        # five standard errors of each moment: a chance of about 1e-6 each
        assert abs(x.mean()) < 5 / np.sqrt(x.size)
        assert abs(x.var() - 1) < 5 * np.sqrt(2 / x.size)
        assert abs((x**3).mean()) < 5 * np.sqrt(15 / x.size)
        assert abs((x**4).mean() - 3) < 5 * np.sqrt(96 / x.size)

    def test_distribution_is_normal(self):
        assert kstest(SeededNoise(3).normal((20_000,)), "norm").pvalue > 0.01

    def test_values_are_uncorrelated(self):
        x = SeededNoise(5).normal((200_000,))
        for lag in (1, 100_000):
            assert abs(np.corrcoef(x[:-lag], x[lag:])[0, 1]) < 5 / np.sqrt(x.size - lag)

    @pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5)])
    def test_has_the_shape_asked(self, shape):
        assert SecureNoise().normal(shape).shape == shape


class TestPoisson:
    @pytest.mark.parametrize("source", SOURCES)
    @pytest.mark.parametrize("rate", [0.05, 1 / 7, 0.9])
    def test_rate_and_spread_are_binomial(self, source, rate):
        sizes = np.array([source.poisson(500, rate).size for _ in range(400)])
        assert abs(sizes.mean() - 500 * rate) < 5 * np.sqrt(500 * rate * (1 - rate) / 400)
        assert 0.6 < sizes.var() / (500 * rate * (1 - rate)) < 1.5

    def test_everyone_at_one_and_no_one_at_zero(self):
        assert SecureNoise().poisson(5, 1.0).tolist() == [0, 1, 2, 3, 4]
        assert SecureNoise().poisson(5, 0.0).size == 0

    def test_refuses_what_is_no_probability(self):
        with pytest.raises(ValueError, match="not a probability"):
            SecureNoise().poisson(5, 1.5)


class TestPrivate:
    def test_only_the_secure_source_is(self):
        assert SecureNoise.private and not SeededNoise.private

    def test_a_seed_repeats_and_the_secure_source_does_not(self):
        assert np.array_equal(SeededNoise(1).normal((9,)), SeededNoise(1).normal((9,)))
        assert not np.array_equal(SeededNoise(1).normal((9,)), SeededNoise(2).normal((9,)))
        assert not np.array_equal(SecureNoise().normal((9,)), SecureNoise().normal((9,)))
