"""Pages of three patients in a real browser: no console message, and the headline stands there to be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedloupe_client.predicting import find_case, predict_case, write_prediction

pytestmark = pytest.mark.browser


def page_of(clinic, case: str) -> Path:
    predicted = predict_case(clinic.frozen, clinic.embedded, find_case(clinic.frozen, case))
    return write_prediction(clinic.frozen, predicted)


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("responder", "Response: probability"),
        ("non-responder", "No response: probability of response"),
        ("far", "Outside the range of the training patients: no prediction"),
    ],
)
class TestInTheBrowser:
    def test_the_page_opens_without_a_console_message_and_its_headline_is_visible(
        self, which: str, words: str, clinic, browse: Callable[..., Any], tmp_path: Path
    ) -> None:
        case = {"responder": clinic.extreme(1), "non-responder": clinic.extreme(-1), "far": clinic.case("PAT-880023")}
        page, picture = page_of(clinic, case[which]), tmp_path / "page.png"
        seen = browse(page, "--dump-dom", f"--screenshot={picture}", "--window-size=1100,1600")
        assert seen.console == []
        heading = seen.document.split("<h1")[1].split("</h1>")[0]
        assert words in heading
        assert picture.stat().st_size > 50_000  # a blank page of this size takes under 10 kB

    def test_the_page_needs_nothing_from_elsewhere(self, which: str, words: str, clinic) -> None:
        case = {"responder": clinic.extreme(1), "non-responder": clinic.extreme(-1), "far": clinic.case("PAT-880023")}
        text = page_of(clinic, case[which]).read_text()
        assert "<script" not in text
        assert not [part for part in text.split('src="')[1:] if not part.startswith("data:image/png;base64,")]
        assert "http:" not in text and "https:" not in text
