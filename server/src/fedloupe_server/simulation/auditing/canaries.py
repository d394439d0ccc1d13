"""Is epsilon what it says? One training run with canaries gives a lower bound (Steinke, Nasr & Jagielski 2023).

    found = audit_canaries(Spend(3.49, 1 / 7, 280), DpSgd(mode="dp-sgd", epsilon=3))
    found.empirical <= found.formal        # else the build is broken

Each canary is a patient whose gradient, ten times the clipping bound before it is clipped, points along a direction of
its own. A coin decides for each whether it takes part. The site's own mechanism trains (`noisy_steps`: sampling,
clipping, noise, update); then the canaries that moved their direction most are guessed in, those that did least, out.
Too many right guesses are unlikely under (epsilon, delta)-DP. It checks the mechanism, not the gradients of a model,
which have tests of their own, and proves nothing where it finds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.stats import binom
from torch import Tensor, nn

from fedloupe.privacy import Randomness, SecureNoise, Spend, epsilon
from fedloupe.study import DpSgd
from fedloupe_client.training.private import noisy_steps

LOUD = 10.0
"""Norm of a canary's gradient before clipping, in clipping bounds."""
SHARES = (0.02, 0.05, 0.1, 0.25)
"""Shares of the canaries guessed in, and as many out; each pays for the others in confidence."""
LEVEL = 0.05


@dataclass(frozen=True)
class CanaryAudit:
    """What an audit found.

    Attributes:
        formal: epsilon by the accountant, at `delta`.
        empirical: lower bound of epsilon that the guesses prove, at this confidence.
        ceiling: what would be proven if every guess were right: above `formal`, or this audit can tell no fault.
        guesses: of the best share; `right` how many were right.
        canaries: how many there were.
        delta: of both.
    """

    formal: float
    empirical: float
    ceiling: float
    guesses: int
    right: int
    canaries: int
    delta: float

    @property
    def broken(self) -> bool:
        """The guesses prove more than the accountant allows."""
        return self.empirical > self.formal

    @property
    def tells(self) -> bool:
        """A fault that gives everybody away would show."""
        return self.ceiling > self.formal


def audit_canaries(
    spend: Spend,
    privacy: DpSgd,
    *,
    canaries: int = 1000,
    seed: int = 1,
    level: float = LEVEL,
    source: Randomness | None = None,
) -> CanaryAudit:
    """Train once on canaries by the site's own mechanism, and guess who took part.

    Args:
        spend: noise, sampling rate, and the steps of all rounds together.
        privacy: clipping bound and delta.
        canaries: how many; more prove more.
        seed: of the coins.
        level: chance that a sound mechanism is called broken.
        source: of noise and sampling; the operating system's where None.
    """
    took_part = np.random.default_rng(seed).random(canaries) < 0.5
    inside = torch.from_numpy(np.flatnonzero(took_part))
    weights = nn.Parameter(torch.zeros(canaries))

    def gradients(drawn: Tensor) -> None:
        own = torch.zeros(len(drawn), canaries)
        own[torch.arange(len(drawn)), inside[drawn]] = LOUD * privacy.clip
        weights.grad_sample = own  # type: ignore[attr-defined]

    noisy_steps(
        [weights],
        gradients,
        patients=len(inside),
        privacy=privacy,
        spend=spend,
        source=source or SecureNoise(),
    )
    moved = -weights.detach().numpy()
    order = np.argsort(moved)
    found = []
    for size in (max(1, int(share * canaries)) for share in SHARES):
        right = int(took_part[order[-size:]].sum() + (~took_part[order[:size]]).sum())
        proven, most = (
            epsilon_bound(canaries, 2 * size, hits, privacy.delta, level / len(SHARES)) for hits in (right, 2 * size)
        )
        found.append((proven, most, 2 * size, right))
    best, _, guesses, right = max(found)
    ceiling = max(most for _, most, _, _ in found)
    return CanaryAudit(epsilon([spend], privacy.delta), best, ceiling, guesses, right, canaries, privacy.delta)


def epsilon_bound(canaries: int, guesses: int, right: int, delta: float, p: float) -> float:
    """The largest epsilon that so many right guesses refute at level `p`; 0 where they refute none.

    Args:
        canaries: m, each in with probability one half.
        guesses: r of them guessed; `right` v of these right.
        delta: of the guarantee.
        p: level, in (0, 1).
    """

    def excess(eps: float) -> float:
        return chance(canaries, guesses, right, eps, delta) - p

    if excess(0.0) >= 0:
        return 0.0
    high = 1.0
    while excess(high) < 0:
        high *= 2
    return float(brentq(excess, 0.0, high, xtol=1e-6))


def chance(canaries: int, guesses: int, right: int, eps: float, delta: float) -> float:
    """Most probable that `right` or more of the guesses are right under (eps, delta)-DP (theorem 5.2 there)."""
    q = 1 / (1 + np.exp(-eps))
    beta = float(binom.sf(right - 1, guesses, q))
    below = np.cumsum(binom.pmf(right - np.arange(1, right + 1), guesses, q))
    alpha = float((below / np.arange(1, right + 1)).max(initial=0.0))
    return min(1.0, beta + 2 * canaries * delta * alpha)
