"""One ingest a home at a time; a killed one leaves no lock behind.

with locked(home):
    ...
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedloupe_client.ingest.problems import IngestRunning
from fedloupe_client.locks import held


def work_folder(home: Path) -> Path:
    """`home/ingest`: the lock, what is known of source files, finished cases. No part of the store; owner only."""
    folder = home / "ingest"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the home's lock.

    Raises:
        IngestRunning: naming the process that holds it.
    """
    path = work_folder(home) / "lock"

    def taken(process: str) -> IngestRunning:
        return IngestRunning(
            "another ingest works in this home",
            where=f"{path}, process {process}",
            remedy="wait until it ends, or stop that process; what it has finished is kept",
        )

    with held(path, taken):
        yield
