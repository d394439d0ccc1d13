"""Keeps one run going, whatever Flower does with it: submits it, sees when it was given up, submits it again.

    watch = RunWatch(flower, control, app, jobs, {"task": "study", ...}, lambda: Job(...), steps, complete)
    while not watch.over:
        watch.look()                     # a few times a second; never blocks for long
        time.sleep(0.3)
    watch.state                          # waiting, running, completed or failed, and why

Each submission has a folder of its own, in which the ServerApp says that it lives (`server.json`), what it does
(`progress.log`) and how it ended (`outcome.json`). A run ends when its ServerApp says so. Where it dies without a word,
or its connection does, the next one goes on from the journal; only an error that waiting does not mend ends the watch.
A run that is complete on disk is never submitted, whoever wrote its end and did not come to say so.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from fedloupe.errors import FedLoupeError
from fedloupe_server.federation.opening import RunTaken
from fedloupe_server.hub.app import Unforeseen
from fedloupe_server.hub.flower import FlowerRefused
from fedloupe_server.hub.job import Job, write_job
from fedloupe_server.hub.processes import alive

State = Literal["waiting", "running", "completed", "failed"]
FIRST_S, LONGEST_S, LOOK_S, ABSENT_S = 2.0, 60.0, 10.0, 60.0
MOST = 10
"""Submissions in a row that ended with an error, without a step of progress, after which somebody must look."""
VAIN = 2
"""Submissions in a row that were given up, for whatever reason, without a step of progress, after which the run waits
for somebody: one that is killed each time for lack of memory would look as if it ran."""
TRANSIENT = frozenset({Unforeseen.code, FlowerRefused.code, RunTaken.code})
"""Codes of ends that another try may mend: unforeseen, as a lost connection; Flower; another one at work."""
_log = logging.getLogger(__name__)


class Submits(Protocol):
    """What is needed of `fedloupe_server.hub.flower.Flower`."""

    def submit(self, app: Path, run_config: Mapping[str, str]) -> int:
        """Start a run; its id."""
        ...


class Follows(Protocol):
    """What is needed of `fedloupe_server.hub.control.Control`."""

    def status(self, run: int) -> str:
        """As Flower has it."""
        ...

    def stop(self, run: int) -> None:
        """Stop a run."""
        ...


@dataclass
class Submission:
    """One try.

    Attributes:
        run: Flower's id.
        job: its folder.
        began: monotonic seconds.
        progress: steps done before it.
    """

    run: int
    job: Path
    began: float
    progress: int


@dataclass
class RunWatch:
    """See above.

    Args:
        flower: submits.
        control: follows and stops.
        app: the staged bundle.
        jobs: folder of the submissions' folders.
        config: of the run, without `work`.
        given: what the ServerApp is given, without its keeper; None where a submission must wait.
        progress: steps that the journal holds.
        complete: whether the journal holds the run's end; an error of it ends the watch.
        clock: monotonic seconds.

    Attributes:
        standing: its state and why, in words; replaced as one, for another thread may read it.
        submissions: how many there were.
    """

    flower: Submits
    control: Follows
    app: Path
    jobs: Path
    config: Mapping[str, str]
    given: Callable[[], Job | None]
    progress: Callable[[], int]
    complete: Callable[[], bool]
    clock: Callable[[], float] = time.monotonic
    standing: tuple[State, str] = ("waiting", "not submitted yet")
    submissions: int = 0
    _now: Submission | None = None
    _next: float = 0.0
    _fruitless: int = 0
    _vain: int = 0
    _given_up: str = ""
    _looked: float = field(default=float("-inf"))

    def __post_init__(self) -> None:
        self._end_if_complete()

    @property
    def state(self) -> State:
        """Of the run."""
        return self.standing[0]

    @property
    def why(self) -> str:
        """Of the state, in words."""
        return self.standing[1]

    @property
    def over(self) -> bool:
        """Nothing more will be submitted."""
        return self.state in ("completed", "failed")

    @property
    def stuck(self) -> str:
        """Why nothing is gained, whether or not the next submission is under way; empty where something is."""
        if self.over or self._vain < VAIN:
            return ""
        return f"{self._vain} submissions in a row without a step of progress; the last one: {self._given_up}"

    @property
    def job(self) -> Path | None:
        """Folder of the present submission."""
        return self._now.job if self._now else None

    def look(self) -> None:
        """Look once; submit where it is time to."""
        if self.over:
            return
        if self._now is None:
            if self.clock() >= self._next:
                self._submit()
            return
        if self._vain and self._gained():
            self._vain = 0
        if (outcome := read_json(self._now.job / "outcome.json")) is not None:
            self._ended(outcome)
        elif (gone := self._gone(self._now)) is not None:
            self._again(gone, failed=False)  # killed, or given up by Flower: nothing speaks against another try

    def _end_if_complete(self) -> None:
        try:
            if self.complete():
                self._completed()
        except FedLoupeError as error:
            self._failed(error.code, str(error))

    def _submit(self) -> None:
        self._end_if_complete()
        if self.over or (given := self.given()) is None:
            return
        self.submissions += 1
        job = self.jobs / f"{self._free_number():04d}"
        job.mkdir(parents=True)
        write_job(job, given.kept_by(os.getpid()))
        began, done = self.clock(), self.progress()
        try:
            run = self.flower.submit(self.app, {**self.config, "work": str(job)})
        except FedLoupeError as error:
            self._again(str(error), failed=False)
            return
        self._now, self.standing = Submission(run, job, began, done), ("running", f"run {run}")
        self._looked = self.clock()
        _log.info("run submitted", extra={"said": {"run": run, "submission": self.submissions, "steps_done": done}})

    def _free_number(self) -> int:
        return max((int(path.name) for path in self.jobs.glob("[0-9]*")), default=0) + 1

    def _ended(self, outcome: Mapping[str, str]) -> None:
        if outcome.get("state") == "completed":
            self._completed()
        elif outcome.get("code") in TRANSIENT:
            why = outcome.get("message", "")
            if outcome["code"] == RunTaken.code:  # whoever holds the folder may do so for hours
                self._again(why, failed=False, pause_s=LONGEST_S)
            else:
                self._again(why, failed=True)
        else:
            self._failed(outcome.get("code"), outcome.get("message", "no reason given"))

    def _completed(self) -> None:
        self.standing = "completed", ""
        _log.info("run completed", extra={"said": {"submissions": self.submissions}})

    def _failed(self, code: str | None, why: str) -> None:
        self.standing = "failed", why
        _log.error("run failed", extra={"said": {"code": code, "why": why}})

    def _gone(self, now: Submission) -> str | None:
        """Why this submission will never say how it ended; None where it may."""
        server = read_json(now.job / "server.json")
        if server is not None and not alive(int(server["pid"]), float(server["began"])):
            # Written aside and renamed by the process before it ends: look once more.
            return None if (now.job / "outcome.json").exists() else "the ServerApp ended without a word"
        if self.clock() < self._looked + LOOK_S:
            return None
        self._looked = self.clock()
        try:
            status = self.control.status(now.run)
        except FedLoupeError:
            return None  # the SuperLink is away: it is started again, and asked again
        if status.startswith("finished"):
            if server is not None:
                _end(int(server["pid"]), float(server["began"]))
            return f"Flower gave the run up: {status}"
        if server is None and self.clock() > now.began + ABSENT_S:
            return f"no ServerApp after {ABSENT_S:.0f} s: {status}"
        return None

    def _gained(self) -> bool:
        return self._now is not None and self.progress() > self._now.progress

    def _again(self, why: str, *, failed: bool, pause_s: float = FIRST_S) -> None:
        """Give this submission up; the next one comes after a pause, longer while errors come and nothing is gained."""
        gained = self._gained()
        self._fruitless = 0 if gained else self._fruitless + failed
        self._vain, self._given_up = 0 if gained else self._vain + 1, why
        if self._now is not None:
            with suppress(FedLoupeError):  # it may be over, or the SuperLink away
                self.control.stop(self._now.run)
        if self._fruitless >= MOST:
            why = f"{MOST} submissions ended with an error without a step of progress; the last one: {why}"
            self._now, self.standing = None, ("failed", why)
            _log.error("run failed", extra={"said": {"why": why}})
            return
        pause = min(pause_s * 2 ** max(0, self._fruitless - 1), LONGEST_S)
        self._now, self.standing, self._next = None, ("waiting", why), self.clock() + pause
        _log.warning("run given up; submitted again", extra={"said": {"why": why, "in_s": pause}})


def end_leftovers(jobs: Path) -> None:
    """End ServerApps of an earlier service that did not end with it: two of them would write one journal.

    Args:
        jobs: folder of the submissions' folders.
    """
    for job in sorted(jobs.glob("[0-9]*")):
        server = read_json(job / "server.json")
        if server is not None:
            _end(int(server["pid"]), float(server["began"]))


def read_json(path: Path) -> dict[str, str] | None:
    """What a file holds that is written whole; None where there is none."""
    try:
        content: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return content


def _end(pid: int, began: float) -> None:
    """A ServerApp whose run is over may still write: it must be gone before the next one begins."""
    if alive(pid, began):
        with suppress(ProcessLookupError):
            os.kill(pid, 9)
