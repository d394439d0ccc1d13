"""How well patients who trained are told from those who did not, and how well epsilon lets anybody tell them.

found = Attack.of(members, others)              # suspicion by patient: larger is more like a member
found.auc, found.caught[0.01]                   # each with its interval
Promise(epsilon=3.0, delta=1e-5).caught(0.01)   # 0.20: no attack finds more at 1 % false alarms
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import beta, rankdata

from fedloupe.metrics import delong

Floats = NDArray[np.float64]
FALSE_ALARMS = (0.01, 0.05)
"""Shares of those who did not train that may be called members."""


@dataclass(frozen=True)
class Caught:
    """Members found among all members, with a 95 % interval.

    Attributes:
        share: of the members.
        low, high: by Clopper & Pearson (1934), with the threshold held where it is.
    """

    share: float
    low: float
    high: float

    @classmethod
    def of(cls, found: int, members: int) -> Caught:
        """So many of so many."""
        low = float(beta.ppf(0.025, found, members - found + 1)) if found else 0.0
        high = float(beta.ppf(0.975, found + 1, members - found)) if found < members else 1.0
        return cls(found / members, low, high)


@dataclass(frozen=True)
class Attack:
    """One ranking of members against others.

    Attributes:
        members: patients who trained; `others`, who did not.
        auc: that a member is the more suspect of two, with its 95 % interval (DeLong).
        caught: by share of false alarms; without those that so few others cannot show.
    """

    members: int
    others: int
    auc: float
    low: float
    high: float
    caught: dict[float, Caught]

    @classmethod
    def of(cls, members: Floats, others: Floats) -> Attack:
        """From suspicion, which is larger for whom the attacker calls a member first."""
        both = np.concatenate([members, others])
        truth = np.repeat([1, 0], [len(members), len(others)])
        area = delong(truth, rankdata(both) / len(both))  # it reads ranks alone
        caught = {}
        for share in FALSE_ALARMS:
            # above the k-th largest of n others, a further one falls with probability k / (n + 1)
            if k := int(share * (len(others) + 1) + 1e-9):
                caught[share] = Caught.of(int((members > np.sort(others)[-k]).sum()), len(members))
        return cls(len(members), len(others), area.auc, area.low, area.high, caught)


@dataclass(frozen=True)
class Promise:
    """What (epsilon, delta) lets any attack reach on a patient who is in or out while all others stay.

    Both kinds of error obey `found <= e^epsilon false + delta` and the same with the sides changed (Wasserman & Zhou
    2010; Kairouz 2015): the most is the smaller of two straight lines.
    """

    epsilon: float
    delta: float

    def caught(self, false_alarms: float) -> float:
        """The largest share of members found at this share of false alarms."""
        few = math.exp(min(self.epsilon, 700.0)) * false_alarms + self.delta
        many = 1 - math.exp(-self.epsilon) * (1 - self.delta - false_alarms)
        return min(1.0, few, many)

    @property
    def auc(self) -> float:
        """The largest area, under the lines through (0, delta), where they cross, and (1 - delta, 1)."""
        cross = (1 - self.delta) * float(expit(-self.epsilon))
        corners = ((0.0, self.delta), (cross, 1 - cross), (1 - self.delta, 1.0), (1.0, 1.0))
        return sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(corners))

    def broken_by(self, found: Attack) -> bool:
        """An attack certainly (95 % interval) found more than is promised."""
        more = any(caught.low > self.caught(share) for share, caught in found.caught.items())
        return more or found.low > self.auc

    def content(self) -> dict[str, Any]:
        """As plain values: JSON's."""
        shares = {f"{share:g}": self.caught(share) for share in FALSE_ALARMS}
        return {"epsilon": self.epsilon, "delta": self.delta, "auc": self.auc, "caught": shares}
