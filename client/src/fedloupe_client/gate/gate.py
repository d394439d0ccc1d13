"""The only door in and out of a hospital.

    gate = Gate(home, site="north")
    try:
        opened = gate.unseal(blob)
        request, study = gate.admit(opened.inner, opened.seal.coordinator)
        answer = gate.stored_answer(request) or work(request, study)     # work ends with gate.release
    except FedLoupeError as error:
        answer = gate.refuse(error, request)

Whatever goes wrong inside is a refusal; every passage and every refusal is a line of the audit chain.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np

import fedloupe
from fedloupe.errors import FedLoupeError
from fedloupe.masking import sum_digest
from fedloupe.messages import (
    Failure,
    KeysRequest,
    Message,
    MessageRefused,
    Reply,
    Request,
    SealedRequest,
    SharesRequest,
    SumRequest,
    TrainReply,
    TrainRequest,
    UnmaskRequest,
    Working,
    decode,
    encode,
)
from fedloupe.privacy import Spend
from fedloupe.study import DpSgd, Study
from fedloupe_client.gate import disclosure, rules
from fedloupe_client.gate.approvals import approved_study
from fedloupe_client.gate.decisions import Decisions
from fedloupe_client.gate.errors import (
    AlreadyAnswered,
    CoordinatorUnknown,
    GateFault,
    KindNotAllowed,
    PaidAndFailed,
    ReplyRefused,
    StudyNotApproved,
)
from fedloupe_client.gate.ledger import Ledger
from fedloupe_client.gate.passages import Passages, fault
from fedloupe_client.gate.policy import load_policy
from fedloupe_client.gate.runs import Runs
from fedloupe_client.gate.seals import Opened, Seals
from fedloupe_client.gate.signed import sign_daily
from fedloupe_client.gate.sums import SecureSums
from fedloupe_client.gate.trust import trusted

_NOBODY = "0" * 64


class Gate:
    """One site's gate. Policy and approvals are read again at every passage, so a change is in force at once.

    Args:
        home: the site's home folder.
        site: the site's name, as in `site.yaml`.
    """

    def __init__(self, home: Path, site: str) -> None:
        self.site = site
        self.ledger = Ledger(home)
        self._home = home
        self._passages = Passages(home)
        self._seals = Seals(home, site)
        self._decisions = Decisions(home)
        self._runs = Runs(home)
        self._sums = SecureSums(home, site)
        self._signed: date | None = None

    def unseal(self, blob: bytes) -> Opened:
        """Look at a seal: what is not a known coordinator's own request, for this site, now and once, goes no further.

        Args:
            blob: as it came.

        Raises:
            MessageRefused: not a message.
            GateRefused: one subclass a reason.
        """
        seal: SealedRequest | None = None
        try:
            self._sign_the_day()
            seal = self._seals.read(blob)
            return self._seals.open(seal)
        except FedLoupeError as error:
            self._passages.log("in", seal, blob, outcome=error.code)
            raise
        except Exception as error:  # the wall: what nobody foresaw is a refusal too
            self._passages.log("in", seal, blob, outcome=GateFault.code)
            raise fault(error) from error

    def _sign_the_day(self) -> None:
        """The first passage of a day signs the chain as it was before."""
        today = datetime.now(UTC).date()
        if self._signed != today:
            sign_daily(self._home)
            self._signed = today

    def admit(self, blob: bytes, coordinator: str = "") -> tuple[Request, Study]:
        """Let a request in, or refuse it; either way it is in the audit chain.

        Args:
            blob: the request, as `unseal` gave it.
            coordinator: public key of who signed it; it may have waited in line, and trust may have ended meanwhile.

        Returns:
            The request and the study as this site approved it.

        Raises:
            MessageRefused: not a message.
            GateRefused: one subclass a reason.
        """
        message: Message | None = None  # of a sum's request, what it holds: that is what the audit chain names
        try:
            message = request = _request(blob)
            self._check_trust(coordinator)
            study = self._check(request, coordinator)
            if isinstance(request, SumRequest):
                message = asked = self.asked(request)
                self._check(asked, coordinator, summed=True)
        except FedLoupeError as error:
            self._passages.log("in", message, blob, outcome=error.code)
            raise
        except Exception as error:  # the wall: what nobody foresaw is a refusal too
            self._passages.log("in", message, blob, outcome=GateFault.code)
            raise fault(error) from error
        self._passages.log("in", message, blob)
        return request, study

    def asked(self, request: Request) -> Request:
        """What a request is about: itself, or what a sum's request holds.

        Raises:
            MessageRefused: a sum's request holds no message.
            KindNotAllowed: what it holds is no request, or one of another run, study or site.
        """
        if not isinstance(request, SumRequest):
            return request
        inner = _request(np.asarray(request.inner).tobytes())
        if any(getattr(inner, name) != getattr(request, name) for name in Message.model_fields):
            raise KindNotAllowed(
                "a sum's request holds one for another run, study or site",
                remedy="only a coordinator's requests are answered",
            )
        return inner

    def set_up(self, request: KeysRequest | SharesRequest | UnmaskRequest, study: Study) -> bytes:
        """The answer to a step of a secure sum: public keys, sealed shares, shares that unmask a sum.

        Raises:
            SumRefused, SetupUnknown: see there.
        """
        reply: Reply
        match request:
            case KeysRequest():
                reply = self._sums.keys(request)
            case SharesRequest():
                reply = self._sums.shares(request, study)
            case UnmaskRequest():
                reply = self._sums.unmask(request)
        return self._out(reply)

    def mask(self, request: SumRequest, study: Study, blob: bytes, coordinator: str = "") -> bytes:
        """An answer, as `release` or `stored_answer` gave it, as a term of a sum: what leaves are random numbers.

        Raises:
            SumRefused, SetupUnknown, NotSummable: see there.
            Paused, OutsideHours, CoordinatorUnknown: since the request came in.
        """
        reply = decode(blob)
        assert isinstance(reply, Reply), "what was stored is an answer"
        self._check_leaving(coordinator)
        return self._out(self._sums.mask(request, sum_digest(self.asked(request)), reply, study))

    def note_bundle(self, code: str, sha256: str, size: int) -> None:
        """Record that the courier refused an app bundle.

        Args:
            code: of the refusal.
            sha256: of the bundle, hex.
            size: its bytes.
        """
        self._passages.note("in", "bundle", None, code, size=size, digest=sha256)

    def tell(self, working: Working) -> bytes:
        """That the site is at work on a request: a stage's name, a share and seconds, recorded like all that leaves."""
        return self._out(working)

    def note_again(self, blob: bytes, answer: bytes | None = None) -> None:
        """Record a request that came while the same one was worked on, and the failure that it heard.

        Args:
            blob: the request, as `unseal` gave it.
            answer: a failure that it shares; None where it hears that the site is at work.
        """
        self._passages.log("in", _read(blob), blob, outcome="asked again")
        if answer is not None:
            failure = _read(answer)
            self._passages.log("out", failure, answer, outcome=str(getattr(failure, "code", "")))

    def _check_trust(self, coordinator: str) -> None:
        if coordinator and coordinator not in trusted(self._home):
            raise CoordinatorUnknown(
                "this coordinator is trusted no longer", remedy="a kit of it, compared by telephone, would change that"
            )

    def _check_leaving(self, coordinator: str) -> None:
        """Nobody paused the site or ended the trust while it worked."""
        self._decisions.check_open(load_policy(self._home))
        self._check_trust(coordinator)

    def _out(self, reply: Reply) -> bytes:
        blob = encode(reply)
        self._passages.log("out", reply, blob)
        return blob

    def _check(self, request: Request, coordinator: str, *, summed: bool = False) -> Study:
        rules.check_sender(request, self.site)
        policy = load_policy(self._home)
        self._decisions.check_open(policy)
        try:
            study = approved_study(self._home, request.fingerprint)
        except StudyNotApproved as error:
            raise self._decisions.unapproved(request, coordinator, error) from None
        digest = _digest(request)
        rules.check_request(
            request,
            study,
            policy,
            site=self.site,
            took_part=self._runs.took_part(request.run),
            asked=self._runs.contributions(request.run, rules.counted(request)),
            digest=digest,
            summed=summed,
        )
        self._decisions.check(request, policy, coordinator, summed=summed)
        if isinstance(request, rules.CONTRIBUTING) or rules.makes_own(request):
            self._runs.take_part(request.run, rules.counted(request), digest)
        return study

    def check_cohort(self, patients: int) -> None:
        """The site has enough training patients to contribute.

        Raises:
            CohortTooSmall: fewer than the policy asks.
            PolicyInvalid: see there.
        """
        disclosure.check_cohort(patients, load_policy(self._home))

    def check_cell(self, patients: int) -> None:
        """A group of training patients that an answer describes by a number of its own is large enough.

        Raises:
            CellTooSmall: smaller than the policy asks.
            PolicyInvalid: see there.
        """
        disclosure.check_cell(patients, load_policy(self._home))

    def check_budget(self, run: str, spend: Spend, rounds: int) -> None:
        """The site's budget covers the rest of a run of `rounds` such spends; to be asked before its first round.

        Raises:
            BudgetExceeded: nothing is spent.
            LedgerDamaged, PolicyInvalid: see there.
        """
        policy = load_policy(self._home)
        self.ledger.check_plan(run, spend, rounds, policy.epsilon_budget, policy.delta)

    def intend(self, request: TrainRequest, spend: Spend) -> int:
        """Write this round's spend into the ledger, before training, against the site's budget.

        Returns:
            The row's number, for `release`.

        Raises:
            AlreadyAnswered: the answer is stored: send that one; nothing is spent.
            PaidAndFailed: this very request was paid before, and what came of it could not leave; nothing is spent.
            BudgetExceeded: nothing is spent and nothing may be trained.
            LedgerDamaged, PolicyInvalid: see there.
        """
        if self._runs.answer(request.run, _digest(request)) is not None:
            raise AlreadyAnswered(
                "the answer to this request is stored", where=f"run {request.run}", remedy="send the stored answer"
            )
        if (path := self._runs.failed(request.run, _digest(request))) is not None:
            raise PaidAndFailed(
                f"round {request.round} was paid for and trained, and gave no answer that may leave",
                where=f"run {request.run}",
                remedy=f"see the site's log; delete {path} to let it be trained, and paid for, again",
            )
        policy = load_policy(self._home)
        return self.ledger.intend(
            request.run, request.round, request.fingerprint, spend, policy.epsilon_budget, policy.delta
        )

    def give_up(self, request: Request, error: Exception) -> None:
        """A paid round that gave no answer is not paid again each time somebody asks; a person may allow it."""
        self._runs.fail(request.run, _digest(request), f"{type(error).__name__}: {error}")

    def release(
        self,
        reply: Reply,
        request: Request,
        *,
        summed: bool = False,
        entry: int | None = None,
        coordinator: str = "",
    ) -> bytes:
        """Let an answer out: checked against the request, small cells suppressed, kept, recorded, encoded.

        It is kept before it leaves, and where it may not leave now: asked again later, it is there.

        Args:
            reply: what the site worked out.
            request: as admitted; what a sum's request holds.
            summed: the answer stays here: `mask` makes of it what leaves.
            entry: the ledger's row from `intend`, under DP.
            coordinator: whom it goes to.

        Raises:
            GateRefused: ReplyRefused, CohortTooSmall, CellTooSmall, or what holds for the study and policy now.
        """
        try:
            study = approved_study(self._home, request.fingerprint)
            checked = disclosure.protect(reply, request, study, load_policy(self._home))
            if isinstance(checked, TrainReply) and isinstance(study.privacy, DpSgd):
                self._check_paid(checked)
            blob = encode(checked)
            decode(blob)  # what the coordinator would not accept, such as weights that are not finite, does not leave
            self._keep(request, blob, entry)
            if not summed:
                self._check_leaving(coordinator)
        except MessageRefused as error:
            refused = ReplyRefused(error.what, remedy="see the site's log; nothing left")
            raise self._held_back(request, refused, entry) from None
        except FedLoupeError as error:
            raise self._held_back(request, error, entry) from None
        except Exception as error:  # the wall: what nobody foresaw is a refusal too
            raise self._held_back(request, fault(error), entry) from error
        self._passages.log("local" if summed else "out", checked, blob, outcome="to be summed" if summed else "ok")
        return blob

    def _confirm(self, request: TrainRequest) -> None:
        """The ledger's row of a stored answer, where a crash fell between the two."""
        rows = [r for r in self.ledger.entries() if (r.run, r.round) == (request.run, request.round)]
        if rows and not any(row.confirmed for row in rows):
            self.ledger.confirm(rows[-1].entry)

    def _check_paid(self, reply: TrainReply) -> None:
        rows = self.ledger.entries()
        if not any((r.run, r.round, r.study) == (reply.run, reply.round, reply.fingerprint) for r in rows):
            raise ReplyRefused(
                "weights of a private study whose round is not in the ledger",
                where=f"run {reply.run}, round {reply.round}",
                remedy="this is a fault of the site's software: report it; nothing left",
            )

    def refuse(self, error: Exception, request: Message | None = None) -> bytes:
        """An encoded `Failure`: the code and the class's fixed title, never what, where or remedy.

        Args:
            error: why; anything but a `FedLoupeError` becomes `GateFault`.
            request: what is refused, where it could be decoded.
        """
        kind = type(error) if isinstance(error, FedLoupeError) else GateFault
        failure = Failure(
            version=fedloupe.__version__,
            fingerprint=request.fingerprint if request else _NOBODY,
            run=request.run if request else "unknown",
            site=self.site,
            code=kind.code,
            title=kind.title,
        )
        blob = encode(failure)
        self._passages.log("out", failure, blob, outcome=kind.code)
        return blob

    def stored_answer(self, request: Request, *, summed: bool = False) -> bytes | None:
        """The bytes that this very request got before, also before a restart; None where there are none.

        They are looked at as any answer is, by the policy of now: what it holds back since then is taken out.

        Args:
            request: as in `release`.
            summed: as in `release`.

        Raises:
            AnswerDamaged: the file on disk is no longer a message.
            GateRefused: as `release`.
        """
        blob = self._runs.answer(request.run, _digest(request))
        if blob is None:
            return None
        reply = decode(blob)
        assert isinstance(reply, Reply), "what was stored is an answer"
        try:
            study = approved_study(self._home, request.fingerprint)
            checked = disclosure.protect(reply, request, study, load_policy(self._home))
        except FedLoupeError as error:
            raise self._held_back(request, error) from None
        if isinstance(request, TrainRequest) and isinstance(study.privacy, DpSgd):
            self._confirm(request)
        blob = encode(checked)
        if not summed:
            self._passages.log("out", checked, blob, outcome="repeated")
        return blob

    def _keep(self, request: Request, blob: bytes, entry: int | None) -> None:
        """On disk, then confirm the ledger's row. Failures are not kept: the next try may succeed."""
        self._runs.store(request.run, _digest(request), blob)
        if entry is not None:
            self.ledger.confirm(entry)

    def _held_back(self, request: Request, error: FedLoupeError, entry: int | None = None) -> FedLoupeError:
        """Note in the chain that an answer did not leave; one that was paid for and is not kept is given up."""
        if entry is not None and self._runs.answer(request.run, _digest(request)) is None:
            self.give_up(request, error)
        self._passages.note("local", "held-back", request, error.code)
        return error


def _read(blob: bytes) -> Message | None:
    try:
        return decode(blob)
    except MessageRefused:
        return None


def _request(blob: bytes) -> Request:
    message = decode(blob)
    if not isinstance(message, Request):
        raise KindNotAllowed(f"`{message.kind}` is no request", remedy="only a coordinator's requests are answered")
    return message


def _digest(request: Request) -> str:
    return hashlib.sha256(encode(request)).hexdigest()
