"""Sites that vanish in the middle of a secure sum, and coordinators that ask again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.server.federation.wire import PHASES, SITES, Wire, describing, plain_sum, same, training

from fedloupe.messages import (
    DescribeReply,
    MidpointReply,
    MidpointRequest,
    SumRequest,
    TrainReply,
)
from fedloupe_server.federation.conversation import Conversation, QuorumNotMet, SiteRefused
from fedloupe_server.federation.journal import JournalDamaged
from fedloupe_server.federation.summing import MasksRemain, TooFewForSum


class TestVanishing:
    @pytest.mark.parametrize("phase", PHASES)
    @pytest.mark.parametrize("gone", SITES)
    def test_one_of_five_may_vanish_at_any_phase(self, talk, wire, phase, gone):
        wire.lose = lambda r: r.site == gone and PHASES.index(r.kind) >= PHASES.index(phase)
        found = talk.sums.quorum(SITES, training, TrainReply)
        there = SITES if phase == "unmask" else tuple(s for s in SITES if s != gone)
        assert found.sites == there
        assert same(found.reply, plain_sum(wire, training, TrainReply, there))

    def test_two_may_vanish_one_after_its_answer(self, talk, wire):
        wire.lose = lambda r: r.site in {"sum": ("west",), "unmask": ("west", "york")}.get(r.kind, ())
        found = talk.sums.quorum(SITES, training, TrainReply)
        assert found.sites == ("east", "north", "south", "york")
        assert same(found.reply, plain_sum(wire, training, TrainReply, found.sites))

    def test_a_site_that_comes_back_is_in_the_next_sum(self, talk, wire):
        wire.lose = lambda r: r.site == "york"
        assert talk.sums.quorum(SITES, training, TrainReply).sites == SITES[:4]
        wire.lose = lambda r: False
        assert talk.sums.quorum(SITES, lambda header: training(header, 51), TrainReply).sites == SITES

    def test_a_silent_site_is_not_waited_for_again_in_the_same_sum(self, talk, wire):
        wire.lose = lambda r: r.site == "york"
        talk.sums.quorum(SITES, training, TrainReply)
        assert {r.kind for r in wire.asked if r.site == "york"} == {"keys"}

    @pytest.mark.parametrize("phase", ["keys", "shares", "sum"])
    def test_fewer_than_three_are_no_sum(self, talk, wire, phase):
        wire.lose = lambda r: r.site not in ("north", "east") and r.kind == phase
        with pytest.raises(TooFewForSum, match="2 of"):
            talk.sums.quorum(SITES, training, TrainReply)
        assert "unmask-reply" not in wire.kinds()

    def test_too_few_shares_leave_the_masks_on(self, talk, wire):
        wire.lose = lambda r: r.kind == "unmask" and r.site not in ("north", "east")
        with pytest.raises(MasksRemain, match=r"2 of 5 sites gave shares, 3 needed\..*south: no answer"):
            talk.sums.quorum(SITES, training, TrainReply)

    def test_the_studys_quorum_is_asked_before_anything_is_unmasked(self, secure, talk, wire):
        demanding = secure.model_copy(update={"quorum": secure.quorum.model_copy(update={"must": ("north",)})})
        talk.study = demanding
        wire.lose = lambda r: r.kind == "sum" and r.site == "north"
        with pytest.raises(QuorumNotMet, match="north"):
            talk.sums.quorum(SITES, training, TrainReply)
        assert "unmask" not in {r.kind for r in wire.asked}

    def test_where_all_must_answer_a_missing_one_stops_it_before_anything_is_unmasked(self, talk, wire):
        wire.lose = lambda r: r.kind == "sum" and r.site == "east"
        with pytest.raises(SiteRefused, match="east: no answer"):
            talk.sums.all(SITES, describing, DescribeReply)
        assert "unmask" not in {r.kind for r in wire.asked}

    def test_a_site_with_too_few_tuning_patients_is_left_out_of_the_sum(self, talk, wire):
        honest = wire.answer

        def refusing(request):
            if isinstance(request, SumRequest) and request.site == "west":
                return wire.hospitals.failure(request, "FL-512", "too few")
            return honest(request)

        wire.answer = refusing
        ask = lambda header: MidpointRequest(**header, weights=np.zeros(3, np.float32))  # noqa: E731
        found = talk.sums.willing(SITES, ask, MidpointReply, "a threshold")
        assert found.sites == ("east", "north", "south", "york")
        assert same(found.reply, plain_sum(wire, ask, MidpointReply, found.sites))

    def test_a_site_whose_home_was_restored_gets_a_new_set_up(self, talk, wire):
        talk.sums.all(SITES, describing, DescribeReply)
        shutil.rmtree(wire.folder / "north" / "gate" / "sums" / "trial")
        assert same(talk.sums.all(SITES, describing, DescribeReply), plain_sum(wire, describing, DescribeReply, SITES))
        assert wire.kinds().count("keys-reply") == 2 * len(SITES)


class TestTooFewTuningPatients:
    @staticmethod
    def ask(header: dict[str, Any]) -> MidpointRequest:
        return MidpointRequest(**header, weights=np.zeros(3, np.float32))

    def refusing(self, wire: Wire, *sites: str) -> None:
        honest = wire.answer

        def answer(request: Any) -> Any:
            if isinstance(request, SumRequest) and request.site in sites:
                return wire.hospitals.failure(request, "FL-512", "too few")
            return honest(request)

        wire.answer = answer

    def test_three_of_five_add_up_by_themselves(self, talk, wire):
        """Too few of the members for a sum among all; their own set-up has no others."""
        self.refusing(wire, "west", "york")
        found = talk.sums.willing(SITES, self.ask, MidpointReply, "a threshold")
        assert found.sites == ("east", "north", "south")
        assert same(found.reply, plain_sum(wire, self.ask, MidpointReply, found.sites))
        again = talk.sums.willing(found.sites, training, TrainReply, "more")
        assert again.sites == found.sites

    def test_two_of_five_are_told_what_would_help(self, talk, wire):
        self.refusing(wire, "west", "york", "south")
        with pytest.raises(TooFewForSum, match=r"raise `split\.tune`"):
            talk.sums.willing(SITES, self.ask, MidpointReply, "a threshold")

    def test_a_run_that_goes_on_does_not_ask_who_refused(self, secure, wire, tmp_path):
        self.refusing(wire, "west")
        first, second = (
            Conversation(secure, wire, "trial", tmp_path).sums.willing(SITES, self.ask, MidpointReply, "a threshold")
            for _ in range(2)
        )
        assert first.sites == second.sites == ("east", "north", "south", "york")
        assert same(first.reply, second.reply)


class TestRepeated:
    """A coordinator that was killed when it had noted who is in a sum, and before it had the sum, asks again."""

    @pytest.fixture
    def again(self, secure, wire, tmp_path) -> Callable[[], Conversation]:
        def make() -> Conversation:
            shutil.rmtree(tmp_path / "sums", ignore_errors=True)
            return Conversation(secure, wire, "trial", tmp_path)

        return make

    def test_the_same_sites_are_asked_although_another_is_there_now(self, again, wire):
        wire.lose = lambda r: r.site == "york"
        first = again().sums.quorum(SITES, training, TrainReply)
        wire.lose = lambda r: False
        second = again().sums.quorum(SITES, training, TrainReply)
        assert second.sites == first.sites == SITES[:4]
        assert same(second.reply, first.reply)

    def test_a_site_that_lost_its_secrets_meanwhile_is_asked_once_more(self, again, wire):
        first = again().sums.quorum(SITES, training, TrainReply)
        failed: list[Any] = []
        honest = wire.answer

        def lost(request: Any) -> Any:
            if request.kind == "shares" and request.site == "york" and not failed:
                failed.append(request)
                return wire.hospitals.failure(request, "FL-522", "no such set-up")
            return honest(request)

        wire.answer = lost
        second = again().sums.quorum(SITES, training, TrainReply)
        assert failed and second.sites == SITES and same(second.reply, first.reply)

    def test_one_of_them_missing_is_named_and_the_difference_never_opened(self, again, wire):
        again().sums.quorum(SITES, training, TrainReply)
        wire.lose = lambda r: r.site == "york"
        with pytest.raises(MasksRemain, match=r"over east, north, south, west, york before.*Missing: york"):
            again().sums.quorum(SITES, training, TrainReply)

    def refusing(self, wire: Wire, silent: str = "", code: str = "FL-521") -> None:
        honest = wire.answer
        wire.lose = lambda r: r.kind == "unmask" and r.site == silent
        wire.answer = lambda r: wire.hospitals.failure(r, code, "no") if r.kind == "unmask" else honest(r)

    def test_where_every_site_refused_to_open_nothing_is_kept_of_the_sum(self, again, wire, tmp_path):
        self.refusing(wire)
        with pytest.raises(MasksRemain):
            again().sums.quorum(SITES, training, TrainReply)
        assert json.loads((tmp_path / "sums.json").read_text()) == {}

    def test_where_one_was_silent_it_may_have_opened_and_the_sites_are_kept(self, again, wire, tmp_path):
        self.refusing(wire, silent="west")
        with pytest.raises(MasksRemain):
            again().sums.quorum(SITES, training, TrainReply)
        assert list(json.loads((tmp_path / "sums.json").read_text()).values()) == [list(SITES)]

    @pytest.mark.parametrize(("code", "kept"), [("FL-521", []), ("FL-519", [list(SITES)])])
    def test_after_a_crash_only_their_word_that_it_was_another_sum_frees_them(self, again, wire, tmp_path, code, kept):
        again().sums.quorum(SITES, training, TrainReply)
        self.refusing(wire, code=code)
        with pytest.raises(MasksRemain, match=code):
            again().sums.quorum(SITES, training, TrainReply)
        assert list(json.loads((tmp_path / "sums.json").read_text()).values()) == kept

    def test_a_coordinator_that_forgot_is_refused_by_the_sites(self, talk, wire):
        talk.sums.quorum(SITES, training, TrainReply)
        wire.lose = lambda r: r.site == "york"
        with pytest.raises(MasksRemain, match="FL-521"):
            talk.sums.quorum(SITES, training, TrainReply)

    def test_a_damaged_list_of_sites_is_not_read_as_empty(self, again, tmp_path):
        (tmp_path / "sums.json").write_text("{")
        with pytest.raises(JournalDamaged):
            again().sums.quorum(SITES, training, TrainReply)
