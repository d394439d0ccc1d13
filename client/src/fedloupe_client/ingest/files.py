"""Opening files so that absence, permission and damage never look alike.

with telling_apart(path):
    text = path.read_text()
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedloupe_client.ingest.problems import FileMissing, FileUnreadable, PermissionRefused

PERMISSION_REMEDY = "ask for read permission; the data themselves may be fine, do not delete or replace them"


@contextmanager
def telling_apart(path: Path) -> Iterator[None]:
    """Turn the operating system's errors on `path` into this room's.

    Raises:
        FileMissing, PermissionRefused, FileUnreadable: with a remedy each.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise FileMissing(
            "a file or folder is missing", where=str(path), remedy="check `site.yaml` and the file's name"
        ) from None
    except PermissionError:
        raise PermissionRefused("this user may not read it", where=str(path), remedy=PERMISSION_REMEDY) from None
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:  # no file can have this name
            raise FileMissing(
                "a file's name is too long for this system", where=str(path), remedy="shorten the case's local id"
            ) from None
        raise FileUnreadable(
            f"reading failed ({type(error).__name__})",
            where=f"{path}: {error}",
            remedy="restore the file from its source",
        ) from None


def openable(path: Path) -> None:
    """Raise the right error when `path` is not a file that this user may read.

    SimpleITK and GDCM say "could not open" to all three; so ask the system first.
    """
    with telling_apart(path), open(path, "rb") as file:
        file.read(1)


def sync(path: Path) -> None:
    """Make a file's content, or a folder's names, durable (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Replace a file whole, also across a power cut; readable by its owner only."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(
        os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8", errors="backslashreplace"
    ) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    sync(path.parent)


def is_hidden(name: str) -> bool:
    """Dot files and the operating systems' own litter."""
    return name.startswith(".") or name in {"Thumbs.db", "desktop.ini", "__MACOSX"}


def walk(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files below a folder in a stable order, without pipes and devices, and folders that may not be listed.

    Raises:
        FileMissing, PermissionRefused: the folder itself.
    """
    with telling_apart(folder):
        os.listdir(folder)
    refused: list[Path] = []
    found: list[Path] = []
    for base, folders, names in os.walk(folder, onerror=lambda error: refused.append(Path(str(error.filename)))):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        found.extend(Path(base) / name for name in sorted(names) if not is_hidden(name))
    return [path for path in found if not _endless(path)], refused


def _endless(path: Path) -> bool:
    """A pipe, socket or device: opening one could wait for ever."""
    try:
        mode = path.stat().st_mode
    except OSError:  # absent behind a link, or refused: opening it will say so
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
