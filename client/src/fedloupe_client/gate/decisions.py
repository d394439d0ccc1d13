"""What people at the site decided: pause and resume, approve and deny, withdraw; and what the gate makes of it.

    decisions = Decisions(home)
    decisions.check_open(policy)                       # Paused, OutsideHours
    decisions.check(request, policy, coordinator)      # Denied, AwaitsDecision

    pause(home, by="Dr Ito", reason="ethics board meets")
    decide(home, "3f2a90c1d4e5", "approved", by="Dr Ito")
    withdraw(home, fingerprint, by="Dr Ito")

Each decision is a line of the audit chain before it is in force.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from fedloupe.messages import GrowRequest, Request, TrainRequest
from fedloupe_client.gate.audit import Audit
from fedloupe_client.gate.disk import gate_folder, sync_folder, write_atomic
from fedloupe_client.gate.errors import (
    ApprovalDamaged,
    AwaitsDecision,
    Denied,
    NothingOfThatName,
    OutsideHours,
    Paused,
    StudyNotApproved,
)
from fedloupe_client.gate.inbox import SHORT, Asked, Inbox, Item, Level
from fedloupe_client.gate.policy import Policy

_WAITS = "`fedloupe-site inbox` lists it; approve or deny it there"


class Decisions:
    """Applies to requests what people decided.

    Args:
        home: the site's home folder.
        clock: gives the local time.
    """

    def __init__(self, home: Path, clock: Callable[[], datetime] = datetime.now) -> None:
        self._home, self._clock = home, clock
        self._inbox = Inbox(home)

    def check_open(self, policy: Policy) -> None:
        """The site answers at all, now.

        Raises:
            Paused: somebody paused it.
            OutsideHours: the policy answers at other hours.
        """
        if (found := paused(self._home)) is not None:
            raise Paused(f"since {found['when']} by {found['by']}", remedy="`fedloupe-site resume HOME` ends it")
        if not policy.open_at(self._clock()):
            raise OutsideHours(f"answers only {', '.join(policy.hours)}", remedy="wait, or change `hours`")

    def unapproved(self, request: Request, coordinator: str, error: StudyNotApproved) -> StudyNotApproved | Denied:
        """Why a request of a study that is not approved is refused; the study is noted for a person."""
        asked = self._inbox.note(Item.of(request, "study", coordinator))
        return _denied(asked) if asked.decision == "denied" else error

    def check(self, request: Request, policy: Policy, coordinator: str, *, summed: bool = False) -> None:
        """Run and round are approved as the policy asks, and nobody denied them.

        Args:
            request: of an approved study.
            policy: of the site.
            coordinator: public key of who asks.
            summed: it came in a sum's request, whose run was checked already.

        Raises:
            Denied: a person said no.
            AwaitsDecision: a person must say yes first.
        """
        levels: list[Level] = [] if summed else ["run"]
        if policy.approval == "round" and isinstance(request, TrainRequest | GrowRequest):
            levels.append("round")
        for level in levels:
            asked = self._inbox.note(Item.of(request, level, coordinator))
            if asked.decision == "denied":
                raise _denied(asked)
            if policy.approval != "study" and asked.decision != "approved":
                raise AwaitsDecision(f"{level} {asked.item.short} of run {request.run}", remedy=_WAITS)


def decide(home: Path, name: str, decision: Literal["approved", "denied"], *, by: str, reason: str = "") -> Asked:
    """Approve or deny an item of the inbox; in force with the next request. Whoever denies a study withdraws it too.

    Args:
        home: the site's home folder.
        name: of the item, or its first twelve digits or more.
        decision: what was decided.
        by: who decided.
        reason: why; stays here.

    Raises:
        NothingOfThatName: no such item, several, or a study that is to be approved, which is done by its file.
        InboxDamaged: see there.
    """
    inbox = Inbox(home)
    found = [asked.item for asked in inbox.items() if len(name) >= SHORT and asked.item.name.startswith(name)]
    if len(found) != 1:
        raise NothingOfThatName(
            f"{len(found)} items begin with `{name}`" if found else f"no item `{name}`",
            where=str(inbox.path),
            remedy="see `fedloupe-site inbox HOME`; `--json` shows all digits",
        )
    item = found[0]
    if item.level == "study" and decision == "approved":
        raise NothingOfThatName(
            "a study is approved by its file", where=name, remedy="`fedloupe-site approve HOME STUDY`, after reading it"
        )
    kind = "approve" if decision == "approved" else "deny"
    _record(home, kind, item.run or item.fingerprint[:12], {"item": item.name, "by": by, "reason": reason})
    decided = inbox.decide(item.name, decision, by=by, reason=reason)
    if item.level == "study" and (home / "gate" / "approved" / f"{item.fingerprint}.json").exists():
        withdraw(home, item.fingerprint, by=by, reason=reason)
    return decided


def withdraw(home: Path, fingerprint: str, *, by: str, reason: str = "") -> str:
    """Take an approval back: the study's requests are refused from the next one on, its runs' approvals with it.

    Args:
        home: the site's home folder.
        fingerprint: of the study, or its first eight digits or more.
        by: who decided.
        reason: why; stays here.

    Returns:
        The study's whole fingerprint.

    Raises:
        NothingOfThatName: no approved study begins so, or several do.
    """
    folder = home / "gate" / "approved"
    found = sorted(folder.glob(f"{fingerprint}*.json")) if re.fullmatch(r"[0-9a-f]{8,64}", fingerprint) else []
    if len(found) != 1:
        raise NothingOfThatName(
            f"{len(found)} approved studies begin with `{fingerprint}`",
            where=str(folder),
            remedy="name the fingerprint that `fedloupe-site inbox HOME` shows, at least eight digits",
        )
    path = found[0]
    _record(home, "withdraw", path.stem[:12], {"study": path.stem, "by": by, "reason": reason})
    Inbox(home).reopen(path.stem)
    path.replace(gate_folder(home, "withdrawn") / path.name)
    sync_folder(folder)
    return path.stem


def pause(home: Path, *, by: str, reason: str = "") -> None:
    """Answer nothing until `resume`; what is being worked on is finished and stays here."""
    content = {"by": by, "reason": reason, "when": datetime.now(UTC).isoformat(timespec="seconds")}
    _record(home, "pause", "", content)
    write_atomic(gate_folder(home) / "paused.json", (json.dumps(content, ensure_ascii=False) + "\n").encode())


def resume(home: Path, *, by: str) -> None:
    """Answer again.

    Raises:
        NothingOfThatName: the site is not paused.
    """
    path = home / "gate" / "paused.json"
    if not path.exists():
        raise NothingOfThatName("the site is not paused", where=str(path), remedy="nothing to do")
    _record(home, "resume", "", {"by": by})
    path.unlink()
    sync_folder(path.parent)


def paused(home: Path) -> dict[str, str] | None:
    """Who paused the site, why and when; None where it answers.

    Raises:
        ApprovalDamaged: the file says nothing; the site counts as paused.
    """
    path = home / "gate" / "paused.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {name: str(content[name]) for name in ("by", "reason", "when")}
    except FileNotFoundError:  # and not looked for first: somebody may resume between the two
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ApprovalDamaged(
            f"not a record of a pause: {type(error).__name__}", where=str(path), remedy="`fedloupe-site resume HOME`"
        ) from None


def waits(asked: Asked, policy: Policy, studies: Collection[str]) -> bool:
    """Whether a person must decide before this item is answered.

    Args:
        asked: an item of the inbox.
        policy: of the site.
        studies: fingerprints of approved studies.
    """
    if asked.decision != "open":
        return False
    if asked.item.level == "study":
        return asked.item.fingerprint not in studies
    needed = {"study": (), "run": ("run",), "round": ("run", "round")}[policy.approval]
    return asked.item.level in needed and asked.item.fingerprint in studies


def _denied(asked: Asked) -> Denied:
    return Denied(
        f"{asked.item.level} {asked.item.short}, by {asked.by} on {asked.decided}: {asked.reason or 'no reason given'}",
        remedy="`fedloupe-site approve` changes it",
    )


def _record(home: Path, kind: str, run: str, content: dict[str, str]) -> None:
    """In the chain before it is in force; names and reasons stay in the site's own files."""
    said = json.dumps(content, sort_keys=True, ensure_ascii=False).encode()
    digest = hashlib.sha256(said).hexdigest()
    Audit(home).append(direction="local", kind=kind, run=run, size=len(said), digest=digest)
