"""The report as PDF: the same words on numbered pages, the same bytes, nothing fetched, a note where Pango lacks."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from pypdf import PdfReader

from fedloupe_server.evidence import Results, write_report
from fedloupe_server.evidence import pdf as room
from fedloupe_server.evidence.pdf import PdfUnwritable, write_pdf

Maker = Callable[..., Results]


@pytest.fixture
def pango() -> ModuleType:
    """WeasyPrint with its libraries; required in CI, optional elsewhere."""
    found = room._weasyprint()
    if found is None and os.environ.get("CI"):
        pytest.fail("no Pango is installed, and CI requires it")
    return found or pytest.skip("Pango is not installed (docs/install.md)")


@pytest.fixture
def no_pango(monkeypatch: pytest.MonkeyPatch) -> None:
    """WeasyPrint as it is imported where the libraries are missing: it prints, and raises what the linker says."""

    class Missing:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "weasyprint":
                print("-----\nWeasyPrint could not import some external libraries.")
                raise OSError("cannot load library 'libpango-1.0-0'")

    for name in [name for name in sys.modules if name.partition(".")[0] == "weasyprint"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])


def words(path: Path) -> list[str]:
    """Text of each page, in single spaces."""
    return [" ".join(page.extract_text().split()) for page in PdfReader(path).pages]


def made(results: Results, folder: Path) -> Path:
    assert write_pdf(write_report(results, folder), folder / "report.pdf") is None
    return folder / "report.pdf"


@pytest.mark.usefixtures("pango")
class TestPages:
    def test_the_report_is_there_from_its_title_to_its_last_digest(self, make_results: Maker, tmp_path):
        results = make_results(left_out=True)
        pages = words(made(results, tmp_path))
        text = " ".join(pages)
        assert len(pages) > 3
        assert results.title in pages[0]
        for part in ("At a glance", "Leave one site out", "Provenance", "figures/ as SVG"):
            assert part in text
        assert results.fingerprint in text.replace(" ", "")

    def test_every_page_says_which_study_it_is_of_and_what_for(self, make_results: Maker, tmp_path):
        results = make_results()
        pages = words(made(results, tmp_path))
        for number, page in enumerate(pages, start=1):
            assert f"{number} / {len(pages)}" in page
            assert "Synthetic data. Research use only, not a medical device." in page
            assert (f"FedLoupe report of study {results.study}" in page) == (number > 1)

    def test_the_first_look_is_on_the_first_page_with_its_figure(self, make_results: Maker, tmp_path):
        first = words(made(make_results(), tmp_path))[0]
        assert "Pooled AUC, 5 training sites" in first and "AUC (dashed: chance)" in first
        assert "Sites, patients and AUC of each model" not in first

    def test_tiles_stand_side_by_side_and_nothing_beyond_the_margins(self, make_results: Maker, tmp_path):
        starts: dict[str, tuple[float, float]] = {}
        for page in PdfReader(made(make_results(left_out=True), tmp_path)).pages:

            def see(text: str, cm: list[float], tm: list[float], *_: object) -> None:
                if text.strip() and cm != [1, 0, 0, 1, 0, 0]:  # a figure has its own coordinates
                    x, y = tm[4] * cm[0] + tm[5] * cm[2] + cm[4], tm[4] * cm[1] + tm[5] * cm[3] + cm[5]
                    starts.setdefault(text.strip(), (x, y))

            page.extract_text(visitor_text=see)
        margin = 15 * 72 / 25.4
        assert len(starts) > 100
        assert all(margin - 1 < x < 595 - margin for x, _ in starts.values())
        tiles = [next(at for text, at in starts.items() if text.startswith(label)) for label in ("Pooled AUC", "Above")]
        assert tiles[0][1] == pytest.approx(tiles[1][1], abs=1) and tiles[0][0] < tiles[1][0]

    def test_the_same_page_gives_the_same_bytes(self, make_results: Maker, tmp_path):
        page = write_report(make_results(), tmp_path)
        for name in ("one.pdf", "two.pdf"):
            assert write_pdf(page, tmp_path / name) is None
        content = (tmp_path / "one.pdf").read_bytes()
        assert content == (tmp_path / "two.pdf").read_bytes()
        assert b"CreationDate" not in content and b"ModDate" not in content
        assert sorted(p.name for p in tmp_path.glob(".*")) == []

    def test_no_url_is_opened_but_data(self, tmp_path, caplog):
        (tmp_path / "file.css").write_text("p.file::before { content: 'from a file' }")
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = f"http://127.0.0.1:{server.getsockname()[1]}"
            page = tmp_path / "page.html"
            page.write_text(
                f"<title>t</title><link rel=stylesheet href='{address}/a.css'><link rel=stylesheet href='file.css'>"
                f"<link rel=stylesheet href='{(tmp_path / 'file.css').as_uri()}'>"
                "<link rel=stylesheet href='data:text/css,p.data::before{content:\"within\"}'>"
                f"<style>@import url({address}/b.css); body {{ background: url({address}/c.png) }}</style>"
                f"<img src='{address}/d.png' alt=''><p class='file data'>words</p>"
                f"<svg width=9 height=9><image href='{address}/e.png' width=9 height=9 /></svg>"
            )
            with caplog.at_level(logging.WARNING):
                assert write_pdf(page, tmp_path / "page.pdf") is None
            server.settimeout(0.2)
            with pytest.raises(TimeoutError):
                server.accept()
        (text,) = words(tmp_path / "page.pdf")
        assert "words" in text and "within" in text and "file" not in text
        assert caplog.records == []


class TestWithoutPango:
    @pytest.mark.usefixtures("no_pango")
    def test_the_report_goes_on_with_a_note_of_what_to_install(self, make_results: Maker, tmp_path, capsys):
        page = write_report(make_results(), tmp_path)
        (tmp_path / "report.pdf").write_text("of an earlier page")
        note = write_pdf(page, tmp_path / "report.pdf")
        assert note is not None
        for package in ("libpango-1.0-0", "libpangoft2-1.0-0", "libharfbuzz-subset0"):
            assert package in note
        assert not (tmp_path / "report.pdf").exists()
        assert capsys.readouterr() == ("", "")

    def test_the_page_of_installing_names_the_same_packages(self):
        page = (Path(__file__).parents[3] / "docs" / "install.md").read_text()
        assert "libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0" in page


class TestErrors:
    def test_a_page_that_is_not_there_is_named(self, tmp_path):
        with pytest.raises(PdfUnwritable, match=r"FL-824.*page\.html"):
            write_pdf(tmp_path / "page.html", tmp_path / "page.pdf")

    @pytest.mark.usefixtures("pango")
    def test_a_folder_that_cannot_be_written_is_named(self, tmp_path):
        (tmp_path / "page.html").write_text("<title>t</title><p>words")
        with pytest.raises(PdfUnwritable, match="nowhere"):
            write_pdf(tmp_path / "page.html", tmp_path / "nowhere" / "page.pdf")
