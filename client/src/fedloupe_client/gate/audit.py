"""The audit chain, `gate/audit.jsonl`: one line a passage, hash-linked (`gate.chain`).

Audit(home).append(direction="in", kind="train", run="demo", round=3, size=81_312, digest="ab...", outcome="ok")
verify(home)     # [] where nothing was altered
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from fedloupe_client.gate.chain import LINK, Chain, Problem, Reading
from fedloupe_client.gate.errors import AuditDamaged

Direction = Literal["in", "out", "local"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One passage.

    Attributes:
        direction: `in`, `out`, or `local` for what the site did itself (approve, held-back, torn).
        kind: kind of message, or `unknown`.
        bytes: size of the message.
        sha256: digest of the message.
        run: name of the run; the study's name for an approval.
        round: where the message has one.
        outcome: `ok`, `repeated`, or the error's code.
        disclosure: classes of what left (fedloupe.messages.Disclosure).
        epsilon: spent so far by the site, where the message said it.
        sequence: from 0, no gaps; set by the chain, as the two below.
        time: UTC, ISO 8601.
        previous: SHA-256 of the line before, in hex.
    """

    direction: Direction
    kind: str
    bytes: int
    sha256: str
    run: str = ""
    round: int | None = None
    outcome: str = "ok"
    disclosure: tuple[str, ...] = ()
    epsilon: float | None = None
    sequence: int = -1
    time: str = ""
    previous: str = ""


_FIELDS = frozenset(field.name for field in fields(Entry)) - LINK


class Audit:
    """Appends to the chain of one site; safe among threads and processes.

    Args:
        home: the site's home folder.
        clock: gives the current UTC time.
    """

    def __init__(self, home: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._chain = Chain(home, "audit", fields=_FIELDS, damaged=AuditDamaged, torn=_torn, clock=clock)

    def append(
        self,
        *,
        direction: Direction,
        kind: str,
        run: str = "",
        round: int | None = None,
        size: int = 0,
        digest: str = "",
        outcome: str = "ok",
        disclosure: Sequence[str] = (),
        epsilon: float | None = None,
    ) -> Entry:
        """Add one line, on disk before this returns. A line torn by a crash gives way to an entry that says so.

        Args:
            direction: see `Entry`; so for the rest.
            kind: see `Entry`.
            run: see `Entry`.
            round: see `Entry`.
            size: of the message in bytes.
            digest: SHA-256 of the message.
            outcome: see `Entry`.
            disclosure: see `Entry`.
            epsilon: see `Entry`.

        Raises:
            AuditDamaged: the end of the chain is not where it was left; nothing is added.
            OSError: the disk does not take it.
        """
        draft = Entry(
            direction=direction,
            kind=kind,
            run=run,
            round=round,
            bytes=size,
            sha256=digest,
            outcome=outcome,
            disclosure=tuple(disclosure),
            epsilon=epsilon,
        )
        return Entry(**self._chain.append(_event(draft)))

    def problems(self) -> list[Problem]:
        """See `verify`."""
        return self._chain.problems()

    def sound(self) -> Reading:
        """The whole chain, in which nothing is wrong but what a crash tore.

        Raises:
            AuditDamaged: something else is.
            OSError: the files cannot be opened.
        """
        return self._chain.sound()


def verify(home: Path) -> list[Problem]:
    """Walk the whole chain; an empty list means that nothing was altered, dropped, moved or cut since it was written.

    A line torn by a crash is reported too, until the next passage replaces it.
    """
    return Audit(home).problems()


def _event(entry: Entry) -> dict[str, Any]:
    return {name: value for name, value in asdict(entry).items() if name in _FIELDS}


def _torn(size: int, digest: str) -> dict[str, Any]:
    return _event(Entry(direction="local", kind="torn", bytes=size, sha256=digest))
