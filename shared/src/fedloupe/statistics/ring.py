"""Sums that do not depend on the order of their terms: fixed-point numbers in the ring of integers modulo 2^384.

    north, south = encode(values_of_north), encode(values_of_south)      # (..., 6) int64 words
    decode(add(north, south))                                            # as float64, rounded once

A value x stands as the integer nearest to x 2^64, ties to even. A float64 of size 2^-12 (2.4e-4) or more is held
exactly; a smaller one to within 2^-65 (2.7e-20). Products of two such integers have 128 fraction bits and are exact.
Addition wraps round modulo 2^384, so a site's term can be masked by uniform ring elements that cancel over the sites
(Bonawitz 2017); masks themselves are not made here.

On the wire an element is six 64-bit words, least significant first, in two's complement.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloupe.errors import FedLoupeError

WORDS = 6
BITS = 64 * WORDS
FRACTION = 64
"""Fraction bits of a value; a product of two has twice as many."""
LARGEST = 2.0**112
"""Size below which a value must stay: 2^30 patients' squares then fit the ring."""

Words = NDArray[np.int64]
Integers = NDArray[np.object_]


class OutOfRange(FedLoupeError):
    """A value is too large for exact sums, which mostly means that it is no measurement."""

    code = "FL-611"
    title = "a feature has values beyond the range of exact sums"


def integers(values: NDArray[np.floating[Any]]) -> Integers:
    """Values as Python integers with 64 fraction bits, same shape.

    Raises:
        ValueError: a value is not finite, or 2^112 or more in size.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not (np.abs(numbers) < LARGEST).all():
        raise ValueError("values must be finite and below 2^112")
    mantissa, exponent = np.frexp(numbers)
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    shift = exponent.astype(np.int64) - 53 + FRACTION
    small = shift < 0
    rounded = np.rint(np.ldexp(numbers, FRACTION), where=small, out=np.zeros(numbers.shape)).astype(np.int64)
    left = np.where(small, 0, shift)
    found: Integers = np.where(small, rounded, whole).astype(object) << left.astype(object)
    return found


def number(value: int, fraction: int = FRACTION) -> float:
    """One integer as a float64, rounded once.

    Args:
        value: with `fraction` fraction bits.
        fraction: FRACTION, or twice that for a product.
    """
    return value / (1 << fraction)


def numbers(values: Integers, fraction: int = FRACTION) -> NDArray[np.float64]:
    """Integers as float64, each rounded once, same shape."""
    flat = [number(int(v), fraction) for v in values.ravel()]
    return np.array(flat, dtype=np.float64).reshape(values.shape)


def pack(values: Integers) -> Words:
    """Integers as ring elements on the wire, (..., 6) int64."""
    mask = (1 << BITS) - 1
    blob = b"".join((int(v) & mask).to_bytes(BITS // 8, "little") for v in values.ravel())
    return np.frombuffer(blob, dtype="<i8").astype(np.int64).reshape(*values.shape, WORDS)


def unpack(words: Words) -> Integers:
    """Ring elements (..., 6) as integers between -2^383 and 2^383.

    Raises:
        ValueError: not six words of int64 an element.
    """
    if words.ndim == 0 or words.shape[-1] != WORDS or words.dtype != np.int64:
        raise ValueError(f"{words.dtype} {words.shape} are no ring elements: int64 (..., {WORDS})")
    blob = np.ascontiguousarray(words, dtype="<i8").tobytes()
    step = BITS // 8
    flat = [int.from_bytes(blob[i : i + step], "little", signed=True) for i in range(0, len(blob), step)]
    found = np.empty(len(flat), dtype=object)
    found[:] = flat
    return found.reshape(words.shape[:-1])


def encode(values: NDArray[np.floating[Any]]) -> Words:
    """Values as ring elements with 64 fraction bits, (..., 6)."""
    return pack(integers(values))


def decode(words: Words, fraction: int = FRACTION) -> NDArray[np.float64]:
    """Ring elements (..., 6) as float64."""
    return numbers(unpack(words), fraction)


def add(*terms: Words) -> Words:
    """The sum in the ring: the same words whatever the order or grouping of the terms.

    Args:
        terms: one or more arrays (..., 6) of one shape.
    """
    total = np.zeros(terms[0].shape, dtype=np.uint64)
    for term in terms:
        carry = np.zeros(total.shape[:-1], dtype=np.uint64)
        for place in range(WORDS):
            word = term[..., place].astype(np.uint64)
            once = total[..., place] + word
            twice = once + carry
            carry = ((once < word) | (twice < once)).astype(np.uint64)
            total[..., place] = twice
    return total.astype(np.int64)


def summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Column sums (p) of (n, p) values, each correctly rounded, so blind to the order of patients (Shewchuk 1997)."""
    return np.array([math.fsum(column) for column in np.ascontiguousarray(values.T)], dtype=np.float64)
