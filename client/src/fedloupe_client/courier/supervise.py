"""Keeps the courier working: two processes, the SuperNode and the executor, watched by what they do.

    Supervisor({"supernode": command, "executor": command}, state=Path("courier")).run(stop=threading.Event())

What is watched:
- a process that ends is started again, at once the first time, then later and later (up to a minute);
- one that stands still (no sign of life) or whose loop stands still (no request to the coordinator) is killed;
- when either ends in the middle of a message, both are started again, and the message is delivered again.
"""

from __future__ import annotations

import logging
import os
import select
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedloupe.errors import FedLoupeError
from fedloupe_client.courier.state import Board, Name, State, utc
from fedloupe_client.courier.tether import Reports

SUPERNODE, EXECUTOR = "supernode", "executor"
REFUSED_CODES = ("FL-671", "FL-673")  # by which a report of trouble is a refusal, not an absence
Command = Callable[[int], list[str]]
_log = logging.getLogger(__name__)


class EndsAtOnce(FedLoupeError):
    """A process of the courier ends as soon as it starts; the courier's log says why."""

    code = "FL-677"
    title = "a process of the courier ends as soon as it starts"


@dataclass(frozen=True)
class Times:
    """Seconds.

    Attributes:
        silent: without a sign of life until a process is killed; before its first one it has as long as `stuck`, for a
            busy machine takes its time to start a Python.
        stuck: without a request to the coordinator until the SuperNode is killed; a heartbeat is due every 20 s, and
            one that fails is tried again within 25 s.
        steady: of life after which, as after an answered message, earlier failures are forgotten.
        first: pause after the second failure in a row; it doubles with each.
        refused: least pause after a refusal.
        longest: longest pause between two starts.
        goodbye: a SuperNode may take to say goodbye to the coordinator.
        look: between two looks at the processes.
    """

    silent: float = 30.0
    stuck: float = 120.0
    steady: float = 30.0
    first: float = 1.0
    refused: float = 5.0
    longest: float = 60.0
    goodbye: float = 10.0
    look: float = 0.2


class Child:
    """One process, started as often as needed, and what it reported last."""

    def __init__(self, name: str, command: Command, env: Mapping[str, str] | None) -> None:
        self.name, self._command, self._env = name, command, env
        self.process: subprocess.Popen[bytes] | None = None
        self.reports: Reports | None = None
        self.due, self.started, self.heard, self.moved = 0.0, 0.0, 0.0, 0.0
        self.starts, self.failures, self.condemned, self.spoke = 0, 0, False, False

    def start(self, now: float) -> None:
        """Start it with a fresh pipe."""
        reading, writing = os.pipe()
        try:
            self.process = subprocess.Popen(
                self._command(writing), env=self._env, stdin=subprocess.DEVNULL, pass_fds=(writing,)
            )
        finally:
            os.close(writing)
        self.reports = Reports(reading)
        self.started = self.heard = self.moved = now
        self.spoke = False
        self.starts += 1

    @property
    def running(self) -> bool:
        """Started, and not yet killed by us."""
        return self.process is not None and not self.condemned

    def take(self) -> list[dict[str, Any]]:
        """What it reported since the last time."""
        return list(self.reports) if self.reports is not None else []

    def kill(self) -> None:
        """End it at once, without goodbye; that it ends then is not its own failure."""
        if self.process is not None:
            self.condemned = True
            self.process.kill()

    def gone(self) -> int | None:
        """The exit code of a process that has ended; its last reports can still be taken."""
        return None if self.process is None else self.process.poll()

    def bury(self, now: float, times: Times) -> None:
        """Forget a process that has ended."""
        if self.reports is not None:
            self.reports.close()
        self.process = self.reports = None
        if not self.condemned:
            self.failures = self.failures + 1 if now - self.started < times.steady else 1
        self.condemned = False

    def pause(self, times: Times) -> float:
        """Seconds until the next start: none after one failure, then 1, 2, 4, ... up to the longest."""
        return 0.0 if self.failures < 2 else min(times.longest, times.first * 2.0 ** min(self.failures - 2, 20))


class Supervisor:
    """Watches the two processes.

    Args:
        commands: how to start `supernode` and `executor`.
        state: the courier's folder.
        environments: theirs; absent: ours.
        times: how long what may take.
        refused: told code, SHA-256 and size of an app bundle that was refused.
    """

    def __init__(
        self,
        commands: Mapping[str, Command],
        state: Path,
        *,
        environments: Mapping[str, Mapping[str, str]] | None = None,
        times: Times | None = None,
        refused: Callable[[str, str, int], None] = lambda code, sha256, size: None,
    ) -> None:
        given = environments or {}
        self._refused = refused
        self._times = times or Times()
        self.node, self.executor = (Child(n, commands[n], given.get(n)) for n in (SUPERNODE, EXECUTOR))
        self._board = Board(state, time.monotonic, self._changed)
        self._link: tuple[Name, str | None, str | None] = ("starting", None, None)
        self._in_hand = False

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set, then say goodbye."""
        self._say("courier-started")
        try:
            while not stop.is_set():
                self.look(time.monotonic())
                pipes = [child.reports.descriptor for child in (self.node, self.executor) if child.reports]
                select.select(pipes, [], [], self._times.look)
        finally:
            self._end()

    def look(self, now: float) -> None:
        """One look: reports, ends, silences, starts."""
        for child in (self.node, self.executor):
            code = child.gone()  # asked first: what it said before it ended must be heard
            for report in child.take():
                self._heard(child, report, now)
            if code is not None:
                self._ended(child, code, now)
            elif child.running and now - child.heard > (self._times.silent if child.spoke else self._times.stuck):
                self._kill(child, "no sign of life")
            elif child is self.node and child.running and now - child.moved > self._times.stuck:
                self._kill(child, "asks nothing of the coordinator")
            if child.process is not None and now - child.started > self._times.steady:
                child.failures = 0
            if child.process is None and now >= child.due:
                child.start(now)
                if child.starts > 1:
                    self._board.note(restarts=self._board.state.restarts + 1)
                self._say("started", process=child.name, starts=child.starts)
        self._show()

    def _heard(self, child: Child, report: Mapping[str, Any], now: float) -> None:
        child.heard, child.spoke = now, True
        match report["event"]:
            case "contact" | "online":
                child.moved, self._link = now, ("online", None, None)
                self._board.note(last_contact=utc())
            case "trouble" | "refused":
                child.moved = now
                name: Name = "refused" if report["code"] in REFUSED_CODES else "waiting"
                self._link = (name, report["code"], report["title"])
            case "bundle":
                self._say("bundle-refused", code=report["code"], sha256=report["sha256"])
                self._refused(str(report["code"]), str(report["sha256"]), int(report["bytes"]))
            case "message":
                self._in_hand = True
                self._board.note(last_message=utc())
                self._board.write()
                self._say("message", delivery=report["delivery"])
            case "done":
                self._in_hand = False
                self.node.failures = self.executor.failures = 0
                self._say("message-answered")

    def _ended(self, child: Child, code: int, now: float) -> None:
        refused = child is self.node and self._link[0] == "refused"
        child.bury(now, self._times)
        pause = max(child.pause(self._times), self._times.refused if refused else 0.0)
        child.due = now + pause
        self._say("ended", process=child.name, exit=code, next_start_s=round(pause, 1), in_hand=self._in_hand)
        other = self.executor if child is self.node else self.node
        if self._in_hand and other.process is not None:
            self._kill(other, "its other half ended in the middle of a message")
        self._in_hand = False  # until the message is delivered again
        if child is self.node and self._link[0] == "online":
            self._link = ("starting", None, None)

    def _kill(self, child: Child, why: str) -> None:
        self._say("killed", process=child.name, why=why)
        child.kill()

    def _show(self) -> None:
        failing = self.executor.failures > 1 or (self.node.failures > 1 and self._link[0] == "starting")
        if failing:
            self._board.show("failed", code=EndsAtOnce.code, title=EndsAtOnce.title)
        else:
            name, code, title = self._link
            self._board.show(name, code=code, title=title)

    def _changed(self, state: State) -> None:
        error = {} if state.state in ("online", "stopped") else {"code": state.last_code, "title": state.last_title}
        self._say("state", state=state.state, **error)

    def _say(self, event: str, **fields: object) -> None:
        _log.info(event, extra={"said": fields})

    def _end(self) -> None:
        """The SuperNode says goodbye; the executor has nobody to say it to."""
        for child in (self.node, self.executor):
            if child.process is not None and child.process.poll() is None:
                child.process.terminate() if child is self.node else child.process.kill()
        for child in (self.node, self.executor):
            if child.process is not None:
                try:
                    child.process.wait(self._times.goodbye)
                except subprocess.TimeoutExpired:
                    child.process.kill()
                    child.process.wait()
        self._board.show("stopped")
        self._say("courier-ended")
