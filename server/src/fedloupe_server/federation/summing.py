"""Sums over sites: what the coordinator gets to see of answers that are only ever added.

    total = talk.sums.all(sites, lambda header: DescribeRequest(**header), DescribeReply)      # a DescribeReply
    part = talk.sums.willing(sites, make, CalibrateReply, "the calibration")                   # reply and sites
    part = talk.sums.quorum(sites, make, TrainReply)

A sum comes as an answer of the same kind, from a site called `all`. Under `aggregation: secure` each answer arrives as
random numbers, and the masks come off the sum alone, once the caller's rule for missing sites is met
(`fedloupe.masking`). Under `aggregation: plain` answers arrive as they are and are added here, as the same integers:
both ways give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

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
    UnmaskReply,
    UnmaskRequest,
    encode,
)
from fedloupe_server.federation.adding import Adding
from fedloupe_server.federation.asking import LOST, UNSAFE, Asking
from fedloupe_server.federation.journal import JournalDamaged, write_atomic
from fedloupe_server.federation.setups import Setup, Setups, TooFewForSum
from fedloupe_server.federation.waiting import Rule, a_round, any_of, everyone

if TYPE_CHECKING:
    from fedloupe_server.federation.conversation import Conversation

R = TypeVar("R", bound=Message)
Make = Callable[[dict[str, Any]], Request]
UNMASK_S = 120.0
"""Seconds to wait for shares: a site has nothing to work out for them."""


class MasksRemain(FedLoupeError):
    """Too few sites gave the shares that take a sum's masks off, or these do not fit."""

    code = "FL-727"
    title = "a secure sum could not be unmasked"


@dataclass(frozen=True)
class Summed(Generic[R]):
    """A sum, the sites in it, and what they say they spent of their privacy budget.

    Attributes:
        carried: those of the sites whose answer is one to an earlier round.
        late: sites at work that were not waited for.
        seconds: that each answer took.
    """

    reply: R
    sites: tuple[str, ...]
    epsilon: dict[str, float] = field(default_factory=dict)
    carried: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    def timed(self, asking: Asking[Any]) -> Self:
        """With what the asking says of time."""
        return replace(self, late=asking.late, seconds=dict(sorted(asking.seconds.items())))


@dataclass(frozen=True)
class Carried(Generic[R]):
    """Answers to an earlier round that are added to this one.

    Attributes:
        requests: of the earlier round, by site.
        moved: makes of its answer one that this round can add.
    """

    requests: Mapping[str, Request]
    moved: Callable[[R], R]


class _SetupLost(Exception):
    """A site does not hold the set-up any more."""


class Sums:
    """Adds up answers of one run's sites.

    A site helps to unmask one request over one set of sites only. So that set is written down before the masks come
    off, and a run that goes on after a crash asks these sites for it again, and no others.

    Args:
        talk: to the sites.
        path: of the file with those sets; None: nothing is kept, as where there is no run's folder.
    """

    def __init__(self, talk: Conversation, path: Path | None = None) -> None:
        self._talk, self._path = talk, path
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
        permit: Callable[[Mapping[str, object]], None],
        rule: Rule | None = None,
        carried: Carried[R] | None = None,
    ) -> Summed[R]:
        there = self._talk.there(sites)
        requests = {site: make(self._talk.header(site)) for site in there}
        rule = rule or everyone(self._talk.study.quorum, there)
        if self._talk.study.aggregation == "plain":
            return self._plainly(requests, expected, permit, rule, carried)
        try:
            return self._secretly(requests, expected, permit, rule)
        except _SetupLost:
            self._setups.forget()  # once: a site that loses the next one as well has a fault of its own
        return self._secretly(requests, expected, permit, rule, again=True)

    def _plainly(
        self,
        requests: Mapping[str, Request],
        expected: type[R],
        permit: Callable[[Mapping[str, object]], None],
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
        return replace(found, carried=tuple(site for site in found.sites if site in late)).timed(asking)

    def _term(self, site: str, reply: Message) -> tuple[Term, dict[str, tuple[int, ...]]]:
        try:
            return term_of(reply, equal=self._equal)  # type: ignore[arg-type]
        except NotSummable as error:
            raise NotSummable(f"{site}: {error.what}", where=self._talk.run, remedy=error.remedy) from None

    def _secretly(
        self,
        requests: Mapping[str, Request],
        expected: type[R],
        permit: Callable[[Mapping[str, object]], None],
        rule: Rule,
        *,
        again: bool = False,
    ) -> Summed[R]:
        talk = self._talk
        digest = sum_digest(next(iter(requests.values())))
        if before := self._contributors().get(digest):
            requests = {site: request for site, request in requests.items() if site in before}
            rule = replace(rule, must=frozenset(before), may=frozenset(), minimum=len(before))
        setup = self._setups.fitting(tuple(sorted(requests)), rule.without_work())
        asked = {site: request for site, request in requests.items() if site in setup.members}
        session = setup.used
        setup.used += 1
        asking, adding = self._masked(asked, expected, setup, session, rule)
        if not again and any(talk.refusals.get(site, "").startswith(LOST) for site in asked):
            raise _SetupLost
        contributors = adding.sites
        if before is None:
            permit(adding.epsilon)
        elif list(contributors) != before:
            raise MasksRemain(
                f"this was added up over {', '.join(before)} before a crash, and is over no other sites. "
                f"Missing: {talk.missing(before, contributors)}",
                where=talk.run,
                remedy="see to the sites named and start the run again: it continues",
            )
        if LEAST <= len(contributors) < least_of(len(setup.members)):  # enough for a sum of their own: nothing is open
            self._setups.forget()
            own = {site: requests[site] for site in contributors}
            return self._secretly(own, expected, permit, rule, again=again)
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
        self._note(digest, contributors)
        opened = self._opened(setup, session, digest, contributors)
        try:
            total = unmask(
                adding.running.total,
                setup.name,
                session,
                digest,
                setup.members,
                setup.masks[:, session],
                contributors,
                opened,
            )
        except ValueError as error:
            raise self._none(contributors, expected, error) from None
        return self._summed(asked, expected, adding, total).timed(asking)

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
        self, setup: Setup, session: int, digest: str, contributors: tuple[str, ...]
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
            if not replies and all(talk.refusals.get(member) != "no answer" for member in contributors):
                self._note(digest, None)  # nothing was opened and nothing will be: another set may be
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

    def _contributors(self) -> dict[str, list[str]]:
        """The sites of each sum that was opened, by the digest of what was asked."""
        if self._path is None or not self._path.exists():
            return {}
        try:
            return TypeAdapter(dict[str, list[str]]).validate_json(self._path.read_bytes())
        except ValidationError:
            raise JournalDamaged(
                "the sites of earlier sums cannot be read", where=str(self._path), remedy="restore it from a backup"
            ) from None

    def _note(self, digest: str, contributors: tuple[str, ...] | None) -> None:
        if self._path is not None:
            kept = {**self._contributors(), digest: list(contributors or ())}
            kept = {name: sites for name, sites in kept.items() if sites}
            write_atomic(self._path, (json.dumps(kept, indent=0) + "\n").encode())
