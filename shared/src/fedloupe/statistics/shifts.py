"""gamma and delta of one batch: how far, and how much wider, its standardised features lie than the pooled ones.

    shift = fit_shift(harmoniser.standardised(features, covariates), empirical_bayes=True, mean_only=False)
    harmoniser.adjust(features, covariates, shift.gamma, shift.delta)

Empirical Bayes (Johnson 2007, section 3.2): gamma_f ~ N(g, t2) and delta_f ~ inverse gamma over the features of the
batch; both posteriors are iterated to a fixed point, 1e-12 apart, so that the result does not hang on a stopping rule.
Published programs stop at a relative change of 1e-4. With `mean_only`, delta is 1 and gamma the posterior mean under
it, with the number of patients as in the paper; R's `sva` and neuroCombat put 1 for that number, which leaves much of
the shift where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedloupe.statistics import ring
from fedloupe.statistics.ring import Words

Floats = NDArray[np.float64]
PRIOR_SUMS = 8
STEPS = 1000
CLOSE = 1e-12
CONSTANT = 1e-9
"""Deviation within a batch, in units of the pooled one, up to which a feature is constant there and says nothing of
widths."""
FEWEST = 2
"""Batches that a prior for others needs."""


@dataclass(frozen=True)
class Prior:
    """Over features: mean and variance of gamma, and of delta where batches had one."""

    gamma_mean: float
    gamma_variance: float
    delta_mean: float | None
    delta_variance: float | None

    @property
    def array(self) -> Floats:
        """(2) or (4), for the wire."""
        known = (self.gamma_mean, self.gamma_variance, self.delta_mean, self.delta_variance)
        return np.array([v for v in known if v is not None], dtype=np.float64)

    @classmethod
    def from_array(cls, values: Floats) -> Prior | None:
        """What `array` gave; None for (0)."""
        if not len(values):
            return None
        gamma, delta = values[:2].tolist(), values[2:].tolist() or [None, None]
        return cls(gamma[0], gamma[1], delta[0], delta[1])


@dataclass(frozen=True)
class Shift:
    """One batch; `prior` is what its own features gave, None where fewer than two could."""

    gamma: Floats
    delta: Floats
    prior: Prior | None

    @classmethod
    def none(cls, features: int) -> Shift:
        """A batch that is left as it is."""
        return cls(np.zeros(features), np.ones(features), None)


def fit_shift(left: Floats, *, empirical_bayes: bool, mean_only: bool, prior: Prior | None = None) -> Shift:
    """One batch's shift.

    Args:
        left: (n, p) `Harmoniser.standardised` of the batch's patients, NaN where missing.
        empirical_bayes: shrink over features; without it, the batch's own mean and variance (1 where fewer than two
            patients have the feature, or all the same value: such a feature takes no part in the prior of delta).
        mean_only: delta is 1.
        prior: frozen one, for a batch that was not fitted; None: the batch's own.
    """
    there = np.isfinite(left)
    count = there.sum(axis=0)
    values = np.where(there, left, 0.0)
    gamma = ring.summed(values) / np.maximum(count, 1)
    squares = ring.summed(np.where(there, values - gamma, 0.0) ** 2)
    known = (count > 1) & (squares > CONSTANT**2)
    delta = np.where(known & (not mean_only), squares / np.maximum(count - 1, 1), 1.0)
    own = _own_prior(gamma[count > 0], None if mean_only else delta[known])
    prior = prior or own
    if not empirical_bayes or prior is None:
        return Shift(gamma, delta, own)
    if mean_only or prior.delta_mean is None or prior.delta_variance is None:
        return Shift(_posterior_mean(gamma, np.ones(len(gamma)), count, prior), np.ones(len(gamma)), own)
    return Shift(*_fixed_point(gamma, delta, count, squares, prior, prior.delta_mean, prior.delta_variance), own)


def prior_sums(shifts: Sequence[Shift]) -> Words:
    """A site's term of the frozen prior, (8, 6): of gamma and then of delta: batches, sum of means, of their squares,
    of variances."""
    total = np.zeros(PRIOR_SUMS)
    for prior in (s.prior for s in shifts if s.prior):
        total[:4] += (1.0, prior.gamma_mean, prior.gamma_mean**2, prior.gamma_variance)
        if prior.delta_mean is not None and prior.delta_variance is not None:
            total[4:] += (1.0, prior.delta_mean, prior.delta_mean**2, prior.delta_variance)
    return ring.encode(total)


def pooled_prior(parts: Sequence[Words]) -> Prior | None:
    """The prior of a batch never seen: means over batches; variance within batches plus that between their means.

    The fitted batches' shifts are measured from their own mean, a new one's will be too: it lies (B + 1) / (B - 1)
    times as far, in variance, as each of B batches of one size does. None from fewer than two batches.
    """
    sums = ring.decode(ring.add(*parts))
    gamma, delta = sums[:4], sums[4:]
    if gamma[0] < FEWEST:
        return None
    mean, variance = _mixture(gamma)
    variance *= (gamma[0] + 1) / (gamma[0] - 1)
    return Prior(mean, variance, *(_mixture(delta) if delta[0] >= FEWEST else (None, None)))


def _mixture(sums: Floats) -> tuple[float, float]:
    batches, means, squares, variances = sums.tolist()
    return means / batches, variances / batches + max(squares / batches - (means / batches) ** 2, 0.0)


def _own_prior(gamma: Floats, delta: Floats | None) -> Prior | None:
    if len(gamma) < 2:
        return None
    about = float(np.mean(gamma)), float(np.var(gamma, ddof=1))
    if delta is None or len(delta) < 2:
        return Prior(*about, None, None)
    return Prior(*about, float(np.mean(delta)), float(np.var(delta, ddof=1)))


def _posterior_mean(gamma: Floats, delta: Floats, count: NDArray[np.int64], prior: Prior) -> Floats:
    weight = count * prior.gamma_variance
    return (weight * gamma + delta * prior.gamma_mean) / (weight + delta)


def _fixed_point(
    gamma: Floats, delta: Floats, count: NDArray[np.int64], squares: Floats, prior: Prior, mean: float, variance: float
) -> tuple[Floats, Floats]:
    # A prior without spread is a point; 1e-12 of the squared mean keeps its shape finite.
    variance = max(variance, 1e-12 * mean**2)
    shape, rate = mean**2 / variance + 2, mean * (mean**2 / variance + 1)
    shrunk, width = gamma, delta
    for _ in range(STEPS):
        new = _posterior_mean(gamma, width, count, prior)
        spread = squares + count * (gamma - new) ** 2
        wide = (spread / 2 + rate) / (count / 2 + shape - 1)
        change = max(np.max(np.abs(new - shrunk), initial=0.0), np.max(np.abs(wide / width - 1), initial=0.0))
        shrunk, width = new, wide
        if change < CLOSE:
            break
    return shrunk, width
