"""A run that Flower gives up is submitted again, until it ends or nothing is gained any more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedloupe_server.evidence.report import ReportUnwritable
from fedloupe_server.federation.opening import RunTaken
from fedloupe_server.hub.app import Unforeseen
from fedloupe_server.hub.flower import FlowerRefused
from fedloupe_server.hub.job import Job, read_job
from fedloupe_server.hub.processes import alive, began
from fedloupe_server.hub.watching import ABSENT_S, LONGEST_S, LOOK_S, MOST, RunWatch


class Flower:
    """Takes submissions and says what it is told to say."""

    def __init__(self) -> None:
        self.submitted: list[dict[str, str]] = []
        self.stopped: list[int] = []
        self.says, self.refuses = "running", False

    def submit(self, app, run_config):
        if self.refuses:
            raise FlowerRefused("no answer", remedy="wait")
        self.submitted.append(dict(run_config))
        return len(self.submitted)

    def status(self, run):
        if self.refuses:
            raise FlowerRefused("no answer", remedy="wait")
        return self.says

    def stop(self, run):
        self.stopped.append(run)


@pytest.fixture
def flower():
    return Flower()


class Watched:
    """A watch whose clock and journal the test moves."""

    def __init__(self, flower, folder) -> None:
        self.now, self.steps, self.given = 0.0, 0, Job(Path("/k"), Path("/n"), name="demo-1")
        self.watch = RunWatch(
            flower,
            flower,
            folder / "app",
            folder / "jobs",
            {"task": "study"},
            lambda: self.given,
            lambda: self.steps,
            lambda: False,
            lambda: self.now,
        )

    def after(self, seconds):
        self.now += seconds
        self.watch.look()
        return self.watch.state

    def write(self, name, **content):
        (self.watch.job / name).write_text(json.dumps(content))


@pytest.fixture
def watched(flower, tmp_path):
    made = Watched(flower, tmp_path)
    made.watch.look()
    return made


def test_a_submission_has_a_folder_with_what_it_is_given(watched, flower):
    assert watched.watch.state == "running"
    assert flower.submitted == [{"task": "study", "work": str(watched.watch.job)}]
    job = read_job(watched.watch.job)
    assert (job.key, job.nodes, job.name) == (Path("/k"), Path("/n"), "demo-1")
    assert job.keeper == (os.getpid(), began(os.getpid())) and job.kept


def test_nothing_is_submitted_before_it_may_be(flower, tmp_path):
    made = Watched(flower, tmp_path)
    made.given = None
    assert made.after(0) == "waiting" and flower.submitted == []


def test_it_ends_as_its_server_app_says(watched, flower):
    watched.write("outcome.json", state="completed")
    assert watched.after(1) == "completed"
    assert watched.after(1000) == "completed" and len(flower.submitted) == 1


def test_an_error_that_waiting_does_not_mend_ends_it(watched, flower):
    watched.write("outcome.json", state="failed", code="FL-704", message="another study")
    assert watched.after(1) == "failed" and watched.watch.why == "another study"
    assert watched.after(1000) == "failed" and len(flower.submitted) == 1


def test_a_lost_connection_is_tried_again_after_a_pause(watched, flower):
    watched.write("outcome.json", state="failed", code="FL-723", message="ConnectError()")
    assert watched.after(1) == "waiting" and watched.watch.why == "ConnectError()"
    assert watched.after(0.5) == "waiting"
    assert watched.after(2) == "running" and len(flower.submitted) == 2


def test_one_that_is_complete_on_disk_has_ended_though_its_server_app_did_not_say_so(watched, flower):
    watched.write("server.json", pid=1, began=-1.0)
    watched.watch.complete = lambda: True
    assert watched.after(1) == "waiting"
    assert watched.after(3) == "completed" and len(flower.submitted) == 1


def test_a_report_that_cannot_be_written_ends_it(watched, flower):
    def unwritable():
        raise ReportUnwritable("no room", remedy="make room")

    watched.write("server.json", pid=1, began=-1.0)
    watched.watch.complete = unwritable
    assert watched.after(1) == "waiting"
    assert watched.after(3) == "failed" and "no room" in watched.watch.why
    assert len(flower.submitted) == 1


@pytest.mark.parametrize("error", [Unforeseen, FlowerRefused])
def test_what_may_pass_is_tried_again(watched, flower, error):
    watched.write("outcome.json", state="failed", code=error.code, message=error.title)
    assert watched.after(1) == "waiting"
    assert watched.after(3) == "running" and len(flower.submitted) == 2


def test_a_folder_that_another_process_holds_is_tried_once_a_minute_for_as_long_as_it_takes(watched, flower):
    for number in range(1, 3 * MOST):
        watched.write("outcome.json", state="failed", code=RunTaken.code, message=RunTaken.title)
        assert watched.after(1) == "waiting"
        assert watched.after(LONGEST_S - 1) == "waiting"
        assert watched.after(1) == "running" and len(flower.submitted) == number + 1


def test_a_server_app_that_dies_without_a_word_is_followed_by_another(watched, flower):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    watched.write("server.json", pid=process.pid, began=began(process.pid))
    assert watched.after(1) == "running"
    process.kill()
    process.wait()
    assert watched.after(1) == "waiting" and flower.stopped == [1]
    assert watched.after(3) == "running" and watched.watch.submissions == 2


def test_one_that_outlives_its_run_is_ended_before_the_next(watched, flower):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    watched.write("server.json", pid=process.pid, began=began(process.pid))
    flower.says = "finished:failed"
    assert watched.after(LOOK_S) == "waiting"
    assert process.wait(30) == -9


def test_a_later_process_of_the_same_number_is_left_alone(watched, flower):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    watched.write("server.json", pid=process.pid, began=began(process.pid) - 1)
    assert watched.after(1) == "waiting" and alive(process.pid, began(process.pid))
    process.communicate(b"\n")


def test_a_superlink_that_is_away_ends_nothing(watched, flower):
    flower.refuses = True
    assert watched.after(LOOK_S) == "running"


def test_a_run_that_nobody_starts_is_given_up(watched, flower):
    flower.says = "pending"
    assert watched.after(LOOK_S) == "running"
    assert watched.after(ABSENT_S) == "waiting" and "no ServerApp" in watched.watch.why


def test_the_pause_grows_while_nothing_is_gained_and_ends_after_so_many(watched, flower):
    pauses = []
    for _ in range(MOST - 1):
        watched.write("outcome.json", state="failed", code="FL-723", message="lost")
        watched.after(0)
        before = watched.now
        while watched.watch.state == "waiting":
            watched.after(1)
        pauses.append(watched.now - before)
    assert pauses == [min(2.0 * 2**n, LONGEST_S) for n in range(MOST - 1)]
    watched.write("outcome.json", state="failed", code="FL-723", message="lost")
    assert watched.after(0) == "failed" and "without a step of progress" in watched.watch.why


def test_one_that_is_killed_again_and_again_is_followed_soon_and_for_ever(watched, flower):
    for _ in range(2 * MOST):
        watched.write("server.json", pid=1, began=-1.0)
        assert watched.after(0) == "waiting"
        assert watched.after(2) == "running"


class TestStuck:
    def die(self, watched, why="the ServerApp ended without a word"):
        watched.write("server.json", pid=1, began=-1.0)
        assert watched.after(0) == "waiting" and watched.watch.why == why

    def test_it_is_after_two_that_gained_nothing_and_says_why_while_the_next_one_is_under_way(self, watched):
        self.die(watched)
        assert watched.watch.stuck == ""
        assert watched.after(2) == "running" and watched.watch.stuck == ""
        self.die(watched)
        assert watched.watch.stuck.startswith("2 submissions") and "without a word" in watched.watch.stuck
        assert watched.after(2) == "running" and watched.watch.stuck.startswith("2 submissions")

    def test_a_step_of_progress_ends_that_at_once(self, watched):
        for _ in range(2):
            self.die(watched)
            watched.after(2)
        assert watched.watch.stuck
        watched.steps = 1
        watched.after(0)
        assert watched.watch.stuck == ""

    def test_one_that_gained_something_before_it_died_is_none_of_them(self, watched):
        for step in range(5):
            watched.steps = step + 1
            self.die(watched)
            watched.after(2)
        assert watched.watch.stuck == ""

    def test_submissions_that_flower_refuses_count(self, flower, tmp_path):
        made = Watched(flower, tmp_path)
        flower.refuses = True
        made.after(0)
        assert made.watch.stuck == ""
        made.after(3)
        assert made.watch.stuck.startswith("2 submissions") and "no answer" in made.watch.stuck

    def test_a_run_that_is_over_is_not(self, watched):
        for _ in range(3):
            self.die(watched)
            watched.after(2)
        watched.write("outcome.json", state="completed")
        assert watched.after(1) == "completed" and watched.watch.stuck == ""


def test_progress_begins_the_count_anew(watched, flower):
    for step in range(3 * MOST):
        watched.steps = step + 1
        watched.write("outcome.json", state="failed", code="FL-723", message="lost")
        assert watched.after(0) == "waiting"
        assert watched.after(3) == "running"


def test_a_superlink_that_refuses_a_submission_is_asked_again(flower, tmp_path):
    made = Watched(flower, tmp_path)
    flower.refuses = True
    assert made.after(0) == "waiting" and "no answer" in made.watch.why
    flower.refuses = False
    assert made.after(3) == "running"


def test_folders_of_earlier_watches_stay(watched, flower, tmp_path):
    second = Watched(flower, tmp_path)
    second.watch.look()
    assert [path.name for path in sorted((tmp_path / "jobs").iterdir())] == ["0001", "0002"]
    assert isinstance(second.watch.job, Path)
