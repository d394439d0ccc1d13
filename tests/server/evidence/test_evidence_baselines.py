"""Baselines beside the federated model: who did as well is said by name, and every number has its interval."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fedloupe.metrics import pool_auc
from fedloupe_server.evidence import Results, Scores, baselines, intervals, load_results, summary_json, wording
from fedloupe_server.evidence.formats import with_interval
from fedloupe_server.evidence.report import write_report

Maker = Callable[..., Results]


@pytest.fixture
def results(make_results: Maker, make_scores: Callable[..., Scores]) -> Results:
    """Clinical values that help nowhere, and trees that are as good at `east` and where `north` was left out."""
    plain = make_results(left_out=True)
    sites, folds = [], []
    for at in (*plain.sites, *plain.left_out):
        fed = at.federated
        clinical = make_scores("clinical", fed.split, fed.patients, 0.2, 5, None)
        trees = make_scores("trees", fed.split, fed.patients, 0.6, 6, None)
        if (at.site, at in plain.sites) in {("east", True), ("north", False)}:
            trees = trees.model_copy(update={"auc": fed.auc})
        entry = at.model_copy(update={"baselines": {"clinical": clinical, "trees": trees}})
        (sites if at in plain.sites else folds).append(entry)
    return plain.model_copy(update={"sites": tuple(sites), "left_out": tuple(folds)})


class TestWords:
    def test_a_baseline_that_does_as_well_is_named_and_so_is_one_that_does_not(self, results):
        text = " ".join(wording.benefit(results))
        assert "The simpler federated tree baseline does as well or better at 1 of 6 sites: east." in text
        assert "It is above the clinical-only baseline at all 6 sites." in text

    def test_sites_left_out_have_their_own_sentences(self, results):
        text = " ".join(wording.found(results))
        means = [sum(f.baselines[x].auc for f in results.left_out) / 5 for x in ("clinical", "trees")]
        assert f"clinical-only baseline {means[0]:.2f}, tree baseline {means[1]:.2f})." in text
        assert "There the federated tree baseline does as well or better at 1 of 5 sites: north." in text
        assert "There the clinical-only" not in text

    def test_without_further_baselines_the_report_has_no_section_for_them(self, make_results, results, tmp_path):
        plain = write_report(make_results(), tmp_path / "plain").read_text("utf-8")
        full = write_report(results, tmp_path / "full").read_text("utf-8")
        assert "<h2>Baselines</h2>" not in plain
        assert "<h2>Baselines</h2>" in full


class TestTables:
    def test_every_model_stands_with_its_interval_at_every_site(self, results):
        table = baselines.table(results)
        assert table.header == ("Site", "Federated", "Federated logistic", "Clinical only", "Federated trees")
        east = next(s for s in results.sites if s.site == "east")
        scores = [east.federated, east.logistic, east.baselines["clinical"], east.baselines["trees"]]
        cells = [with_interval(s.auc, s.auc_low, s.auc_high) for s in scores]
        assert ("east", *cells) in table.rows
        assert [row[0] for row in table.rows] == [*(s.site for s in results.sites), "Pooled, training sites"]
        assert table.apart == {5}

    def test_pooled_baselines_are_random_effects_means_of_the_training_sites(self, results):
        trees = [s.baselines["trees"] for s in results.sites if s.role == "train"]
        mean = pool_auc([(s.auc, s.auc_se, s.patients) for s in trees])
        assert baselines.table(results).rows[-1][-1] == with_interval(mean.auc, mean.low, mean.high)

    def test_a_site_without_a_baselines_scores_has_an_empty_cell(self, results):
        bare = results.sites[0].model_copy(update={"baselines": {}})
        changed = results.model_copy(update={"sites": (bare, *results.sites[1:])})
        assert baselines.table(changed).rows[0][3:] == ("–", "–")

    def test_leaving_a_site_out_is_told_for_every_model(self, results):
        table = baselines.left_out(results)
        assert table.header[-1] == "Federated trees"
        assert {len(row) for row in table.rows} == {7}

    def test_there_is_no_table_without_a_baseline(self, make_results):
        assert baselines.table(make_results(private=True)) is None


class TestFiguresAndFiles:
    def test_charts_have_a_row_a_baseline(self, results):
        external = [row[1] for row in intervals.external(results).rows]
        assert external[:4] == ["federated", "logistic", "clinical", "trees"]
        left_out = intervals.left_out(results).rows
        assert [row[0] for row in left_out[:4]] == [
            f"north{x}" for x in (" left out", ", logistic", ", clinical", ", trees")
        ]
        assert [row[0] for row in left_out[-4:]] == ["Pooled", "Pooled, logistic", "Pooled, clinical", "Pooled, trees"]

    def test_the_summary_has_every_baselines_auc(self, results):
        said = summary_json(results)
        east = next(s for s in results.sites if s.site == "east")
        row = next(r for r in said["sites"] if r["site"] == "east")
        assert row["baselines"] == {x: east.baselines[x].auc for x in ("clinical", "trees")}
        assert said["left_out"][0]["baselines"]["trees"] == results.left_out[0].baselines["trees"].auc

    def test_results_from_before_these_baselines_still_load(self, make_results, tmp_path: Path):
        content = make_results(left_out=True).model_dump(mode="json")
        for at in (*content["sites"], *content["left_out"]):
            del at["baselines"]
        (tmp_path / "results.json").write_text(json.dumps(content))
        assert load_results(tmp_path) == make_results(left_out=True)
