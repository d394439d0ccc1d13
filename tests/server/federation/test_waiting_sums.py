"""Secure sums whose sites take long, vanish for a while or come in the middle, on a clock of the tests."""

from __future__ import annotations

import numpy as np
import pytest
from tests.server.federation.clipped import after
from tests.server.federation.town import Town
from tests.server.federation.wire import SITES, SIZES, Wire

from fedloupe.errors import FedLoupeError
from fedloupe.messages import SumRequest, decode
from fedloupe_server.federation import run_study
from fedloupe_server.federation.fit import initial_weights
from fedloupe_server.federation.journal import Journal
from fedloupe_server.federation.summing import MasksRemain

COLUMNS = ("shape", "shape", "t2w", "t2w", "t2w", "t2w")
TIMES = {"east": 20.0, "north": 60.0, "south": 40.0, "west": 80.0, "york": 100.0}


@pytest.fixture
def waiting(make_study):
    def make(**quorum):
        content = {"minimum": 3, "attempts": 2, "deadline_slack_s": 100, "timeout_s": 1000, "silence_s": 60, **quorum}
        return make_study(
            aggregation="secure",
            sites=[{"name": name, "role": "train"} for name in SITES],
            quorum={"retry_after_s": 10, **content},
            training={"rounds": 3},
            evaluation={"logistic_baseline": False, "local_models": "home", "local_baseline": False},
        )

    return make


def town_of(study, new_hospitals, folder) -> Town:
    wire = Wire(new_hospitals(SIZES), folder, study)

    def answer(request):
        try:
            return wire.answer(request)
        except FedLoupeError as error:
            return wire.hospitals.failure(request, error.code, error.title)

    return Town(answer)


def trains(request, number: int) -> bool:
    inner = decode(request.inner.tobytes()) if isinstance(request, SumRequest) else None
    return inner is not None and inner.kind == "train" and inner.round == number


def expected(study, hospitals, lists) -> list[np.ndarray]:
    """The models after each round over these sites: w to w / 2 + the mean of their constants."""
    weights = [initial_weights(study, COLUMNS).astype(float)]
    for sites in lists:
        mean = sum(SIZES[s] * hospitals.shift(s) for s in sites) / sum(SIZES[s] for s in sites)
        weights.append(weights[-1] / 2 + mean)
    return weights[1:]


class TestSecurely:
    def test_a_site_past_its_deadline_is_left_out_and_its_masks_come_off(
        self, waiting, new_hospitals, tmp_path, run_dir
    ):
        study = waiting(late="leave")
        town = town_of(study, new_hospitals, tmp_path / "homes")
        town.work = lambda r: 700.0 if trains(r, 2) and r.site == "west" else 10.0
        results = run_study(study, town, run_dir, patient=True, clock=town.clock)
        assert [r.late for r in results.rounds] == [(), ("west",), ()]
        rest = tuple(s for s in SITES if s != "west")
        for number, weights in enumerate(expected(study, new_hospitals(SIZES), [SITES, rest, SITES]), start=1):
            np.testing.assert_allclose(after(run_dir, number), weights, rtol=1e-6, atol=1e-7)

    def test_a_site_that_it_needs_is_waited_for_in_the_middle_of_a_sum(self, waiting, new_hospitals, tmp_path, run_dir):
        study, gone = waiting(must=["west"]), []
        town = town_of(study, new_hospitals, tmp_path / "homes")

        def work(r):
            if trains(r, 2) and r.site == "west":
                gone.append(town.now)
                return None if town.now < gone[0] + 5000 else 10.0
            return 10.0

        town.work = work
        told = []
        results = run_study(study, town, run_dir, patient=True, clock=town.clock, observer=told.append)
        assert all(r.participants == SITES for r in results.rounds)
        assert [e.note for e in told if e.stage == "paused"] == ["waits for west (no answer)"]
        assert len(town.asked("keys")) == len(SITES), "the set-up held"

    def test_a_site_that_comes_in_the_middle_is_in_the_next_set_up(self, waiting, new_hospitals, tmp_path, run_dir):
        study = waiting(may=["york"])
        town = town_of(study, new_hospitals, tmp_path / "homes")

        def work(r):
            if r.site == "york" and not any(trains(m, 1) for _, m in town.log):
                return None
            return 20.0 if any(trains(r, number) for number in (1, 2, 3)) else 1.0

        town.work = work
        results = run_study(study, town, run_dir, patient=True, clock=town.clock)
        four = tuple(s for s in SITES if s != "york")
        assert [r.participants for r in results.rounds] == [four, four, SITES]
        for number, weights in enumerate(expected(study, new_hospitals(SIZES), [four, four, SITES]), start=1):
            np.testing.assert_allclose(after(run_dir, number), weights, rtol=1e-6, atol=1e-7)

    def test_a_site_that_it_need_not_wait_for_has_the_time_of_an_idle_courier_to_give_its_keys(
        self, waiting, new_hospitals, tmp_path, run_dir
    ):
        town = town_of(waiting(may=["west", "york"]), new_hospitals, tmp_path / "homes")
        idle = {"york": 4.0, "west": 40.0}
        town.work = lambda r: idle.get(r.site, 1.0) if r.kind in ("keys", "shares") else 1.0
        results = run_study(waiting(may=["west", "york"]), town, run_dir, patient=True, clock=town.clock)
        without_west = tuple(s for s in SITES if s != "west")
        assert [r.participants for r in results.rounds] == [without_west] * 3
        assert not town.asked("shares", site="west"), "one that takes longer is not waited for"


class TestSeconds:
    """A site has its answer ready when the same is asked again: what counts is how long it took to make."""

    @pytest.fixture
    def town(self, waiting, new_hospitals, tmp_path) -> Town:
        town = town_of(waiting(), new_hospitals, tmp_path / "homes")
        town.work = lambda r: TIMES[r.site] if any(trains(r, number) for number in (1, 2, 3)) else 1.0
        return town

    @pytest.fixture
    def lost(self, town, new_hospitals) -> list[str]:
        """West finds out in round 2, with its answer, that it lost its secrets; when that was."""
        honest, found = town.answer, []

        def answer(request):
            if trains(request, 2) and request.site == "west" and not found:
                found.append(town.now)
                return new_hospitals(SIZES).failure(request, "FL-522", "no such set-up")
            return honest(request)

        town.answer = answer
        return found

    def test_where_a_set_up_was_lost_the_longer_of_both_tries_counts(self, waiting, town, lost, run_dir):
        run_study(waiting(), town, run_dir, patient=True, clock=town.clock)
        records = Journal(run_dir).rounds()
        assert lost and [r.participants for r in records] == [SITES] * 3
        assert records[0].seconds == records[2].seconds == pytest.approx(TIMES, abs=6)
        assert records[1].seconds == pytest.approx({**TIMES, "west": 100.0}, abs=6)

    def test_one_that_was_late_in_the_first_try_took_at_least_as_long_as_that(self, waiting, town, lost, run_dir):
        usual = town.work
        town.work = lambda r: 185.0 if trains(r, 2) and r.site == "east" else usual(r)  # 140 s are its deadline
        run_study(waiting(late="leave"), town, run_dir, patient=True, clock=town.clock)
        record = Journal(run_dir).rounds()[1]
        assert lost and record.participants == SITES
        assert 135 <= record.seconds["east"] <= 190

    def test_of_a_round_that_was_begun_before_a_kill_none_are_kept(self, waiting, town, run_dir, stopped):
        usual = town.work

        def work(r):
            if r.kind == "unmask" and any(trains(m, 2) for _, m in town.log):
                raise stopped
            return usual(r)

        town.work = work
        with pytest.raises(stopped):
            run_study(waiting(), town, run_dir, patient=True, clock=town.clock)
        town.work = usual
        run_study(waiting(), town, run_dir, patient=True, clock=town.clock)
        measured = pytest.approx(TIMES, abs=6)
        assert [r.seconds for r in Journal(run_dir).rounds()] == [measured, {}, measured]


class TestNotedBefore:
    """A coordinator that was killed when it had noted a sum's sites, and before it had the sum."""

    @pytest.mark.parametrize(("kind", "number"), [("describe", 0), ("train", 2)])
    def test_a_site_that_is_mostly_not_waited_for_is_now_and_the_run_pauses_for_it(
        self, waiting, new_hospitals, tmp_path, run_dir, stopped, kind, number
    ):
        study = waiting(may=["york"])
        town, asked = town_of(study, new_hospitals, tmp_path / "homes"), []

        def work(r):
            inner = decode(r.inner.tobytes()) if isinstance(r, SumRequest) else None
            asked.extend([inner] if inner else [])
            if r.kind == "unmask" and asked[-1].kind == kind and getattr(asked[-1], "round", 0) == number:
                raise stopped
            return 10.0

        town.work = work
        with pytest.raises(stopped):
            run_study(study, town, run_dir, patient=True, clock=town.clock)
        back, told = town.now + 3000, []
        town.work = lambda r: None if r.site == "york" and town.now < back else 10.0
        results = run_study(study, town, run_dir, patient=True, clock=town.clock, observer=told.append)
        assert [e.note for e in told if e.stage == "paused"] == ["waits for york (no answer)"]
        assert town.now > back
        assert SITES in [r.participants for r in results.rounds]

    def test_where_nothing_is_waited_for_it_ends_and_names_the_site(
        self, waiting, new_hospitals, tmp_path, run_dir, stopped
    ):
        study = waiting(may=["york"])
        town = town_of(study, new_hospitals, tmp_path / "homes")

        def work(r):
            if r.kind == "unmask":
                raise stopped
            return 10.0

        town.work = work
        with pytest.raises(stopped):
            run_study(study, town, run_dir, clock=town.clock)
        town.work = lambda r: None if r.site == "york" else 10.0
        with pytest.raises(MasksRemain, match="Missing: york: no answer"):
            run_study(study, town, run_dir, clock=town.clock)
