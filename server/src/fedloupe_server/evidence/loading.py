"""A finished run's `results.json` back into `Results`.

results = load_results(Path("runs/2026-11-23-demo"))
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from fedloupe.errors import FedLoupeError
from fedloupe.study.loading import explain
from fedloupe_server.evidence.results import Results


class ResultsUnreadable(FedLoupeError):
    """`results.json` is absent or not permitted."""

    code = "FL-811"
    title = "run has no readable results"


class ResultsInvalid(FedLoupeError):
    """`results.json` is not a result of this version."""

    code = "FL-812"
    title = "results are not valid"


def load_results(run_dir: Path) -> Results:
    """Read `run_dir/results.json`.

    Raises:
        ResultsUnreadable: absent (the run has not finished), not permitted, or unreadable; each in its own words.
        ResultsInvalid: not JSON, or not `Results`.
    """
    path = run_dir / "results.json"
    try:
        blob = path.read_bytes()
    except FileNotFoundError:
        raise ResultsUnreadable(
            "the run has no results yet", where=str(path), remedy="finish the run first, or check the folder's name"
        ) from None
    except PermissionError:
        raise ResultsUnreadable(
            "this user may not read the file", where=str(path), remedy="ask for read permission; the file may be fine"
        ) from None
    except OSError as error:
        raise ResultsUnreadable(f"reading failed: {error}", where=str(path), remedy="check the disk") from None
    try:
        return Results.model_validate_json(blob)
    except ValidationError as error:
        raise ResultsInvalid(
            explain(error), where=str(path), remedy="use the FedLoupe version that made the run, or run again"
        ) from None
