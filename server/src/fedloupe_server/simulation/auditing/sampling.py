"""Are patients drawn as the accountant was told: each by a coin of its own, anew in every step?

    found = audit_sampling(spend, privacy)
    found.broken                      # everybody in every step, or an epoch dealt out in shuffled batches

Epsilon is priced for Poisson sampling; dealt out, 3 is really 8.9. Canaries do not see that, for a canary that is dealt
out ends where one that was drawn does. What differs is the spread: of drawn patients, batches differ in size and
patients in how often they come; where they are dealt out, neither does. Both spreads and the number of draws are
compared with what coins give.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from torch import Tensor, nn

from fedloupe.privacy import Randomness, SecureNoise, Spend
from fedloupe.study import DpSgd
from fedloupe_client.training.private import noisy_steps

LEVEL = 1e-3
"""Chance that sound sampling is called broken."""
PATIENTS = 200
SIMULATED = 10_000


@dataclass(frozen=True)
class SamplingAudit:
    """What was drawn, beside what the accountant assumes.

    Attributes:
        patients: there were; `steps` in which they could be drawn.
        drawn: share of them drawn in a step on average; `promised` by the accountant.
        sizes: spread (variance) of the batches' sizes over that of coins, which give 1.
        turns: spread of how often a patient is drawn, likewise.
        p: least probability, of the three under coins, times three.
    """

    patients: int
    steps: int
    drawn: float
    promised: float
    sizes: float
    turns: float
    p: float

    @property
    def broken(self) -> bool:
        """Coins do not draw like this."""
        return self.p < LEVEL


def audit_sampling(
    spend: Spend, privacy: DpSgd, *, patients: int = PATIENTS, source: Randomness | None = None
) -> SamplingAudit:
    """Let the site's own mechanism draw patients, and look whom it drew.

    Args:
        spend: sampling rate, and the steps of all rounds together.
        privacy: as of the study.
        patients: of the made-up site.
        source: of noise and sampling; the operating system's where None.
    """
    turns = np.zeros((spend.steps, patients), dtype=np.int64)
    weights, step = nn.Parameter(torch.zeros(1)), iter(range(spend.steps))

    def gradients(drawn: Tensor) -> None:
        np.add.at(turns[next(step)], drawn.numpy(), 1)
        weights.grad_sample = torch.zeros(len(drawn), 1)  # type: ignore[attr-defined]

    noisy_steps([weights], gradients, patients=patients, privacy=privacy, spend=spend, source=source or SecureNoise())
    rate = spend.sampling_rate
    total = int(turns.sum())
    number = binomtest(min(total, turns.size), turns.size, rate).pvalue
    sizes, likely_sizes = _spread(turns.sum(1), patients, rate)
    often, likely_often = _spread(turns.sum(0), spend.steps, rate)
    twice = turns.max() > 1  # within one step: no coin does that
    p = 0.0 if twice else min(1.0, 3 * min(float(number), likely_sizes, likely_often))
    return SamplingAudit(patients, spend.steps, total / turns.size, rate, sizes, often, p)


def _spread(counts: NDArray[np.int64], trials: int, rate: float) -> tuple[float, float]:
    """Mean square of counts about what coins give on average, over its expectation, and its two-sided probability under
    coins, by simulation."""
    centre, variance = trials * rate, trials * rate * (1 - rate)
    if variance == 0:  # everybody, always: the number of draws says it all
        return 1.0, 1.0
    simulated = np.random.default_rng(0).binomial(trials, rate, (SIMULATED, len(counts)))
    usual = ((simulated - centre) ** 2).mean(1)
    found = float(((counts - centre) ** 2).mean())
    above, below = int((usual >= found).sum()), int((usual <= found).sum())
    return found / variance, min(1.0, 2 * (1 + min(above, below)) / (SIMULATED + 1))
