"""Tells every second, from a thread of its own, while whoever works may be held up for minutes by one call.

    with telling(write_status, lives=lambda: time.monotonic() < began + 300):
        flower.submit(...)                      # what is told goes on

Where `lives` says that nobody works any more, nothing is told either: what was told last then grows old.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

TELL_S = 1.0
_log = logging.getLogger(__name__)


@contextlib.contextmanager
def telling(tell: Callable[[], None], lives: Callable[[], bool], every_s: float = TELL_S) -> Iterator[None]:
    """Tell at once, every so often meanwhile, and once more at the end; never two at a time.

    Args:
        tell: an error of it is logged, and the next time comes nevertheless.
        lives: whether whoever works does.
        every_s: seconds between two times.
    """
    over, said = threading.Event(), ""

    def once() -> None:
        nonlocal said
        try:
            tell()
            trouble = ""
        except Exception as error:  # noqa: BLE001 - logged; the thread must outlive a full disk
            trouble = repr(error)
            if trouble != said:
                _log.exception("the status cannot be written")
        said = trouble

    def go_on() -> None:
        while not over.is_set():
            if lives():
                once()
            over.wait(every_s)

    thread = threading.Thread(target=go_on, name="telling", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        once()
