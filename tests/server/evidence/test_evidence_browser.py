"""The report in a real browser: no console message, and a picture that is not blank."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fedloupe_server.evidence import Results, write_report

pytestmark = pytest.mark.browser
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--enable-logging=stderr",
    "--v=0",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
)
Browse = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    if os.environ.get("CI"):
        pytest.fail("no Chromium is installed, and CI requires it")
    pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")


@pytest.fixture
def browse(chromium: str, tmp_path: Path) -> Browse:
    def run(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
        command = [chromium, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", *options, page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)

    return run


def console(run: subprocess.CompletedProcess[str]) -> list[str]:
    """Lines that the page wrote to the browser's console."""
    return [line for line in run.stderr.splitlines() if ":CONSOLE" in line]


class TestInTheBrowser:
    def test_the_report_opens_without_a_console_message(
        self, make_results: Callable[..., Results], browse: Browse, tmp_path: Path
    ) -> None:
        seen = browse(write_report(make_results(left_out=True), tmp_path / "run"), "--dump-dom")
        assert console(seen) == []
        assert "<h2>Provenance</h2>" in seen.stdout

    def test_the_picture_has_ink(self, make_results: Callable[..., Results], browse: Browse, tmp_path: Path) -> None:
        picture = tmp_path / "report.png"
        page = write_report(make_results(), tmp_path / "run")
        browse(page, f"--screenshot={picture}", "--window-size=1000,1400")
        assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert picture.stat().st_size > 50_000  # a blank page of this size takes under 10 kB

    @pytest.mark.parametrize("script", ["console.error('broken')", "nothing.at.all()"])
    def test_a_page_that_logs_an_error_is_caught(self, script: str, browse: Browse, tmp_path: Path) -> None:
        page = tmp_path / "broken.html"
        page.write_text(f"<!DOCTYPE html><title>broken</title><script>{script}</script>", encoding="utf-8")
        assert len(console(browse(page, "--dump-dom"))) == 1
