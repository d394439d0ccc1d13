"""Figures and tables show the numbers of the results."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedloupe_server.evidence import (
    Results,
    ResultsInvalid,
    ResultsUnreadable,
    drawing,
    intervals,
    journey,
    load_results,
    panels,
    summary_json,
    summary_table,
    tables,
)

Maker = Callable[..., Results]


class TestDrawing:
    def test_text_cannot_bring_markup(self) -> None:
        sketch = drawing.Drawing("sketch", 10, 10, "<b>", 'a "title" & more')
        sketch.text(1, 2, "<script>", fill='red"')
        assert "<script" not in sketch.render() and "<b>" not in sketch.render()
        assert ElementTree.fromstring(sketch.render())[2].text == "<script>"


class TestRoc:
    def test_the_area_under_the_polygon_is_near_the_sites_auc(self, make_results: Maker) -> None:
        for site in make_results().sites:
            points = panels.roc_points(site.federated)
            assert points is not None
            _, false, true = np.array(points).T
            # Within a bin pairs count half: the bound is half the share of pairs that fall into one bin.
            same = np.dot(site.federated.positives_by_score, site.federated.negatives_by_score)
            pairs = site.federated.positives * (site.federated.patients - site.federated.positives)
            assert abs(np.trapezoid(true, false) - site.federated.auc) <= same / pairs / 2 + 1e-12

    def test_it_passes_through_the_operating_point(self, make_results: Maker) -> None:
        site = make_results().sites[0].federated
        points = {round(t * 20): (f, s) for t, f, s in panels.roc_points(site) or []}
        false, sensitivity = points[9]  # 0.45
        assert (1 - false, sensitivity) == (pytest.approx(site.specificity), pytest.approx(site.sensitivity))

    def test_a_histogram_that_does_not_add_up_draws_no_curve(self, make_results: Maker) -> None:
        results = make_results()
        cells = tuple(n if n >= 3 else 0 for n in results.sites[0].federated.positives_by_score)
        assert 0 < sum(cells) < results.sites[0].federated.positives
        hidden = results.sites[0].federated.model_copy(update={"positives_by_score": cells})
        assert panels.roc_points(hidden) is None
        sites = (results.sites[0].model_copy(update={"federated": hidden}), *results.sites[1:])
        figure = panels.roc(results.model_copy(update={"sites": sites}))
        assert "histogram withheld" in figure.svg
        assert "north" not in {row[0] for row in figure.rows}


class TestIntervalCharts:
    def test_the_forest_has_every_site_the_mean_and_the_prediction(self, make_results: Maker) -> None:
        results = make_results()
        rows = {row[0]: row for row in intervals.forest(results).rows}
        assert list(rows) == [
            "north",
            "east",
            "south",
            "west",
            "harbour",
            "Pooled",
            "Expected at a new site",
            "lakeside",
        ]
        assert rows["lakeside"][4] == results.sites[-1].federated.auc
        assert results.pooled and rows["Pooled"][4:7] == (results.pooled.auc, results.pooled.low, results.pooled.high)

    def test_the_axis_widens_for_a_very_poor_site(self, make_results: Maker) -> None:
        results = make_results()
        poor = results.sites[0].federated.model_copy(update={"auc": 0.2, "auc_low": 0.11, "auc_high": 0.4})
        sites = (results.sites[0].model_copy(update={"federated": poor}), *results.sites[1:])
        assert ">0.1</text>" in intervals.forest(results.model_copy(update={"sites": sites})).svg
        assert ">0.1</text>" not in intervals.forest(results).svg

    def test_the_external_chart_has_every_model(self, make_results: Maker) -> None:
        figure = intervals.external(make_results())
        assert figure and [row[1] for row in figure.rows] == [
            "federated", "logistic", "local-north", "local-east", "local-south", "local-west", "local-harbour",
        ]  # fmt: skip

    def test_charts_without_content_do_not_exist(self, make_results: Maker) -> None:
        assert intervals.external(make_results(external=False)) is None
        assert intervals.left_out(make_results()) is None
        assert intervals.benefit(make_results(private=True)) is None
        assert journey.rounds(make_results(rounds=())) is None

    def test_long_names_are_cut_in_the_picture_and_whole_in_the_numbers(self, make_results: Maker) -> None:
        results, name = make_results(), "a" * 40
        sites = (results.sites[0].model_copy(update={"site": name}), *results.sites[1:])
        figure = intervals.forest(results.model_copy(update={"sites": sites}))
        assert f">{'a' * 14}…{'a' * 7}</text>" in figure.svg
        assert figure.rows[0][0] == name


class TestRounds:
    def test_missed_rounds_are_gaps(self, make_results: Maker) -> None:
        figure = journey.rounds(make_results())
        assert figure is not None
        assert [row[0] for row in figure.rows if row[1] == "west" and not row[2]] == [5, 6]
        assert figure.svg.count(f'stroke="{drawing.ABSENT_SITE}"') == 2
        assert "18 of 20 rounds" in figure.svg and figure.svg.count("20 of 20 rounds") == 4 + 4  # text and description

    def test_late_sites_have_a_dot_and_carried_answers_a_thin_bar(self, make_results: Maker) -> None:
        results = make_results()
        fifth, sixth = results.rounds[4], results.rounds[5]
        changed = (
            fifth.model_copy(update={"late": ("west",)}),
            sixth.model_copy(update={"carried": ("west",)}),
        )
        figure = journey.rounds(
            results.model_copy(update={"rounds": (*results.rounds[:4], *changed, *results.rounds[6:])})
        )
        plain = journey.rounds(results)
        assert figure and plain
        assert figure.svg.count("<circle") == plain.svg.count("<circle") + 1
        assert figure.svg.count("<rect") == plain.svg.count("<rect") + 1
        assert "west took part in 18 of 20 rounds, 1 late, 1 added a round later" in figure.svg
        flags = {row[0]: row[2:5] for row in figure.rows if row[1] == "west"}
        assert (flags[4], flags[5], flags[6]) == ((1, 0, 0), (0, 1, 0), (0, 0, 1))

    def test_under_dp_the_line_is_epsilon(self, make_results: Maker) -> None:
        private, plain = journey.rounds(make_results(private=True)), journey.rounds(make_results())
        assert private and "Epsilon spent" in private.svg and "Training loss" not in private.svg
        assert plain and "Training loss" in plain.svg and "Epsilon spent" not in plain.svg
        assert private.svg.count("<polyline") == 5  # one a site

    def test_the_training_loss_is_one_line_of_all_sites_together(self, make_results: Maker) -> None:
        results = make_results()
        figure = journey.rounds(results)
        assert figure and figure.svg.count("<polyline") == 1 and ">all sites</text>" in figure.svg
        place = figure.header.index("loss_all_sites")
        assert {(row[0], row[place]) for row in figure.rows} == {(r.round, r.loss) for r in results.rounds}


class TestTables:
    def test_validate_only_sites_are_marked(self, make_results: Maker) -> None:
        assert tables.sites(make_results()).apart == {5}


class TestSummary:
    def test_rows_are_training_sites_then_pooled_then_external(self, make_results: Maker) -> None:
        rows = summary_table(make_results())
        assert [r.site for r in rows] == ["north", "east", "south", "west", "harbour", "pooled", "lakeside"]
        assert [r.role for r in rows] == ["train"] * 5 + ["pooled", "validate"]

    def test_local_at_the_external_site_is_the_mean_of_the_own_models_there(self, make_results: Maker) -> None:
        results = make_results()
        others = [s.auc for s in results.sites[-1].local_elsewhere]
        assert summary_table(results)[-1].local_auc == pytest.approx(sum(others) / 5)

    def test_the_pooled_row_adds_up(self, make_results: Maker) -> None:
        *train, pooled, _ = summary_table(make_results())
        assert pooled.n == sum(r.n for r in train) and pooled.events == sum(r.events for r in train)
        assert pooled.oracle_auc == pytest.approx(0.94)

    def test_it_is_json_and_holds_what_scripts_need(self, make_results: Maker) -> None:
        found = json.loads(json.dumps(summary_json(make_results(left_out=True))))
        assert {"site", "role", "n", "auc", "low", "high", "local_auc", "oracle_auc"} <= set(found["sites"][0])
        assert len(found["left_out"]) == 5
        assert found["weights"] == make_results().rounds[-1].weights

    def test_without_pooling_there_is_no_pooled_row(self, make_results: Maker) -> None:
        assert "pooled" not in {r.role for r in summary_table(make_results(pooled=None))}


class TestLoading:
    def test_results_survive_the_disk(self, make_results: Maker, tmp_path: Path) -> None:
        (tmp_path / "results.json").write_text(make_results(left_out=True).model_dump_json(), encoding="utf-8")
        assert load_results(tmp_path) == make_results(left_out=True)

    def test_a_run_that_has_not_finished_is_said_to(self, tmp_path: Path) -> None:
        with pytest.raises(ResultsUnreadable, match="no results yet"):
            load_results(tmp_path)

    @pytest.mark.parametrize("content", ["", "[]", '{"run": 3}', "\x00"])
    def test_anything_else_is_invalid(self, content: str, tmp_path: Path) -> None:
        (tmp_path / "results.json").write_text(content)
        with pytest.raises(ResultsInvalid, match="FL-812"):
            load_results(tmp_path)
