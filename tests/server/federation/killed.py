"""A coordinator that is killed by SIGKILL in the middle of its rounds, and started again; run as a program.

    python -m tests.server.federation.killed secure FOLDER

Each run is a process of its own, forked once everything is imported. Sites live in the coordinator's process, so a kill
takes them as well; what they know afterwards is on disk. Prints one line of JSON for each instant: what was compared.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.server.federation.conftest import Hospitals
from tests.server.federation.wire import SITES, SIZES, Wire

from fedloupe.study import Study
from fedloupe_server.federation import run_study

SHARES = (0.4, 0.6, 0.7, 0.85)
"""Instants, as shares of all requests and of all files that an undisturbed run writes."""


def study_of(aggregation: str) -> Study:
    return Study.model_validate(
        {
            "study": "killed",
            "title": "Rounds of a coordinator that is killed",
            "synthetic": True,
            "endpoint": {"name": "r", "column": "r", "positive": ["1"], "negative": ["0"]},
            "aggregation": aggregation,
            "sites": [{"name": name, "role": "train"} for name in SITES],
            "radiomics": {"source": "table"},
            "model": {"components": 2, "width": 4, "depth": 1, "heads": 1, "image": False},
            "training": {"rounds": 3, "start": "random", "strategy": "fedadam"},
            "quorum": {"minimum": 3, "attempts": 1, "retry_after_s": 0},
            "evaluation": {"logistic_baseline": False, "local_baseline": False},
        }
    )


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run(study: Study, folder: Path, at: tuple[str, int] | None) -> tuple[int, dict[str, int]]:
    """One coordinator's life in a process of its own: how it ended (0, or the signal), and what it counted."""
    if (child := os.fork()) == 0:
        counts = {"request": 0, "before": 0, "after": 0}

        def reached(what: str) -> None:
            counts[what] += 1
            if at == (what, counts[what]):
                die()

        wire = Wire(Hospitals(SIZES), folder / "homes", study)

        def asked(_: Any) -> bool:
            reached("request")
            return False

        wire.lose = asked
        ordinary: Callable[..., Any] = Path.replace

        def replace(self: Path, target: Any) -> Any:
            if Path(target).name == "state.json":
                return ordinary(self, target)
            reached("before")
            found = ordinary(self, target)
            reached("after")
            return found

        Path.replace = replace  # type: ignore[method-assign]
        run_study(study, wire, folder / "trial")
        (folder / "counts.json").write_text(json.dumps(counts))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    counts = json.loads((folder / "counts.json").read_text()) if (folder / "counts.json").exists() else {}
    return os.waitstatus_to_exitcode(status), counts


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of what the undisturbed run must agree in."""
    names = ("rounds/0001.safetensors", "rounds/0002.safetensors", "rounds/0003.safetensors", "frozen.json")
    found = {name: hashlib.sha256((folder / "trial" / name).read_bytes()).hexdigest() for name in names}
    return {**found, "results.json": hashlib.sha256((folder / "trial" / "results.json").read_bytes()).hexdigest()}


def main(aggregation: str, folder: Path) -> None:
    study = study_of(aggregation)
    ended, counts = run(study, folder / "whole", None)
    assert ended == 0
    expected = digests(folder / "whole")
    for what, total in sorted(counts.items()):
        for share in SHARES:
            number = max(1, round(total * share))
            place = folder / f"{what}-{number}"
            killed, _ = run(study, place, (what, number))
            done = sorted(path.name for path in (place / "trial" / "rounds").glob("????.json"))
            again, _ = run(study, place, None)
            same = again == 0 and digests(place) == expected
            print(
                json.dumps({"at": [what, number], "killed": killed, "rounds": len(done), "again": again, "same": same})
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
