"""The page of a study with `evidence`: its sections and files, what older results show of them, and how it opens."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedloupe_server.evidence import Results, sections, wording, write_report
from judged import APART

NEW = (
    *("discrimination", "recalibration", "net_benefit", "heterogeneity", "pooled_calibration", "subgroups"),
    *("fairness", "fairness_gaps", "grades", "concordance", "paired", "paired_means"),
)
DRAWN = ("decision", "forest_slope", "forest_in_the_large", "forest_observed_expected", "pooled_curves", "subgroups")
ANCHORS = ("recalibration", "decision", "heterogeneity", "pooled-curves", "subgroups", "fairness", "multiclass")


@pytest.fixture(scope="module")
def folder(rich: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report, written once."""
    return write_report(rich, tmp_path_factory.mktemp("run")).parent


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


class TestSections:
    def test_every_section_has_its_anchor(self, page: str) -> None:
        found = re.findall(r'<section id="([^"]+)"', page)
        assert set(ANCHORS) <= set(found)
        order = [section.id for section in sections.SECTIONS]
        assert [order.index(name) for name in found] == sorted(order.index(name) for name in found)

    def test_the_precision_to_expect_comes_before_any_section_with_results(self, page: str) -> None:
        assert page.index('id="precision"') < page.index('id="sites"')
        assert page.index("What to expect") < page.index("What was found")

    def test_the_first_section_says_whether_federation_beat_each_site(self, page: str) -> None:
        first = page.split("<section")[1]
        assert "A paired test (DeLong, adjusted after Holm)" in first
        assert "the difference may be chance" in first

    def test_external_sites_share_a_sentence(self, rich: Results) -> None:
        said = next(s for s in wording.found(rich) if "external sites" in s)
        assert said.startswith("At the 3 external sites, which never trained, the frozen model's AUC is ")
        assert all(f"at {name} (" in said for name in APART)
        assert "is above every own model brought there" in " ".join(wording.benefit(rich))

    def test_limits_no_longer_say_that_nothing_was_tested(self, rich: Results) -> None:
        text = " ".join(wording.limits(rich))
        assert "no paired significance test" not in text
        assert "not recalibrated at any site, but to show what that would change." in text


class TestFiles:
    def test_every_table_lies_beside_it_with_its_exact_numbers(self, rich: Results, folder: Path) -> None:
        for name, table in sections.tabulate(rich).items():
            rows = list(csv.reader((folder / "tables" / f"{name}.csv").open(encoding="utf-8")))
            assert tuple(rows[0]) == (table.columns or table.header)
            for read, made in zip(rows[1:], table.numbers or table.rows, strict=True):
                back = [float(r) if isinstance(m, float) else r for r, m in zip(read, made, strict=True)]
                assert back == ["" if m is None else m if isinstance(m, float) else str(m) for m in made]

    def test_the_new_ones_are_among_them(self, folder: Path) -> None:
        assert {f"{name}.csv" for name in NEW} <= {p.name for p in (folder / "tables").iterdir()}
        assert {f"{name}.svg" for name in DRAWN} <= {p.name for p in (folder / "figures").iterdir()}

    def test_no_text_in_a_figure_is_too_small_to_read(self, folder: Path) -> None:
        for figure in (folder / "figures").glob("*.svg"):
            sizes = [float(size) for size in re.findall(r'font-size="([\d.]+)"', figure.read_text(encoding="utf-8"))]
            assert sizes and min(sizes) >= 10.5, figure.name

    def test_tables_of_an_older_report_do_not_linger(self, rich: Results, tmp_path: Path) -> None:
        write_report(rich, tmp_path)
        write_report(bare(rich), tmp_path)
        assert not {f"{name}.csv" for name in NEW} & {p.name for p in (tmp_path / "tables").iterdir()}


def bare(results: Results) -> Results:
    """The same run without `evidence`."""
    sites = tuple(s.model_copy(update={"assessed": None}) for s in results.sites)
    return results.model_copy(update={"sites": sites, "evidence": None, "pooled_scores": None})


class TestWithoutEvidence:
    def test_nothing_of_it_is_drawn_or_tabled(self, rich: Results) -> None:
        assert not set(DRAWN) & set(sections.draw(bare(rich)))
        assert not set(NEW) & set(sections.tabulate(bare(rich)))

    def test_its_sections_are_not_there(self, rich: Results, tmp_path: Path) -> None:
        page = write_report(bare(rich), tmp_path).read_text(encoding="utf-8")
        assert not set(ANCHORS) & set(re.findall(r'<section id="([^"]+)"', page))
        assert "no paired significance test was made" in page

    def test_some_sites_alone_may_have_assessed(self, rich: Results, tmp_path: Path) -> None:
        sites = tuple(
            s.model_copy(update={"assessed": None}) if s.site in ("north", "lakeside") else s for s in rich.sites
        )
        page = write_report(rich.model_copy(update={"sites": sites}), tmp_path).read_text(encoding="utf-8")
        assert "Without an assessment, and left out of all but the AUC: north and lakeside." in page
        assert "No paired test was made at north and lakeside" in page


@pytest.mark.browser
class TestInTheBrowser:
    def test_it_opens_without_a_console_message(self, folder: Path, browse: Callable[..., Any]) -> None:
        seen = browse(folder / "report.html", "--dump-dom")
        assert seen.console == []
        assert all(f'id="{anchor}"' in seen.document for anchor in ANCHORS)

    def test_it_prints(self, folder: Path, browse: Callable[..., Any], tmp_path: Path) -> None:
        target = tmp_path / "report.pdf"
        browse(folder / "report.html", "--no-pdf-header-footer", f"--print-to-pdf={target}")
        content = target.read_bytes()
        assert content.startswith(b"%PDF-") and len(content) > 100_000
