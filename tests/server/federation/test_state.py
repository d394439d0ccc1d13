"""`state.json`: what a run and its sites do, whole at every moment, and not written too often."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from tests.server.federation.town import Town

from fedloupe.messages import Failure, HelloReply, HelloRequest, TrainReply, Working
from fedloupe_server.federation import run_study
from fedloupe_server.federation.events import Event
from fedloupe_server.federation.state import FILE, INTERVAL_S, Watch, read_state


class Halted(Exception):
    """The coordinator's process is no more."""


@pytest.fixture
def header(study):
    return {"version": "0.1.0", "fingerprint": study.fingerprint, "run": "trial", "site": "south"}


@pytest.fixture
def watch(study, run_dir):
    run_dir.mkdir()
    found = Watch(study, "trial", run_dir / FILE)
    yield found
    found.end("completed")


def soon(run_dir, wanted):
    """The state once it is as wanted."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if (state := read_state(run_dir)) is not None and wanted(state):
            return state
        time.sleep(0.01)
    raise AssertionError(read_state(run_dir))


class TestSites:
    def test_who_they_are_and_what_the_study_asks_of_them(self, make_study, run_dir):
        run_dir.mkdir()
        study = make_study(quorum={"minimum": 1, "must": ["north"], "may": ["east"]})
        Watch(study, "trial", run_dir / FILE).end("stopped")
        state = read_state(run_dir)
        assert {n: (s.role, s.presence, s.state) for n, s in state.sites.items()} == {
            "north": ("train", "must", "waiting"),
            "south": ("train", "should", "waiting"),
            "east": ("train", "may", "waiting"),
            "coast": ("validate", None, "waiting"),
        }
        assert (state.run, state.study, state.rounds, state.ended) == ("trial", "federation-test", 3, "stopped")
        assert state.process == os.getpid()

    def test_one_that_trains_says_how_far_it_is_and_when_it_was_heard(self, watch, run_dir, header):
        watch.asked("south", "train")
        watch.working("south", Working(**header, stage="training", fraction=0.43, seconds=812.5))
        south = soon(run_dir, lambda s: s.sites["south"].state == "training").sites["south"]
        assert (south.stage, south.fraction, south.expected_s, south.version) == ("training", 0.43, 812.5, "0.1.0")
        assert abs(datetime.now(UTC) - south.last_contact) < timedelta(seconds=30)

    def test_one_that_computes_features_is_not_said_to_train(self, watch, run_dir, header):
        watch.working("south", Working(**header, stage="features", fraction=0.1))
        south = soon(run_dir, lambda s: s.sites["south"].fraction).sites["south"]
        assert (south.state, south.stage) == ("working", "features")

    def test_what_it_spent_stays_when_it_tells_no_more(self, watch, run_dir, header):
        hello = {"train": 3, "tune": 1, "test": 1, "positives": 2, "excluded": {}, "features": (), "groups": ()}
        watch.answered("south", TrainReply(**header, round=1, weights=[1.0], patients=3, loss=None, epsilon=1.25))
        watch.answered("south", HelloReply(**header, **hello, data_digest="0"))
        assert soon(run_dir, lambda s: s.sites["south"].state == "done").sites["south"].epsilon == 1.25

    def test_of_one_that_told_of_its_work_it_says_what_it_has_answered(self, watch, run_dir, header):
        watch.working("south", Working(**header, stage="features", fraction=0.5, seconds=3.0))
        hello = {"train": 3, "tune": 1, "test": 1, "positives": 2, "excluded": {}, "features": (), "groups": ()}
        watch.answered("south", HelloReply(**header, **hello, data_digest="0"))
        assert soon(run_dir, lambda s: s.sites["south"].state == "done").sites["south"].stage == "hello"

    @pytest.mark.parametrize(
        ("code", "state"),
        [("FL-530", "awaiting approval"), ("FL-532", "paused"), ("FL-533", "paused"), ("FL-531", "refused")],
    )
    def test_a_refusal_is_named_and_forgotten_when_the_site_answers(self, watch, run_dir, header, code, state):
        watch.refused("south", Failure(**header, code=code, title="so it is"))
        south = soon(run_dir, lambda s: s.sites["south"].refusal).sites["south"]
        assert (south.state, south.refusal) == (state, f"{code} so it is")
        watch.working("south", Working(**header, stage="training"))
        assert soon(run_dir, lambda s: s.sites["south"].state == "training").sites["south"].refusal is None

    @pytest.mark.parametrize(("code", "state"), [("FL-501", "awaiting approval"), ("FL-531", "refused")])
    def test_asked_again_it_stays_what_it_said(self, watch, header, code, state):
        watch.refused("south", Failure(**header, code=code, title="so it is"))
        watch.asked("south", "hello")
        south = watch.state.sites["south"]
        assert (south.state, south.refusal) == (state, f"{code} so it is")

    def test_one_that_fell_silent_has_no_work_left_and_one_that_is_late_has(self, watch, header):
        watch.working("south", Working(**header, stage="training", fraction=0.4, seconds=60.0))
        watch.missing("south", "late", "at work")
        assert watch.state.sites["south"].expected_s == 60.0
        watch.missing("south", "absent", "no answer")
        south = watch.state.sites["south"]
        assert (south.fraction, south.expected_s) == (None, None)

    def test_asked_again_one_that_was_silent_is_absent_until_it_speaks(self, watch, header):
        watch.missing("south", "absent", "no answer")
        watch.asked("south", "train")
        assert watch.state.sites["south"].state == "absent"
        watch.working("south", Working(**header, stage="features"))
        assert watch.state.sites["south"].state == "working"


class TestAnotherProcess:
    """What is known of the sites when the run goes on in a new process, before anybody is asked."""

    @pytest.fixture
    def first(self, make_study, new_hospitals, run_dir):
        """The state at the first hello of a run that was stopped in its third round."""
        study, hospitals = make_study(), new_hospitals()
        answer = hospitals.answer

        def spends(request):
            reply = answer(request)
            return reply.model_copy(update={"epsilon": float(reply.round)}) if reply.kind == "train-reply" else reply

        hospitals.answer = spends

        def run(observer):
            with pytest.raises(Halted):
                run_study(study, hospitals, run_dir, observer=observer)

        def halt(event):
            if (event.stage, event.done) == ("rounds", 2):
                raise Halted

        def look(_):
            # it is on disk before anybody is asked
            seen.append(soon(run_dir, lambda s: s.sites["south"].state == "waiting" and s.sites["south"].rounds == 2))
            raise Halted

        def begin(*, lost=False):
            if lost:
                (run_dir / FILE).unlink()
            run(look)
            return seen.pop()

        seen = []
        run(halt)
        return begin

    def test_when_a_site_was_heard_and_what_it_spent_is_known(self, first):
        state = first()
        south = state.sites["south"]
        assert (south.state, south.epsilon, south.rounds, state.round) == ("waiting", 2.0, 2, 2)
        assert abs(datetime.now(UTC) - south.last_contact) < timedelta(minutes=5)

    def test_what_it_spent_also_where_the_file_is_lost(self, first):
        south = first(lost=True).sites["south"]
        assert (south.epsilon, south.rounds, south.last_contact) == (2.0, 2, None)


class TestRun:
    def test_the_end_of_the_rounds_follows_from_those_that_were_measured(self, watch, run_dir):
        """Round 2 of 3 begins; rounds took 10, 30 and 20 s: two are left."""
        watch.round(2, {"north": 1}, [10.0, 30.0, 20.0])
        state = soon(run_dir, lambda s: s.round == 2)
        assert state.expected_end - state.written == pytest.approx(timedelta(seconds=40), abs=timedelta(seconds=5))
        assert (state.sites["north"].rounds, state.sites["south"].rounds) == (1, 0)

    def test_nothing_is_expected_before_a_round_was_measured(self, watch, run_dir):
        watch.round(1, {}, [])
        assert soon(run_dir, lambda s: s.round == 1).expected_end is None

    def test_a_pause_names_the_sites_and_is_told_once(self, study, run_dir):
        run_dir.mkdir()
        told = []
        watch = Watch(study, "trial", run_dir / FILE, told.append)
        for _ in range(3):
            watch.wait({"south": "no answer", "north": "FL-532 paused"})
        assert soon(run_dir, lambda s: s.paused).paused == "waits for north (FL-532 paused); south (no answer)"
        watch.wait({})
        watch.wait({})
        assert [e.stage for e in told] == ["paused", "goes on"]
        watch.end("completed")
        assert read_state(run_dir).paused is None

    def test_a_whole_run_leaves_its_end(self, study, hospitals, run_dir):
        run_study(study, hospitals, run_dir)
        state = read_state(run_dir)
        assert (state.ended, state.round, state.stage) == ("completed", 3, "evaluation")
        assert {s.state for s in state.sites.values()} == {"done"}
        assert {n: s.rounds for n, s in state.sites.items()} == {"north": 3, "south": 3, "east": 3, "coast": 0}
        assert state.expected_end is None

    def test_a_late_site_is_late(self, make_study, hospitals, run_dir):
        town, seen = Town(hospitals.answer), {}
        quorum = {"minimum": 2, "late": "leave", "deadline_slack_s": 100, "timeout_s": 500}
        town.work = lambda r: 5000.0 if r.kind == "train" and r.site == "south" and r.round == 2 else 1.0
        study = make_study(quorum=quorum, evaluation={"local_baseline": False, "logistic_baseline": False})

        def tell(event: Event) -> None:
            if event.stage == "rounds":
                state = soon(run_dir, lambda s: s.sites["north"].rounds == event.done)
                seen[event.done] = state.sites["south"].state

        run_study(study, town, run_dir, clock=town.clock, observer=tell)
        assert (seen[1], seen[2]) == ("done", "late")


class TestFile:
    def test_it_is_written_twice_a_second_at_most_and_the_last_change_is_in_it(
        self, watch, run_dir, header, monkeypatch
    ):
        written, ordinary = [], Watch._write
        monkeypatch.setattr(Watch, "_write", lambda self: (written.append(time.monotonic()), ordinary(self)))
        began = time.monotonic()
        for number in range(400):
            watch.working("south", Working(**header, stage="training", fraction=number / 400))
            time.sleep(0.002)
        state = soon(run_dir, lambda s: s.sites["south"].fraction == 399 / 400)
        assert state.sites["south"].fraction == 399 / 400
        assert 2 <= len(written) <= 2 + (time.monotonic() - began) / INTERVAL_S

    def test_whoever_reads_sees_it_whole(self, watch, run_dir, header):
        over, broken = threading.Event(), []

        def look():
            while not over.is_set():
                if (run_dir / FILE).exists():
                    try:
                        json.loads((run_dir / FILE).read_text())
                    except ValueError as error:
                        broken.append(error)

        thread = threading.Thread(target=look)
        thread.start()
        for number in range(200):
            watch.working("south", Working(**header, stage="training", fraction=number / 200))
            with watch._lock:
                watch._write()
        over.set()
        thread.join()
        assert broken == []

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"run": "x"}'])
    def test_one_that_cannot_be_read_is_none(self, tmp_path, text):
        assert read_state(tmp_path) is None
        (tmp_path / FILE).write_text(text)
        assert read_state(tmp_path) is None

    def test_requests_are_no_news_of_a_site(self, watch, run_dir, header):
        HelloRequest(**header)
        watch.asked("south", "hello")
        assert soon(run_dir, lambda s: s.sites["south"].state == "asked").sites["south"].last_contact is None
