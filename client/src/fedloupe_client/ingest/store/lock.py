"""One ingest a home at a time; a killed one leaves no lock behind.

with locked(home):
    ...
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedloupe_client.ingest.problems import IngestRunning


def work_folder(home: Path) -> Path:
    """`home/ingest`: the lock, what is known of source files, finished cases. No part of the store; owner only."""
    folder = home / "ingest"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the home's lock. The system drops it with the process, however that ends, so no stale one can block.

    Raises:
        IngestRunning: naming the process that holds it.
    """
    path = work_folder(home) / "lock"
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise IngestRunning(
                "another ingest works in this home",
                where=f"{path}, process {file.read().strip() or 'unknown'}",
                remedy="wait until it ends, or stop that process; what it has finished is kept",
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
