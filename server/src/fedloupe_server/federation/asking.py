"""One question to several sites: asked, asked again, waited for by a rule, answers taken as they come.

    asking = Asking(talk, requests, TrainReply, a_round(study, sites, seconds))
    for site, reply in asking: ...
    asking.seconds, asking.late                    # what it took; who works and was not waited for

A site that says that it works is alive: it is asked again at once, and that costs none of its attempts. One that is
silent is asked again after a while; so is one where a person must approve the study or decide first (FL-501, FL-530),
that was paused (FL-532) or is outside its hours (FL-533), and one that got a message twice from its courier (FL-528) or
too late (FL-529), which a new seal mends. In a patient run whoever is needed is asked until there, at intervals that
grow, and the run says that it is paused; in another one the question ends after `quorum.attempts` silences, and the
caller fails.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from fedloupe.contributing import CONTRIBUTING
from fedloupe.messages import TOO_FEW, Failure, Message, Request, Working
from fedloupe_server.federation.exchange import NOT_CONNECTED, Arrival, Outbox
from fedloupe_server.federation.state import HELD, UNAPPROVED
from fedloupe_server.federation.waiting import LEAST_PAUSE_S, Rule, pause_s

if TYPE_CHECKING:
    from fedloupe_server.federation.conversation import Conversation

R = TypeVar("R", bound=Message)
LOST = "FL-522"
"""Code by which a site says that it does not hold a set-up, as after its home was restored."""
UNSAFE = "FL-521"
"""Code by which a site refuses what could show its answer, as one request over two sets of sites."""
REPLAYED, OUT_OF_TIME = "FL-528", "FL-529"
"""Codes by which a site refuses a seal, and not what is under it."""
UNSEALED = ("FL-543", "FL-544", "FL-545", "FL-546")
"""Codes by which a site refuses to be a test: it took part, or what it is shown is not what was sealed."""
FINAL = (LOST, UNSAFE, *TOO_FEW, *UNSEALED)
"""Refusals that waiting does not change."""
NO_ANSWER = "no answer"
GUEST_PAUSE_S = 60.0
"""Seconds after which a site that may join is asked again, while a round lasts."""


@dataclass
class _Line:
    """How it stands with one site.

    Attributes:
        began: when it was first asked, in the clock's seconds.
        under_way: a request is out.
        asked: when the latest one left.
        tries: silences, one after the other.
        again: when to ask next.
        alive: the last thing it said is that it works.
        refused: it said no, and might say yes later.
        over: it answered, or said no for good.
    """

    began: float | None = None
    under_way: bool = False
    asked: float = 0.0
    tries: int = 0
    again: float | None = None
    alive: bool = False
    refused: bool = False
    over: bool = False


class Asking(Generic[R]):
    """See the module's text.

    Args:
        talk: with the sites.
        requests: by site.
        expected: kind of the answers.
        rule: whom to wait for.
        timeout_s: seconds after which a request is no longer waited for.
        wrap: makes of a request what is sent.

    Attributes:
        seconds: from the first asking to the answer, by site.
        late: sites at work that were not waited for.
    """

    def __init__(
        self,
        talk: Conversation,
        requests: Mapping[str, Request],
        expected: type[R],
        rule: Rule,
        timeout_s: float,
        wrap: Callable[[Request], Request] = lambda request: request,
    ) -> None:
        self._talk, self._requests, self._expected, self._rule = talk, requests, expected, rule
        self._timeout_s, self._wrap = timeout_s, wrap
        self._lines = {site: _Line() for site in requests}
        self._guests = talk.guests() if rule.welcomes else {}
        self._later: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        self.late: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[tuple[str, R]]:
        """Sites and their answers as these come.

        Raises:
            WrongAnswer: a reply of another kind or from another site, run or study.
        """
        # those who are not waited for first: where sites are asked one after the other, they are there in time
        queue = sorted(self._requests, key=lambda site: (site not in self._rule.may, site))
        outbox = Outbox([*self._guests, *queue], self._encode)
        while True:
            with closing(self._arrivals(outbox)) as arrivals:
                for arrival in arrivals:
                    if arrival is not None:
                        yield from self._take(arrival, outbox)
                        del arrival
                    self._ask_again(outbox)
                    if self._over():
                        return self._leave()
            for site, line in self._lines.items():
                if line.under_way:
                    self._silent(site, line)
            if self._over():
                return self._leave()
            self._sleep()
            outbox = Outbox((), self._encode)
            self._ask_again(outbox)

    @property
    def spent(self) -> dict[str, float]:
        """Seconds by site, from the first asking to the answer, or to now where there is none."""
        began = {site: line.began for site, line in self._lines.items() if line.began is not None}
        return {site: self._now - start for site, start in began.items()} | self.seconds

    def _arrivals(self, outbox: Outbox) -> Generator[Arrival | None, None, None]:
        return self._talk.exchange(outbox, self._timeout_s)

    def _encode(self, site: str) -> bytes:
        if site in self._guests:
            return self._talk.encoded(self._guests[site].request)
        line, request = self._lines[site], self._wrap(self._requests[site])
        line.began = self._now if line.began is None else line.began
        line.under_way, line.again, line.asked = True, None, self._now
        if not line.alive:
            self._talk.watch.asked(site, self._requests[site].kind)
        return self._talk.encoded(request)

    def _take(self, arrival: Arrival, outbox: Outbox) -> Iterator[tuple[str, R]]:
        site = arrival.site
        if site in self._guests:
            guest = self._guests[site]
            if arrival.blob is not None and guest.heard(self._talk.read(site, arrival.blob)):
                outbox.add(site, first=True)
            elif not guest.barred:
                self._later[site] = self._now + max(self._talk.study.quorum.retry_after_s, GUEST_PAUSE_S)
            return
        line = self._lines.get(site)
        if line is None or (line.over and not line.under_way):
            raise self._talk.not_asked(site)
        line.under_way = False
        if arrival.blob is None:
            return self._silent(site, line, arrival.problem)
        reply = self._talk.read(site, arrival.blob)
        match reply:
            case Working():
                line.alive, line.refused, line.tries = True, False, 0
                self._talk.refusals.pop(site, None)
                self._talk.watch.working(site, reply)
                line.again = line.asked + LEAST_PAUSE_S  # long ago: it answered only after half a minute
            case Failure():
                self._refused(site, line, reply)
            case _:
                self._talk.check(site, self._requests[site], reply, self._expected)
                line.over, line.refused, line.alive = True, False, False
                self.seconds[site] = self._now - (self._now if line.began is None else line.began)
                self._talk.refusals.pop(site, None)
                self._talk.watch.answered(site, reply)
                if isinstance(self._requests[site], CONTRIBUTING):
                    self._talk.contributed.note(site)
                yield site, cast(R, reply)

    def _refused(self, site: str, line: _Line, failure: Failure) -> None:
        line.alive = False
        line.tries += 1
        if failure.code == REPLAYED and line.tries == 1:  # the courier was killed and brought the message again
            line.again = self._now + LEAST_PAUSE_S
            return
        self._talk.refusals[site] = f"{failure.code} {failure.title}"
        self._talk.watch.refused(site, failure)
        if failure.code not in self._waiting_mends:
            line.refused = True
            line.over = not self._talk.patient or self._rule.refusals_end or failure.code in FINAL
        line.again = None if line.over else self._now + self._pause(line)

    @property
    def _waiting_mends(self) -> set[str]:
        """Refusals after which a site is asked again as if it had been silent."""
        unapproved = set() if self._talk.patient else {UNAPPROVED}
        return {*HELD, REPLAYED, OUT_OF_TIME} - unapproved

    def _silent(self, site: str, line: _Line, problem: str = "") -> None:
        line.under_way = line.alive = False
        line.tries += 1
        # Whom nothing is sent to is asked as soon as it is there.
        line.again = self._now + (self._pause(line) if problem != NOT_CONNECTED else self._shortest)
        if line.tries == 1 or not self._talk.refusals.get(site, "").startswith(tuple(HELD)):
            self._talk.refusals[site] = NO_ANSWER
        self._talk.watch.missing(site, "absent", problem or NO_ANSWER)

    def _pause(self, line: _Line) -> float:
        return pause_s(self._talk.study.quorum, line.tries, patient=self._talk.patient)

    @property
    def _shortest(self) -> float:
        return pause_s(self._talk.study.quorum, 0, patient=self._talk.patient)

    def _ask_again(self, outbox: Outbox) -> None:
        for site in [site for site, when in self._later.items() if when <= self._now]:
            del self._later[site]
            if site in self._talk.guests():
                outbox.add(site)
        for site, line in self._lines.items():
            due = line.again is not None and line.again <= self._now
            if due and (self._is_waited_for(site, line) or self._may_come(site, line)):
                line.again = None
                outbox.add(site)

    def _sleep(self) -> None:
        """Until the next one is to be asked, or its deadline is over."""
        waited = {site: line for site, line in self._lines.items() if self._is_waited_for(site, line)}
        moments = [line.again for line in waited.values() if line.again is not None]
        moments += self._later.values()
        moments += [end for site, line in waited.items() if (end := self._end(site, line)) > self._now]
        self._talk.clock.sleep(max(0.0, min(moments, default=self._now) - self._now))

    def _end(self, site: str, line: _Line) -> float:
        """When a site's deadline is over."""
        began = self._now if line.began is None else line.began
        return began + self._rule.deadlines.get(site, self._rule.deadline_s)

    def _over(self) -> bool:
        waited = {site: line for site, line in self._lines.items() if self._is_waited_for(site, line)}
        if self._talk.patient:
            attempts = self._talk.study.quorum.attempts
            stuck = {s: ln for s, ln in waited.items() if self._needed(s) and (ln.refused or ln.tries >= attempts)}
            paused = stuck if len(stuck) == len(waited) else {}
            self._talk.watch.wait({site: self._talk.refusals.get(site, NO_ANSWER) for site in paused})
        return not waited

    def _needed(self, site: str) -> bool:
        return site in self._rule.must or self._short

    @property
    def _short(self) -> bool:
        """Whether more answers are needed, and can still come."""
        there = len(self.seconds.keys() - self._rule.uncounted)
        left = sum(not line.over for site, line in self._lines.items() if site not in self._rule.uncounted)
        return there < self._rule.minimum <= there + left

    def _is_waited_for(self, site: str, line: _Line) -> bool:
        if line.over:
            return False
        tired = line.tries >= self._talk.study.quorum.attempts
        if self._needed(site):
            return self._talk.patient or not tired
        idle = line.began is not None and not line.under_way
        if idle and self._rule.enough is not None and len(self.seconds) >= self._rule.enough:
            return False
        if site in self._rule.may:
            return line.under_way and self._now < line.asked + self._rule.may_s
        if line.refused or (tired and not self._talk.patient):
            return False
        return self._now < self._end(site, line) or (self._rule.late == "wait" and not tired)

    def _may_come(self, site: str, line: _Line) -> bool:
        """Nobody waits for it, but it is asked again while others are waited for: it may have been away a moment."""
        return site in self._rule.may and not (line.over or line.refused)

    def _leave(self) -> None:
        """What becomes of those who are not there."""
        left = {site: line for site, line in self._lines.items() if site not in self.seconds}
        self.late = tuple(sorted(site for site, line in left.items() if line.alive and site not in self._rule.may))
        for site, line in left.items():
            self._talk.refusals.setdefault(site, "at work" if line.alive else NO_ANSWER)
            if site in self.late:
                self._talk.watch.missing(site, "late", self._talk.refusals[site])

    @property
    def _now(self) -> float:
        return self._talk.clock.now()
