"""What was asked of this site and what a person decided about it, `gate/inbox.sqlite`.

    inbox = Inbox(home)
    inbox.once(nonce, expires, now)              # a seal is good once
    asked = inbox.note(Item.of(request, "run", coordinator))
    inbox.decide(asked.item.name, "approved", by="Dr Ito", reason="")

An *item* is a study, a run of one, or one training request of a run, as one coordinator asks for it. Only what waits
for a person or was decided by one changes what the gate does; the rest is there to be read.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

from fedloupe.messages import Request, encode
from fedloupe_client.gate.disk import gate_folder
from fedloupe_client.gate.errors import InboxDamaged, NothingOfThatName

Level = Literal["study", "run", "round"]
Decision = Literal["open", "approved", "denied"]
SHORT = 12
"""Digits of an item's name that are shown, and the least that name one."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (nonce TEXT PRIMARY KEY, expires INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS items (
    name TEXT PRIMARY KEY, level TEXT NOT NULL, fingerprint TEXT NOT NULL, run TEXT NOT NULL, kind TEXT NOT NULL,
    round INTEGER NOT NULL, digest TEXT NOT NULL, coordinator TEXT NOT NULL, first TEXT NOT NULL, last TEXT NOT NULL,
    times INTEGER NOT NULL, decision TEXT NOT NULL, by TEXT NOT NULL, decided TEXT NOT NULL, reason TEXT NOT NULL
) STRICT;
"""

_Row = tuple[str, Level, str, str, str, int, str, str, str, str, int, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Item:
    """Something that a person can decide about.

    Attributes:
        level: a study, a run of it, or one training request.
        fingerprint: of the study.
        coordinator: public key of who asks.
        run: empty for a study.
        kind: of the request; empty but for a training request.
        round: of it; -1 but for a training request.
        digest: SHA-256 of the request, hex: other weights are another item; empty but for a training request.
    """

    level: Level
    fingerprint: str
    coordinator: str
    run: str = ""
    kind: str = ""
    round: int = -1
    digest: str = ""

    @classmethod
    def of(cls, request: Request, level: Level, coordinator: str) -> Self:
        """What a request is part of."""
        run = request.run.split("/")[0]  # a fold is part of its run
        match level:
            case "study":
                return cls("study", request.fingerprint, coordinator)
            case "run":
                return cls("run", request.fingerprint, coordinator, run)
            case "round":
                number, digest = getattr(request, "round", -1), hashlib.sha256(encode(request)).hexdigest()
                return cls("round", request.fingerprint, coordinator, request.run, request.kind, number, digest)

    @property
    def name(self) -> str:
        """64 hex digits, of which a person types the first twelve."""
        said = [self.level, self.fingerprint, self.coordinator, self.run, self.kind, self.round, self.digest]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    @property
    def short(self) -> str:
        """What a person types."""
        return self.name[:SHORT]


@dataclass(frozen=True, slots=True)
class Asked:
    """An item with what is known of it.

    Attributes:
        item: itself.
        first: when it was asked first, UTC, ISO 8601; `last` likewise.
        times: how often.
        decision: of a person; `open` where nobody decided.
        by: who; `decided` when, `reason` why, empty where nobody decided.
    """

    item: Item
    first: str
    last: str
    times: int
    decision: Decision
    by: str
    decided: str
    reason: str


class Inbox:
    """One site's inbox; safe among threads and processes.

    Args:
        home: the site's home folder.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self.path = home / "gate" / "inbox.sqlite"

    def once(self, nonce: str, expires: int, now: float) -> bool:
        """Whether this seal is seen for the first time; remembered until it is no longer good.

        Raises:
            InboxDamaged: see there.
        """
        with self._open() as db:
            db.execute("DELETE FROM seen WHERE expires < ?", (int(now) - 1,))
            return db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (nonce, expires)).rowcount == 1

    def note(self, item: Item) -> Asked:
        """Count that it was asked, and say what is known of it.

        Raises:
            InboxDamaged: see there.
        """
        now = _now()
        with self._open() as db:
            db.execute(
                "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, 'open', '', '', '') "
                "ON CONFLICT (name) DO UPDATE SET last = excluded.last, times = times + 1",
                (
                    *(item.name, item.level, item.fingerprint, item.run, item.kind, item.round, item.digest),
                    *(item.coordinator, now, now),
                ),
            )
            return _one(db, item.name)

    def decision(self, item: Item) -> Decision:
        """What a person decided about it.

        Raises:
            InboxDamaged: see there.
        """
        with self._open() as db:
            found = db.execute("SELECT decision FROM items WHERE name = ?", (item.name,)).fetchone()
        return "open" if found is None else _decision(found[0], self.path)

    def decide(self, name: str, decision: Literal["approved", "denied"], *, by: str, reason: str) -> Asked:
        """Record a person's decision; a later one replaces it.

        Args:
            name: of the item.
            decision: what was decided.
            by: who decided.
            reason: why; may be empty.

        Raises:
            NothingOfThatName: no such item.
            InboxDamaged: see there.
        """
        with self._open() as db:
            done = db.execute(
                "UPDATE items SET decision = ?, by = ?, decided = ?, reason = ? WHERE name = ?",
                (decision, by, _now(), reason, name),
            )
            if not done.rowcount:
                raise NothingOfThatName(f"no item `{name}`", where=str(self.path), remedy="see `fedloupe-site inbox`")
            return _one(db, name)

    def reopen(self, fingerprint: str) -> None:
        """Nothing of this study is approved any longer; what was denied stays so.

        Raises:
            InboxDamaged: see there.
        """
        with self._open() as db:
            db.execute(
                "UPDATE items SET decision = 'open', by = '', decided = '', reason = '' "
                "WHERE fingerprint = ? AND decision = 'approved'",
                (fingerprint,),
            )

    def items(self) -> list[Asked]:
        """All items, the latest first.

        Raises:
            InboxDamaged: see there.
        """
        if not self.path.exists():
            return []
        with self._open() as db:
            return [_asked(row, self.path) for row in db.execute("SELECT * FROM items ORDER BY last DESC, name")]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection in one transaction."""
        gate_folder(self._home)
        try:
            with closing(sqlite3.connect(self.path, timeout=10)) as db, db:
                self.path.chmod(0o600)
                db.executescript(_SCHEMA)
                yield db
        except (sqlite3.Error, OSError) as error:
            raise InboxDamaged(
                f"{type(error).__name__}: {error}",
                where=str(self.path),
                remedy="check the disk; restore the file, or move it away: decisions about runs are then made again",
            ) from None


def _one(db: sqlite3.Connection, name: str) -> Asked:
    return _asked(db.execute("SELECT * FROM items WHERE name = ?", (name,)).fetchone(), Path("inbox.sqlite"))


def _asked(row: _Row, path: Path) -> Asked:
    _, level, fingerprint, run, kind, number, digest, coordinator, first, last, count, decision, by, decided, why = row
    item = Item(level, fingerprint, coordinator, run, kind, number, digest)
    return Asked(item, first, last, count, _decision(decision, path), by, decided, why)


def _decision(text: str, path: Path) -> Decision:
    """A decision as it stands in the file; anything else must not pass for an approval, nor for none."""
    match text:
        case "open" | "approved" | "denied":
            return text
        case _:
            raise InboxDamaged("a decision that is none", where=str(path), remedy="restore the file from its copy")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
