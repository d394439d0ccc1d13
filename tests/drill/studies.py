"""The drill's study: hospitals with synthetic tables, rounds that take some seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.integration.conftest import write_tables

from fedloupe.study import Study, parse_study

SITES = {"alpha": 60, "beta": 48, "gamma": 52, "delta": 44, "omega": 56}


def drill_study(rounds: int = 10, epochs: int = 40, sites: dict[str, int] = SITES, **changes: Any) -> Study:
    """All of these sites train, and no round counts without each of them."""
    content: dict[str, Any] = {
        "study": "drill",
        "title": "Synthetic tables for the kill drill",
        "synthetic": True,
        "endpoint": {"name": "response", "column": "response", "positive": ["1"], "negative": ["0"]},
        "sites": [{"name": site, "role": "train"} for site in sites],
        "radiomics": {"source": "table"},
        "model": {"components": 6, "image": False, "width": 64, "depth": 4, "heads": 4},
        "training": {
            "rounds": rounds,
            "local_epochs": epochs,
            "start": "random",
            "batch_size": 8,
            "learning_rate": 0.001,
        },
        "quorum": {"must": list(sites), "minimum": len(sites), "timeout_s": 600, "retry_after_s": 2, "silence_s": 60},
        "evaluation": {"logistic_baseline": False, "local_baseline": False},
        "seed": 3,
    }
    return parse_study({**content, **changes})


def drill_tables(folder: Path, sites: dict[str, int] = SITES) -> Path:
    """Tables of these sites, and `sites.yaml`."""
    folder.mkdir(parents=True, exist_ok=True)
    return write_tables(folder, sites)
