"""One process at a time; a killed one leaves no lock behind.

with held(home / "ingest" / "lock", lambda process: IngestRunning(...)):
    ...
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fedloupe.errors import FedLoupeError


@contextmanager
def held(path: Path, taken: Callable[[str], FedLoupeError]) -> Iterator[None]:
    """Hold a lock. The system drops it with the process, however that ends, so no stale one can block.

    Args:
        path: the lock's file, which has the number of the process that holds it; its folder is there.
        taken: the error to raise where another process holds it; its argument is that process's number, or `unknown`.
    """
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise taken(file.read().strip() or "unknown") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
