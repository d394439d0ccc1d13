"""Files that look old, whenever they were written."""

from __future__ import annotations

import os
import time
from pathlib import Path


def age(folder: Path, seconds: float = 3600) -> None:
    """Make files look old: young ones are never taken on trust."""
    then = time.time() - seconds
    for path in folder.rglob("*"):
        os.utime(path, (then, then))
