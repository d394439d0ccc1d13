"""A run sees one state of a site's data; what notes that state is whole or absent."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from fedloupe_client.site.files import RunFileUnwritable
from fedloupe_client.site.site import DataChanged, Site

SITE = """site: north
source: {format: table, root: ., clinical: {file: a.csv}, features: a.csv}
"""
STUDY = SimpleNamespace(fingerprint="f" * 64)


@pytest.fixture
def look(tmp_path, monkeypatch):
    """Compare a state of the data with that of the run, as at a request to a site that has just started."""
    (tmp_path / "site.yaml").write_text(SITE)

    def look(digest):
        monkeypatch.setattr("fedloupe_client.site.site.cohort_digest", lambda home, cohort: digest)
        monkeypatch.setattr(Site, "cohort", lambda self, study: None)
        Site(tmp_path)._check_same_data("run-7", STUDY)

    return look


@pytest.fixture
def noted(tmp_path):
    return tmp_path / "runs" / "run-7" / "data.sha256"


def test_changed_data_are_refused_and_the_note_stays(look, noted):
    look("a" * 64)
    look("a" * 64)
    with pytest.raises(DataChanged, match="run-7"):
        look("b" * 64)
    assert noted.read_text() == "a" * 64


def test_an_empty_note_that_a_crash_left_is_none(look, noted):
    noted.parent.mkdir(parents=True)
    noted.touch()
    look("a" * 64)
    with pytest.raises(DataChanged):
        look("b" * 64)


def test_a_note_that_cannot_be_put_in_place_is_not_there_in_part(look, noted, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunFileUnwritable, match="No space left"):
        look("a" * 64)
    assert list(noted.parent.iterdir()) == []
