"""Faults at random moments: processes killed with SIGKILL, links that are cut, slow or lossy for a while.

They are spread over the run: as many in each of its rounds, so that no stage takes them all and none is spared.

faults = Faults(field, seed=1)
while not over:
    faults.look()                   # begins what is due, mends what lasted long enough, sees who came back
faults.done                         # every fault with the seconds until its victim was back
"""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field

from tests.drill.field import Field

COORDINATORS = ("superlink", "serverapp", "service")
HOSPITALS = ("supernode", "clientapp", "courier", "site")
NETWORK = ("cut", "delay", "loss")
DELAY_S, LOSS = 2.0, 0.1


@dataclass
class Fault:
    """One fault.

    Attributes:
        kind: of `COORDINATORS`, `HOSPITALS` or `NETWORK`.
        site: whose; empty at the coordinator.
        at: seconds since the drill began.
        lasts: seconds; 0 of a kill.
        back: seconds until the victim was there again; None before.
    """

    kind: str
    site: str
    at: float
    lasts: float = 0.0
    back: float | None = None
    victims: list[int] = field(default_factory=list)


class Faults:
    """Begins faults one after another, on average every `gap_s` seconds, and no more than the round's share of them.

    Args:
        where: what they are done to.
        kinds: to choose from, in turn, each list shuffled anew.
        seed: of the moments, kinds and sites.
        gap_s: mean seconds between two faults.
        most: after so many, no more.
    """

    def __init__(self, where: Field, kinds: tuple[str, ...], *, seed: int, gap_s: float, most: int) -> None:
        self._field, self._kinds, self._gap_s, self._most = where, kinds, gap_s, most
        self._random = random.Random(seed)
        self._deck: list[str] = []
        self._began = time.monotonic()
        self._next = self._pause()
        self.done: list[Fault] = []

    @property
    def open(self) -> list[Fault]:
        """Those whose victim is not back yet."""
        return [fault for fault in self.done if fault.back is None]

    def look(self) -> None:
        """Begin one if it is due; see which are over."""
        now = self._now()
        for fault in self.open:
            self._mend(fault, now)
        share = self._most * (self._field.rounds() + 1) / self._field.study.training.rounds
        if len(self.done) < min(share, self._most) and now >= self._next:
            if (fault := self._begin(now)) is not None:
                self.done.append(fault)
                self._field.say(f"fault {len(self.done)}: {fault.kind} {fault.site} {fault.victims or ''}".rstrip())
                self._next = now + self._pause()
            else:
                self._next = now + 0.5  # nobody there to be killed: another one soon

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _pause(self) -> float:
        return 1.0 + self._random.expovariate(1.0 / max(self._gap_s - 1.0, 0.1))

    def _begin(self, now: float) -> Fault | None:
        if not self._deck:
            self._deck = list(self._kinds)
            self._random.shuffle(self._deck)
        kind = self._deck.pop()
        site = "" if kind in COORDINATORS else self._random.choice(self._field.enrolled)
        if kind in NETWORK:
            return self._break(Fault(kind, site, now, lasts=self._random.uniform(4.0, 15.0)))
        victims = self._field.pids(kind, site)
        if not victims:
            self._deck.insert(0, kind)
            return None
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return Fault(kind, site, now, victims=victims)

    def _break(self, fault: Fault) -> Fault | None:
        link = self._field.links[fault.site]
        if any(one.site == fault.site and one.kind in NETWORK for one in self.open):
            self._deck.insert(0, fault.kind)
            return None
        match fault.kind:
            case "cut":
                link.cut = True
            case "delay":
                link.delay_s = DELAY_S
            case _:
                link.loss = LOSS
        return fault

    def _mend(self, fault: Fault, now: float) -> None:
        if fault.kind in NETWORK:
            if now >= fault.at + fault.lasts:
                self._field.links[fault.site].mend()
                fault.back = now - fault.at
            return
        there = self._field.pids(fault.kind, fault.site)
        over = fault.kind == "serverapp" and self._field.status is not None and self._field.status.run == "completed"
        if over or (there and not set(there) & set(fault.victims)):
            fault.back = now - fault.at
