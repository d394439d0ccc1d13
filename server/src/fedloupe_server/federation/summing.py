"""Sums over sites: what the coordinator gets to see of answers that are only ever added.

    total = talk.sums.all(sites, lambda header: DescribeRequest(**header), DescribeReply)      # a DescribeReply
    part = talk.sums.willing(sites, make, CalibrateReply, "the calibration")                   # reply and sites
    part = talk.sums.quorum(sites, make, TrainReply)

A sum comes as an answer of the same kind, from a site called `all`. Under `aggregation: secure` each answer arrives as
random numbers, and the masks come off the sum alone, once the caller's rule for missing sites is met
(`fedloupe.masking`). Under `aggregation: plain` answers arrive as they are and are added here, as the same integers:
both ways give the same bytes.

A question that was opened once is answered from what was kept of it (`keeping`). One that was noted, and perhaps
opened, is asked again of the same sites, all of them, and waits for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedloupe.errors import FedLoupeError
from fedloupe.masking import (
    KEY,
    LEAST,
    NotSummable,
    Term,
    check_term,
    least_of,
    reply_of,
    sum_digest,
    term_of,
    threshold_of,
    unmask,
)
from fedloupe.messages import (
    TOO_FEW,
    Message,
    Request,
    SumReply,
    SumRequest,
    TrainReply,
    UnmaskReply,
    UnmaskRequest,
    encode,
)
from fedloupe.study import ClientDp
from fedloupe_server.federation.adding import Adding
from fedloupe_server.federation.asking import LOST, UNSAFE, Asking
from fedloupe_server.federation.keeping import KeptSums, Summed
from fedloupe_server.federation.setups import Setup, Setups, TooFewForSum
from fedloupe_server.federation.waiting import Rule, a_round, any_of, everyone

if TYPE_CHECKING:
    from fedloupe_server.federation.conversation import Conversation

R = TypeVar("R", bound=Message)
Make = Callable[[dict[str, Any]], Request]
Permit = Callable[[Mapping[str, object]], None]
UNMASK_S = 120.0
"""Seconds to wait for shares: a site has nothing to work out for them."""


class MasksRemain(FedLoupeError):
    """Too few sites gave the shares that take a sum's masks off, or these do not fit."""

    code = "FL-727"
    title = "a secure sum could not be unmasked"


@dataclass(frozen=True)
class Carried(Generic[R]):
    """Answers to an earlier round that are added to this one.

    Attributes:
        requests: of the earlier round, by site.
        moved: makes of its answer one that this round can add.
    """

    requests: Mapping[str, Request]
    moved: Callable[[R], R]


@dataclass(frozen=True)
class _Question(Generic[R]):
    """A secure sum that is asked for, and asked again where its set-up is lost.

    Attributes:
        expected: kind of the answers.
        permit: the caller's rule for missing sites.
        rule: whom to wait for.
        digest: of what is asked.
        before: the sites that it was to be opened over before a crash; None: there was none.
        seconds: that each site took, or was waited for, in the longest try: in the next one its answer lies ready.
    """

    expected: type[R]
    permit: Permit
    rule: Rule
    digest: str
    before: tuple[str, ...] | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def over(self, before: tuple[str, ...]) -> Self:
        """The same that waits for each of these sites: over others it may not be opened."""
        must, none = frozenset(before), frozenset[str]()
        rule = replace(self.rule, must=must, may=none, minimum=len(must), uncounted=none, welcomes=False)
        return replace(self, rule=rule, before=before)


class _SetupLost(Exception):
    """A site does not hold the set-up any more."""


class Sums:
    """Adds up answers of one run's sites.

    A site helps to unmask one request over one set of sites only. So that set is written down before the masks come
    off, and the sum once they are off: whoever asks the same again gets that sum, or, where there is none yet, has the
    same sites asked, and no others.

    Args:
        talk: to the sites.
        path: of the file with those sets; None: nothing is kept, as where there is no run's folder.

    Attributes:
        sites: in the latest sum.
    """

    def __init__(self, talk: Conversation, path: Path | None = None) -> None:
        self._talk, self._kept = talk, KeptSums(path)
        self.sites: tuple[str, ...] = ()
        self._equal = talk.study.training.weighting == "equal"
        self._setups = Setups(talk)

    def all(self, sites: tuple[str, ...], make: Make, expected: type[R]) -> R:
        """The sum over all of these sites.

        Args:
            sites: whom to ask.
            make: the request from its header, otherwise the same for every site.
            expected: kind of the answers.

        Raises:
            SiteRefused: a site is missing.
            TooFewForSum, MasksRemain, WrongAnswer: see there.
        """
        return self._sum(sites, make, expected, lambda answered: self._talk.require_all(answered, sites)).reply

    def willing(self, sites: tuple[str, ...], make: Make, expected: type[R], what: str) -> Summed[R]:
        """The sum over those of these sites that have enough tuning patients; none may be silent.

        Args:
            sites, make, expected: as in `all`.
            what: the tuning patients are for, for the error.

        Raises:
            SiteRefused: a site was silent or refused for another reason, or all have too few.
            TooFewForSum, MasksRemain, WrongAnswer: see there.
        """
        return self._sum(sites, make, expected, lambda answered: self._talk.require_willing(answered, sites, what))

    def quorum(
        self,
        sites: tuple[str, ...],
        make: Make,
        expected: type[R],
        rule: Rule | None = None,
        carried: Carried[R] | None = None,
    ) -> Summed[R]:
        """The sum over those of these sites that answered, if they are a quorum.

        Args:
            sites, make, expected: as in `all`.
            rule: whom to wait for; as in a first round where None.
            carried: answers to an earlier round that are added to this one.

        Raises:
            QuorumNotMet: naming who is missing and why.
            TooFewForSum, MasksRemain, WrongAnswer: see there.
        """
        rule = rule or a_round(self._talk.study, sites, ())
        return self._sum(
            sites,
            make,
            expected,
            lambda there: self._talk.require_quorum(there, self._talk.there(sites)),
            rule,
            carried,
        )

    def _sum(
        self,
        sites: tuple[str, ...],
        make: Make,
        expected: type[R],
        permit: Permit,
        rule: Rule | None = None,
        carried: Carried[R] | None = None,
    ) -> Summed[R]:
        talk = self._talk
        there = talk.there(sites)
        rule = rule or everyone(talk.study.quorum, there)
        if talk.study.aggregation == "plain":
            requests = {site: make(talk.header(site)) for site in there}
            found = self._plainly(requests, expected, permit, rule, carried)
        else:
            digest = sum_digest(make(talk.header(sites[0])))
            kept = self._kept.find(digest, expected)
            found = kept or self._asked(there, make, _Question(expected, permit, rule, digest))
        self.sites = found.sites
        return found

    def _asked(self, sites: tuple[str, ...], make: Make, question: _Question[R]) -> Summed[R]:
        """The sum over those of these sites that are there; over all of those of an earlier try where there was one."""
        if before := self._kept.sites(question.digest):
            sites, question = before, question.over(before)
        requests = {site: make(self._talk.header(site)) for site in sites}
        try:
            return self._secretly(question, requests)
        except _SetupLost:
            self._setups.forget()  # once: a site that loses the next one as well has a fault of its own
        return self._secretly(question, requests, again=True)

    def drop(self, kind: type[Message]) -> None:
        """Delete what is kept of sums of this kind of answers: the journal holds what was made of them."""
        self._kept.drop(kind)

    def _plainly(
        self,
        requests: Mapping[str, Request],
        expected: type[R],
        permit: Permit,
        rule: Rule,
        carried: Carried[R] | None,
    ) -> Summed[R]:
        late = {site: make for site, make in (carried.requests if carried else {}).items() if site in requests}
        asking = self._talk.replies({**requests, **late}, expected, rule)
        adding = Adding(self._talk)
        for site, reply in asking:
            if carried and site in late:
                reply = carried.moved(reply)  # noqa: PLW2901
            adding.add(site, *self._term(site, reply), getattr(reply, "epsilon", None))
            del reply  # before the next one is waited for
        permit({site: None for site in adding.sites if site not in late})
        found = self._summed(requests, expected, adding, adding.running.total)
        carried_in = tuple(site for site in found.sites if site in late)
        return replace(found, carried=carried_in, late=asking.late, seconds=dict(sorted(asking.seconds.items())))

    def _term(self, site: str, reply: Message) -> tuple[Term, dict[str, tuple[int, ...]]]:
        try:
            return term_of(reply, equal=self._equal)  # type: ignore[arg-type]
        except NotSummable as error:
            raise NotSummable(f"{site}: {error.what}", where=self._talk.run, remedy=error.remedy) from None

    def _secretly(self, question: _Question[R], requests: Mapping[str, Request], *, again: bool = False) -> Summed[R]:
        talk, rule, before = self._talk, question.rule, question.before
        setup = self._setups.fitting(tuple(sorted(requests)), rule.without_work())
        asked = {site: request for site, request in requests.items() if site in setup.members}
        if before and len(asked) < len(before) and not again:
            raise _SetupLost  # by one of those without whom it cannot be opened, while it was made
        session = setup.used
        setup.used += 1
        asking, adding = self._masked(asked, question.expected, setup, session, rule)
        for site, spent in asking.spent.items():
            question.seconds[site] = max(spent, question.seconds.get(site, 0.0))
        if not again and any(talk.refusals.get(site, "").startswith(LOST) for site in asked):
            raise _SetupLost
        contributors = adding.sites
        if before is None:
            question.permit(adding.epsilon)
        elif contributors != before:
            raise MasksRemain(
                f"this was added up over {', '.join(before)} before, and is over no other sites. "
                f"Missing: {talk.missing(before, contributors)}",
                where=talk.run,
                remedy="see to the sites named and start the run again: it continues",
            )
        if LEAST <= len(contributors) < least_of(len(setup.members)):  # enough for a sum of their own: nothing is open
            self._setups.forget()
            return self._secretly(question, {site: requests[site] for site in contributors}, again=again)
        if len(contributors) < LEAST:
            few = any(talk.refusals.get(site, "").startswith(TOO_FEW) for site in requests)
            raise TooFewForSum(
                f"{len(contributors)} of {len(setup.members)} sites answered, {LEAST} needed. "
                f"Missing: {talk.missing(requests, contributors)}",
                where=talk.run,
                remedy="raise `split.tune` in a new study: too few sites have enough tuning patients"
                if few
                else "see to the sites named and start the run again: it continues",
            )
        self._kept.note(question.digest, contributors)
        total = self._unmasked(question, setup, session, adding)
        took = {site: question.seconds[site] for site in contributors}
        summed = replace(self._summed(asked, question.expected, adding, total), late=asking.late, seconds=took)
        if not (isinstance(summed.reply, TrainReply) and isinstance(talk.study.privacy, ClientDp)):
            self._kept.keep(question.digest, summed)  # beside a round's noised model its sum would show the noise
        return summed

    def _unmasked(self, question: _Question[R], setup: Setup, session: int, adding: Adding) -> Term:
        """The sum without its masks."""
        opened = self._opened(question, setup, session, adding.sites)
        try:
            return unmask(
                adding.running.total,
                setup.name,
                session,
                question.digest,
                setup.members,
                setup.masks[:, session],
                adding.sites,
                opened,
            )
        except ValueError as error:
            raise self._none(adding.sites, question.expected, error) from None

    def _masked(
        self, requests: Mapping[str, Request], expected: type[R], setup: Setup, session: int, rule: Rule
    ) -> tuple[Asking[SumReply], Adding]:
        """The sum of the masked answers of those who answered."""
        talk, kind = self._talk, str(expected.model_fields["kind"].default)

        def wrap(request: Request) -> SumRequest:
            inner = np.frombuffer(encode(request), dtype=np.uint8)
            return SumRequest(**talk.header(request.site), setup=setup.name, session=session, inner=inner)

        adding = Adding(talk)
        asking = talk.replies(requests, SumReply, rule, wrap=wrap)
        for site, reply in asking:
            if (reply.setup, reply.session) != (setup.name, session):
                raise talk.wrong_answer(site, "answered another request, or with arrays of another shape")
            if reply.of != kind:
                raise talk.wrong_answer(site, f"sent a term of `{reply.of}`")
            term = Term(reply.wide, reply.narrow)
            try:
                check_term(term, reply.layout, expected)
            except ValueError as error:
                raise talk.wrong_answer(site, f"sent a term that is none: {error}") from None
            adding.add(site, term, reply.layout, reply.epsilon)
            del reply, term  # before the next one is waited for
        return asking, adding

    def _summed(self, requests: Mapping[str, Request], expected: type[R], adding: Adding, total: Term) -> Summed[R]:
        request = next(iter(requests.values()))
        try:
            reply = reply_of(total, adding.layout, expected, request, len(adding.sites), equal=self._equal)
        except ValueError as error:
            raise self._none(adding.sites, expected, error) from None
        self._talk.check_fit(request, reply)
        told = {site: value for site, value in sorted(adding.epsilon.items()) if value is not None}
        return Summed(reply, adding.sites, told)

    def _none(self, sites: tuple[str, ...], expected: type[R], error: ValueError) -> MasksRemain:
        return MasksRemain(
            f"the sum of {', '.join(sites)} makes no `{expected.model_fields['kind'].default}`: {error}",
            where=self._talk.run,
            remedy="run the same FedLoupe version everywhere; start the run again: it continues",
        )

    def _opened(
        self, question: _Question[R], setup: Setup, session: int, contributors: tuple[str, ...]
    ) -> dict[str, NDArray[np.uint8]]:
        """Shares from at least a threshold of members, of those who are in the sum."""
        talk, members = self._talk, setup.members
        needed = threshold_of(len(members))
        requests = {
            member: UnmaskRequest(
                **talk.header(member),
                setup=setup.name,
                session=session,
                contributors=contributors,
                boxes=np.stack([setup.boxes[sender][members.index(member), session] for sender in members]),
            )
            for member in contributors
        }
        replies = talk.ask(requests, UnmaskReply, any_of(needed, UNMASK_S))
        if len(replies) < needed:
            told = UNSAFE if question.before else "FL-"  # before a crash, who says something else may have opened it
            if not replies and all(talk.refusals.get(member, "").startswith(told) for member in contributors):
                self._kept.note(question.digest, None)  # nothing was opened and nothing will be: another set may be
            raise MasksRemain(
                f"{len(replies)} of {len(members)} sites gave shares, {needed} needed. "
                f"Missing: {talk.missing(members, replies)}",
                where=talk.run,
                remedy="these sites opened this request over other sites before, in this or another run: let the same "
                "sites take part as then, no more and no fewer, or change the study's `seed` (docs/secure-sums.md)"
                if any(talk.refusals.get(member, "").startswith(UNSAFE) for member in contributors)
                else "see to the sites named and start the run again: it continues",
            )
        for site, reply in replies.items():
            if np.shape(reply.shares) != (len(members), KEY):
                raise talk.wrong_answer(site, f"sent shares {np.shape(reply.shares)}")
        return {site: reply.shares for site, reply in replies.items()}
