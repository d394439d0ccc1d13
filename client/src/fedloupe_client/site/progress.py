"""How far the running request is: written by the thread that works, read by those that wait for it.

progress = Progress()
progress.begin("training")
progress(120, 400)                      # steps done of those planned; a plain callable for whoever works
progress.now                            # Told("training", 0.3, 212.0)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple


class Told(NamedTuple):
    """A moment of a piece of work.

    Attributes:
        stage: what is done, in a word.
        fraction: share that is done, in hundredths: finer, it would count patients. None where nobody knows.
        seconds: expected until the stage ends. None where nobody knows.
    """

    stage: str
    fraction: float | None
    seconds: float | None


class Progress:
    """The present stage and how much of it is done.

    Args:
        clock: seconds that only ever grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.begin("working")

    def begin(self, stage: str) -> None:
        """A stage begins of which nothing is known yet."""
        # one assignment, so that a reader in another thread never sees half of it
        self._state: tuple[str, float, float | None, float] = (stage, self._clock(), None, 0.0)

    def __call__(self, done: int, total: int) -> None:
        """So many steps of the stage are done."""
        stage, began, first, _ = self._state
        share = min(1.0, done / total) if total > 0 else 0.0
        if first is None:  # work that goes on from a checkpoint begins here, and its pace counts from here
            began, first = self._clock(), share
        self._state = (stage, began, first, share)

    @property
    def now(self) -> Told:
        """The present moment."""
        stage, began, first, share = self._state
        if first is None:
            return Told(stage, None, None)
        pace = (share - first) / max(self._clock() - began, 1e-9)
        return Told(stage, round(share, 2), round((1 - share) / pace, 1) if pace > 0 else None)
