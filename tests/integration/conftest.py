"""A small study on synthetic feature tables, for tests that start real processes: two sites train, one validates."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from fedloupe.models import Preparation
from fedloupe.study import Study, parse_study
from fedloupe_server.cli import app

SITES = {"alpha": 60, "beta": 48, "omega": 44}
FEATURES = 12


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one clinical and one feature table a site, and `sites.yaml` for a one-machine run."""
    return write_tables(tmp_path_factory.mktemp("tables"), SITES)


def write_tables(folder: Path, patients_of: dict[str, int]) -> Path:
    """The folder with tables of these sites, and `sites.yaml`."""
    rng = np.random.default_rng(5)
    truth = rng.standard_normal(FEATURES)
    sites = {}
    for site, patients in patients_of.items():
        values = rng.standard_normal((patients, FEATURES)) + rng.normal(0, 0.2, FEATURES)
        event = rng.random(patients) < 1 / (1 + np.exp(-values @ truth))
        with (folder / f"{site}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["case", "response", *(f"f{i:02d}" for i in range(FEATURES))])
            for i in range(patients):
                table.writerow([f"{site}-{i:03d}", int(event[i]), *(f"{v:.6f}" for v in values[i])])
        sites[site] = {
            "source": {
                "format": "table",
                "root": ".",
                "clinical": {"file": f"{site}.csv", "case": "case"},
                "features": f"{site}.csv",
                "exclude": ["response"],
            }
        }
    policy = {"minimum_cohort": 10, "minimum_cell": 2, "epsilon_budget": 12.0}
    (folder / "sites.yaml").write_text(yaml.safe_dump({"sites": sites, "policy": policy}))
    return folder


@pytest.fixture(scope="session")
def make_study() -> Callable[..., Study]:
    """A study on the tables; keyword arguments replace whole keys."""

    def make(**changes: Any) -> Study:
        content = {
            "study": "small-tables",
            "title": "Synthetic tables",
            "synthetic": True,
            "endpoint": {"name": "response", "column": "response", "positive": ["1"], "negative": ["0"]},
            "aggregation": "plain",  # two sites train; test_secure_study.py has three
            "sites": [{"name": s, "role": "validate" if s == "omega" else "train"} for s in SITES],
            "radiomics": {"source": "table"},
            "model": {"components": 6, "image": False, "width": 16, "depth": 1, "heads": 2},
            "training": {"rounds": 2, "local_epochs": 2, "start": "random", "batch_size": 16, "learning_rate": 0.001},
            "quorum": {"minimum": 2, "timeout_s": 120, "retry_after_s": 5},
            "evaluation": {"logistic_baseline": False},
            "seed": 3,
        }
        return parse_study({**content, **changes})

    return make


@pytest.fixture(scope="session")
def private_study(make_study: Callable[..., Study]) -> Callable[..., Study]:
    """The same under DP-SGD."""

    def make(epsilon: float = 8.0, rounds: int = 4, local_epochs: int = 1) -> Study:
        training = {"rounds": rounds, "local_epochs": local_epochs, "preparation": "public", "start": "random"}
        return make_study(privacy={"mode": "dp-sgd", "epsilon": epsilon}, training=training)

    return make


@pytest.fixture(scope="session")
def public_preparation() -> Preparation:
    """Scaling and projection that owe nothing to a patient: unit scale, the first six features."""
    projection = np.eye(FEATURES, 6, dtype=np.float32)
    return Preparation(np.zeros(FEATURES), np.ones(FEATURES), projection, "public")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The demo's folder, a third of its size, and what its command said."""
    folder = tmp_path_factory.mktemp("demo") / "seed-1"
    done = CliRunner().invoke(app, ["demo", "--seed", "1", "--scale", "0.3", "--out", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    return folder, json.loads(done.stdout)
