"""Counts, sums, sums of squares and products over patients as ring elements, and what follows from them.

site = Moments.of(features)                    # (n, p), NaN where missing
pooled = Moments.sum([north, south])           # the same words as those of the stacked patients
pooled.mean, pooled.sd                         # each rounded once, without cancellation
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedloupe.statistics import ring
from fedloupe.statistics.ring import FRACTION, Words

Floats = NDArray[np.float64]
BLOCK = 256
"""Columns worked on at a time: exact integers take some 60 bytes each."""


@dataclass(frozen=True)
class Moments:
    """Sums over patients in whom a feature is present; p features.

    Attributes:
        count: (p) int64.
        total: (p, 6) sum of values, 64 fraction bits.
        square: (p, 6) sum of squares, 128 fraction bits.
    """

    count: NDArray[np.int64]
    total: Words
    square: Words

    @classmethod
    def of(cls, features: Floats) -> Moments:
        """The sums of (n, p) features, NaN where missing.

        Raises:
            ValueError: an infinite value, or one of 2^112 or more.
        """
        there = ~np.isnan(features)
        totals, squares = [], []
        for start in range(0, features.shape[1], BLOCK):
            block = ring.integers(np.where(there, features, 0.0)[:, start : start + BLOCK])
            totals.append(_columns(block))
            squares.append(_columns(block * block))
        total, square = (np.concatenate([np.empty(0, object), *parts]) for parts in (totals, squares))
        return cls(there.sum(axis=0).astype(np.int64), ring.pack(total), ring.pack(square))

    @classmethod
    def sum(cls, parts: Sequence[Moments]) -> Moments:
        """The sums over all sites."""
        return cls(
            np.sum([p.count for p in parts], axis=0),
            ring.add(*(p.total for p in parts)),
            ring.add(*(p.square for p in parts)),
        )

    @property
    def mean(self) -> Floats:
        """(p) means; 0 where nobody has the feature."""
        return np.array(
            [t / (int(n) << FRACTION) if n else 0.0 for n, t in zip(self.count, ring.unpack(self.total), strict=True)]
        )

    @property
    def variance(self) -> Floats:
        """(p) variances with n - 1; 0 below two patients. n Q - T^2 is exact, so nothing cancels."""
        rows = zip(self.count, ring.unpack(self.total), ring.unpack(self.square), strict=True)
        return np.array([_variance(int(n), int(t), int(q)) for n, t, q in rows])

    @property
    def sd(self) -> Floats:
        """(p) standard deviations."""
        return np.sqrt(self.variance)


@dataclass(frozen=True)
class Products:
    """Sums for the covariance of m columns, over patients in whom both of a pair are present.

    Attributes:
        count: (m, m) int64.
        total: (m, m, 6): element (i, j) sums column i where j is present too.
        square: (m, m, 6): likewise the squares of column i.
        product: (m, m, 6), 128 fraction bits.
    """

    count: NDArray[np.int64]
    total: Words
    square: Words
    product: Words

    @classmethod
    def of(cls, columns: Floats) -> Products:
        """The sums of (n, m) columns, NaN where missing."""
        there = ~np.isnan(columns)
        values, known = ring.integers(np.where(there, columns, 0.0)), there.astype(np.int64).astype(object)
        m = columns.shape[1]
        total, square, product = (np.empty((m, m), object) for _ in range(3))
        for i in range(m):
            one = values[:, i, None]
            total[i], square[i], product[i] = _columns(one * known), _columns(one * one * known), _columns(one * values)
        both = there.astype(np.int64)
        return cls(both.T @ both, ring.pack(total), ring.pack(square), ring.pack(product))

    @classmethod
    def sum(cls, parts: Sequence[Products]) -> Products:
        """The sums over all sites."""
        return cls(
            np.sum([p.count for p in parts], axis=0),
            ring.add(*(p.total for p in parts)),
            ring.add(*(p.square for p in parts)),
            ring.add(*(p.product for p in parts)),
        )

    @property
    def covariance(self) -> Floats:
        """(m, m) with n - 1, over complete pairs; NaN below two of them."""
        total, product = ring.unpack(self.total), ring.unpack(self.product)
        found = np.full(self.count.shape, np.nan)
        for i, j in np.argwhere(self.count > 1):
            n = int(self.count[i, j])
            above = n * int(product[i, j]) - int(total[i, j]) * int(total[j, i])
            found[i, j] = above / (n * (n - 1) << 2 * FRACTION)
        return found

    @property
    def correlation(self) -> Floats:
        """(m, m) Pearson correlations over complete pairs; NaN below two of them or without spread."""
        total, square, product = (ring.unpack(w) for w in (self.total, self.square, self.product))
        found = np.full(self.count.shape, np.nan)
        for i, j in np.argwhere(self.count > 1):
            found[i, j] = correlation(
                int(self.count[i, j]),
                (int(total[i, j]), int(total[j, i])),
                (int(square[i, j]), int(square[j, i])),
                int(product[i, j]),
            )
        return found


def correlation(n: int, total: tuple[int, int], square: tuple[int, int], product: int) -> float:
    """Pearson's correlation from exact sums; NaN without spread.

    Args:
        n: patients.
        total: sums of the two columns, 64 fraction bits.
        square: sums of their squares, 128 fraction bits.
        product: sum of their products, 128 fraction bits.
    """
    spreads = [n * q - t * t for t, q in zip(total, square, strict=True)]
    if n < 2 or not all(spreads):
        return float("nan")
    scale = 1 << 2 * FRACTION
    deviations = np.sqrt(spreads[0] / scale) * np.sqrt(spreads[1] / scale)
    return float(np.clip((n * product - total[0] * total[1]) / scale / deviations, -1.0, 1.0))


def _columns(values: ring.Integers) -> ring.Integers:
    found = np.empty(values.shape[1], dtype=object)
    found[:] = values.sum(axis=0) if len(values) else 0
    return found


def _variance(n: int, total: int, square: int) -> float:
    return (n * square - total * total) / (n * (n - 1) << 2 * FRACTION) if n > 1 else 0.0
