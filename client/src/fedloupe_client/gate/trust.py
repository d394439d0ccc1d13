"""Which coordinators this hospital listens to: one file a key, `gate/coordinators/KEY.json`, checked at every use.

    trust(home, "Coordinating Hospital", key, by="Dr Ito")      # after the key was compared on the telephone
    trusted(home)[key].name
    distrust(home, key, by="Dr Ito")

Trust in a coordinator is no approval of a study: that is `gate.approvals`.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from fedloupe.certificates import utc_now
from fedloupe.enrolment import Document, Hex, Moment, Name, document_bytes, parse_document
from fedloupe.signing import spoken
from fedloupe_client.gate.audit import Audit
from fedloupe_client.gate.disk import gate_folder, sync_folder, write_atomic
from fedloupe_client.gate.errors import CoordinatorsDamaged, NothingOfThatName

_FOLDER = "coordinators"
_REMEDY = "find out who changed it, delete it, and compare the coordinator's key by telephone again"


class Coordinator(Document):
    """One trusted coordinator.

    Attributes:
        name: as its kit had it.
        key: Ed25519 public key, 64 hex digits.
        by: who compared the key and decided.
        when: UTC, ISO 8601.
    """

    name: Name
    key: Hex
    by: Name
    when: Moment


def trusted(home: Path) -> dict[str, Coordinator]:
    """The coordinators whose signature counts here, by public key.

    Raises:
        CoordinatorsDamaged: something in the folder is not a record of the key that its name says. One such file, and
            nobody is trusted.
    """
    folder = home / "gate" / _FOLDER
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CoordinatorsDamaged(
            f"the folder cannot be read: {error.strerror}", where=str(folder), remedy="see to its permissions"
        ) from None
    records = {path.stem: _read(path) for path in paths}
    return {key: record for key, record in records.items() if record is not None}


def trust(home: Path, name: str, key: str, by: str) -> Coordinator:
    """Listen to a coordinator from now on; saying so again with other words renews the record.

    Args:
        home: the site's home folder.
        name: the coordinator's.
        key: its public key, 64 hex digits.
        by: who compared it.

    Raises:
        CoordinatorsDamaged: the records are damaged, or these values make none.
        AuditDamaged: the chain takes no line; nothing is trusted.
        OSError: the disk does not take it.
    """
    try:
        record = Coordinator(name=name, key=key, by=by, when=utc_now().isoformat())
    except ValueError:
        raise CoordinatorsDamaged(
            "no record can be made of this", where=name, remedy="a name and who decides, at most 80 characters each"
        ) from None
    old = trusted(home).get(key)
    if old is not None and (old.name, old.by) == (record.name, record.by):
        return old
    data = document_bytes(record)
    # The chain first: trust that is in force is always one that the chain knows.
    _note(home, "trust", key, data)
    write_atomic(gate_folder(home, _FOLDER) / f"{key}.json", data)
    return record


def distrust(home: Path, key: str, by: str) -> None:
    """Listen to a coordinator no longer, from the next message on.

    Args:
        home: the site's home folder.
        key: its public key.
        by: who decides; the audit chain keeps the digest of `KEY BY`.

    Raises:
        NothingOfThatName: there is no such trust.
        AuditDamaged: the chain takes no line; nothing changes.
        OSError: the disk does not take it.
    """
    path = home / "gate" / _FOLDER / f"{key}.json"
    if not re.fullmatch(r"[0-9a-f]{64}", key) or not path.is_file():
        raise NothingOfThatName(
            "no trusted coordinator has this key", where=key[:64], remedy="see `fedloupe-site status`"
        )
    _note(home, "distrust", key, f"{key} {by}".encode())
    path.unlink()
    sync_folder(path.parent)


def _note(home: Path, kind: str, key: str, data: bytes) -> None:
    digest = hashlib.sha256(data).hexdigest()
    Audit(home).append(direction="local", kind=kind, run=spoken(key).replace(" ", ""), size=len(data), digest=digest)


def _read(path: Path) -> Coordinator | None:
    """A record; None where it is gone, as when somebody distrusts just now."""
    try:
        content = path.read_bytes() if path.stat().st_size <= 4096 else b""
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CoordinatorsDamaged(
            f"it cannot be read: {error.strerror}", where=str(path), remedy="see to its permissions"
        ) from None
    record = parse_document(content, Coordinator, CoordinatorsDamaged, str(path), _REMEDY)
    if path.name != f"{record.key}.json":
        raise CoordinatorsDamaged("it holds another key than its name says", where=str(path), remedy=_REMEDY)
    return record
