"""Whom an exchange waits for, and how long.

everyone(quorum, sites)                       # each `must` and `should` site, as for a sum that is fitted once
a_round(study, sites, seconds)                # the study's quorum, with deadlines from earlier rounds
any_of(needed, 120.0)                         # so many of them, whoever they are
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Literal

from fedloupe.study import Study
from fedloupe.study.quorum import LEAST_SITES, Quorum

LONGEST_PAUSE_S = 600.0
"""Seconds between two tries of a run that is paused, at most."""
LEAST_PAUSE_S = 1.0
SETUP_S = 300.0
"""Deadline of what a site has nothing to work out for, as keys of sums."""
LOOK_S = 10.0
"""More than an idle courier takes to look for work and to bring an answer that is there at once."""


@dataclass(frozen=True)
class Clock:
    """Seconds that only grow, and how to let them pass."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


CLOCK = Clock()
"""The machine's."""


@dataclass(frozen=True)
class Rule:
    """Whom to wait for among those asked.

    Attributes:
        must: waited for, however long in a run that pauses, and `attempts` silences in one that ends.
        may: counted when they are there as the others are.
        may_s: seconds that these are waited for nevertheless, from when they were asked.
        minimum: answers needed.
        enough: answers after which nobody is asked again.
        deadlines: seconds by site that is in neither list; `deadline_s` for the others.
        late: what becomes of one that passes its deadline.
        uncounted: sites whose answers do not count for the minimum.
        refusals_end: a refusal is final, whoever refuses.
        welcomes: whoever may join is asked beside it.
    """

    must: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()
    may_s: float = 0.0
    minimum: int = 0
    enough: int | None = None
    deadlines: Mapping[str, float] = field(default_factory=dict)
    deadline_s: float = 3600.0
    late: Literal["wait", "leave", "carry"] = "wait"
    uncounted: frozenset[str] = frozenset()
    refusals_end: bool = False
    welcomes: bool = False

    def without_work(self) -> Rule:
        """The same for what a site has nothing to work out for."""
        deadline_s = min(SETUP_S, self.deadline_s)
        return replace(self, may_s=min(LOOK_S, deadline_s), deadlines={}, deadline_s=deadline_s, welcomes=False)


def everyone(quorum: Quorum, sites: Sequence[str], *, refusals_end: bool = False) -> Rule:
    """All of these sites but those that the study does not wait for."""
    may = frozenset(quorum.may) & frozenset(sites)
    return Rule(must=frozenset(sites) - may, may=may, refusals_end=refusals_end, deadline_s=quorum.timeout_s)


def a_round(
    study: Study, sites: Sequence[str], seconds: Sequence[Mapping[str, float]], uncounted: Sequence[str] = ()
) -> Rule:
    """The study's quorum.

    Args:
        study: its quorum; with secure sums three sites are needed, whatever it says.
        sites: that are asked.
        seconds: by site, of each earlier round.
        uncounted: see `Rule`.
    """
    quorum, asked = study.quorum, frozenset(sites)
    least = max(quorum.minimum, LEAST_SITES) if study.aggregation == "secure" else quorum.minimum
    return Rule(
        must=frozenset(quorum.must) & asked,
        may=frozenset(quorum.may) & asked,
        minimum=min(least, len(asked)),
        deadlines={site: deadline(quorum, [s[site] for s in seconds if site in s]) for site in sites},
        deadline_s=quorum.timeout_s,
        late=quorum.late,
        uncounted=frozenset(uncounted),
        welcomes=True,
    )


def deadline(quorum: Quorum, seconds: Sequence[float]) -> float:
    """Seconds that a site has for a round, from those that its earlier rounds took."""
    if not seconds:
        return quorum.timeout_s
    return quorum.deadline_factor * median(seconds) + quorum.deadline_slack_s


def any_of(needed: int, deadline_s: float) -> Rule:
    """So many answers; the others are waited for until the deadline, and never asked again."""
    return Rule(minimum=needed, enough=needed, deadline_s=deadline_s, late="leave")


def pause_s(quorum: Quorum, tries: int, *, patient: bool) -> float:
    """Seconds before a site is asked again that has been silent so many times, one after the other."""
    if not patient:
        return quorum.retry_after_s
    back_off = max(quorum.retry_after_s, LEAST_PAUSE_S) * 2.0 ** min(16, max(0, tries - quorum.attempts))
    return min(back_off, LONGEST_PAUSE_S)
