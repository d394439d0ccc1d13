"""What ties a courier's process to its supervisor: it dies when the supervisor dies, and reports through a pipe.

    report = tether(3)                                # in the child, which got the pipe's end as file descriptor 3
    report("contact"); report("trouble", code="FL-672", title="the coordinator does not answer")

A report is one line of JSON. A thread says `alive` every few seconds, so that a process that stands still is noticed.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from fedloupe.logs import Form, JsonLines

ALIVE_S = 3.0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def tether(descriptor: int, parent: int | None = None, every_s: float = ALIVE_S) -> Report:
    """Die with the parent, and start to say `alive`.

    Args:
        descriptor: writing end of the supervisor's pipe.
        parent: process id of the supervisor; None: whoever is the parent now.
        every_s: seconds between two signs of life.
    """
    expected = os.getppid() if parent is None else parent
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != expected:  # it died before the kernel knew of our wish
        os._exit(1)
    os.set_inheritable(descriptor, False)
    report = Report(descriptor)
    threading.Thread(target=_keep_saying, args=(report, every_s), name="alive", daemon=True).start()
    return report


def own_log(form: Form = "words") -> None:
    """Write FedLoupe's own lines with their time; Flower writes its own by itself, in words."""
    lines = logging.StreamHandler()
    words = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    lines.setFormatter(JsonLines() if form == "json" else words)
    ours = logging.getLogger("fedloupe_client")
    ours.addHandler(lines)
    ours.setLevel(logging.INFO)
    ours.propagate = False


class Report:
    """Writes reports; safe from several threads."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._lock = descriptor, threading.Lock()
        self._last, self._said = "", 0.0

    def __call__(self, event: str, **fields: str | int) -> None:
        """Send one report. Repeated contacts within a second are sent once."""
        with self._lock:
            now = time.monotonic()
            if event == "contact":
                if self._last == event and now - self._said < 1.0:
                    return
                self._said = now
            if event != "alive":
                self._last = event
            try:
                os.write(self._descriptor, json.dumps({"event": event, **fields}).encode() + b"\n")
            except BrokenPipeError:  # nobody listens any more
                os._exit(1)


def _keep_saying(report: Callable[..., None], every_s: float) -> None:
    while True:
        report("alive")
        time.sleep(every_s)


class Reports:
    """The supervisor's end: whole lines from a pipe that does not block."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor, self._rest = descriptor, b""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """What has arrived since the last time; a line that is no report is passed over."""
        while True:
            try:
                part = os.read(self.descriptor, 65536)
            except BlockingIOError:
                break
            if not part:
                break
            self._rest += part
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            report = json.loads(line)
            if isinstance(report, dict) and "event" in report:
                yield report

    def close(self) -> None:
        """Close this end."""
        os.close(self.descriptor)
