"""What a run tells whoever watches it: a progress bar, a log, a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """One step of a run.

    Attributes:
        stage: e.g. `rounds`, `local models`, `validation`.
        done: steps done in the stage.
        total: steps of the stage.
        note: a short phrase, e.g. the sites that answered.
    """

    stage: str
    done: int
    total: int
    note: str = ""


Observer = Callable[[Event], None]


def silent(_: Event) -> None:
    """An observer for whoever does not watch."""
