"""Shamir's secret sharing, byte by byte over GF(2^8) (Shamir 1979): any `threshold` shares give the secret, fewer give
nothing at all.

    shares = split(secret, holders=5, threshold=3, chance=random_bytes)     # (5, ...) uint8
    join({0: shares[0], 2: shares[2], 4: shares[4]})                        # the secret

The field is that of AES (polynomial x^8 + x^4 + x^3 + x + 1); holder i, from 0, has the value at the point i + 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
MOST = 255


def _tables() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Powers of the generator 3, twice over, and their logarithms."""
    powers, logarithms, value = np.zeros(510, dtype=np.uint8), np.zeros(256, dtype=np.int64), 1
    for exponent in range(255):
        powers[exponent] = powers[exponent + 255] = value
        logarithms[value] = exponent
        double = (value << 1) ^ (0x11B if value & 0x80 else 0)
        value ^= double
    return powers, logarithms


_POWERS, _LOGARITHMS = _tables()


def times(a: Bytes, b: Bytes) -> Bytes:
    """Products in the field, element by element."""
    found: Bytes = np.where((a == 0) | (b == 0), np.uint8(0), _POWERS[_LOGARITHMS[a] + _LOGARITHMS[b]])
    return found


def split(secret: Bytes, holders: int, threshold: int, chance: Bytes) -> Bytes:
    """A share for each holder.

    Args:
        secret: any shape.
        holders: 1 to 255.
        threshold: shares that are needed, 1 to `holders`.
        chance: (threshold - 1, *secret.shape) random bytes: the polynomials' other coefficients.

    Returns:
        (holders, *secret.shape).

    Raises:
        ValueError: numbers or shapes outside these.
    """
    if not 1 <= threshold <= holders <= MOST or chance.shape != (threshold - 1, *secret.shape):
        raise ValueError(f"{threshold} of {holders} shares with coefficients {chance.shape} for {secret.shape}")
    shares = np.zeros((holders, *secret.shape), dtype=np.uint8)
    for holder in range(holders):
        point = np.full_like(secret, holder + 1)
        value = np.zeros_like(secret)
        for coefficient in chance[::-1]:  # Horner, from the highest power down
            value = times(value ^ coefficient, point)
        shares[holder] = value ^ secret
    return shares


def join(shares: Mapping[int, Bytes]) -> Bytes:
    """The secret from shares by holder, from 0; all that are given are used.

    Raises:
        ValueError: no share, or shares of different shapes.
    """
    if not shares or len({share.shape for share in shares.values()}) != 1:
        raise ValueError("shares of one shape are needed")
    secret = np.zeros_like(next(iter(shares.values())))
    for holder, share in shares.items():
        weight = 0  # Lagrange's basis at 0: the product of p / (p - own) over the other points, in logarithms
        for other in shares:
            if other != holder:
                weight += int(_LOGARITHMS[other + 1]) - int(_LOGARITHMS[(other + 1) ^ (holder + 1)])
        secret ^= times(share, np.asarray(_POWERS[weight % 255]))
    return secret
