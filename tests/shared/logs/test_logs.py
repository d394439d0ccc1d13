"""A log's line is one line: of JSON for machines, of words for people."""

from __future__ import annotations

import io
import json
import logging
from datetime import UTC, datetime

import pytest

from fedloupe.errors import FedLoupeError
from fedloupe.logs import set_up


class Broken(FedLoupeError):
    code = "FL-000"
    title = "broken"


@pytest.fixture
def written():
    """What a logger writes in a form."""
    before = logging.root.handlers[:], logging.root.level

    def write(form, log):
        stream = io.StringIO()
        set_up(form, stream)
        log(logging.getLogger("fedloupe.test"))
        return stream.getvalue()

    yield write
    logging.root.handlers, logging.root.level = before


def test_json_has_time_level_room_event_and_what_was_said(written):
    text = written("json", lambda log: log.warning("ended\nwith %d", 1, extra={"said": {"next_s": 2, "time": "no"}}))
    assert text.count("\n") == 1
    line = json.loads(text)
    assert (line["level"], line["room"], line["event"], line["next_s"]) == (
        "warning",
        "fedloupe.test",
        "ended\nwith 1",
        2,
    )
    assert abs((datetime.now(UTC) - datetime.fromisoformat(line["time"])).total_seconds()) < 5


def test_json_has_an_errors_code_and_traceback(written):
    def fail(log):
        try:
            raise Broken("what", remedy="mend it")
        except Broken:
            log.exception("failed")

    line = json.loads(written("json", fail))
    assert line["code"] == "FL-000" and "Broken" in line["traceback"]


def test_what_json_does_not_know_is_written_as_text(written):
    assert json.loads(written("json", lambda log: log.info("x", extra={"said": {"a": {1}}})))["a"] == "{1}"


def test_words_end_with_what_was_said(written):
    text = written("words", lambda log: log.info("ended", extra={"said": {"code": 1}}))
    assert text.endswith("INFO ended code=1\n")


def test_lesser_lines_are_not_written(written):
    assert written("json", lambda log: log.debug("x")) == ""


def test_setting_up_twice_writes_once(written):
    written("json", lambda log: None)
    assert written("json", lambda log: log.info("x")).count("\n") == 1
