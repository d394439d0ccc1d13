"""The report in a real browser: no console message, and a picture that is not blank."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedloupe_server.evidence import Results, write_report

pytestmark = pytest.mark.browser


class TestInTheBrowser:
    def test_the_report_opens_without_a_console_message(
        self, make_results: Callable[..., Results], browse: Callable[..., Any], tmp_path: Path
    ) -> None:
        seen = browse(write_report(make_results(left_out=True), tmp_path / "run"), "--dump-dom")
        assert seen.console == []
        assert "<h2>Provenance</h2>" in seen.document

    def test_the_picture_has_ink(
        self, make_results: Callable[..., Results], browse: Callable[..., Any], tmp_path: Path
    ) -> None:
        picture = tmp_path / "report.png"
        page = write_report(make_results(), tmp_path / "run")
        browse(page, f"--screenshot={picture}", "--window-size=1000,1400")
        assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert picture.stat().st_size > 50_000  # a blank page of this size takes under 10 kB

    @pytest.mark.parametrize("script", ["console.error('broken')", "nothing.at.all()"])
    def test_a_page_that_logs_an_error_is_caught(self, script: str, browse: Callable[..., Any], tmp_path: Path) -> None:
        page = tmp_path / "broken.html"
        page.write_text(f"<!DOCTYPE html><title>broken</title><script>{script}</script>", encoding="utf-8")
        assert len(browse(page, "--dump-dom").console) == 1
