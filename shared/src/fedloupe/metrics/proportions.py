"""Shares of patients with their intervals: what a frozen threshold does at a site.

confusion = Confusion(tp=8, fp=3, tn=20, fn=5)
confusion.ppv                                           # Share(value, low, high), or None
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from fedloupe.metrics.checks import CountsInvalid
from fedloupe.metrics.discrimination import Z95
from fedloupe.metrics.intervals import Interval


@dataclass(frozen=True)
class Share:
    """A share in [0, 1] with its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(count: int, n: int) -> Interval:
    """95 % score interval of a share, (c + z^2/2 +- z sqrt(c (n - c) / n + z^2/4)) / (n + z^2).

    Wilson, J Am Stat Assoc 1927;22:209; without continuity correction (Brown, Cai & DasGupta, Stat Sci 2001;16:101).

    Raises:
        CountsInvalid: `count` outside [0, n], or `n` below 1.
    """
    if not (n >= 1 and 0 <= count <= n):
        raise CountsInvalid(f"{count} of {n} patients", remedy="count patients among at least one")
    middle, whole = count + Z95**2 / 2, n + Z95**2
    half = Z95 * sqrt(count * (n - count) / n + Z95**2 / 4)
    return Interval(
        0.0 if count == 0 else (middle - half) / whole,
        1.0 if count == n else (middle + half) / whole,
    )


@dataclass(frozen=True)
class Confusion:
    """Patients by prediction and outcome; the shares are None where they have no denominator.

    Attributes:
        tp, fp: predicted positive, with and without the event.
        tn, fn: predicted negative, without and with the event.

    Raises:
        CountsInvalid: a count below 0.
    """

    tp: int
    fp: int
    tn: int
    fn: int

    def __post_init__(self) -> None:
        if min(self.tp, self.fp, self.tn, self.fn) < 0:
            raise CountsInvalid("a count of patients is below 0", remedy="count patients, each once")

    @property
    def patients(self) -> int:
        """All of them."""
        return self.tp + self.fp + self.tn + self.fn

    @property
    def accuracy(self) -> Share | None:
        """Predicted as it happened, of all."""
        return _share(self.tp + self.tn, self.patients)

    @property
    def sensitivity(self) -> Share | None:
        """Predicted positive, of those with the event."""
        return _share(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> Share | None:
        """Predicted negative, of those without the event."""
        return _share(self.tn, self.tn + self.fp)

    @property
    def ppv(self) -> Share | None:
        """With the event, of those predicted positive."""
        return _share(self.tp, self.tp + self.fp)

    @property
    def npv(self) -> Share | None:
        """Without the event, of those predicted negative."""
        return _share(self.tn, self.tn + self.fn)


def _share(count: int, n: int) -> Share | None:
    if not n:
        return None
    interval = wilson(count, n)
    return Share(count / n, interval.low, interval.high)
