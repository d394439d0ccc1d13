"""Spends of the Poisson-subsampled Gaussian mechanism and their epsilon; the unit is the patient, add/remove adjacency.

    epsilon([Spend(noise_multiplier=3.486, sampling_rate=1 / 7, steps=280)], delta=1e-5)   # 3.00

Accountants: `prv` (Gopi, Lee & Wutschitz 2021, tight; the default) and `rdp` (Mironov 2017, 8 to 15 % loose), both from
Opacus. Gaussian DP is not offered: it under-reports epsilon by 3 to 5 % at delta 1e-5, which is the unsafe direction.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

import numpy as np
from scipy.optimize import brentq

from fedloupe.errors import FedLoupeError

Accountant = Literal["prv", "rdp"]

# Above this the PRV grid grows out of memory, and no budget is this large (a policy allows 100 at most): the looser
# RDP bound is returned.
_PRV_LIMIT = 150.0
_MOST_NOISE = 4096.0
_LEAST_NOISE = 2.0**-5
_PRECISION = 0.002


class SpendInvalid(FedLoupeError):
    """Noise, rate, steps, delta or target epsilon are outside their range."""

    code = "FL-550"
    title = "privacy parameters out of range"


class AccountantFailed(FedLoupeError):
    """No accountant gives a finite epsilon for these spends."""

    code = "FL-551"
    title = "epsilon cannot be computed"


class NoNoiseSuffices(FedLoupeError):
    """Whatever the noise, the total would exceed the target."""

    code = "FL-552"
    title = "privacy target cannot be met"


@dataclass(frozen=True, slots=True)
class Spend:
    """Steps of DP-SGD (Abadi 2016): each samples patients independently, clips, sums and adds Gaussian noise.

    Attributes:
        noise_multiplier: standard deviation of the noise over the clipping bound, > 0.
        sampling_rate: Poisson sampling probability of a patient in a step, in (0, 1].
        steps: how many such steps, >= 1.

    Raises:
        SpendInvalid: a value outside its range.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int

    def __post_init__(self) -> None:
        """Refuse what no accountant could price."""
        good = (
            math.isfinite(self.noise_multiplier)
            and self.noise_multiplier > 0
            and 0 < self.sampling_rate <= 1
            and isinstance(self.steps, int)
            and self.steps >= 1
        )
        if not good:
            raise SpendInvalid(
                f"noise multiplier {self.noise_multiplier}, sampling rate {self.sampling_rate}, steps {self.steps}",
                remedy="noise multiplier > 0, sampling rate in (0, 1], whole steps of at least 1",
            )


def epsilon(spends: Sequence[Spend], delta: float, accountant: Accountant = "prv") -> float:
    """Upper bound on the epsilon of all these spends together, on the same patients.

    The order of the spends does not matter. `prv` includes its own numerical error of 0.01 in the bound; where its
    grid does not serve (epsilon beyond 150, numerical failure) the looser RDP bound is returned in its place.

    Args:
        spends: in any order; none gives 0.
        delta: in (0, 1).
        accountant: `prv` or `rdp`.

    Raises:
        SpendInvalid: delta outside (0, 1), or an accountant other than these two.
        AccountantFailed: no finite bound.
    """
    _check_delta(delta)
    if accountant not in ("prv", "rdp"):
        raise SpendInvalid(f"accountant `{accountant}`", remedy="use `prv` or `rdp`; Gaussian DP under-reports epsilon")
    if not spends:
        return 0.0
    merged: Counter[tuple[float, float]] = Counter()
    for spend in spends:
        merged[spend.noise_multiplier, spend.sampling_rate] += spend.steps
    return _bound(tuple((noise, rate, steps) for (noise, rate), steps in sorted(merged.items())), delta, accountant)


@lru_cache(maxsize=1024)  # a ledger asks the same question before and after a round
def _bound(spends: tuple[tuple[float, float, int], ...], delta: float, accountant: Accountant) -> float:
    history = list(spends)
    with warnings.catch_warnings():
        # Opacus warns where RDP's "optimal order is the largest alpha": the bound is loose then, not wrong.
        warnings.simplefilter("ignore", UserWarning)
        bound = _rdp(history, delta)
        if accountant == "prv" and bound <= _PRV_LIMIT:
            bound = _prv(history, delta, otherwise=bound)
    if not (math.isfinite(bound) and bound >= 0):
        raise AccountantFailed(
            f"the bound came out as {bound} for {history}", remedy="use more noise or fewer steps; nothing was released"
        )
    return bound


def noise_for(
    target_epsilon: float, delta: float, sampling_rate: float, steps: int, already: Sequence[Spend] = ()
) -> float:
    """The least noise multiplier (to 0.2 %, never below) with which everything stays within the target.

    RDP brackets, then PRV decides; deterministic.

    Args:
        target_epsilon: bound on `epsilon` of `already` and the planned steps together, > 0.
        delta: in (0, 1).
        sampling_rate: of the planned steps, in (0, 1].
        steps: planned.
        already: spent before on the same patients.

    Raises:
        SpendInvalid: a value outside its range.
        NoNoiseSuffices: `already` leaves nothing, or too little for any noise up to 4096.
    """
    if not (math.isfinite(target_epsilon) and target_epsilon > 0):
        raise SpendInvalid(f"target epsilon {target_epsilon}", remedy="a target is a positive number")

    if (spent := epsilon(already, delta)) >= target_epsilon:
        raise NoNoiseSuffices(
            f"already spent {spent:.3f} of {target_epsilon:g} at delta {delta:g}",
            remedy="raise the target, or stop using these patients",
        )

    @cache
    def excess(noise: float, accountant: Accountant) -> float:
        """Log of total over target: negative is within, and nearly a straight line in the log of the noise."""
        return math.log(epsilon((*already, Spend(noise, sampling_rate, steps)), delta, accountant) / target_epsilon)

    # RDP is quick and looser than PRV, so its noise is a start just above the answer.
    start = _least(lambda noise: excess(noise, "rdp"), start=1.0, grow=2.0, precision=0.05) or 1.0
    least = _least(lambda noise: excess(noise, "prv"), start=start, grow=1.25, precision=_PRECISION)
    if least is None:
        raise NoNoiseSuffices(
            f"already spent {spent:.3f} of {target_epsilon:g}: no noise up to {_MOST_NOISE:g} fits {steps} more steps",
            remedy="raise the target, plan fewer steps, or stop using these patients",
        )
    # Rounded up to four decimals: a number that a person can read back, on the safe side.
    return math.ceil(least * 1e4) / 1e4


def _least(excess: Callable[[float], float], start: float, grow: float, precision: float) -> float | None:
    """The least noise without excess, to a relative `precision` and never below; None where the most does not do."""
    high = start
    while excess(high) > 0:
        if high >= _MOST_NOISE:
            return None
        high *= grow
    low = high / grow
    while excess(low) <= 0:
        if low <= _LEAST_NOISE:
            return low
        high, low = low, low / grow
    # A hair wider than the bracket, so that rounding in exp and log cannot lose the change of sign.
    below, above = math.log(low) - 1e-9, math.log(high) + 1e-9
    noise = math.exp(brentq(lambda log_noise: excess(math.exp(log_noise)), below, above, xtol=precision / 2))
    while excess(noise) > 0:
        noise *= 1 + precision / 2
    return float(noise)


def _rdp(history: list[tuple[float, float, int]], delta: float) -> float:
    # Imported here: Opacus brings PyTorch with it, and most readers of a ledger need neither.
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = list(history)
    try:
        return float(accountant.get_epsilon(delta=delta))
    except (ArithmeticError, ValueError) as error:
        raise AccountantFailed(
            f"the RDP accountant failed on {history}: {error}", remedy="use more noise or fewer steps"
        ) from error


def _prv(history: list[tuple[float, float, int]], delta: float, otherwise: float) -> float:
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = list(history)
    try:
        # At sampling rate 1 the density's edge is log(0) = -inf, which the formulas take in their stride.
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(accountant.get_epsilon(delta=delta))
    except (RuntimeError, ValueError):
        # Opacus raises where its grid cannot carry the discretisation; the RDP bound stays valid, only looser.
        return otherwise


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise SpendInvalid(f"delta {delta}", remedy="delta is a probability between 0 and 1, well below 1 / patients")
