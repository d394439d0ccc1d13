"""A run's own files at a site: what keeps them from being read or written is said by name, and is not called damage.

keep(path, content)              # whole or not at all
with opened(path) as file: ...   # a safetensors file
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open

from fedloupe.errors import FedLoupeError
from fedloupe_client.gate.disk import write_atomic


class RunFileUnwritable(FedLoupeError):
    """The disk is full or the folder closed; what stood there before is as it was."""

    code = "FL-661"
    title = "a file of a run cannot be written"


class RunFileUnreadable(FedLoupeError):
    """The file is there and may not be read."""

    code = "FL-665"
    title = "a file of a run cannot be opened"


def keep(path: Path, content: bytes) -> None:
    """Write aside, fsync, rename; the folder is made, for its owner alone.

    Raises:
        RunFileUnwritable: see there.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, content)
    except OSError as error:
        raise RunFileUnwritable(
            f"writing failed: {error.strerror or error}",
            where=str(path),
            remedy="make room in the site's home folder and see that the site's user may write it; the request is then "
            "answered when it is asked again",
        ) from None


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A safetensors file for reading.

    Raises:
        RunFileUnreadable: see there.
        SafetensorError: it is not such a file.
    """
    try:
        with safe_open(str(path), framework="numpy") as file:
            yield file
    except OSError as error:
        raise RunFileUnreadable(
            f"opening failed: {error.strerror or error}",
            where=str(path),
            remedy="let the site's user read it; do not delete it: nothing is said of its content",
        ) from None
