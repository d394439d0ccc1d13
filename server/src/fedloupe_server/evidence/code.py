"""The code that made a run, as one digest."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import fedloupe
import fedloupe_server


@cache
def source_digest() -> str:
    """SHA-256 over the Python files of the installed packages that the coordinator runs, by path and content."""
    state = hashlib.sha256()
    for package in (fedloupe, fedloupe_server):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            state.update(f"{package.__name__}/{path.relative_to(root).as_posix()}\0".encode())
            state.update(hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()
