"""Files of a federation: whole or absent, private ones for their owner alone, one command at a time.

with locked(folder):
    write_whole(folder / "sites" / "north.json", content)
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedloupe_server.provision.errors import FederationNotWritten


def write_whole(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write a file so that a reader sees the old one or the new one, also after a power cut; folders are made.

    Args:
        path: the file.
        content: all of it.
        private: mode 0600, else 0644.

    Raises:
        FederationNotWritten: the disk does not take it; what stood there stands.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o600 if private else 0o644)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise FederationNotWritten(
            f"writing failed: {error.strerror or type(error).__name__}",
            where=str(path),
            remedy="see to permissions and room on the disk, run the same command again",
        ) from None


def sync_folder(folder: Path) -> None:
    """Make new names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One command at a time in a federation folder, which must be there.

    Raises:
        FederationNotWritten: the folder does not take the lock's file.
    """
    try:
        file = (folder / ".lock").open("ab")
    except OSError as error:
        raise FederationNotWritten(
            f"no lock: {error.strerror}", where=str(folder), remedy="check the path and its permissions"
        ) from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
