"""A second accountant, to check the first: Renyi differential privacy in closed form, from the formulas and no library.

    renyi_epsilon([Spend(3.486, 1 / 7, 280)], delta=1e-5)        # 3.25 where the PRV accountant says 3.00

At whole orders a the Poisson-subsampled Gaussian mechanism has the exact Renyi divergence (Mironov, Talwar & Zhang
2019, section 3.3)

    log( sum_k C(a, k) (1 - q)^(a - k) q^k exp((k^2 - k) / (2 s^2)) ) / (a - 1),

divergences of steps add up, and the sum bounds epsilon (Canonne, Kamath & Steinke 2020, proposition 12). It is an upper
bound, mostly 8 to 20 % above the PRV accountant's (docs/security.md): a ledger whose epsilon lies above it is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

from fedloupe.privacy.accountant import Spend, SpendInvalid

ORDERS = np.array([*range(2, 128), 160, 192, 256, 384, 512, 1024, 2048, 4096])
"""Whole Renyi orders, each a bound of its own; the least counts. The large ones serve where little was spent."""


def renyi_epsilon(spends: Sequence[Spend], delta: float) -> float:
    """Upper bound on the epsilon of all these spends together, on the same patients; 0 for none.

    Args:
        spends: in any order.
        delta: in (0, 1).

    Raises:
        SpendInvalid: delta outside (0, 1).
    """
    if not 0 < delta < 1:
        raise SpendInvalid(f"delta {delta}", remedy="delta is a probability between 0 and 1")
    if not spends:
        return 0.0
    total = np.sum([spend.steps * divergences(spend.noise_multiplier, spend.sampling_rate) for spend in spends], axis=0)
    bounds = total + np.log1p(-1 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
    return max(0.0, float(bounds.min()))


def divergences(noise: float, rate: float) -> NDArray[np.float64]:
    """Renyi divergence of one step at each of `ORDERS`.

    Args:
        noise: multiplier s, above 0.
        rate: sampling probability q, in (0, 1].
    """
    if rate == 1:
        return np.asarray(ORDERS / (2 * noise**2), dtype=np.float64)
    found = []
    for order in ORDERS:
        k = np.arange(order + 1)
        chosen = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
        terms = chosen + (order - k) * math.log1p(-rate) + k * math.log(rate) + (k * k - k) / (2 * noise**2)
        found.append(logsumexp(terms) / (order - 1))
    return np.asarray(found, dtype=np.float64)
