"""One look: a site's word is of what keeps it from taking part; a script learns from exit codes."""

from __future__ import annotations

import json
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from fedloupe_server.cli import app
from fedloupe_server.federation.state import RunState, SiteState
from fedloupe_server.hub.metrics import serving
from fedloupe_server.hub.register import Registered
from fedloupe_server.hub.status import Process, SiteStatus, Status, changes, site_status
from fedloupe_server.provision import Row

NOW = datetime.now(UTC).replace(microsecond=0)


def row(state: Any = "kit issued", days: int | None = 300) -> Row:
    return Row("north", state, days, 1)


def doing(state: Any, **more: Any) -> SiteState:
    return SiteState(role="train", presence="must", state=state, last_contact=NOW, **more)


ONLINE = Registered(7, "online", "2026-11-28T08:00:00+00:00")
SINCE = "offline since 2026-11-28 08:00"


class TestWords:
    @pytest.mark.parametrize(
        ("row", "registered", "doing", "word", "attention"),
        [
            (row("invited", None), None, None, "invited", True),
            (row("revoked"), ONLINE, None, "revoked", True),
            (row("expired", -3), ONLINE, doing("training"), "expired", True),
            (row(), None, None, "kit issued, never connected", True),
            (row(), Registered(7, "registered", ""), None, "kit issued, never connected", True),
            (row(), Registered(7, "offline", "2026-11-28T08:00:00"), None, SINCE, True),
            (row(), ONLINE, None, "connected", False),
            (row("expires", 3), ONLINE, doing("waiting"), "connected", False),
            (row(), ONLINE, doing("training", fraction=0.43), "training 43%", False),
            (row(), ONLINE, doing("asked", stage="hello"), "asked: hello", False),
            (row(), ONLINE, doing("working", stage="features", fraction=0.1), "at work: features 10%", False),
            (row(), ONLINE, doing("done", stage="hello"), "ready", False),
            (row(), Registered(7, "offline", "2026-11-28T08:00:00"), doing("done", stage="hello"), SINCE, True),
            (row(), ONLINE, doing("done", stage="train"), "done", False),
            (row(), ONLINE, doing("late", refusal="no answer"), "late: no answer", True),
            (row(), ONLINE, doing("refused", refusal="FL-511 too few"), "refused: FL-511 too few", True),
            (
                row(),
                ONLINE,
                doing("awaiting approval", refusal="FL-530 waits"),
                "awaiting approval: FL-530 waits",
                True,
            ),
        ],
    )
    def test_the_first_thing_that_keeps_it_from_taking_part(self, row, registered, doing, word, attention):
        found = site_status("train", "must", row, registered, doing)
        assert (found.word, found.attention) == (word, attention)

    def test_nobody_is_called_for_a_site_that_may_come(self):
        assert not site_status("train", "may", row("invited", None), None, None).attention


def status(**changes: Any) -> Status:
    run = RunState(
        run="run",
        study="demo",
        fingerprint="ab" * 32,
        stage="rounds",
        round=3,
        rounds=20,
        began=NOW,
        written=NOW,
        expected_end=NOW + timedelta(minutes=90),
        process=1,
        sites={"north": doing("training", fraction=0.43, epsilon=1.25, rounds=2, version="0.1.0")},
    )
    site = SiteStatus(word="training 43%", role="train", presence="must", connection="online", doing=run.sites["north"])
    fields: dict[str, Any] = {
        "written": datetime.now(UTC),
        "coordinator": "Coordinating Hospital",
        "study": "demo",
        "fingerprint": "ab" * 32,
        "address": "fl.example.org:443",
        "trouble": "",
        "processes": {"superlink": Process(pid=1, starts=2)},
        "run": "running",
        "why": "run 1",
        "submissions": 2,
        "state": run,
        "sites": {"north": site},
        "expiring": {"server": 9},
    }
    return Status(**fields | changes)


def paused() -> Status:
    present = status()
    assert present.state is not None
    return status(state=present.state.model_copy(update={"paused": "waits for north (no answer)"}))


class TestCommands:
    @pytest.fixture
    def fed(self, tmp_path):
        (tmp_path / "service").mkdir()
        return tmp_path

    def write(self, fed, present):
        (fed / "service" / "status.json").write_text(present.model_dump_json())

    def call(self, *words):
        return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})

    @pytest.mark.parametrize(
        ("made", "code"),
        [
            (status, 0),
            (lambda: status(run="completed"), 0),
            (paused, 3),
            (lambda: status(trouble="the SuperLink does not answer"), 3),
            (lambda: status(run="waiting", why="killed"), 0),
            (lambda: status(run="waiting", why="killed", stuck="2 submissions in a row"), 3),
            (lambda: status(run="running", stuck="2 submissions in a row"), 3),
            (lambda: status(run="failed", why="FL-704"), 4),
            (lambda: status(written=NOW - timedelta(minutes=5)), 5),
            (lambda: status(written=NOW - timedelta(minutes=5), run="completed"), 0),
        ],
    )
    def test_exit_codes_are_for_scripts(self, fed, made, code):
        self.write(fed, made())
        assert self.call("status", fed, "--once").exit_code == code
        assert self.call("status", fed, "--json").exit_code == code

    def test_the_table_says_who_how_far_and_until_when(self, fed):
        self.write(fed, status())
        output = self.call("status", fed, "--once").output
        for said in ("training 43%", "round 3 of 20", "submitted 2 times", "1.25", "train, must", "ends in 9 days"):
            assert said in output

    def test_a_paused_run_says_for_whom(self, fed):
        self.write(fed, paused())
        assert "waits for north (no answer)" in self.call("status", fed, "--once").output

    def test_a_run_that_gains_nothing_says_why(self, fed):
        self.write(fed, status(stuck="2 submissions in a row without a step of progress; the last one: killed"))
        assert "without a step of progress; the last one: killed" in self.call("status", fed, "--once").output

    def test_a_service_that_is_gone_is_said_to_be(self, fed):
        self.write(fed, status(written=NOW - timedelta(minutes=5)))
        assert "the service does not run" in self.call("status", fed, "--once").output

    def test_a_folder_without_a_service_is_an_error_with_a_remedy(self, tmp_path):
        done = self.call("status", tmp_path)
        assert done.exit_code == 1 and "FL-738" in done.output

    @pytest.mark.parametrize(
        ("made", "code"),
        [
            (status, 0),
            (lambda: status(trouble="x"), 1),
            (lambda: status(written=NOW - timedelta(minutes=5)), 1),
            (paused, 0),
        ],
    )
    def test_health_is_of_the_service(self, fed, made, code):
        self.write(fed, made())
        assert self.call("health", fed).exit_code == code

    def test_logs_are_of_all_or_of_one_site(self, fed):
        self.write(fed, status())
        events = [*changes(None, status()), *changes(status(), paused())]
        (fed / "service" / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
        whole, north = (json.loads(self.call("logs", fed, *more, "--json").output) for more in ((), ("north",)))
        assert {event.get("site") for event in whole} == {None, "north"}
        assert [event["event"] for event in north] == ["training 43%"]

    def test_a_line_that_is_being_written_and_one_that_a_crash_cut_off_hide_no_other(self, fed):
        self.write(fed, status())
        event = json.dumps({"time": "2026-11-28T09:00:00+00:00", "event": "running"})
        (fed / "service" / "events.jsonl").write_text(f"{event}\n{event[:30]}{event}\n{event}\n{event[:30]}")
        found = self.call("logs", fed)
        assert found.exit_code == 0
        lines = found.output.splitlines()
        assert len(lines) == 3 and lines[0] == lines[2] and "cannot be read" in lines[1]


class TestChanges:
    def test_progress_is_no_event_and_a_pause_is_one(self):
        before, after = status(), status()
        site = after.sites["north"].model_copy(update={"word": "training 44%"})
        assert changes(before, after.model_copy(update={"sites": {"north": site}})) == []
        assert [event["event"] for event in changes(before, paused())] == ["paused: waits for north (no answer)"]
        assert [event["event"] for event in changes(paused(), before)] == ["paused: no longer"]

    def test_a_run_that_gains_nothing_is_told_once(self):
        two, three = (status(stuck=f"{number} submissions in a row") for number in (2, 3))
        assert [event["event"] for event in changes(status(), two)] == ["stuck: no step of progress"]
        assert changes(two, three) == []

    def test_a_site_that_goes_offline_is_one(self):
        site = status().sites["north"].model_copy(update={"word": "offline since 8:00"})
        (event,) = changes(status(), status(sites={"north": site}))
        assert (event["site"], event["event"]) == ("north", "offline since 8:00")


class TestPrometheus:
    def read(self, present):
        with serving(lambda: present, 0) as port, urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            return dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[0] != "#")

    def test_numbers_are_those_of_the_status(self):
        found = self.read(status())
        assert float(found['fedloupe_site_progress{site="north"}']) == 0.43
        assert float(found['fedloupe_site_epsilon{site="north"}']) == 1.25
        assert float(found["fedloupe_round"]) == 3 and float(found["fedloupe_rounds"]) == 20
        assert float(found['fedloupe_process_starts_total{process="superlink"}']) == 2
        assert float(found['fedloupe_certificate_days{of="server"}']) == 9
        assert float(found['fedloupe_run{state="runs"}']) == 1

    def test_a_paused_run_waits(self):
        found = self.read(paused())
        assert (float(found['fedloupe_run{state="waits"}']), float(found['fedloupe_run{state="runs"}'])) == (1, 0)

    def test_before_the_first_look_there_are_none(self):
        assert not [name for name in self.read(None) if name.startswith("fedloupe")]
