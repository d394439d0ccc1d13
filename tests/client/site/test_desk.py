"""Nobody waits for long at the site's desk, nothing is worked out twice, and no check is passed over."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future

import numpy as np
import pytest

from fedloupe.messages import Failure, HelloRequest, SumRequest, TrainRequest, Working, decode, encode
from fedloupe_client.site.desk import Asked, Desk, Entered, read
from fedloupe_client.site.progress import Progress
from fedloupe_client.site.server import desk_of as desk_before
from fedloupe_client.training.telling import part_of

HEADER = {"version": "0.1.0", "fingerprint": "0" * 64, "run": "trial", "site": "north"}


def training(number: int = 1) -> bytes:
    return encode(TrainRequest(**HEADER, round=number, scope="federated", weights=np.zeros(3, np.float32)))


class Works:
    """A site whose work ends when it is let go; it keeps answers as a site's gate does, and no failures."""

    def __init__(self) -> None:
        self.go, self.begun = threading.Event(), threading.Event()
        self.handled: list[bytes] = []
        self.worked: list[bytes] = []
        self.kept: dict[bytes, bytes] = {}
        self.fails = False
        self.progress = Progress()

    def enter(self, blob: bytes) -> Entered:
        return Entered(unwrapped(blob), lambda: self.handle(blob))

    def handle(self, blob: bytes) -> bytes:
        self.handled.append(blob)
        inner = unwrapped(blob)
        if inner in self.kept:
            return self.kept[inner] + blob[-1:]
        self.worked.append(inner)
        self.progress.begin("training")
        self.progress(0, 8)
        self.progress(2, 8)
        self.begun.set()
        assert self.go.wait(60)
        if self.fails:
            return encode(Failure(**HEADER, code="FL-524", title="too long an update"))
        self.kept[inner] = b"answer"
        return self.kept[inner] + blob[-1:]


def unwrapped(blob: bytes) -> bytes:
    """An envelope of these tests: one byte after the request, different for each try."""
    return blob[:-1]


def desk_of(works: Works, patience_s: float = 0.05) -> Desk:
    return Desk(works.enter, works.progress, patience_s=patience_s)


class TestWaiting:
    def test_a_caller_hears_how_far_it_is_and_gets_the_answer_when_it_asks_again(self):
        works = Works()
        desk = desk_of(works)
        assert isinstance(decode(desk.ask(training() + b"1")), Working)
        assert works.begun.wait(30)
        told = decode(desk.ask(training() + b"2"))
        assert isinstance(told, Working)
        assert (told.stage, told.fraction, told.run, told.site) == ("training", 0.25, "trial", "north")
        works.go.set()
        desk._patience_s = 30
        assert desk.ask(training() + b"3") == b"answer3"
        assert len(works.worked) == 1

    def test_each_try_goes_through_the_gate_before_it_gets_the_answer(self):
        """Attached or not: the answer to the second try is that of its own bytes."""
        works = Works()
        desk = desk_of(works, patience_s=30)
        answers: dict[bytes, bytes] = {}
        threads = []
        for mark in (b"1", b"2", b"3"):
            thread = threading.Thread(target=lambda m=mark: answers.update({m: desk.ask(training() + m)}))
            thread.start()
            threads.append(thread)
            assert works.begun.wait(30)
        works.go.set()
        for thread in threads:
            thread.join(60)
        assert answers == {m: b"answer" + m for m in (b"1", b"2", b"3")}
        assert sorted(blob[-1:] for blob in works.handled) == [b"1", b"2", b"3"]
        assert len(works.worked) == 1

    def test_an_answer_within_the_patience_comes_at_once(self):
        works = Works()
        works.go.set()
        began = time.monotonic()
        assert desk_of(works, patience_s=20).ask(training() + b"1") == b"answer1"
        assert time.monotonic() - began < 5

    def test_another_request_waits_in_line_and_says_so(self):
        works = Works()
        desk = desk_of(works)
        desk.ask(training(1) + b"1")
        assert works.begun.wait(30)
        told = decode(desk.ask(training(2) + b"1"))
        assert (told.stage, told.fraction, told.seconds) == ("waiting", None, None)
        assert works.worked == [training(1)]
        works.go.set()
        desk._patience_s = 30
        assert desk.ask(training(2) + b"2") == b"answer2"
        assert works.worked == [training(1), training(2)]

    def test_the_work_goes_on_when_nobody_waits(self):
        works = Works()
        desk_of(works).ask(training() + b"1")
        works.go.set()
        deadline = time.monotonic() + 30
        while training() not in works.kept and time.monotonic() < deadline:
            time.sleep(0.005)
        assert works.kept

    def test_a_large_request_is_waited_for_longer_and_so_sent_less_often(self, monkeypatch):
        works, patience, real = Works(), [], Future.result
        monkeypatch.setattr(Future, "result", lambda *given: patience.append(given[1]) or real(*given))
        blob = encode(TrainRequest(**HEADER, round=1, scope="federated", weights=np.zeros(2**17, np.float32)))
        began = time.monotonic()
        assert isinstance(decode(desk_of(works, 0.0).ask(blob + b"1")), Working)
        assert patience == [(len(blob) + 1) / 2**20]
        assert time.monotonic() - began >= 0.5
        works.go.set()


class TestFailures:
    def test_one_that_nobody_heard_is_told_to_who_asks_again_and_not_worked_out_again(self):
        works = Works()
        works.fails = True
        desk = desk_of(works)
        assert isinstance(decode(desk.ask(training() + b"1")), Working)
        works.go.set()
        while desk._works:
            time.sleep(0.005)
        assert decode(desk.ask(training() + b"2")).code == "FL-524"
        assert len(works.worked) == 1

    def test_one_that_was_heard_is_tried_again_when_it_is_asked_again(self):
        works = Works()
        works.fails = True
        works.go.set()
        desk = desk_of(works, patience_s=30)
        assert decode(desk.ask(training() + b"1")).code == "FL-524"
        works.fails = False
        assert desk.ask(training() + b"2") == b"answer2"

    def test_one_whose_caller_had_gone_is_kept(self):
        works = Works()
        works.fails = True
        works.go.set()
        desk = desk_of(works, patience_s=30)
        desk.ask(training() + b"1", there=lambda: False)
        assert decode(desk.ask(training() + b"2")).code == "FL-524"
        assert len(works.worked) == 1

    def test_what_the_handler_raises_is_raised_and_the_next_request_is_answered(self):
        def broken(blob):
            if blob == b"bad":
                raise ValueError("no")
            return blob

        desk = desk_before(broken)
        with pytest.raises(ValueError, match="no"):
            desk.ask(b"bad")
        assert desk.ask(b"good") == b"good"


class TestWhatIsAsked:
    def test_a_term_of_a_sum_is_known_by_what_it_asks(self):
        def summed(session: int) -> bytes:
            inner = np.frombuffer(training(), np.uint8)
            return encode(SumRequest(**HEADER, setup="a" * 32, session=session, inner=inner))

        assert read(summed(0)).key == read(summed(1)).key == read(training()).key
        assert read(training(2)).key != read(training(1)).key
        assert read(training()).header == HEADER

    def test_bytes_that_are_no_request_have_no_header(self):
        assert read(b"junk") == Asked(read(b"junk").key, None)
        assert read(encode(HelloRequest(**HEADER))).header == HEADER


class TestProgress:
    @pytest.fixture
    def clock(self):
        return [100.0]

    @pytest.fixture
    def progress(self, clock):
        return Progress(lambda: clock[0])

    def test_nothing_is_known_before_the_first_step(self, progress):
        progress.begin("training")
        assert progress.now == ("training", None, None)

    def test_what_is_left_follows_from_the_pace(self, progress, clock):
        progress.begin("training")
        progress(0, 40)
        clock[0] += 30
        progress(10, 40)
        assert progress.now == ("training", 0.25, 90.0)

    def test_work_that_goes_on_from_a_checkpoint_is_not_thought_to_be_fast(self, progress, clock):
        """Half of it was done before: 10 s for a tenth, so 40 s for the rest."""
        progress.begin("training")
        progress(50, 100)
        clock[0] += 10
        progress(60, 100)
        assert progress.now == ("training", 0.6, 40.0)

    def test_a_fraction_is_told_in_hundredths(self, progress):
        progress(1, 3)
        assert progress.now.fraction == 0.33

    def test_a_new_stage_begins_anew(self, progress):
        progress(3, 4)
        progress.begin("evaluating")
        assert progress.now == ("evaluating", None, None)

    def test_a_part_is_told_as_a_part_of_the_whole(self):
        told = []
        tell = part_of(lambda done, total: told.append(done / total), number=2, parts=4)
        tell(5, 10)
        assert told == [0.625]
        assert part_of(None, 0, 1) is None


class TestSeals:
    def test_a_refused_seal_is_answered_at_once_and_nothing_is_worked_out(self):
        works = Works()
        desk = Desk(lambda blob: b"refused", works.progress)
        assert desk.ask(training() + b"1") == b"refused"
        assert works.handled == []

    def test_who_asks_again_with_a_refused_seal_does_not_hear_how_far_it_is(self):
        works = Works()
        desk = Desk(
            lambda blob: works.enter(blob) if blob.endswith(b"1") else b"refused", works.progress, patience_s=0.05
        )
        assert isinstance(decode(desk.ask(training() + b"1")), Working)
        assert desk.ask(training() + b"2") == b"refused"
        works.go.set()

    def test_what_is_told_is_told_through_the_door(self):
        works, told = Works(), []
        desk = Desk(works.enter, works.progress, lambda working: told.append(working) or b"told", patience_s=0.05)
        assert desk.ask(training() + b"1") == b"told"
        assert works.begun.wait(30)
        told.clear()
        assert desk.ask(training() + b"2") == b"told"
        assert [working.stage for working in told] == ["training"]
        works.go.set()


class TestTheRecord:
    def test_each_caller_who_attached_is_noted_with_the_failure_that_it_heard(self):
        works, noted = Works(), []
        works.fails = True
        desk = Desk(works.enter, works.progress, again=lambda inner, failure: noted.append(failure), patience_s=0.05)
        desk.ask(training() + b"1")
        desk.ask(training() + b"2")
        assert noted == [None]
        works.go.set()
        failure = desk.ask(training() + b"3")
        while not isinstance(decode(failure), Failure):
            failure = desk.ask(training() + b"4")
        assert noted[-1] == failure


class TestForgotten:
    def test_what_nobody_asks_for_any_longer_is_not_begun(self):
        works = Works()
        desk = Desk(works.enter, works.progress, patience_s=0.02, forgotten_s=60)
        desk.ask(training(1) + b"1")
        assert works.begun.wait(30)
        desk._forgotten_s = 0.3
        desk.ask(training(2) + b"1")
        desk.ask(training(3) + b"1")
        end = time.monotonic() + 0.6
        while time.monotonic() < end:
            desk.ask(training(3) + b"2")
        works.go.set()
        while desk.ask(training(3) + b"3") != b"answer3":
            pass
        assert works.worked == [training(1), training(3)], "round 2 was closed without this site"
        while desk.ask(training(2) + b"4") != b"answer4":
            pass


def test_who_ends_it_can_wait_for_the_work_that_runs():
    """A site process serves its home, and holds its lock, until then."""
    works = Works()
    desk = desk_of(works)
    desk.ask(training() + b"1")
    assert works.begun.wait(30)
    desk.stop()
    waits = threading.Thread(target=desk.join)
    waits.start()
    waits.join(0.1)
    assert waits.is_alive() and works.kept == {}
    works.go.set()
    waits.join(30)
    assert not waits.is_alive() and list(works.kept) == [training()]
