"""Secure sums that were opened once lie in the run's folder: who asks the same again gets them, and nobody is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.federation.clipped import after
from tests.server.federation.wire import SITES, SIZES, Wire, describing, same, training

from fedloupe.messages import DescribeReply, NewtonReply, NewtonRequest, TrainReply
from fedloupe.study import Study
from fedloupe_server.federation import run_study
from fedloupe_server.federation.conversation import Conversation
from fedloupe_server.federation.journal import Journal, JournalDamaged
from fedloupe_server.federation.keeping import KeptSums

FOUR = SITES[:4]


def stepping(step: int) -> Callable[[dict[str, Any]], NewtonRequest]:
    return lambda header: NewtonRequest(**header, step=step, beta=np.zeros(3))


@pytest.fixture
def may(make_study) -> Study:
    """York is not waited for."""
    study: Study = make_study(
        aggregation="secure",
        sites=[{"name": name, "role": "train"} for name in SITES],
        quorum={"minimum": 3, "may": ["york"], "attempts": 2, "retry_after_s": 0},
        clinical=[{"name": "age", "column": "age"}],
        evaluation={"local_models": "home", "local_baseline": False, "clinical_baseline": True},
    )
    return study


@pytest.fixture
def wire_to(new_hospitals, tmp_path) -> Callable[[Study], Wire]:
    return lambda study: Wire(new_hospitals(SIZES), tmp_path / "homes", study)


def files(folder: Path) -> set[str]:
    """Kinds of the sums that are kept."""
    return {path.name.rsplit("-", 1)[0] for path in (folder / "sums").glob("*")}


class TestAskedAgain:
    @pytest.fixture
    def again(self, secure, wire, tmp_path) -> Callable[[], Conversation]:
        return lambda: Conversation(secure, wire, "trial", tmp_path)

    @pytest.mark.parametrize(
        ("make", "kind"), [(describing, DescribeReply), (training, TrainReply), (stepping(0), NewtonReply)]
    )
    def test_it_has_the_same_bits_and_sites_and_nobody_is_asked(self, again, wire, make, kind):
        first = again().sums.quorum(SITES, make, kind)
        wire.asked.clear()
        second = again().sums.quorum(SITES, make, kind)
        assert wire.asked == []
        assert same(second.reply, first.reply) and type(second.reply) is kind
        assert (second.sites, second.epsilon, second.late) == (first.sites, first.epsilon, first.late)
        assert second.seconds == {}, "nothing was measured"

    def test_a_later_step_that_wants_the_same_gets_it_though_a_site_left(self, again, wire):
        talk = again()
        first = talk.sums.all(SITES, stepping(0), NewtonReply)
        wire.lose = lambda r: r.site == "york"
        assert same(talk.sums.all(FOUR, stepping(7), NewtonReply), first)

    def test_another_question_is_asked(self, again, wire):
        again().sums.quorum(SITES, training, TrainReply)
        wire.asked.clear()
        again().sums.quorum(SITES, lambda header: training(header, 51), TrainReply)
        assert {r.site for r in wire.asked if r.kind == "sum"} == set(SITES)

    def test_it_is_kept_before_it_is_used(self, again, tmp_path, monkeypatch, stopped):
        """Whoever has the sum is behind the file."""
        ordinary = KeptSums.keep

        def dies(*args: Any) -> None:
            ordinary(*args)
            raise stopped

        monkeypatch.setattr(KeptSums, "keep", dies)
        with pytest.raises(stopped):
            again().sums.all(SITES, describing, DescribeReply)
        assert files(tmp_path) == {"describe-reply"}

    @pytest.mark.parametrize("content", [b"{", None])
    def test_a_damaged_one_is_named_and_once_it_is_deleted_asked_for_again(self, again, wire, tmp_path, content):
        first = again().sums.all(SITES, describing, DescribeReply)
        (path,) = (tmp_path / "sums").iterdir()
        if content is None:  # whole, and another sum's
            again().sums.all(SITES, stepping(0), NewtonReply)
            (other,) = (tmp_path / "sums").glob("newton-*")
            content = other.read_bytes()
        path.write_bytes(content)
        with pytest.raises(JournalDamaged, match=path.name):
            again().sums.all(SITES, describing, DescribeReply)
        path.unlink()
        wire.asked.clear()
        assert same(again().sums.all(SITES, describing, DescribeReply), first)
        assert {r.site for r in wire.asked if r.kind == "sum"} == set(SITES)


class TestRun:
    def test_a_may_site_that_left_after_the_start_does_not_end_the_clinical_baseline(self, may, wire_to, run_dir):
        """Both baselines ask for the same sums at coefficients of zero."""
        wire = wire_to(may)
        began: list[str] = []

        def lose(r: Any) -> bool:
            began.extend(["train"] if (run_dir / "rounds" / "0001.intent.json").exists() and not began else [])
            return bool(began) and r.site == "york"

        wire.lose = lose
        results = run_study(may, wire, run_dir)
        assert {r.participants for r in results.rounds} == {FOUR}
        assert {tuple(s.baselines) for s in results.sites} == {("clinical",)}

    @pytest.mark.parametrize("sums", [1, 2, 3, 5])
    def test_killed_in_the_preparation_it_goes_on_without_a_may_site(
        self, may, wire_to, run_dir, monkeypatch, stopped, sums
    ):
        wire, ordinary, kept = wire_to(may), KeptSums.keep, []

        def dies(*args: Any) -> None:
            ordinary(*args)
            kept.append(args)
            if len(kept) == sums:
                raise stopped

        with monkeypatch.context() as patch:
            patch.setattr(KeptSums, "keep", dies)
            with pytest.raises(stopped):
                run_study(may, wire, run_dir)
        wire.lose = lambda r: r.site == "york"
        results = run_study(may, wire, run_dir)
        assert {r.participants for r in results.rounds} == {FOUR}

    def test_killed_between_a_rounds_sum_and_its_record_the_round_is_as_it_was(
        self, may, wire_to, new_hospitals, run_dir, tmp_path, monkeypatch, stopped
    ):
        whole = Wire(new_hospitals(SIZES), tmp_path / "others", may)
        run_study(may, whole, tmp_path / "whole" / "trial")
        wire = wire_to(may)

        def dies(*_: Any) -> None:
            raise stopped

        with monkeypatch.context() as patch:
            patch.setattr(Journal, "save_round", dies)
            with pytest.raises(stopped):
                run_study(may, wire, run_dir)
        assert "train-reply" in files(run_dir)
        wire.lose = lambda r: r.site == "york"
        results = run_study(may, wire, run_dir)
        assert [r.participants for r in results.rounds] == [SITES, FOUR, FOUR]
        assert np.array_equal(after(run_dir, 1), after(tmp_path / "whole" / "trial", 1))

    def test_a_rounds_sum_is_deleted_once_the_round_is_kept(self, may, wire_to, run_dir):
        seen: list[int] = []
        tell = lambda event: seen.append(event.done) if "train-reply" in files(run_dir) else None  # noqa: E731
        run_study(may, wire_to(may), run_dir, observer=tell)
        assert seen == []
        assert files(run_dir) == {"describe-reply", "sketch-reply", "newton-reply", "midpoint-reply"}

    def test_one_that_a_kill_left_is_deleted_when_the_rounds_are_over(self, may, wire_to, run_dir):
        wire = wire_to(may)
        run_study(may, wire, run_dir)
        left = run_dir / "sums" / f"train-reply-{'0' * 64}.safetensors"
        left.write_bytes(b"")
        run_study(may, wire, run_dir)
        assert not left.exists()
