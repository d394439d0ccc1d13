"""A run's folder, taken for one coordinator alone, and what the run says of itself while it lasts.

with opened(study, exchange, Path("runs/demo"), observer) as (journal, talk):
    talk.say_hello(study.train_sites)
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedloupe.errors import FedLoupeError
from fedloupe.study import Study
from fedloupe_server.federation.conversation import Conversation
from fedloupe_server.federation.events import Observer
from fedloupe_server.federation.exchange import Exchange
from fedloupe_server.federation.journal import Journal, JournalDamaged, write_atomic
from fedloupe_server.federation.state import FILE, Watch
from fedloupe_server.federation.waiting import Clock

LOCK, NAME = "run.lock", "name.txt"


class RunTaken(FedLoupeError):
    """Another process runs in this folder."""

    code = "FL-709"
    title = "the run is under way in another process"


def name_run(run_dir: Path, name: str) -> None:
    """Give a run a name that its folder does not bear; one that has begun keeps the name that it has.

    Args:
        run_dir: the run's folder.
        name: lower case letters, digits, `_` and `-`.
    """
    if not (run_dir / "study.json").exists():
        write_atomic(run_dir / NAME, f"{name}\n".encode("ascii"))


def run_name(run_dir: Path) -> str:
    """The run's name on the wire: as given, or the folder's in lower case, other characters as `-`.

    Raises:
        JournalDamaged: the file with its name holds none.
    """
    if (path := run_dir / NAME).exists():
        name = path.read_text(encoding="ascii", errors="replace").strip()
        if not re.fullmatch("[a-z0-9][a-z0-9_-]{0,99}", name):
            raise JournalDamaged("no run's name", where=str(path), remedy="restore it from a backup")
        return name
    text = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "-" for c in run_dir.resolve().name.lower())
    return text.lstrip("-_") or "run"


@contextmanager
def opened(
    study: Study, exchange: Exchange, run_dir: Path, observer: Observer, clock: Clock, *, patient: bool
) -> Iterator[tuple[Journal, Conversation]]:
    """The run's journal and its conversation; `state.json` says how it ended.

    Args:
        study: the protocol.
        exchange: how to reach the sites.
        run_dir: the run's folder; named as `run_name` has it.
        observer: told of every step.
        clock: tells and passes time.
        patient: see `Conversation`.

    Raises:
        RunTaken: another process runs there.
        AnotherStudy: the folder belongs to another study.
        JournalDamaged: the record of a round cannot be read.
    """
    journal = Journal(run_dir)
    with alone(run_dir):
        journal.open_for(study)
        name = run_name(run_dir)
        watch = Watch(study, name, run_dir / FILE, observer)
        how = "stopped"
        try:
            watch.goes_on(journal.rounds())
            yield journal, Conversation(study, exchange, name, run_dir, patient=patient, watch=watch, clock=clock)
            how = "completed"
        except FedLoupeError as error:
            how = f"{error.code} {error.title}"
            raise
        finally:
            watch.end(how)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else is in the folder; the kernel lets go of it when the process ends, however it ends.

    Raises:
        RunTaken: somebody is.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunTaken(
                "its folder is locked", where=str(folder), remedy="wait for that process, or end it first"
            ) from None
        yield
    finally:
        os.close(descriptor)
