"""Wait until something holds."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(ready: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Return as soon as `ready()`; AssertionError where it is not in time."""
    end = time.monotonic() + timeout_s
    while not ready():
        assert time.monotonic() < end, f"not so after {timeout_s:.0f} s"
        time.sleep(0.02)
