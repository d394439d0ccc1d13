"""The only door in and out of a hospital.

    gate = Gate(home, site="north")
    try:
        opened = gate.unseal(blob)
        request, study = gate.admit(opened.inner, opened.seal.coordinator)
        answer = gate.stored_answer(request) or work(request, study)     # work ends with gate.release
    except FedLoupeError as error:
        answer = gate.refuse(error, request)

What leaves is in `leaving`. Whatever goes wrong inside is a refusal; every passage and every refusal is a line of the
audit chain.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np

from fedloupe.contributing import CONTRIBUTING
from fedloupe.errors import FedLoupeError
from fedloupe.freezing import Seal
from fedloupe.masking import sum_digest
from fedloupe.messages import (
    AssessRequest,
    HelloRequest,
    KeysRequest,
    Message,
    MessageRefused,
    OpenReply,
    OpenRequest,
    Reply,
    Request,
    ScoresRequest,
    SealedRequest,
    SharesRequest,
    SumRequest,
    UnmaskRequest,
    decode,
)
from fedloupe.study import Study
from fedloupe_client.gate import rules, unsealing
from fedloupe_client.gate.approvals import approved_study
from fedloupe_client.gate.assessing import judged_as
from fedloupe_client.gate.errors import GateFault, KindNotAllowed, RoundRefused, StudyNotApproved
from fedloupe_client.gate.leaving import Outgoing, digest_of
from fedloupe_client.gate.passages import fault
from fedloupe_client.gate.policy import load_policy
from fedloupe_client.gate.seals import Opened, Seals
from fedloupe_client.gate.signed import sign_daily
from fedloupe_client.gate.sums import SecureSums


class Gate(Outgoing):
    """One site's gate. Policy and approvals are read again at every passage, so a change is in force at once.

    Args:
        home: the site's home folder.
        site: the site's name, as in `site.yaml`.
    """

    def __init__(self, home: Path, site: str) -> None:
        super().__init__(home, site)
        self._seals = Seals(home, site)
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

    def set_up(self, request: KeysRequest | SharesRequest | UnmaskRequest | OpenRequest, study: Study) -> bytes:
        """The answer to a step of a secure sum: public keys, sealed shares, shares that unmask a sum; or to a seal.

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
            case OpenRequest():
                header = {name: getattr(request, name) for name in Message.model_fields}
                reply = OpenReply(**header, seal=Seal.parse(request.seal).digest)
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

    def _check(self, request: Request, coordinator: str, *, summed: bool = False) -> Study:
        rules.check_sender(request, self.site)
        policy = load_policy(self._home)
        self._decisions.check_open(policy)
        try:
            study = approved_study(self._home, request.fingerprint)
        except StudyNotApproved as error:
            raise self._decisions.unapproved(request, coordinator, error) from None
        digest = digest_of(request)
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
        if isinstance(request, CONTRIBUTING) or rules.makes_own(request):
            self._runs.take_part(request.run, rules.counted(request), digest, study.fingerprint)
        if study.role(self.site) == "validate":
            self._check_sealed(request, study, coordinator)
        if isinstance(request, ScoresRequest | AssessRequest):
            self._check_once(request)
        return study

    def _check_once(self, request: ScoresRequest | AssessRequest) -> None:
        if not self._runs.judged(request.run, *judged_as(request)):
            raise RoundRefused(
                f"`{request.kind}` at another threshold or of another model than before in this run",
                where=f"run {request.run}",
                remedy="find out why the coordinator asked again; a new run has another name",
            )

    def _check_sealed(self, request: Request, study: Study, coordinator: str) -> None:
        """A site that only validates keeps the run's seal first, and then answers what is as sealed."""
        unsealing.check_memory(self._runs.gave_to(request.run, {study.fingerprint}))
        if isinstance(request, HelloRequest):
            return
        seal = kept = self._runs.seal(request.run)
        if isinstance(request, OpenRequest):
            seal = unsealing.read(request, study, coordinator, kept)
        if seal is None:
            raise unsealing.not_sealed(request)
        unsealing.check_memory(self._runs.gave_to(seal.run, {seal.fingerprint}))
        unsealing.check_external(seal, self.site)
        if isinstance(request, OpenRequest):
            self._runs.keep_seal(request.run, seal)
        else:
            unsealing.check_of(seal, study, request)
            unsealing.check_as_sealed(request, seal)


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
