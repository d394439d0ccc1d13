"""Shamir's sharing over GF(2^8), against the field's definition and by what too few shares leave open."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from fedloupe.masking.shamir import join, split, times


def slow_times(a: int, b: int) -> int:
    """Product of polynomials over GF(2), modulo x^8 + x^4 + x^3 + x + 1 (FIPS 197, section 4.2)."""
    found = 0
    while b:
        if b & 1:
            found ^= a
        a = (a << 1) ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return found


def chance(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)


def test_the_field_is_that_of_aes():
    a, b = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    expected = [[slow_times(int(x), int(y)) for x in range(256)] for y in range(256)]
    assert times(a, b).tolist() == expected
    assert slow_times(0x57, 0x83) == 0xC1  # FIPS 197's own example


@pytest.mark.parametrize(("holders", "threshold"), [(3, 2), (5, 3), (6, 4), (10, 6)])
def test_every_set_of_a_threshold_finds_the_secret(holders, threshold):
    secret = chance(64)
    shares = split(secret, holders, threshold, chance(threshold - 1, 64)[::-1])
    for some in itertools.combinations(range(holders), threshold):
        assert np.array_equal(join({i: shares[i] for i in some}), secret)
    assert np.array_equal(join(dict(enumerate(shares))), secret)


def test_the_largest_number_of_holders_works():
    secret = chance(4)
    shares = split(secret, 255, 128, chance(127, 4))
    assert np.array_equal(join({i: shares[i] for i in range(100, 228)}), secret)


def test_one_share_short_every_secret_is_as_likely():
    """A share of a secret byte, over all coefficients: each value once, whatever the secret."""
    for secret in (0, 7, 255):
        seen = Counter(
            int(split(np.array([secret], np.uint8), 3, 2, np.array([[c]], np.uint8))[1, 0]) for c in range(256)
        )
        assert seen == Counter(range(256))


def test_too_few_shares_give_something_else():
    secret = chance(64)
    shares = split(secret, 5, 3, chance(2, 64)[::-1])
    assert (join({0: shares[0], 1: shares[1]}) == secret).mean() < 0.2


@pytest.mark.parametrize(("holders", "threshold", "rows"), [(3, 4, 3), (3, 0, 0), (256, 2, 1), (3, 2, 2)])
def test_numbers_out_of_range_are_refused(holders, threshold, rows):
    with pytest.raises(ValueError, match="shares"):
        split(chance(4), holders, threshold, chance(rows, 4))


def test_no_share_is_no_secret():
    with pytest.raises(ValueError, match="shares"):
        join({})
