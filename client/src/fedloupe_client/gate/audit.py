"""The audit chain, `gate/audit.jsonl`: one line a passage, each holding the SHA-256 of the line before.

    Audit(home).append(direction="in", kind="train", run="demo", round=3, size=81_312, digest="ab...", outcome="ok")
    verify(home)     # [] where nothing was altered

`gate/audit.head` repeats number and hash of the last line, so that a chain cut short shows. Whoever can write both
files can forge both: copy the head elsewhere from time to time (docs/security.md).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal

from fedloupe_client.gate.disk import gate_folder, sync_folder, write_atomic
from fedloupe_client.gate.errors import AuditDamaged

Direction = Literal["in", "out", "local"]
START = "0" * 64
_TAIL = 1 << 16


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


@dataclass(frozen=True, slots=True)
class Problem:
    """A line that does not fit the chain.

    Attributes:
        line: from 1; one past the last where lines are missing.
        what: in words.
    """

    line: int
    what: str


class Audit:
    """Appends to the chain of one site; safe among threads and processes.

    Args:
        home: the site's home folder.
        clock: gives the current UTC time.
    """

    def __init__(self, home: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._home, self._clock = home, clock

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
        folder = gate_folder(self._home)

        with _locked(folder) as file:
            complete, torn = _split_tail(file)
            last = _trusted_end(complete, _read_head(folder), folder)
            if torn:
                os.ftruncate(file.fileno(), os.fstat(file.fileno()).st_size - len(torn))
                note = Entry(direction="local", kind="torn", bytes=len(torn), sha256=_sha(torn))
                _, last = self._put(folder, file, note, last)
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
            entry, _ = self._put(folder, file, draft, last)
        return entry

    def _put(self, folder: Path, file: BinaryIO, draft: Entry, last: _Head) -> tuple[Entry, _Head]:
        """Link the draft to the chain's end, write it, then the head."""
        now = self._clock().isoformat(timespec="milliseconds")
        entry = replace(draft, sequence=last.sequence + 1, time=now, previous=last.sha256)
        line = json.dumps(asdict(entry), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
        if file.write(line + b"\n") != len(line) + 1:
            raise OSError("the audit line was written in part: is the disk full?")
        os.fsync(file.fileno())
        head = _Head(entry.sequence, _sha(line))
        write_atomic(folder / "audit.head", (json.dumps(asdict(head), sort_keys=True) + "\n").encode())
        return entry, head


def verify(home: Path) -> list[Problem]:
    """Walk the whole chain; an empty list means that nothing was altered, dropped, moved or cut since it was written.

    A line torn by a crash is reported too, until the next passage replaces it.
    """
    folder = home / "gate"
    path = folder / "audit.jsonl"
    content = path.read_bytes() if path.exists() else b""
    lines = content.split(b"\n")
    torn = lines.pop()
    problems: list[Problem] = []
    last, number = _EMPTY, 0
    for number, line in enumerate(lines, start=1):
        try:
            entry = _parse(line)
        except ValueError as error:
            problems.append(Problem(number, f"not an entry: {error}"))
            last = _Head(last.sequence + 1, _sha(line))
            continue
        if entry.sequence != last.sequence + 1:
            problems.append(Problem(number, f"number {entry.sequence} where {last.sequence + 1} is due"))
        elif entry.previous != last.sha256:
            problems.append(
                Problem(max(number - 1, 1), f"this line or line {number} was altered: the hashes do not meet")
            )
        last = _Head(entry.sequence, _sha(line))
    if torn:
        problems.append(Problem(number + 1, f"{len(torn)} bytes of a line torn by a crash or by hand"))
    try:
        head = _read_head(folder)
        _trusted_end(lines[-1] if lines else None, head, folder)
    except AuditDamaged as error:
        problems.append(Problem(number + 1, error.what))
    return problems


@dataclass(frozen=True, slots=True)
class _Head:
    """Number and hash of the last line."""

    sequence: int
    sha256: str


_EMPTY = _Head(-1, START)


@contextmanager
def _locked(folder: Path) -> Iterator[BinaryIO]:
    path = folder / "audit.jsonl"
    fresh = not path.exists()
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed
        if fresh:
            sync_folder(folder)
        yield file


def _split_tail(file: BinaryIO) -> tuple[bytes | None, bytes]:
    """The last complete line, None where there is none, and the bytes after it."""
    size = os.fstat(file.fileno()).st_size
    start = max(size - _TAIL, 0)
    *lines, torn = os.pread(file.fileno(), size - start, start).split(b"\n")
    if not lines:
        # No line is this long: what stands here was not written by the chain, and the empty line refuses.
        return (None if start == 0 else b""), torn
    return lines[-1], torn


def _trusted_end(line: bytes | None, head: _Head, folder: Path) -> _Head:
    """The chain's end: where the head says, or one line further (a crash between the two writes)."""
    damaged = AuditDamaged(
        f"the chain does not end at entry {head.sequence}, which was the last one written",
        where=str(folder / "audit.jsonl"),
        remedy="keep both audit files as evidence and find out who changed them; move them away to start a new chain",
    )
    if line is None:
        if head != _EMPTY:
            raise damaged
        return head
    try:
        entry = _parse(line)
    except ValueError:
        raise damaged from None
    end = _Head(entry.sequence, _sha(line))
    if end == head or (end.sequence == head.sequence + 1 and entry.previous == head.sha256):
        return end
    raise damaged


def _read_head(folder: Path) -> _Head:
    path = folder / "audit.head"
    if not path.exists():
        return _EMPTY
    try:
        content = json.loads(path.read_bytes())
        return _Head(int(content["sequence"]), str(content["sha256"]))
    except (ValueError, KeyError, TypeError) as error:
        raise AuditDamaged(
            f"the head of the chain is not readable: {error}",
            where=str(path),
            remedy="keep both audit files as evidence and find out who changed them",
        ) from None


def _parse(line: bytes) -> Entry:
    """An entry from its line.

    Raises:
        ValueError: not JSON, or not exactly an entry's fields.
    """
    content = json.loads(line)
    if not isinstance(content, dict) or set(content) != {field.name for field in fields(Entry)}:
        raise ValueError("its fields are not those of an entry")
    if type(content["sequence"]) is not int:
        raise ValueError("`sequence` is not a whole number")
    return Entry(**content)


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
