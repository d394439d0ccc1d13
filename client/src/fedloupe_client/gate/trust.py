"""Whose requests this hospital takes: one file a coordinator's key, `gate/coordinators/<key>.json`.

trust(home, "Coordinating Hospital", key, by="Dr Ito")
trusted(home)                       # by public key
distrust(home, key, by="Dr Ito")    # in force with the next message
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fedloupe_client.gate.audit import Audit
from fedloupe_client.gate.disk import gate_folder, sync_folder, write_atomic
from fedloupe_client.gate.errors import CoordinatorDamaged, NothingOfThatName

_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Coordinator:
    """A coordinator whose requests are looked at.

    Attributes:
        name: as its kit says.
        key: its public key, 64 hex digits.
        by: who at the site compared it.
        when: UTC, ISO 8601.
    """

    name: str
    key: str
    by: str
    when: str


def trust(home: Path, name: str, key: str, *, by: str) -> Coordinator:
    """Take this coordinator's requests from now on.

    Args:
        home: the site's home folder.
        name: as its kit says.
        key: its public key, compared by telephone.
        by: who compared it.
    """
    if not _KEY.fullmatch(key):
        raise ValueError("not a public key")
    record = {"name": name, "key": key, "by": by, "when": datetime.now(UTC).isoformat(timespec="seconds")}
    data = (json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
    # The chain first: a key that is in force is always one that the chain knows.
    Audit(home).append(direction="local", kind="trust", size=len(data), digest=hashlib.sha256(data).hexdigest())
    write_atomic(gate_folder(home, "coordinators") / f"{key}.json", data)
    return Coordinator(**record)


def distrust(home: Path, key: str, *, by: str) -> None:
    """Take this coordinator's requests no longer.

    Args:
        home: the site's home folder.
        key: its public key.
        by: who decided.

    Raises:
        NothingOfThatName: it is not trusted.
    """
    path = home / "gate" / "coordinators" / f"{key}.json"
    if not _KEY.fullmatch(key) or not path.exists():
        raise NothingOfThatName(f"no key {key[:12]}", where=str(path.parent), remedy="see `fedloupe-site status`")
    path.unlink()
    sync_folder(path.parent)
    said = json.dumps({"key": key, "by": by}, sort_keys=True).encode()
    Audit(home).append(direction="local", kind="distrust", size=len(said), digest=hashlib.sha256(said).hexdigest())


def trusted(home: Path) -> dict[str, Coordinator]:
    """Coordinators by public key.

    Raises:
        CoordinatorDamaged: a file in the folder is not what its name says.
    """
    return {path.stem: _read(path) for path in sorted((home / "gate" / "coordinators").glob("*.json"))}


def _read(path: Path) -> Coordinator:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        found = Coordinator(**{name: record[name] for name in ("name", "key", "by", "when")})
        if set(record) != {"name", "key", "by", "when"} or not all(isinstance(v, str) for v in record.values()):
            raise ValueError("its fields are others")
        if found.key != path.stem or not _KEY.fullmatch(found.key):
            raise ValueError("it holds another key than its name says")
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise CoordinatorDamaged(
            f"not a coordinator's key: {type(error).__name__}: {error}",
            where=str(path),
            remedy="find out who changed the file, delete it, and install the coordinator's kit again",
        ) from None
    return found
