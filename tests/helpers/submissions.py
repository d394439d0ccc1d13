"""Flower as the coordinator's service sees it, where no run is to begin."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path


class Flower:
    """Takes every submission, while `go` is set, and says that it runs."""

    def __init__(self) -> None:
        self.submitted: list[dict[str, str]] = []
        self.go = threading.Event()
        self.go.set()

    def submit(self, app: Path, run_config: Mapping[str, str]) -> int:
        self.go.wait(120)
        self.submitted.append(dict(run_config))
        return len(self.submitted)

    def status(self, run: int) -> str:
        return "running"

    def stop(self, run: int) -> None:
        pass
