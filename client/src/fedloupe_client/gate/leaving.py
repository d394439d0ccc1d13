"""What leaves a hospital: paid for, looked at, kept, recorded, and let out by what holds at that moment.

    entry = out.intend(request, spend)                     # under DP, before anything is trained
    blob = out.release(reply, request, entry=entry)        # kept on disk before it leaves
    blob = out.stored_answer(request)                      # asked again, also after a restart: the same, checked anew
    blob = out.refuse(error, request)                      # a code and its fixed title, and nothing else

What comes in is in `gate`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import fedloupe
from fedloupe.errors import FedLoupeError
from fedloupe.messages import (
    Failure,
    GrowRequest,
    Message,
    MessageRefused,
    Reply,
    Request,
    TrainReply,
    TrainRequest,
    Working,
    decode,
    encode,
)
from fedloupe.privacy import Spend
from fedloupe.study import DpSgd
from fedloupe_client.gate import disclosure
from fedloupe_client.gate.approvals import approved_study
from fedloupe_client.gate.decisions import Decisions
from fedloupe_client.gate.errors import AlreadyAnswered, CoordinatorUnknown, GateFault, PaidAndFailed, ReplyRefused
from fedloupe_client.gate.ledger import Ledger
from fedloupe_client.gate.passages import Passages, fault
from fedloupe_client.gate.policy import load_policy
from fedloupe_client.gate.runs import Runs
from fedloupe_client.gate.trust import trusted

_NOBODY = "0" * 64


class Outgoing:
    """The half of one site's gate that looks at what leaves.

    Args:
        home: the site's home folder.
        site: the site's name, as in `site.yaml`.
    """

    def __init__(self, home: Path, site: str) -> None:
        self.site = site
        self.ledger = Ledger(home)
        self._home = home
        self._passages = Passages(home)
        self._decisions = Decisions(home)
        self._runs = Runs(home)

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
        if self._runs.answer(request.run, digest_of(request)) is not None:
            raise AlreadyAnswered(
                "the answer to this request is stored", where=f"run {request.run}", remedy="send the stored answer"
            )
        if (path := self._runs.failed(request.run, digest_of(request))) is not None:
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
        self._runs.fail(request.run, digest_of(request), f"{type(error).__name__}: {error}")

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

        It is kept as it was worked out, before it leaves, and where it may not leave now: asked later, it is there.

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
            blob, whole = encode(checked), encode(reply)
            decode(blob)  # what the coordinator would not accept, such as weights that are not finite, does not leave
            self._keep(request, whole, entry)
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

    def stored_answer(self, request: Request, *, summed: bool = False, coordinator: str = "") -> bytes | None:
        """The answer that was worked out for this very request, also before a restart; None where there is none.

        What was worked out is looked at anew, by the policy of now: what it holds back since then is taken out.

        Args:
            request, summed, coordinator: as in `release`.

        Raises:
            AnswerDamaged: the file on disk is no longer a message.
            GateRefused: as `release`.
        """
        blob = self._runs.answer(request.run, digest_of(request))
        if blob is None or isinstance(request, GrowRequest):  # no answer says how few patients a leaf of it has
            return None
        reply = decode(blob)
        assert isinstance(reply, Reply), "what was stored is an answer"
        try:
            study = approved_study(self._home, request.fingerprint)
            checked = disclosure.protect(reply, request, study, load_policy(self._home))
            if not summed:
                self._check_leaving(coordinator)
        except FedLoupeError as error:
            raise self._held_back(request, error) from None
        if isinstance(request, TrainRequest) and isinstance(study.privacy, DpSgd):
            self._confirm(request)
        blob = encode(checked)
        if not summed:
            self._passages.log("out", checked, blob, outcome="repeated")
        return blob

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

    def tell(self, working: Working) -> bytes:
        """That the site is at work on a request: a stage's name, a share and seconds, recorded like all that leaves."""
        return self._out(working)

    def _out(self, reply: Reply) -> bytes:
        blob = encode(reply)
        self._passages.log("out", reply, blob)
        return blob

    def _check_trust(self, coordinator: str) -> None:
        if coordinator and coordinator not in trusted(self._home):
            raise CoordinatorUnknown(
                "this coordinator is trusted no longer", remedy="a kit of it, compared by telephone, would change that"
            )

    def _check_leaving(self, coordinator: str) -> None:
        """Nobody paused the site or ended the trust while it worked."""
        self._decisions.check_open(load_policy(self._home))
        self._check_trust(coordinator)

    def _keep(self, request: Request, blob: bytes, entry: int | None) -> None:
        """On disk, then confirm the ledger's row. Failures are not kept: the next try may succeed."""
        self._runs.store(request.run, digest_of(request), blob)
        if entry is not None:
            self.ledger.confirm(entry)

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

    def _held_back(self, request: Request, error: FedLoupeError, entry: int | None = None) -> FedLoupeError:
        """Note in the chain that an answer did not leave; one that was paid for and is not kept is given up."""
        if entry is not None and self._runs.answer(request.run, digest_of(request)) is None:
            self.give_up(request, error)
        self._passages.note("local", "held-back", request, error.code)
        return error


def digest_of(request: Request) -> str:
    """SHA-256 of a request's bytes, hex: under it its answer is kept."""
    return hashlib.sha256(encode(request)).hexdigest()
