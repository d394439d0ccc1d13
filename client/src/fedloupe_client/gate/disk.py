"""Files that are whole or absent, also after a power cut.

write_atomic(home / "gate" / "approved" / "3f...json", data)
"""

from __future__ import annotations

import os
from pathlib import Path


def gate_folder(home: Path, *parts: str) -> Path:
    """`home/gate/...`, made on demand and readable by its owner only."""
    folder = home / "gate"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for part in parts:
        folder /= part
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def write_atomic(path: Path, data: bytes) -> None:
    """Write and fsync a temporary file beside `path`, put it in place, fsync the folder.

    Raises:
        OSError: as the operating system says; `path` is then as before.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a new name in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
