"""How well repeated measurements of the same patients agree: intraclass correlation from sums over patients.

    sums = repeat_sums(values)                     # (n, p, k): n patients, p features, k versions
    icc = intraclass(sums, "one-way")              # equal to that of all patients together, if sums are added

One-way is ICC(1,1) of Shrout & Fleiss (Psychol Bull 86:420, 1979): versions are exchangeable, a common shift counts as
disagreement. Agreement is their ICC(2,1), ICC(A,1) of McGraw & Wong (Psychol Methods 1:30, 1996); consistency is
ICC(3,1), ICC(C,1): a shift or offset that all patients share does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Form = Literal["one-way", "agreement", "consistency"]


@dataclass(frozen=True)
class RepeatSums:
    """Sums over the patients in whom all k versions of a feature are present.

    Attributes:
        count: (p) such patients.
        total: (p, k) sum of each version.
        product: (p, k(k+1)/2) sum of version a times version b, a <= b, in the order of `np.triu_indices(k)`.
    """

    count: Floats
    total: Floats
    product: Floats

    @property
    def versions(self) -> int:
        """k."""
        return int(self.total.shape[1])

    def __add__(self, other: RepeatSums) -> RepeatSums:
        """The sums of both groups of patients together."""
        return RepeatSums(self.count + other.count, self.total + other.total, self.product + other.product)

    def of(self, versions: Sequence[int]) -> RepeatSums:
        """The sums of some of the versions alone, over the same patients."""
        chosen = np.array(versions)
        rows, columns = np.triu_indices(len(chosen))
        place = np.zeros((self.versions, self.versions), dtype=np.int64)
        place[np.triu_indices(self.versions)] = np.arange(self.product.shape[1])
        place = np.maximum(place, place.T)
        return RepeatSums(self.count, self.total[:, chosen], self.product[:, place[chosen[rows], chosen[columns]]])


@dataclass(frozen=True)
class Intraclass:
    """Intraclass correlation of p features; NaN where fewer than two patients, or no spread at all.

    Attributes:
        value: (p), at most 1; below 0 where versions of a patient differ more than patients do.
        low: (p) lower end of the confidence interval.
        high: (p) upper end.
    """

    value: Floats
    low: Floats
    high: Floats


def repeat_sums(values: Floats) -> RepeatSums:
    """One group's sums.

    Args:
        values: (n, p, k); a feature of a patient counts only where all its k versions are finite. Centre and scale them
            near 0 and 1 before: sums of squares of numbers far from 0 lose digits.
    """
    whole: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(values), axis=2)
    kept = np.where(whole[:, :, None], values, 0.0)
    rows, columns = np.triu_indices(values.shape[2])
    product = np.empty((values.shape[1], len(rows)))
    for place, (a, b) in enumerate(zip(rows, columns, strict=True)):
        product[:, place] = (kept[:, :, a] * kept[:, :, b]).sum(axis=0)
    return RepeatSums(whole.sum(axis=0).astype(np.float64), kept.sum(axis=0), product)


def intraclass(sums: RepeatSums, form: Form, confidence: float = 0.95) -> Intraclass:
    """Intraclass correlation of single measurements with its F interval.

    Mean squares: between patients BMS, within WMS, between versions JMS, residual EMS (Shrout & Fleiss, table 2).
    One-way (BMS - WMS) / (BMS + (k-1) WMS); agreement (BMS - EMS) / (BMS + (k-1) EMS + k (JMS - EMS) / n);
    consistency (BMS - EMS) / (BMS + (k-1) EMS). Intervals: McGraw & Wong, table 7.

    Args:
        sums: of at least two versions.
        form: see the module's text.
        confidence: of the two-sided interval.
    """
    n, k = np.where(sums.count > 1, sums.count, 2.0), sums.versions
    rows, columns = np.triu_indices(k)
    diagonal = rows == columns
    raw = sums.product[:, diagonal].sum(axis=1)
    means_square = (raw + 2 * sums.product[:, ~diagonal].sum(axis=1)) / k**2  # sum over patients of mean squared
    grand = sums.total.sum(axis=1)
    between = np.maximum(k * means_square - grand**2 / (n * k), 0.0)
    within = np.maximum(raw - k * means_square, 0.0)
    versions = np.maximum((sums.total**2).sum(axis=1) / n - grand**2 / (n * k), 0.0)
    bms, wms = between / (n - 1), within / (n * (k - 1))
    jms, ems = versions / (k - 1), np.maximum(within - versions, 0.0) / ((n - 1) * (k - 1))
    tail = (1 - confidence) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        if form == "agreement":
            value = (bms - ems) / (bms + (k - 1) * ems + k * (jms - ems) / n)
            low, high = _agreement_limits(value, bms, jms, ems, n, k, tail)
        else:
            noise, free = (wms, n * (k - 1)) if form == "one-way" else (ems, (n - 1) * (k - 1))
            value = (bms - noise) / (bms + (k - 1) * noise)
            ratio = bms / noise
            smallest, largest = ratio / stats.f.isf(tail, n - 1, free), ratio * stats.f.isf(tail, free, n - 1)
            low, high = ((f - 1) / (f + k - 1) for f in (smallest, largest))
            exact = (noise == 0) & (bms > 0)
            low, high = np.where(exact, 1.0, low), np.where(exact, 1.0, high)
    known = (sums.count > 1) & (between + within > 0)
    return Intraclass(*(np.where(known, part, np.nan) for part in (value, low, high)))


def mean_correlation(sums: RepeatSums) -> Floats:
    """Mean Pearson correlation of each two versions, (p); NaN where a version has no spread.

    It is ICC(3,1) after each version has been brought to the same mean and standard deviation: for versions in units of
    their own, which ICC(3,1) itself would call inconsistent.
    """
    n, k = np.where(sums.count > 1, sums.count, 2.0), sums.versions
    rows, columns = np.triu_indices(k)
    covariance = sums.product - sums.total[:, rows] * sums.total[:, columns] / n[:, None]
    diagonal = rows == columns
    spread = np.sqrt(np.maximum(covariance[:, diagonal], 0.0))
    noise = 1e-7 * np.sqrt(sums.product[:, diagonal])  # what rounding leaves of a version that is constant
    known = (sums.count > 1) & (spread > noise).all(axis=1)
    size = (spread[:, rows] * spread[:, columns])[:, ~diagonal]
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = np.where(known, (covariance[:, ~diagonal] / size).mean(axis=1), np.nan)
    return found


def _agreement_limits(
    icc: Floats, bms: Floats, jms: Floats, ems: Floats, n: Floats, k: int, tail: float
) -> tuple[Floats, Floats]:
    """Interval of ICC(A,1) with Satterthwaite's degrees of freedom (McGraw & Wong, table 7, case 2A)."""
    a, b = k * icc / (n * (1 - icc)), 1 + k * icc * (n - 1) / (n * (1 - icc))
    free = (a * jms + b * ems) ** 2 / ((a * jms) ** 2 / (k - 1) + (b * ems) ** 2 / ((n - 1) * (k - 1)))
    lower, upper = stats.f.isf(tail, n - 1, free), stats.f.isf(tail, free, n - 1)
    rest = (k * n - k - n) * ems
    low = n * (bms - lower * ems) / (lower * (k * jms + rest) + n * bms)
    high = n * (upper * bms - ems) / (k * jms + rest + n * upper * bms)
    same = (jms == 0) & (ems == 0) & (bms > 0)
    return np.where(same, 1.0, low), np.where(same, 1.0, high)
