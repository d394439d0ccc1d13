"""What was learnt of a source file, for as long as size, time and inode say that it is the same file.

with FileMemory(home / "ingest" / "files.sqlite", version) as memory:
    memory.learn("digest", path, stamp(path), digest)
    memory.recall("digest", path, stamp(path))          # None when the file changed

Holds paths and headers, so it stays in the site's home (mode 0600). It saves reading and nothing else: without it,
or when it is damaged, everything is read again.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal

What = Literal["headers", "digest"]
ABSENT = "absent"
SETTLED_NS = 2_000_000_000  # a file younger than this may change again without its time showing it
COMMIT_EVERY_S = 1.0


def stamp(path: Path) -> str:
    """Size, modification time and inode; `ABSENT`, or empty where the system refuses."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"


class FileMemory:
    """Facts about files by path and stamp, on disk."""

    def __init__(self, path: Path, version: str, *, anew: bool = False) -> None:
        """Open the memory at `path`; begin anew when asked, when it is damaged, or when another version wrote it."""
        self._path, self._opened_ns = path, time.time_ns()
        if anew:
            self._remove()
        try:
            self._open()
            known = self._database.execute("SELECT value FROM facts WHERE what = 'version'").fetchone()
        except sqlite3.DatabaseError:
            self._remove()
            self._open()
            known = None
        if known != (version,):
            self._database.execute("DELETE FROM facts")
            self._database.execute("INSERT INTO facts VALUES ('version', x'', '', ?)", (version,))
        self._committed = time.monotonic()

    def _open(self) -> None:
        self._path.touch(mode=0o600)
        self._database = sqlite3.connect(self._path)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS facts (what TEXT, path BLOB, stamp TEXT, value TEXT, PRIMARY KEY (what, path))"
        )

    def _remove(self) -> None:
        with suppress(AttributeError):
            self._database.close()
        for path in (self._path, self._path.with_name(f"{self._path.name}-journal")):
            path.unlink(missing_ok=True)

    def __enter__(self) -> FileMemory:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._database.commit()
        self._database.close()

    def recall(self, what: What, path: Path, seen: str) -> str | None:
        """What was learnt of the file with this stamp."""
        found = self._database.execute(
            "SELECT value FROM facts WHERE what = ? AND path = ? AND stamp = ?", (what, os.fsencode(path), seen)
        ).fetchone()
        return None if found is None else str(found[0])

    def learn(self, what: What, path: Path, seen: str, value: str) -> None:
        """Keep a fact, unless the file was so young that a later change could hide behind the same stamp.

        Young for as long as this memory is open: when the file was read since then is not known.
        """
        if seen in ("", ABSENT) or self._opened_ns - int(seen.split()[1]) < SETTLED_NS:
            return
        self._database.execute(
            "INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?)", (what, os.fsencode(path), seen, value)
        )
        if time.monotonic() - self._committed > COMMIT_EVERY_S:
            self._database.commit()
            self._committed = time.monotonic()

    def keep_only(self, paths: Iterable[Path]) -> None:
        """Forget the files that are not among these."""
        self._database.execute("CREATE TEMP TABLE there (path BLOB PRIMARY KEY)")
        self._database.executemany("INSERT OR IGNORE INTO there VALUES (?)", ((os.fsencode(path),) for path in paths))
        self._database.execute("DELETE FROM facts WHERE what != 'version' AND path NOT IN (SELECT path FROM there)")
        self._database.execute("DROP TABLE there")
