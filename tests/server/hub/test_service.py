"""The coordinator's service over a real federation folder, without Flower's processes."""

from __future__ import annotations

import json

import pytest

from federations import build_once, found
from fedloupe_server.federation.journal import write_atomic
from fedloupe_server.hub.service import watch_run


@pytest.fixture
def federation(tmp_path, monkeypatch):
    build_once(monkeypatch)
    return found(tmp_path / "FED").federation


class Flower:
    """Takes every submission."""

    def __init__(self) -> None:
        self.submitted: list[dict[str, str]] = []

    def submit(self, app, run_config):
        self.submitted.append(dict(run_config))
        return len(self.submitted)

    def status(self, run):
        return "running"

    def stop(self, run):
        pass


@pytest.fixture
def flower():
    return Flower()


class TestTheRun:
    def leave(self, federation, fingerprint):
        """What a run leaves behind when it is complete."""
        run = federation.folder / "run"
        write_atomic(run / "results.json", json.dumps({"fingerprint": fingerprint}).encode())
        write_atomic(run / "report.html", b"<html>")

    def test_one_that_is_complete_is_not_submitted_by_a_service_that_starts_again(self, federation, flower):
        self.leave(federation, federation.study.fingerprint)
        watch = watch_run(federation, flower, flower)
        assert (watch.state, watch.over) == ("completed", True)
        watch.look()
        assert flower.submitted == []

    def test_another_study_in_the_same_folder_is(self, federation, flower):
        self.leave(federation, "ab" * 32)
        watch = watch_run(federation, flower, flower)
        watch.look()
        assert watch.state == "running" and flower.submitted[0]["run-dir"] == str(federation.folder / "run")
