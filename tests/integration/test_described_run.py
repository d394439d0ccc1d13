"""The description of a run's training sites against pandas on their pooled patients."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedloupe.messages import CovarianceRequest, decode
from fedloupe.statistics.sketch import ACCURACY, CENTRE
from fedloupe_client.config import load_site
from fedloupe_client.gate import approve
from fedloupe_client.ingest import ingest
from fedloupe_client.site.site import Site
from fedloupe_server.federation import run_study
from fedloupe_server.hub.inprocess import inprocess_exchange
from fedloupe_server.simulation.sites import make_homes
from sealing import hearing

AGE = {"clinical": [{"name": "first", "column": "f00", "centre": 3, "scale": 7}]}


@pytest.fixture(scope="module")
def described(make_study, tables, tmp_path_factory) -> tuple[dict, pd.DataFrame, Path, list]:
    """The statistics of a run with a policy of cell 2, the pooled training patients, the folder, and what was asked."""
    folder = tmp_path_factory.mktemp("described")
    study = make_study(
        **AGE, evaluation={"describe": True, "logistic_baseline": False, "local_baseline": False}, harmonisation={}
    )
    homes = make_homes(study, tables / "sites.yaml", tables, folder / "homes")
    sites, asked = {}, []
    for name, home in homes.items():
        ingest(load_site(home), study, home)
        approve(home, study, by="test")
        sites[name] = Site(home)

    def handler(name):
        def handle(blob: bytes) -> bytes:
            asked.append(decode(blob))
            return hearing(sites[name], folder / "run")(blob)

        return handle

    run_study(study, inprocess_exchange({name: handler(name) for name in sites}), folder / "run")
    frames = []
    for name in study.train_sites:
        cohort = sites[name].cohort(study)
        rows = cohort.rows("train")
        frame = pd.DataFrame(cohort.features[rows], columns=list(cohort.names))
        frame["first"] = cohort.clinical[rows, 0] * 7 + 3
        frame["event"] = cohort.labels[rows]
        frames.append(frame)
    found = json.loads((folder / "run/statistics.json").read_text())
    return found, pd.concat(frames, ignore_index=True), folder / "run", asked


def test_counts_means_and_deviations_are_those_of_the_pooled_patients(described):
    found, pooled, _, _ = described
    assert (found["patients"], found["events"]) == (len(pooled), int(pooled["event"].sum()))
    for row in found["variables"]:
        column = pooled[row["name"]]
        assert (row["patients"], row["missing"]) == (len(pooled), 0)
        assert row["mean"] == pytest.approx(column.mean(), rel=1e-12, abs=1e-12)
        assert row["sd"] == pytest.approx(column.std(), rel=1e-12)


def test_correlation_with_the_outcome_is_pearsons(described):
    found, pooled, _, _ = described
    for row in found["variables"]:
        assert row["correlation"] == pytest.approx(pooled[row["name"]].corr(pooled["event"]), rel=1e-9)
        assert row["correlated"] == len(pooled)


def test_quantiles_are_within_the_sketchs_error_of_ranks_that_a_small_cell_may_move(described):
    found, pooled, _, _ = described
    moved = 2 * (2 * 2 - 1)  # two sites, cell 2
    for row in found["variables"]:
        column = np.sort(pooled[row["name"]])
        slack = CENTRE * column.std(ddof=1)
        for name, q in (("p05", 0.05), ("p25", 0.25), ("median", 0.5), ("p75", 0.75), ("p95", 0.95)):
            rank = int(q * (len(column) - 1))
            low, high = column[max(rank - moved, 0)], column[min(rank + moved, len(column) - 1)]
            far = ACCURACY * max(abs(low - row["mean"]), abs(high - row["mean"]))
            assert low - far - slack <= row[name] <= high + far + slack


def test_the_covariance_of_a_group_and_the_clinical_values_is_the_pooled_one(described):
    found, pooled, _, _ = described
    (block,) = found["covariance"]
    frame = pooled[block["columns"]]
    assert block["columns"][-1] == "first"
    np.testing.assert_allclose(block["covariance"], frame.cov(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(block["correlation"], frame.corr(), rtol=1e-9, atol=1e-12)


def test_the_table_holds_the_same_rows(described):
    found, _, folder, _ = described
    table = pd.read_csv(folder / "statistics.csv")
    assert table["name"].tolist() == [row["name"] for row in found["variables"]]
    np.testing.assert_array_equal(table["mean"], [row["mean"] for row in found["variables"]])


def test_sites_that_only_validate_are_not_asked(described):
    asked = described[3]
    kinds = ("summary", "buckets", "covariance")
    assert {(m.kind, m.site) for m in asked if m.kind in kinds} == {(k, s) for k in kinds for s in ("alpha", "beta")}
    assert all(len(m.columns) <= 64 for m in asked if isinstance(m, CovarianceRequest))
