"""How the courier is, for whoever asks: one small JSON file, whole at every moment.

    {"state": "online", "since": "2026-11-28T08:15:39+00:00", "last_contact": "...", "last_message": "...",
     "restarts": 0, "last_code": null, "last_title": null, "pid": 4711, "written": "..."}

| state | the courier |
|---|---|
| starting | starts, or starts again |
| online | was heard by the coordinator, which counts this hospital in |
| waiting | gets no answer from the coordinator, and goes on asking |
| refused | is refused: its key is not registered, or it still counts as online elsewhere, or a certificate is wrong |
| failed | ends as soon as it starts, and is tried again |
| stopped | was told to stop |
"""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from fedloupe_client.courier.hand import write

STATE_FILE = "courier-state.json"
WRITE_S = 5.0
Name = Literal["starting", "online", "waiting", "refused", "failed", "stopped"]


@dataclasses.dataclass(frozen=True)
class State:
    """What the file says; times are UTC, ISO 8601.

    Attributes:
        state: see the module's table.
        since: when this state began.
        last_contact: when the coordinator last answered; written with a delay of up to 5 s.
        last_message: when the last message was received.
        restarts: of its two processes since the courier started.
        last_code: of the error that holds now, or of the last one that held.
        last_title: the same in a few words.
        pid: process id of the supervisor.
        written: when the file was written: a file older than a minute is of a courier that is no more.
    """

    state: Name = "starting"
    since: str = ""
    last_contact: str | None = None
    last_message: str | None = None
    restarts: int = 0
    last_code: str | None = None
    last_title: str | None = None
    pid: int = dataclasses.field(default_factory=os.getpid)
    written: str = ""


def utc() -> str:
    """Now."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class Board:
    """Keeps the file of one courier.

    Args:
        folder: the courier's folder.
        clock: seconds, monotonic.
        told: called with the new state at each change of its name.
    """

    def __init__(self, folder: Path, clock: Callable[[], float], told: Callable[[State], None]) -> None:
        self._path, self._clock, self._told = folder / STATE_FILE, clock, told
        self._written = clock()
        self.state = State(since=utc())
        self.write()

    def show(self, name: Name, *, code: str | None = None, title: str | None = None) -> None:
        """Say the state that holds now; the code of the last error stays until another comes."""
        before = self.state
        changes: dict[str, str | None] = {} if code is None else {"last_code": code, "last_title": title}
        if name != before.state:
            self.note(state=name, since=utc(), **changes)
            self._told(self.state)
            self.write()
        elif code not in (None, before.last_code):
            self.note(**changes)
            self.write()
        elif self._clock() - self._written > WRITE_S:
            self.write()

    def note(self, **fields: str | int | None) -> None:
        """Keep something that is written with the next change, or within 5 s."""
        self.state = dataclasses.replace(self.state, **fields)  # type: ignore[arg-type]

    def write(self) -> None:
        """Write the file now."""
        self._written = self._clock()
        write(self._path, {**dataclasses.asdict(self.state), "written": utc()}, durable=False)
