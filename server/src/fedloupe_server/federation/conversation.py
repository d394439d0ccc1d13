"""Asking sites: every request to every site at once, again where a site was silent, and the quorum at the end.

conversation = Conversation(study, exchange, run="demo")
replies = conversation.ask_all(study.train_sites, lambda header: HelloRequest(**header), HelloReply)
total = conversation.sums.all(study.train_sites, lambda header: DescribeRequest(**header), DescribeReply)
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fedloupe import __version__
from fedloupe.errors import FedLoupeError
from fedloupe.messages import (
    TOO_FEW,
    Failure,
    HelloReply,
    HelloRequest,
    Message,
    MessageRefused,
    Request,
    decode,
    encode,
)
from fedloupe.scoring import shapes_of
from fedloupe.statistics import shapes
from fedloupe.study import Study
from fedloupe_server.federation.asking import Asking
from fedloupe_server.federation.columns import FeaturesDiffer, differing
from fedloupe_server.federation.contributed import Contributed
from fedloupe_server.federation.exchange import Exchange
from fedloupe_server.federation.joining import Entry, Guest
from fedloupe_server.federation.state import Watch
from fedloupe_server.federation.summing import Sums
from fedloupe_server.federation.waiting import CLOCK, Clock, Rule, everyone

R = TypeVar("R", bound=Message)
FIRST_WORD_S = 120.0
"""Seconds for a site's first word to a request, beside its transfer."""
SLOWEST = 2**17
"""Bytes in a second that a line carries at least: 1 Mbit/s."""


class QuorumNotMet(FedLoupeError):
    """Too few sites, or not the required ones, answered."""

    code = "FL-701"
    title = "the round's quorum was not met"


class SiteRefused(FedLoupeError):
    """A site answered with a refusal or a failure."""

    code = "FL-702"
    title = "a site refused the request"


class WrongAnswer(FedLoupeError):
    """A site's answer is not an answer to what it was asked."""

    code = "FL-703"
    title = "a site's answer does not fit the request"


class Conversation:
    """Speaks to the sites of one run.

    Args:
        study: the protocol.
        exchange: how to reach the sites.
        run: its name on the wire.
        folder: of the run or fold; without one a crash may leave a sum that cannot be repeated.
        patient: it waits for those it needs, however long, and says so; otherwise it fails after `quorum.attempts`.
        watch: keeps what the sites do.
        clock: tells and passes time.

    Attributes:
        refusals: the latest refusal of each site, as `code title`.
        hellos: of the sites that said hello.
        entry: what a training site needs that comes late; None where none may come.
        sums: of answers that are only ever added.
        contributed: who gave something to this run or fold.
    """

    def __init__(
        self,
        study: Study,
        exchange: Exchange,
        run: str,
        folder: Path | None = None,
        *,
        patient: bool = False,
        watch: Watch | None = None,
        clock: Clock = CLOCK,
    ) -> None:
        self.study, self.run, self.exchange = study, run, exchange
        self.patient, self.clock = patient, clock
        self.watch = watch or Watch(study, run)
        self._covariates = len(study.harmonisation.covariates) if study.harmonisation else 0
        self.refusals: dict[str, str] = {}
        self.hellos: dict[str, HelloReply] = {}
        self.entry: Entry | None = None
        self._absent: set[str] = set()
        self._guests: dict[str, Guest] = {}
        self.sums = Sums(self, folder / "sums.json" if folder else None)
        self.contributed = Contributed(folder / "contributed.json" if folder else None)

    def fold(self, run: str, folder: Path) -> Conversation:
        """The same sites about another fit."""
        other = Conversation(
            self.study, self.exchange, run, folder, patient=self.patient, watch=self.watch, clock=self.clock
        )
        other._absent = set(self._absent)
        return other

    def header(self, site: str) -> dict[str, Any]:
        """The fields that every request to this site shares."""
        return {"version": __version__, "fingerprint": self.study.fingerprint, "run": self.run, "site": site}

    def there(self, sites: Sequence[str]) -> tuple[str, ...]:
        """Those of these sites that take part: all but the `may` sites that did not come or went away."""
        return tuple(site for site in sites if site not in self._absent)

    def leave_out(self, sites: Sequence[str]) -> None:
        """These take no part, and nobody waits for them."""
        self._absent |= set(sites)

    def welcome(self, site: str, hello: HelloReply) -> None:
        """The site takes part from now on."""
        self.hellos[site] = hello
        self._absent.discard(site)
        self._guests.pop(site, None)

    def guests(self) -> dict[str, Guest]:
        """The training sites that are not there and may still come."""
        if self.entry is None:
            return {}
        for site in self._absent & set(self.study.train_sites):
            if site not in self._guests:
                self._guests[site] = Guest(self, site, self.entry)
        return {site: guest for site, guest in sorted(self._guests.items()) if not guest.barred}

    def encoded(self, request: Request) -> bytes:
        """What is sent; called again for each try."""
        return encode(request)

    def ask(self, requests: Mapping[str, Request], expected: type[R], rule: Rule | None = None) -> dict[str, R]:
        """All replies to these requests by site, in sorted order; arguments as in `replies`.

        For answers that are needed one by one: what is only added up takes them as they come.
        """
        return dict(sorted(self.replies(requests, expected, rule)))

    def replies(
        self,
        requests: Mapping[str, Request],
        expected: type[R],
        rule: Rule | None = None,
        *,
        wrap: Callable[[Request], Request] = lambda request: request,
    ) -> Asking[R]:
        """Ask these sites, and take their answers as these come.

        Args:
            requests: by site.
            expected: kind of the answers.
            rule: whom to wait for; everyone that the study waits for where None.
            wrap: makes of a request what is sent.

        Returns:
            Sites and their replies, to be iterated. Sites that stayed silent or refused are not among them, and
            `refusals` says why.
        """
        quorum = self.study.quorum
        rule = rule or everyone(quorum, tuple(requests))
        longest = min(quorum.timeout_s, rule.deadline_s)
        if self.patient:  # its first word comes within half a minute; asked twice, it does its work once
            size = max((_size(request) for request in requests.values()), default=0)
            longest = min(quorum.silence_s, FIRST_WORD_S + size / SLOWEST)
        return Asking(self, requests, expected, rule, longest, wrap)

    def ask_all(
        self, sites: tuple[str, ...], make: Callable[[dict[str, Any]], Request], expected: type[R]
    ) -> dict[str, R]:
        """Ask each of these sites for the same thing; every one must answer.

        Raises:
            SiteRefused: naming each site that did not, and its code.
        """
        replies = self.ask({site: make(self.header(site)) for site in self.there(sites)}, expected)
        self.require_all(replies, sites)
        return replies

    def say_hello(self, sites: tuple[str, ...], *, begun: bool = False) -> dict[str, HelloReply]:
        """Who of these sites is there; one that nobody waits for takes no part if its columns are others.

        Args:
            sites: to ask.
            begun: something was done already, which is waited for; otherwise a refusal ends the run.

        Raises:
            SiteRefused: one that the study waits for is not.
        """
        requests = {site: HelloRequest(**self.header(site)) for site in sites}
        rule = everyone(self.study.quorum, sites, refusals_end=not begun)
        replies = self.ask(requests, HelloReply, rule)
        for site in differing(replies, self.study.quorum.may):
            del replies[site]
            self.refusals[site] = f"{FeaturesDiffer.code} {FeaturesDiffer.title}"
            self.watch.missing(site, "absent", f"cannot join: {self.refusals[site]}")
        self.require_all(replies, sites)
        self.hellos |= replies
        return replies

    def require_all(self, answered: Mapping[str, object], sites: tuple[str, ...]) -> None:
        """Check that each of these sites answered; one that the study does not wait for takes no part until it joins.

        Raises:
            SiteRefused: naming each that did not, and its code.
        """
        self._absent |= {site for site in sites if site in self.study.quorum.may and site not in answered}
        if missing := [site for site in self.there(sites) if site not in answered]:
            raise SiteRefused(
                self.missing(missing, ()),
                where=self.run,
                remedy="the site's own log has the details; start the run again when the site is ready: it continues",
            )

    def require_willing(self, answered: Mapping[str, object], sites: tuple[str, ...], what: str) -> None:
        """Check answers about tuning patients: a site with too few may refuse, none may be silent.

        Args:
            answered: by site.
            sites: that were asked.
            what: the tuning patients are for, for the error.

        Raises:
            SiteRefused: a site was silent or refused for another reason, or all have too few.
        """
        self._absent |= {site for site in sites if site in self.study.quorum.may and site not in answered}
        sites = self.there(sites)
        if silent := [site for site in sites if site not in answered and not self.refusals[site].startswith("FL-")]:
            raise SiteRefused(
                f"no answer about {what} from {', '.join(silent)}",
                where=self.run,
                remedy="start the run again when these sites are ready: it continues",
            )
        refused = {site: self.refusals[site] for site in sites if site not in answered}
        refusals = "; ".join(f"{site}: {why}" for site, why in refused.items())
        if any(not why.startswith(TOO_FEW) for why in refused.values()):
            raise SiteRefused(
                f"{what}: {refusals}",
                where=self.run,
                remedy="the site's own log has the details; start the run again when the site is ready: it continues",
            )
        if not answered:
            raise SiteRefused(
                f"no site has enough tuning patients for {what}: {refusals}",
                where=self.run,
                remedy="raise `split.tune`",
            )

    def require_quorum(self, answered: Mapping[str, object], sites: tuple[str, ...]) -> None:
        """Check the study's quorum among the sites asked.

        Raises:
            QuorumNotMet: naming who is missing and why.
        """
        quorum = self.study.quorum
        must = [site for site in quorum.must if site in sites and site not in answered]
        if must or len(answered) < min(quorum.minimum, len(sites)):
            raise QuorumNotMet(
                f"{len(answered)} of {len(sites)} sites answered, {quorum.minimum} needed"
                + (f", `must` sites missing: {', '.join(must)}" if must else "")
                + f". Missing: {self.missing(sites, answered)}",
                where=self.run,
                remedy="see to the sites named and start the run again: it continues after the last complete round",
            )

    def missing(self, sites: Iterable[str], there: Container[str]) -> str:
        """Who of these sites is not there, and why, for an error."""
        return "; ".join(f"{s}: {self.refusals.get(s, 'no answer')}" for s in sites if s not in there)

    def check_fit(self, request: Request, reply: Message) -> None:
        """Check that a sum is one of answers to this request.

        Raises:
            WrongAnswer: it has other shapes.
        """
        if not self._fits(request, reply):
            raise self.wrong_answer(self.run, "gave a sum of arrays of another shape than was asked")

    def wrong_answer(self, site: str, what: str) -> WrongAnswer:
        """The error for an answer that cannot be used."""
        return WrongAnswer(f"{site} {what}", where=site, remedy="run the same version everywhere")

    def not_asked(self, site: str) -> WrongAnswer:
        """The error for an answer of a site that was asked nothing."""
        return WrongAnswer(f"{site} was not asked", where=site, remedy="check the site table")

    def check(self, site: str, request: Request, reply: Message, expected: type[Message]) -> None:
        """Check that this is an answer to that.

        Raises:
            WrongAnswer: it is not.
        """
        if not isinstance(reply, expected):
            raise self.wrong_answer(site, f"sent a {type(reply).__name__}")
        if not self._fits(request, reply):
            raise self.wrong_answer(site, "answered another request, or with arrays of another shape")

    def _fits(self, request: Message, reply: Message) -> bool:
        return _fits(request, reply) and shapes.fits(reply, request, self._covariates)

    def read(self, site: str, blob: bytes) -> Message:
        """Bytes of this site as a message of this run.

        Raises:
            WrongAnswer: they are none.
        """
        try:
            reply = decode(blob)
        except MessageRefused as error:
            raise WrongAnswer(
                f"{site} sent bytes that are no message: {error.what}", where=site, remedy=error.remedy
            ) from None
        expected = (site, self.run, self.study.fingerprint)
        if (reply.site, reply.run, reply.fingerprint) != expected and not isinstance(reply, Failure):
            raise WrongAnswer(
                f"{site} answered for another site, run or study", where=site, remedy="check the site table"
            )
        return reply


def _size(request: Request) -> int:
    """Bytes of a request's arrays, about."""
    return sum(np.asarray(getattr(request, name)).nbytes for name in request.tensors)


def _fits(request: Message, reply: Message) -> bool:
    """Whether the reply repeats what was asked and has its shapes: a late answer to another round must not count."""
    repeated = all(
        getattr(reply, name) == getattr(request, name)
        for name in ("round", "label", "split", "setup", "session")
        if name in type(request).model_fields and name in type(reply).model_fields
    )
    shaped = all(
        getattr(reply, answer).shape == getattr(request, asked).shape
        for asked, answer in (("weights", "weights"), ("probe", "sketch"), ("beta", "gradient"))
        if asked in request.tensors and answer in reply.tensors
    )
    exact = all(np.shape(getattr(reply, name)) == shape for name, shape in shapes_of(reply, request).items())
    return repeated and shaped and exact
