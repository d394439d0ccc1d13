"""The code that made a run, as one digest, and what it ran with."""

from __future__ import annotations

import hashlib
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import fedloupe
import fedloupe_server

LIBRARIES = ("numpy", "scipy", "torch", "monai", "opacus", "flwr", "safetensors", "cryptography")
"""Whose versions the numbers may depend on."""


def libraries() -> dict[str, str]:
    """Versions of Python and of `LIBRARIES`, as they run here."""
    return {"python": ".".join(map(str, sys.version_info[:3]))} | {name: version(name) for name in LIBRARIES}


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
