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

    def test_the_secure_sources_distribution_is_normal_too(self):
        assert kstest(SecureNoise().normal((20_000,)), "norm").pvalue > 1e-6

    def test_values_are_uncorrelated(self):
        x = SeededNoise(5).normal((200_000,))
        for lag in (1, 100_000):
            assert abs(np.corrcoef(x[:-lag], x[lag:])[0, 1]) < 5 / np.sqrt(x.size - lag)

    @pytest.mark.parametrize("size", [1, 8, 9])
    def test_it_is_box_and_muller_on_the_words_in_turn(self, size):
        """In NumPy alone, from the same words: first the radii's, then the angles'; cosines, then sines."""
        bits, half, total = np.random.PCG64(7), (size + 1) // 2, 0
        for _ in range(4):
            u = (bits.random_raw(2 * half) >> np.uint64(11)) * 2.0**-53
            radius, angle = np.sqrt(-2 * np.log(u[:half] + 2.0**-53)), 2 * np.pi * u[half:]
            total = total + np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:size]
        np.testing.assert_allclose(SeededNoise(7).normal((size,), std=3.0), 1.5 * total, atol=1e-12)

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


class TestKey:
    """Each draw of the secure source has a key of its own; `_words` is where the keys are."""

    def test_no_word_comes_twice_whatever_the_draw(self):
        """Under a constant key, or one a source, every draw would repeat the first; by chance: 4e-12."""
        source = SecureNoise()
        words = np.concatenate([maker._words(4000) for maker in (source, source, SecureNoise())])
        assert len(np.unique(words)) == len(words)

    def test_the_four_summands_of_a_value_are_not_one(self):
        """The same words in each summand would double the spread."""
        assert SecureNoise().normal((100_000,)).std() == pytest.approx(1, abs=5 / np.sqrt(200_000))

    def test_a_draw_takes_its_whole_key_from_the_operating_system(self, monkeypatch):
        asked = []
        monkeypatch.setattr("os.urandom", lambda size: asked.append(size) or bytes(range(size)))
        first, again = SecureNoise()._words(5), SecureNoise()._words(5)
        assert asked == [32, 32]
        assert np.array_equal(first, again)  # nothing else goes into it

    def test_it_is_aes_256_in_counter_mode(self, monkeypatch):
        """The block of zeros under the key of FIPS 197, appendix C.3, by `openssl enc -aes-256-ecb`."""
        monkeypatch.setattr("os.urandom", lambda size: bytes(range(size)))
        assert SecureNoise()._words(2).tobytes().hex() == "f29000b62a499fd0a9f39a6add2e7780"
