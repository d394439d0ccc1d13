"""Personal models in report and summary: beside the federated one, losses by name, nothing where there are none."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO

import pytest
from rich.console import Console

from fedloupe_server.evidence import Results, summary_json, tables, wording
from fedloupe_server.evidence.formats import with_interval
from fedloupe_server.simulation.showing import result_table


@pytest.fixture
def make(make_results: Callable[..., Results]) -> Callable[..., Results]:
    """Personal models that are 0.02 better than the federated one, worse at `east`, equal at `south`."""

    def build(method: str = "fine-tune") -> Results:
        plain = make_results()
        gains = {"east": -0.03, "south": 0.0}
        sites = [
            s.model_copy(
                update={
                    "personal": s.federated.model_copy(
                        update={"label": "personal", "auc": round(s.federated.auc, 2) + gains.get(s.site, 0.02)}
                    )
                }
            )
            if s.role == "train"
            else s
            for s in plain.sites
        ]
        return plain.model_copy(update={"sites": tuple(sites), "personalised": method})

    return build


class TestWords:
    def test_say_where_they_are_above_and_name_where_they_are_below(self, make):
        results = make()
        east = next(s for s in results.sites if s.site == "east")
        text = " ".join(wording.benefit(results))
        assert "has a higher AUC than the federated one at 3 of 5 training sites" in text
        assert "(median difference +0.02); no paired test was made." in text
        below = f"below the federated one at east ({east.personal.auc:.2f} against {east.federated.auc:.2f})."
        assert below in text

    def test_say_what_a_hospital_that_never_trained_gets(self, make):
        assert "there the federated model is judged" in " ".join(wording.benefit(make()))
        assert "the mean of the sites' normalisation layers" in " ".join(wording.benefit(make("local-norm")))

    def test_are_silent_in_a_study_without(self, make_results):
        assert "ersonal" not in " ".join(wording.benefit(make_results()))


class TestTables:
    def test_the_report_has_a_column_with_intervals(self, make, make_results):
        results = make()
        table = tables.sites(results)
        at = table.header.index("Personal (95 % interval)")
        assert at == table.header.index("Federated (95 % interval)") + 1
        for row, site in zip(table.rows, results.sites, strict=True):
            own = site.personal
            assert row[at] == (with_interval(own.auc, own.auc_low, own.auc_high) if own else "–")
        assert "Personal (95 % interval)" not in tables.sites(make_results()).header

    def test_the_summary_and_the_terminal_have_one(self, make, make_results):
        results = make()
        found = {row["site"]: row["personal_auc"] for row in summary_json(results)["sites"]}
        expected = {s.site: s.personal.auc if s.personal else None for s in results.sites}
        assert found == {**expected, "pooled": None}
        for shown, there in ((results, True), (make_results(), False)):
            console = Console(file=StringIO(), width=200)
            console.print(result_table(shown))
            assert ("personal" in console.file.getvalue()) == there
