"""A hash-linked record: `gate/<name>.jsonl`, one JSON line an event, each holding the SHA-256 of the line before.

    chain = Chain(home, "audit", fields=frozenset({"kind", "bytes"}), damaged=AuditDamaged, torn=note_of)
    chain.append({"kind": "train", "bytes": 81_312})
    chain.problems()       # [] where nothing was altered

`gate/<name>.head` repeats number and hash of the last line, so that a record cut short shows. Whoever can write both
files can forge both: copy the head elsewhere from time to time (docs/security.md).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from fedloupe.errors import FedLoupeError
from fedloupe_client.gate.disk import gate_folder, sync_folder, write_atomic

START = "0" * 64
LINK = frozenset({"sequence", "time", "previous"})
"""What the chain adds to an event: number from 0 without gaps, UTC as ISO 8601, SHA-256 of the line before in hex."""
_TAIL = 1 << 16
Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """A line that does not fit the chain.

    Attributes:
        line: from 1; one past the last where lines are missing.
        what: in words.
        torn: the bytes of a line that a crash cut off: the next event takes their place.
    """

    line: int
    what: str
    torn: bool = False


@dataclass(frozen=True, slots=True)
class Head:
    """Number and hash of the last line."""

    sequence: int
    sha256: str


EMPTY = Head(-1, START)


@dataclass(frozen=True, slots=True)
class Reading:
    """The whole record at one moment.

    Attributes:
        lines: complete and readable, oldest first.
        problems: empty where nothing was altered, dropped, moved or cut since it was written.
        head: number and hash of the last line.
    """

    lines: tuple[Line, ...]
    problems: tuple[Problem, ...]
    head: Head


class Chain:
    """One record of one site; safe among threads and processes.

    Args:
        home: the site's home folder.
        name: of its files.
        fields: of an event, beside `LINK`: exactly these.
        damaged: the error of this record.
        torn: the event that takes the place of a line torn by a crash, from its size and digest.
        clock: gives the current UTC time.
    """

    def __init__(
        self,
        home: Path,
        name: str,
        *,
        fields: frozenset[str],
        damaged: type[FedLoupeError],
        torn: Callable[[int, str], Mapping[str, Any]],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._home, self._name, self._clock = home, name, clock
        self._fields, self._damaged, self._torn = fields | LINK, damaged, torn

    @property
    def path(self) -> Path:
        """The record."""
        return self._home / "gate" / f"{self._name}.jsonl"

    @property
    def _head_path(self) -> Path:
        return self.path.with_suffix(".head")

    def append(self, event: Mapping[str, Any]) -> Line:
        """Add one line, on disk before this returns. A line torn by a crash gives way to an event that says so.

        Raises:
            FedLoupeError: the end of the chain is not where it was left; nothing is added.
            OSError: the disk does not take it.
        """
        folder = gate_folder(self._home)
        with _locked(self.path, folder) as file:
            complete, torn = _split_tail(file)
            head = self.head()
            last = self._trusted_end(complete, head)
            if last != head:  # a crash between line and head; a second one must not leave the head two lines behind
                self._write_head(last)
            if torn:
                os.ftruncate(file.fileno(), os.fstat(file.fileno()).st_size - len(torn))
                _, last = self._put(file, self._torn(len(torn), _sha(torn)), last)
            line, _ = self._put(file, event, last)
        return line

    def read(self) -> Reading:
        """The record and its head, while nobody appends.

        Raises:
            FedLoupeError: the head cannot be read.
            OSError: the files cannot be opened.
        """
        head = self.head()  # of a record that is not there; its first line may come after this look
        try:
            with self.path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                content, head = file.read(), self.head()
        except FileNotFoundError:
            content = b""
        *complete, torn = content.split(b"\n")
        lines: list[Line] = []
        problems: list[Problem] = []
        last = EMPTY
        for number, line in enumerate(complete, start=1):
            try:
                entry = self._parse(line)
            except ValueError as error:
                problems.append(Problem(number, f"not an entry: {error}"))
                last = Head(last.sequence + 1, _sha(line))
                continue
            if entry["sequence"] != last.sequence + 1:
                problems.append(Problem(number, f"number {entry['sequence']} where {last.sequence + 1} is due"))
            elif entry["previous"] != last.sha256:
                problems.append(
                    Problem(max(number - 1, 1), f"this line or line {number} was altered: the hashes do not meet")
                )
            lines.append(entry)
            last = Head(entry["sequence"], _sha(line))
        if torn:
            problems.append(Problem(len(complete) + 1, f"{len(torn)} bytes of a line torn by a crash or by hand", True))
        try:
            self._trusted_end(complete[-1] if complete else None, head)
        except self._damaged as error:
            problems.append(Problem(len(complete) + 1, error.what))
        return Reading(tuple(lines), tuple(problems), head)

    def sound(self) -> Reading:
        """As `read`, of a record in which nothing is wrong but what a crash tore.

        Raises:
            FedLoupeError: a line, their links or the end do not fit.
            OSError: the files cannot be opened.
        """
        found = self.read()
        if wrong := [problem for problem in found.problems if not problem.torn]:
            raise self._error(f"line {wrong[0].line}: {wrong[0].what}")
        return found

    def problems(self) -> list[Problem]:
        """What does not fit; a head that cannot be read is a problem too.

        Raises:
            OSError: the files cannot be opened.
        """
        try:
            return list(self.read().problems)
        except self._damaged as error:
            return [Problem(1, error.what)]

    def head(self) -> Head:
        """Number and hash of the last line, as the head says.

        Raises:
            FedLoupeError: it cannot be read.
        """
        if not self._head_path.exists():
            return EMPTY
        try:
            content = json.loads(self._head_path.read_bytes())
            return Head(int(content["sequence"]), str(content["sha256"]))
        except (ValueError, KeyError, TypeError) as error:
            raise self._error(f"the head of the chain is not readable: {error}", self._head_path) from None

    def _put(self, file: BinaryIO, event: Mapping[str, Any], last: Head) -> tuple[Line, Head]:
        """Link the event to the chain's end, write it, then the head."""
        now = self._clock().isoformat(timespec="milliseconds")
        entry = {**event, "sequence": last.sequence + 1, "time": now, "previous": last.sha256}
        assert set(entry) == self._fields, "an event has exactly its record's fields"
        line = json.dumps(entry, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
        if file.write(line + b"\n") != len(line) + 1:
            raise OSError(f"a line of {self.path.name} was written in part: is the disk full?")
        os.fsync(file.fileno())
        head = Head(entry["sequence"], _sha(line))
        self._write_head(head)
        return entry, head

    def _write_head(self, head: Head) -> None:
        write_atomic(self._head_path, (json.dumps(asdict(head), sort_keys=True) + "\n").encode())

    def _trusted_end(self, line: bytes | None, head: Head) -> Head:
        """The chain's end: where the head says, or one line further (a crash between the two writes)."""
        words = f"the chain does not end at entry {head.sequence}, which was the last one written"
        if line is None:
            if head != EMPTY:
                raise self._error(words)
            return head
        try:
            entry = self._parse(line)
        except ValueError:
            raise self._error(words) from None
        end = Head(entry["sequence"], _sha(line))
        if end == head or (end.sequence == head.sequence + 1 and entry["previous"] == head.sha256):
            return end
        raise self._error(words)

    def _parse(self, line: bytes) -> Line:
        """An entry from its line.

        Raises:
            ValueError: not JSON, or not exactly an entry's fields.
        """
        content = json.loads(line)
        if not isinstance(content, dict) or set(content) != self._fields:
            raise ValueError("its fields are not those of an entry")
        if type(content["sequence"]) is not int:
            raise ValueError("`sequence` is not a whole number")
        return content

    def _error(self, what: str, path: Path | None = None) -> FedLoupeError:
        return self._damaged(
            what,
            where=str(path or self.path),
            remedy=f"keep both files `{self._name}.jsonl` and `{self._name}.head` as evidence and find out who changed "
            "them, then restore them from their copies",
        )


@contextmanager
def _locked(path: Path, folder: Path) -> Iterator[BinaryIO]:
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


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
