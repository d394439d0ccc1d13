"""Boosted trees through real sites, their gates and Flower's in-process Grid, on synthetic tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import fedloupe
from fedloupe.messages import GrowRequest, decode, encode
from fedloupe.models import Preparation, leaves, on_grid
from fedloupe_client.dataset import load_cohort
from fedloupe_client.gate import CellTooSmall
from fedloupe_client.site.site import Site
from fedloupe_client.training import trees
from fedloupe_server.simulation.local import run_here
from fedloupe_server.simulation.sites import make_homes

PLAN = {"rounds": 6, "depth": 3, "eta": 0.5, "columns": 0.5, "minimum_weight": 0.0, "grid": 8}
CELL = 2  # the policy of these sites


@pytest.fixture(scope="module")
def runs(tables, make_study, tmp_path_factory):
    """The same study twice, in homes of their own."""
    study = make_study(evaluation={"logistic_baseline": False, "local_baseline": False, "trees": PLAN})
    found = []
    for name in ("one", "two"):
        folder = tmp_path_factory.mktemp(name)
        homes = make_homes(study, tables / "sites.yaml", tables, folder / "sites")
        outcome = run_here(study, homes, folder / "run", tell=lambda *_: None, workers=1)
        found.append((study, homes, folder / "run", outcome.results))
    return found


class TestTrees:
    def test_the_same_seed_gives_the_same_trees_and_results_again(self, runs):
        one, two = (run for _, _, run, _ in runs)
        assert (one / "results.json").read_bytes() == (two / "results.json").read_bytes()
        rounds = sorted(path.name for path in (one / "trees").iterdir())
        assert len(rounds) == PLAN["rounds"]
        assert all((one / "trees" / n).read_bytes() == (two / "trees" / n).read_bytes() for n in rounds)

    def test_they_tell_the_outcome_at_a_hospital_that_never_trained(self, runs):
        """Twelve features of equal noise explain it; chance alone would be at 0.5."""
        _, _, _, results = runs[0]
        omega = next(s for s in results.sites if s.site == "omega")
        assert omega.baselines["trees"].patients == 44
        assert omega.baselines["trees"].auc > 0.65

    def test_no_leaf_that_a_site_sent_holds_fewer_patients_than_its_smallest_cell(self, runs):
        study, homes, run, _ = runs[0]
        preparation = Preparation.read(run / "preparation.safetensors")
        every = load_file(run / f"trees/{PLAN['rounds']:04d}.safetensors")["trees"]
        assert len(every) > 2 * PLAN["rounds"] * 5
        for place, site in enumerate(("alpha", "beta")):
            cohort = load_cohort(homes[site], study, site)
            rows = cohort.rows("train")
            ends = leaves(every, on_grid(cohort.features[rows], cohort.clinical[rows], preparation, PLAN["grid"]))
            own = [np.unique(ends[:, tree], return_counts=True)[1].min() for tree in range(place, ends.shape[1], 2)]
            assert min(own) >= CELL

    def test_the_audit_chain_has_a_line_for_every_tree(self, runs):
        _, homes, _, _ = runs[0]
        for site, many in (("alpha", PLAN["rounds"]), ("beta", PLAN["rounds"]), ("omega", 0)):
            lines = [json.loads(x) for x in Path(homes[site] / "gate/audit.jsonl").read_text().splitlines()]
            left = [line for line in lines if line["kind"] == "grow-reply"]
            assert [line["round"] for line in left] == list(range(1, many + 1))
            assert all(line["disclosure"] == ["count", "model", "protocol"] for line in left)

    def test_a_site_holds_back_a_tree_with_a_leaf_below_its_smallest_cell(self, runs, monkeypatch):
        """Should XGBoost's own bound ever fail: the site counts again."""
        study, homes, _, _ = runs[0]
        header = {"version": fedloupe.__version__, "fingerprint": study.fingerprint, "run": "run", "site": "alpha"}
        stump = np.array([[0, -1, 0.5, -1, -1]])
        for smallest, kind in ((CELL, "grow-reply"), (CELL - 1, "failure")):
            grown = (stump, smallest)
            monkeypatch.setattr(trees, "grow", lambda *_, grown=grown, **__: grown)
            request = GrowRequest(**header, round=1, trees=stump * [1, 1, smallest, 1, 1])
            reply = decode(Site(homes["alpha"]).answer(encode(request)))
            assert reply.kind == kind
        assert reply.code == CellTooSmall.code
