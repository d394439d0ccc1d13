"""Both pages in a real browser: no console message, a picture with ink, light and dark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("which", ["healthy", "sick"])
class TestInTheBrowser:
    def test_the_page_opens_without_a_console_message_and_has_ink(
        self, which: str, request: pytest.FixtureRequest, browse: Callable[..., Any], tmp_path: Path
    ) -> None:
        page, picture = request.getfixturevalue(which).page, tmp_path / "page.png"
        seen = browse(page, f"--screenshot={picture}", "--window-size=1100,1600")
        assert seen.console == []
        assert picture.stat().st_size > 50_000  # a blank page of this size takes under 10 kB

    def test_the_page_needs_nothing_from_elsewhere(self, which: str, request: pytest.FixtureRequest) -> None:
        text = request.getfixturevalue(which).page.read_text()
        assert "<script" not in text
        assert not [part for part in text.split('src="')[1:] if not part.startswith("data:image/png;base64,")]
        assert "http:" not in text and "https:" not in text
