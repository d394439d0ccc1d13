"""Asking sites: every request to every site at once, again where a site was silent, and the quorum at the end.

conversation = Conversation(study, exchange, run="demo")
replies = conversation.ask_all(study.train_sites, lambda header: HelloRequest(**header), HelloReply)
total = conversation.sums.all(study.train_sites, lambda header: DescribeRequest(**header), DescribeReply)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fedloupe import __version__
from fedloupe.errors import FedLoupeError
from fedloupe.messages import TOO_FEW, Failure, Message, MessageRefused, Request, decode, encode
from fedloupe.scoring import shapes_of
from fedloupe.statistics import shapes
from fedloupe.study import Study
from fedloupe_server.federation.exchange import Exchange, Outbox
from fedloupe_server.federation.summing import Sums

R = TypeVar("R", bound=Message)


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

    Attributes:
        refusals: the latest refusal of each site, as `code title`.
        sums: of answers that are only ever added.
    """

    def __init__(self, study: Study, exchange: Exchange, run: str, folder: Path | None = None) -> None:
        self.study, self.run = study, run
        self._exchange = exchange
        self._covariates = len(study.harmonisation.covariates) if study.harmonisation else 0
        self.refusals: dict[str, str] = {}
        self.sums = Sums(self, folder / "sums.json" if folder else None)

    def header(self, site: str) -> dict[str, Any]:
        """The fields that every request to this site shares."""
        return {"version": __version__, "fingerprint": self.study.fingerprint, "run": self.run, "site": site}

    def ask(
        self,
        requests: Mapping[str, Request],
        expected: type[R],
        *,
        timeout_s: float | None = None,
        enough: int | None = None,
    ) -> dict[str, R]:
        """All replies to these requests by site, in sorted order; arguments as in `replies`.

        For answers that are needed one by one: what is only added up takes them as they come.
        """
        return dict(sorted(self.replies(requests, expected, timeout_s=timeout_s, enough=enough)))

    def replies(
        self,
        requests: Mapping[str, Request],
        expected: type[R],
        *,
        timeout_s: float | None = None,
        enough: int | None = None,
        wrap: Callable[[Request], Request] = lambda request: request,
    ) -> Iterator[tuple[str, R]]:
        """Ask these sites; repeat for the silent ones as often as the study allows.

        Args:
            requests: by site.
            expected: kind of the answers.
            timeout_s: seconds to wait for them; as the study says where None.
            enough: answers after which nobody is asked again; all where None.
            wrap: makes of a request what is sent.

        Yields:
            Sites and their replies as these come. Sites that stayed silent or refused are not among them, and
            `refusals` says why.

        Raises:
            WrongAnswer: a reply of another kind or from another site, run or study.
        """
        waiting, came = dict(requests), 0
        for attempt in range(self.study.quorum.attempts):
            if attempt:
                time.sleep(self.study.quorum.retry_after_s)  # a site that restarts needs a moment
            outbox = Outbox(sorted(waiting), lambda site: encode(wrap(requests[site])))
            for arrival in self._exchange(outbox, timeout_s or self.study.quorum.timeout_s):
                if arrival is None or arrival.blob is None:
                    continue
                site = arrival.site
                if site not in waiting:
                    raise WrongAnswer(f"{site} was not asked", where=site, remedy="check the site table")
                reply = self._read(site, arrival.blob)
                del arrival
                if isinstance(reply, Failure):
                    self.refusals[site] = f"{reply.code} {reply.title}"
                elif not isinstance(reply, expected):
                    raise self.wrong_answer(site, f"sent a {type(reply).__name__}")
                elif not self._fits(waiting[site], reply):
                    raise self.wrong_answer(site, "answered another request, or with arrays of another shape")
                else:
                    self.refusals.pop(site, None)
                    came += 1
                    yield site, reply
                del waiting[site], reply
            if not waiting or (enough is not None and came >= enough):
                break
        for site in waiting:
            self.refusals[site] = "no answer"

    def ask_all(
        self, sites: tuple[str, ...], make: Callable[[dict[str, Any]], Request], expected: type[R]
    ) -> dict[str, R]:
        """Ask each of these sites for the same thing; every one must answer.

        Raises:
            SiteRefused: naming each site that did not, and its code.
        """
        replies = self.ask({site: make(self.header(site)) for site in sites}, expected)
        self.require_all(replies, sites)
        return replies

    def require_all(self, answered: Mapping[str, object], sites: tuple[str, ...]) -> None:
        """Check that each of these sites answered.

        Raises:
            SiteRefused: naming each that did not, and its code.
        """
        if missing := [site for site in sites if site not in answered]:
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
        if silent := [site for site in sites if self.refusals.get(site) == "no answer"]:
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
        required = [site for site in quorum.required if site in sites and site not in answered]
        if required or len(answered) < min(quorum.minimum, len(sites)):
            raise QuorumNotMet(
                f"{len(answered)} of {len(sites)} sites answered, {quorum.minimum} needed"
                + (f", required sites missing: {', '.join(required)}" if required else "")
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

    def _fits(self, request: Message, reply: Message) -> bool:
        return _fits(request, reply) and shapes.fits(reply, request, self._covariates)

    def _read(self, site: str, blob: bytes) -> Message:
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
