"""Whom a round waits for: sites that work, are silent, late, or come in the middle; on a clock of the tests."""

from __future__ import annotations

import numpy as np
import pytest
from tests.server.federation.clipped import after
from tests.server.federation.town import AWAY, Town

from fedloupe_server.federation import run_study
from fedloupe_server.federation.conversation import QuorumNotMet, SiteRefused
from fedloupe_server.federation.fit import initial_weights
from fedloupe_server.federation.journal import Journal
from fedloupe_server.federation.state import read_state
from fedloupe_server.federation.waiting import deadline

COLUMNS = ("shape", "shape", "t2w", "t2w", "t2w", "t2w")
SIZES = {"north": 30, "south": 10, "east": 20}
SLACK = {"deadline_factor": 2, "deadline_slack_s": 100, "timeout_s": 1000, "retry_after_s": 10, "silence_s": 60}


@pytest.fixture
def town(hospitals) -> Town:
    return Town(hospitals.answer)


@pytest.fixture
def waiting(make_study):
    """A study of three training sites with this quorum."""

    def make(rounds: int = 3, **quorum):
        roles = [{"name": n, "role": "train"} for n in SIZES]
        content = {"minimum": 2, "attempts": 2, **SLACK, **quorum}
        evaluation = {"logistic_baseline": False, "local_baseline": False}
        return make_study(sites=roles, quorum=content, training={"rounds": rounds}, evaluation=evaluation)

    return make


def rounds_of(request) -> bool:
    return request.kind == "train"


def run(study, town, run_dir, *, patient=True, events=None):
    tell = (events if events is not None else []).append
    return run_study(study, town, run_dir, patient=patient, clock=town.clock, observer=tell)


class TestASiteAtWork:
    def test_costs_no_attempts_however_long_it_takes(self, waiting, town, run_dir):
        """Two attempts, and more than thirty times `Working` before the answer."""
        town.work = lambda r: 990.0 if rounds_of(r) and r.site == "south" else 1.0
        results = run(waiting(rounds=1), town, run_dir, patient=False)
        assert results.rounds[0].participants == ("east", "north", "south")
        assert len(town.asked("train", site="south")) == 33
        assert len(town.asked("train", site="north")) == 1

    def test_is_told_to_the_observer_and_stands_in_the_state(self, waiting, town, run_dir):
        seen, events = [], []
        town.work = lambda r: 100.0 if rounds_of(r) and r.site == "south" else 1.0

        def tell(event):
            events.append(event)
            seen.append(None if (state := read_state(run_dir)) is None else state.sites["south"].state)

        run_study(waiting(rounds=1), town, run_dir, clock=town.clock, observer=tell)
        assert [e.note for e in events if e.stage == "sites"] == [
            f"south: training {p} %".replace(" %", "%") for p in (0, 30, 60)
        ]

    def test_is_waited_for_past_its_deadline_where_the_study_says_wait(self, waiting, town, run_dir):
        town.work = lambda r: 3000.0 if rounds_of(r) and r.round == 2 and r.site == "south" else 10.0
        results = run(waiting(late="wait"), town, run_dir)
        assert [r.late for r in results.rounds] == [(), (), ()]
        assert "south" in results.rounds[1].participants


class TestDeadline:
    def test_it_is_so_many_times_the_median_and_the_slack(self, waiting):
        quorum = waiting().quorum
        assert deadline(quorum, [10.0, 40.0, 30.0]) == 2 * 30 + 100
        assert deadline(quorum, []) == 1000

    def test_who_works_past_it_is_left_out_and_recorded_and_back_in_the_next_round(self, waiting, town, run_dir):
        """Round 1 takes south 10 s, so 120 s are its deadline in round 2."""
        town.work = lambda r: 500.0 if rounds_of(r) and r.round == 2 and r.site == "south" else 10.0
        results = run(waiting(late="leave"), town, run_dir)
        assert [r.late for r in results.rounds] == [(), ("south",), ()]
        assert [r.absent for r in results.rounds] == [(), (), ()]
        assert [r.participants for r in results.rounds] == [
            ("east", "north", "south"),
            ("east", "north"),
            ("east", "north", "south"),
        ]
        second, third = (min(t for t, m in town.log if m.kind == "train" and m.round == n) for n in (2, 3))
        assert 120 <= third - second <= 130

    def test_a_must_site_is_waited_for_past_it(self, waiting, town, run_dir):
        town.work = lambda r: 3000.0 if rounds_of(r) and r.round == 2 and r.site == "south" else 10.0
        results = run(waiting(late="leave", must=["south"]), town, run_dir)
        assert all("south" in r.participants for r in results.rounds)

    def test_a_silent_site_is_asked_on_until_then_and_is_absent(self, waiting, town, run_dir):
        town.work = lambda r: None if rounds_of(r) and r.round == 2 and r.site == "south" else 10.0
        results = run(waiting(late="leave"), town, run_dir)
        assert [r.absent for r in results.rounds] == [(), ("south",), ()]

    def test_a_site_that_comes_back_in_time_is_in(self, waiting, town, run_dir):
        began = []

        def work(r):
            if rounds_of(r) and r.round == 2 and r.site == "south":
                began.append(town.now)
                return None if town.now < began[0] + 70 else 5.0
            return 10.0

        town.work = work
        results = run(waiting(late="leave"), town, run_dir)
        assert "south" in results.rounds[1].participants
        assert len(began) == 2

    def test_each_sites_own_seconds_are_in_the_rounds_record_and_not_in_the_results(self, waiting, town, run_dir):
        town.work = lambda r: {"north": 20.0, "south": 40.0, "east": 60.0}[r.site] if rounds_of(r) else 1.0
        results = run(waiting(), town, run_dir)
        records = Journal(run_dir).rounds()
        assert [r.seconds for r in records] == [pytest.approx({"north": 20, "south": 40, "east": 60}, abs=6)] * 3
        assert all(r.seconds == {} for r in results.rounds)


class TestAway:
    def test_who_is_not_connected_is_asked_soon_after_it_came_back_however_long_it_was_away(
        self, waiting, town, run_dir
    ):
        began = town.now
        town.work = lambda r: AWAY if r.site == "east" and town.now < began + 20_000 else 1.0
        run(waiting(must=["east"]), town, run_dir)
        assert 20_000 <= next(at for at, m in town.log if m.site == "east") - began < 20_000 + 20


class TestMay:
    def test_it_is_counted_when_it_is_there_in_time_and_never_waited_for(self, waiting, town, run_dir):
        """East takes 20 s in round 1 and 60 s in round 2, of which the others take 40."""
        times = {"north": 40.0, "south": 40.0}
        town.work = lambda r: times.get(r.site, 20.0 if r.round != 2 else 60.0) if rounds_of(r) else 1.0
        results = run(waiting(may=["east"]), town, run_dir)
        assert ["east" in r.participants for r in results.rounds] == [True, False, True]
        assert [r.absent for r in results.rounds] == [(), ("east",), ()]

    def test_one_that_is_not_there_at_the_start_joins_the_running_study(self, waiting, town, run_dir):
        def work(r):
            if r.site == "east" and town.asked("train", round=1) == []:
                return None
            return 30.0 if rounds_of(r) else 1.0

        town.work = work
        results = run(waiting(rounds=4, may=["east"]), town, run_dir)
        assert ["east" in r.participants for r in results.rounds] == [False, False, True, True]
        kinds = [m.kind for _, m in town.log if m.site == "east"]
        assert kinds[:3] == ["hello", "prepare", "train"]
        assert town.asked("describe", site="east") == []
        (prepared,) = town.asked("prepare", site="east")
        assert np.array_equal(prepared.mean, town.asked("prepare", site="north")[0].mean)
        assert {s.site for s in results.sites} == {"north", "south", "east"}

    def test_one_that_was_away_for_a_moment_is_asked_again_while_others_work(self, waiting, town, run_dir):
        """As where the coordinator's machine starts, and couriers come back within the first seconds."""
        began = town.now
        times = {"north": 30.0, "south": 30.0}
        town.work = lambda r: AWAY if r.site == "east" and town.now < began + 10 else times.get(r.site, 1.0)
        run(waiting(may=["east"]), town, run_dir)
        assert town.asked("describe", site="east") != []

    def test_one_with_other_columns_cannot_join_and_is_named(self, waiting, town, run_dir, hospitals):
        ordinary = hospitals.answer

        def answer(r):
            reply = ordinary(r)
            wrong = r.kind == "hello" and r.site == "east"
            return reply.model_copy(update={"features": ("x", *reply.features[1:])}) if wrong else reply

        town.answer = answer
        started = []

        def work(r):
            started.append(r.kind)
            return None if r.site == "east" and "train" not in started else 30.0 if rounds_of(r) else 1.0

        town.work = work
        results = run(waiting(may=["east"]), town, run_dir)
        assert {r.participants for r in results.rounds} == {("north", "south")}
        assert len(town.asked("hello", site="east")) == 1
        assert read_state(run_dir).sites["east"].refusal == "cannot join: FL-707 sites bring different feature columns"

    def test_a_site_that_is_waited_for_must_be_there_at_the_start(self, waiting, town, run_dir):
        town.work = lambda r: None if r.site == "south" else 1.0
        with pytest.raises(SiteRefused, match="south: no answer"):
            run(waiting(may=["east"]), town, run_dir, patient=False)


class TestCarried:
    def test_a_late_answer_is_added_in_the_next_round_as_an_update_once(self, waiting, town, run_dir, hospitals):
        """Sites train w to w/2 + c. Round 2 lacks south; round 3 adds what south changed from w1: c - w1/2."""
        town.work = lambda r: 150.0 if rounds_of(r) and r.round == 2 and r.site == "south" else 10.0
        study = waiting(rounds=4, late="carry")
        results = run(study, town, run_dir)
        assert [r.late for r in results.rounds] == [(), ("south",), (), ()]
        assert [r.carried for r in results.rounds] == [(), (), ("south",), ()]
        assert [r.participants for r in results.rounds] == [
            ("east", "north", "south"),
            ("east", "north"),
            ("east", "north"),
            ("east", "north", "south"),
        ]
        n, c = SIZES, {site: hospitals.shift(site) for site in SIZES}
        both = (n["north"] * c["north"] + n["east"] * c["east"]) / 50
        w = [initial_weights(study, COLUMNS).astype(float)]
        w.append(w[0] / 2 + (50 * both + 10 * c["south"]) / 60)
        w.append(w[1] / 2 + both)
        w.append((50 * (w[2] / 2 + both) + 10 * (w[2] + c["south"] - w[1] / 2)) / 60)
        w.append(w[3] / 2 + (50 * both + 10 * c["south"]) / 60)
        for number in range(1, 5):
            np.testing.assert_allclose(after(run_dir, number), w[number], rtol=1e-6, atol=1e-7)
        assert len({m.round for m in town.asked("train", site="south", round=3)}) == 0

    def test_killed_between_it_is_added_all_the_same(self, waiting, new_hospitals, hospitals, town, run_dir, tmp_path):
        late = lambda r: 150.0 if rounds_of(r) and r.round == 2 and r.site == "south" else 10.0  # noqa: E731
        study, whole = waiting(rounds=3, late="carry"), Town(new_hospitals().answer)
        whole.work = town.work = late
        run(study, whole, tmp_path / "whole" / "trial")

        def tell(event):
            if event.stage == "rounds" and event.done == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_study(study, town, run_dir, patient=True, clock=town.clock, observer=tell)
        assert run(study, town, run_dir).rounds[-1].carried == ("south",)
        assert np.array_equal(after(run_dir, 3), after(tmp_path / "whole" / "trial", 3))

    def test_one_that_is_not_there_in_the_next_round_either_is_dropped(self, waiting, town, run_dir):
        town.work = lambda r: 5000.0 if rounds_of(r) and r.round == 2 and r.site == "south" else 10.0
        results = run(waiting(rounds=4, late="carry"), town, run_dir)
        assert [r.carried for r in results.rounds] == [()] * 4
        assert [r.absent for r in results.rounds] == [(), (), ("south",), ()]


class TestPaused:
    @pytest.mark.parametrize("quorum", [{"must": ["south"]}, {"minimum": 3}])
    def test_a_run_waits_for_whom_it_needs_says_so_and_goes_on(self, waiting, town, run_dir, quorum):
        gone = []

        def work(r):
            if rounds_of(r) and r.round == 2 and r.site == "south":
                gone.append(town.now)
                return None if town.now < gone[0] + 20_000 else 10.0
            return 10.0

        town.work = work
        events = []
        results = run(waiting(late="leave", **quorum), town, run_dir, events=events)
        assert all(r.participants == ("east", "north", "south") for r in results.rounds)
        said = [(e.stage, e.note) for e in events if e.stage in ("paused", "goes on")]
        assert said == [("paused", "waits for south (no answer)"), ("goes on", "")]
        waits = np.diff(gone)
        assert waits.max() <= 600 + SLACK["silence_s"] + 10, "bounded"
        assert len(gone) < 60 and len(town.naps) < 60, "and no busy loop"

    def test_one_that_does_not_wait_ends_after_its_attempts(self, waiting, town, run_dir):
        town.work = lambda r: None if rounds_of(r) and r.site == "south" else 10.0
        with pytest.raises(QuorumNotMet, match="south: no answer"):
            run(waiting(must=["south"]), town, run_dir, patient=False)
        assert read_state(run_dir).ended == "FL-701 the round's quorum was not met"

    @pytest.mark.parametrize("code", ["FL-501", "FL-529", "FL-530", "FL-532", "FL-533"])
    def test_where_a_person_must_decide_it_waits_as_for_a_silent_site(self, waiting, town, run_dir, hospitals, code):
        asked, seen = [], []

        def work(r):
            if r.kind == "hello" and r.site == "south":
                asked.append(town.now)
                if town.now < asked[0] + 3000:
                    return hospitals.failure(r, code, "not yet")
            return 1.0

        def tell(event):
            if event.stage == "paused":
                seen.append(event.note)

        town.work = work
        results = run_study(waiting(), town, run_dir, patient=True, clock=town.clock, observer=tell)
        assert len(results.rounds) == 3
        assert seen == [f"waits for south ({code} not yet)"]

    def test_a_refusal_at_the_start_ends_the_run(self, waiting, town, run_dir, hospitals):
        town.work = lambda r: hospitals.failure(r, "FL-531", "denied") if r.site == "south" else 1.0
        with pytest.raises(SiteRefused, match="south: FL-531 denied"):
            run(waiting(), town, run_dir)

    def test_a_refusal_at_the_start_of_a_run_that_goes_on_is_waited_for(self, waiting, town, run_dir, hospitals):
        stopped = []

        def work(r):
            if rounds_of(r) and r.round == 2 and not stopped:
                stopped.append(town.now)
                raise KeyboardInterrupt
            ill = stopped and r.kind == "hello" and r.site == "south" and town.now < stopped[0] + 500
            return hospitals.failure(r, "FL-599", "disk full") if ill else 10.0

        town.work = work
        with pytest.raises(KeyboardInterrupt):
            run(waiting(), town, run_dir)
        results = run(waiting(), town, run_dir)
        assert [r.participants for r in results.rounds] == [("east", "north", "south")] * 3

    @pytest.mark.parametrize("kind", ["hello", "train"])
    def test_a_message_that_its_courier_brought_twice_is_asked_for_again(self, waiting, town, run_dir, hospitals, kind):
        """A kill between the two: the seal is used, the site works on, and nothing of it is a refusal."""
        refused, events = [], []

        def work(r):
            if r.kind == kind and r.site == "south" and not refused:
                refused.append(town.now)
                return hospitals.failure(r, "FL-528", "replayed")
            return 10.0

        town.work = work
        results = run(waiting(late="leave"), town, run_dir, events=events)
        assert [r.absent for r in results.rounds] == [(), (), ()]
        second = town.asked(kind, site="south")[1]
        (when,) = [t for t, m in town.log if m is second]
        assert when < refused[0] + 15

    def test_one_whose_first_word_was_lost_is_asked_again_soon(self, waiting, town, run_dir):
        lost = []

        def work(r):
            if rounds_of(r) and r.site == "south" and not lost:
                lost.append(town.now)
                return None
            return 10.0

        town.work = work
        run(waiting(silence_s=600, late="wait"), town, run_dir)
        again = next(t for t, m in town.log if rounds_of(m) and m.site == "south")
        assert again < lost[0] + 150

    def test_nobody_sleeps_past_a_deadline(self, waiting, town, run_dir):
        """South is silent from round 2 on; its next try would be long after its deadline."""
        town.work = lambda r: None if rounds_of(r) and r.site == "south" and r.round > 1 else 10.0
        results = run(waiting(late="leave", retry_after_s=600), town, run_dir)
        assert results.rounds[1].absent == ("south",)
        assert max(town.naps) <= 2 * 10 + 100

    def test_one_that_may_join_and_has_other_columns_is_left_out(self, waiting, town, run_dir, hospitals):
        answer = hospitals.answer

        def other(r):
            reply = answer(r)
            if r.kind == "hello" and r.site == "south":
                features = ("elsewhere", *reply.features[1:])
                return reply.model_copy(update={"features": features})
            return reply

        town.answer = other
        results = run(waiting(may=["south"]), town, run_dir)
        assert all(r.participants == ("east", "north") for r in results.rounds)

    def test_a_refusal_in_a_round_leaves_the_site_out_at_once(self, waiting, town, run_dir, hospitals):
        town.work = lambda r: (
            hospitals.failure(r, "FL-531", "denied") if rounds_of(r) and r.site == "south" and r.round == 2 else 10.0
        )
        results = run(waiting(), town, run_dir)
        assert [r.absent for r in results.rounds] == [(), ("south",), ()]
        assert len(town.asked("train", site="south", round=2)) == 1
