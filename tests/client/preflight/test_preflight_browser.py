"""Both pages in a real browser: no console message, a picture with ink, light and dark."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

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


@pytest.fixture(scope="session")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    if os.environ.get("CI"):
        pytest.fail("no Chromium is installed, and CI requires it")
    pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")


@pytest.mark.parametrize("which", ["healthy", "sick"])
class TestInTheBrowser:
    def test_the_page_opens_without_a_console_message_and_has_ink(
        self, which: str, request: pytest.FixtureRequest, chromium: str, tmp_path: Path
    ) -> None:
        page, picture = request.getfixturevalue(which).page, tmp_path / "page.png"
        command = [chromium, *QUIET, f"--user-data-dir={tmp_path / 'profile'}"]
        command += [f"--screenshot={picture}", "--window-size=1100,1600", page.as_uri()]
        seen = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
        assert [line for line in seen.stderr.splitlines() if ":CONSOLE" in line] == []
        assert picture.stat().st_size > 50_000  # a blank page of this size takes under 10 kB

    def test_the_page_needs_nothing_from_elsewhere(
        self, which: str, request: pytest.FixtureRequest, chromium: str
    ) -> None:
        text = request.getfixturevalue(which).page.read_text()
        assert "<script" not in text
        assert not [part for part in text.split('src="')[1:] if not part.startswith("data:image/png;base64,")]
        assert "http:" not in text and "https:" not in text
