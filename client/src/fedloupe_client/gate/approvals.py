"""Which studies this hospital agreed to: one file a study, named by its fingerprint, checked at every use.

    approve(home, load_study(path), by="Dr Ito")
    study = approved_study(home, request.fingerprint)

To withdraw an approval, delete its file in `gate/approved`.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fedloupe.study import Study, StudyInvalid, parse_study
from fedloupe_client.gate.audit import Audit
from fedloupe_client.gate.disk import gate_folder, write_atomic
from fedloupe_client.gate.errors import ApprovalDamaged, StudyNotApproved


@dataclass(frozen=True, slots=True)
class Approval:
    """One approved study.

    Attributes:
        study: as approved.
        by: who approved.
        when: UTC, ISO 8601.
    """

    study: Study
    by: str
    when: str


def approve(home: Path, study: Study, by: str) -> Approval:
    """Record that the site agrees to this study; approving again renews name and date.

    Args:
        home: the site's home folder.
        study: what the officer read.
        by: who approves.
    """
    approval = Approval(study, by, datetime.now(UTC).isoformat(timespec="seconds"))
    record = {
        "fingerprint": study.fingerprint,
        "by": approval.by,
        "when": approval.when,
        "study": study.model_dump(mode="json"),
    }
    data = (json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
    # The chain first: an approval that is in force is always one that the chain knows.
    Audit(home).append(
        direction="local", kind="approve", run=study.study, size=len(data), digest=hashlib.sha256(data).hexdigest()
    )
    write_atomic(gate_folder(home, "approved") / f"{study.fingerprint}.json", data)
    return approval


def approved(home: Path) -> dict[str, Approval]:
    """All approvals by fingerprint.

    Raises:
        ApprovalDamaged: a file in the folder is not what its name says.
    """
    found = {path.stem: _read(path) for path in sorted((home / "gate" / "approved").glob("*.json"))}
    return {fingerprint: approval for fingerprint, approval in found.items() if approval is not None}


def approved_study(home: Path, fingerprint: str) -> Study:
    """The approved study with this fingerprint, hashed again from what is on disk.

    Raises:
        StudyNotApproved: no such approval.
        ApprovalDamaged: the file does not hold the study of this fingerprint.
    """
    path = home / "gate" / "approved" / f"{fingerprint}.json"
    approval = _read(path) if re.fullmatch(r"[0-9a-f]{64}", fingerprint) else None
    if approval is None:
        raise StudyNotApproved(
            f"no approval for study {fingerprint[:12]}",
            where=str(path.parent),
            remedy="read the study, then approve it",
        )
    return approval.study


def _read(path: Path) -> Approval | None:
    """An approval; None where there is none, as when it is withdrawn just now."""
    remedy = "find out who changed the file, delete it, and approve the study again"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        approval = Approval(parse_study(record["study"], str(path)), str(record["by"]), str(record["when"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError, OSError, StudyInvalid) as error:
        raise ApprovalDamaged(
            f"not an approval: {type(error).__name__}: {error}", where=str(path), remedy=remedy
        ) from None
    if approval.study.fingerprint != path.stem or record.get("fingerprint") != path.stem:
        raise ApprovalDamaged(
            f"the file holds study {approval.study.fingerprint[:12]}, its name says {path.stem[:12]}",
            where=str(path),
            remedy=remedy,
        )
    return approval
