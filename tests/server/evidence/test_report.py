"""The page: complete, self-contained, honest in every variant, and the same bytes every time."""

from __future__ import annotations

import csv
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fedloupe_server.evidence import ReportUnwritable, Results, write_report

Maker = Callable[..., Results]
VOID = {"meta", "link", "br", "img", "input", "hr"}
VARIANTS = (
    {},
    {"private": True},
    {"synthetic": False},
    {"external": False},
    {"left_out": True},
    {"pooled": None, "pooled_local": None, "rounds": ()},
)


class Page(HTMLParser):
    """Every opening tag with its attributes; wrong nesting is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def every(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(params=VARIANTS, ids=lambda v: ",".join(v) or "plain")
def variant(request: pytest.FixtureRequest, make_results: Maker) -> Results:
    return make_results(**request.param)


@pytest.fixture
def page(make_results: Maker, tmp_path: Path) -> Callable[..., str]:
    return lambda **options: write_report(make_results(**options), tmp_path).read_text(encoding="utf-8")


class TestEveryVariant:
    def test_it_parses_and_every_tag_is_closed(self, variant: Results, tmp_path: Path) -> None:
        found = Page(write_report(variant, tmp_path).read_text(encoding="utf-8"))
        assert found.every("html") == [{"lang": "en"}]
        assert len(found.every("h1")) == 1

    def test_it_asks_nothing_of_any_network(self, variant: Results, tmp_path: Path) -> None:
        text = write_report(variant, tmp_path).read_text(encoding="utf-8")
        addresses = [v for _, a in Page(text).tags for k, v in a.items() if k in ("src", "href", "action", "data")]
        assert [address for address in addresses if not str(address).startswith("#")] == ["data:,"]
        assert not re.search(r"url\(|@import|<script|<iframe|<object", text)

    def test_figures_and_tables_speak_to_a_screen_reader(self, variant: Results, tmp_path: Path) -> None:
        found = Page(write_report(variant, tmp_path).read_text(encoding="utf-8"))
        drawings = [a for a in found.every("svg") if a.get("aria-hidden") != "true"]
        ids = [a["id"] for _, a in found.tags if "id" in a]
        assert len(ids) == len(set(ids))
        for drawing in drawings:
            assert drawing["role"] == "img"
            assert set((drawing["aria-labelledby"] or "").split()) <= set(ids)
        assert len(found.every("caption")) == len(found.every("table")) >= 5
        assert all(a.get("scope") in ("col", "row") for a in found.every("th"))

    def test_research_only_stands_on_it(self, variant: Results, tmp_path: Path) -> None:
        text = write_report(variant, tmp_path).read_text(encoding="utf-8")
        assert text.count("Research use only, not a medical device") >= 2

    def test_the_same_results_give_the_same_bytes(self, variant: Results, tmp_path: Path) -> None:
        for name in ("one", "other"):
            write_report(variant, tmp_path / name)
        files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file())
        assert files == sorted(
            p.relative_to(tmp_path / "other") for p in (tmp_path / "other").rglob("*") if p.is_file()
        )
        for file in files:
            assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()

    def test_every_figure_lies_beside_it_as_svg_and_csv(self, variant: Results, tmp_path: Path) -> None:
        write_report(variant, tmp_path)
        drawings = sorted((tmp_path / "figures").glob("*.svg"))
        assert [d.stem for d in drawings] == sorted(p.stem for p in (tmp_path / "figures").glob("*.csv"))
        assert {"forest", "roc", "calibration"} <= {d.stem for d in drawings}
        for drawing in drawings:
            assert ElementTree.fromstring(drawing.read_text(encoding="utf-8")).tag == "{http://www.w3.org/2000/svg}svg"
            rows = list(csv.reader(drawing.with_suffix(".csv").open(encoding="utf-8")))
            assert len(rows) > 1 and len({len(row) for row in rows}) == 1

    def test_every_table_lies_beside_it_as_csv(self, variant: Results, tmp_path: Path) -> None:
        found = Page(write_report(variant, tmp_path).read_text(encoding="utf-8"))
        files = list((tmp_path / "tables").glob("*.csv"))
        assert len(files) == len(found.every("table"))
        for file in files:
            rows = list(csv.reader(file.open(encoding="utf-8")))
            assert len(rows) > 1 and len({len(row) for row in rows}) == 1

    def test_the_contents_lead_to_every_section_and_nowhere_else(self, variant: Results, tmp_path: Path) -> None:
        found = Page(write_report(variant, tmp_path).read_text(encoding="utf-8"))
        assert [a["href"] for a in found.every("a")] == [f"#{a['id']}" for a in found.every("section")]
        assert {"glance", "sites", "limits", "provenance"} <= {a["id"] for a in found.every("section")}


class TestWhatStandsOnIt:
    def test_synthetic_stands_on_every_section(self, page: Callable[..., str]) -> None:
        sections = page(left_out=True).split("<section")[1:]
        assert len(sections) == 15
        assert all("Synthetic data" in section for section in sections)

    def test_real_data_is_not_called_synthetic(self, page: Callable[..., str]) -> None:
        body = page(synthetic=False).split("<body>")[1]
        assert "ynthetic" not in body
        assert "est possible" not in body

    def test_dp_changes_the_privacy_sentence(self, page: Callable[..., str]) -> None:
        assert "No formal privacy guarantee" in page()
        private = page(private=True)
        assert "No formal privacy guarantee" not in private
        assert "7.84" in private and '<th scope="col">Epsilon, record-level</th>' in private

    def test_sections_without_content_are_left_out(self, page: Callable[..., str]) -> None:
        assert "<h2>External validation</h2>" in page()
        assert "<h2>External validation</h2>" not in page(external=False)
        assert "<h2>Leave one site out</h2>" in page(left_out=True)
        assert "<h2>Leave one site out</h2>" not in page()
        assert "<h2>Rounds</h2>" not in page(rounds=())

    def test_columns_that_are_empty_everywhere_are_left_out(self, page: Callable[..., str]) -> None:
        assert '<th scope="col">Logistic</th>' in page()
        assert '<th scope="col">Logistic</th>' not in page(private=True)

    def test_several_external_sites_share_one_tile(self, make_results: Maker, tmp_path: Path) -> None:
        results = make_results()
        other = results.sites[-1].model_copy(update={"site": "seaside"})
        text = write_report(results.model_copy(update={"sites": (*results.sites, other)}), tmp_path).read_text("utf-8")
        assert "AUC at 2 external sites" in text
        assert "AUC at lakeside, external" not in text

    def test_the_first_section_holds_the_findings_and_the_forest(self, page: Callable[..., str]) -> None:
        first = page().split("<section")[1]
        for needed in ("What was asked", "What was found", "How sure", "worth federating", "Privacy", "forest-title"):
            assert needed in first

    def test_provenance_is_complete(self, make_results: Maker, page: Callable[..., str]) -> None:
        text, results = page(), make_results()
        for digest in (
            results.fingerprint,
            results.preparation,
            results.frozen,
            results.rounds[-1].weights,
            *(s.data_digest for s in results.sites),
        ):
            assert digest in text
        assert "48,321" in text and "2,210" in text

    def test_a_title_cannot_bring_code(self, page: Callable[..., str]) -> None:
        text = page(title="<script>alert(1)</script> & co", endpoint="<img src=x>")
        assert "<script" not in text and "<img" not in text
        assert "&lt;script&gt;" in text


class TestWriting:
    def test_it_replaces_an_older_report_and_leaves_no_scraps(self, make_results: Maker, tmp_path: Path) -> None:
        write_report(make_results(), tmp_path)
        path = write_report(make_results(synthetic=False), tmp_path)
        assert "Synthetic" not in path.read_text(encoding="utf-8").split("<body>")[1]
        assert not [p for p in tmp_path.rglob("*") if p.name.endswith(".part")]

    def test_figures_of_an_older_report_do_not_linger(self, make_results: Maker, tmp_path: Path) -> None:
        write_report(make_results(left_out=True), tmp_path)
        write_report(make_results(), tmp_path)
        assert not list((tmp_path / "figures").glob("left_out.*"))

    def test_a_place_that_is_no_folder_is_refused(self, make_results: Maker, tmp_path: Path) -> None:
        (tmp_path / "run").write_text("a file")
        with pytest.raises(ReportUnwritable, match="FL-813"):
            write_report(make_results(), tmp_path / "run")
