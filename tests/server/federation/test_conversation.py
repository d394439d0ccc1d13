"""Asking sites: silence, refusal, wrong answers, quorum."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe.errors import FedLoupeError
from fedloupe.messages import TOO_FEW, HelloReply, HelloRequest, MidpointReply, MidpointRequest, encode
from fedloupe_client.dataset import OneClass
from fedloupe_client.gate import CellTooSmall
from fedloupe_server.federation import run_study
from fedloupe_server.federation.conversation import Conversation, QuorumNotMet, SiteRefused, WrongAnswer
from fedloupe_server.federation.exchange import Arrival

TRAIN = ("north", "south", "east")


@pytest.fixture
def talk(study, hospitals) -> Conversation:
    return Conversation(study, hospitals, "trial")


def hello(talk: Conversation, sites: tuple[str, ...] = TRAIN) -> dict[str, HelloReply]:
    return talk.ask_all(sites, lambda header: HelloRequest(**header), HelloReply)


class TestSilence:
    def test_a_site_silent_once_is_asked_again_alone(self, talk, hospitals):
        hospitals.hook = lambda r: (
            None if r.site == "south" and len(hospitals.asked("hello", site="south")) == 1 else ...
        )
        assert list(hello(talk)) == ["east", "north", "south"]
        assert [len(hospitals.asked("hello", site=s)) for s in TRAIN] == [1, 2, 1]

    def test_a_silent_site_is_asked_as_often_as_the_study_says_and_named(self, talk, hospitals):
        hospitals.hook = lambda r: None if r.site == "south" else ...
        with pytest.raises(SiteRefused, match="south: no answer"):
            hello(talk)
        assert len(hospitals.asked("hello", site="south")) == 2

    def test_every_attempt_carries_the_same_bytes(self, study):
        seen = []

        def exchange(outbox, timeout_s):
            seen.append((dict(outbox), timeout_s))
            yield None

        with pytest.raises(SiteRefused):
            hello(Conversation(study, exchange, "trial"))
        assert seen[0] == seen[1]
        assert seen[0][1] == study.quorum.timeout_s


class TestRefusal:
    def test_its_code_and_title_are_in_the_error_and_it_is_not_asked_again(self, talk, hospitals):
        hospitals.hook = lambda r: hospitals.failure(r) if r.site == "east" else ...
        with pytest.raises(SiteRefused, match="east: FL-515 privacy budget would be exceeded"):
            hello(talk)
        assert len(hospitals.asked("hello", site="east")) == 1

    def test_a_refusal_is_forgotten_when_the_site_answers(self, talk, hospitals):
        hospitals.hook = hospitals.failure
        with pytest.raises(SiteRefused):
            hello(talk)
        hospitals.hook = lambda r: ...
        hello(talk)
        assert talk.refusals == {}


class TestWrongAnswer:
    @pytest.mark.parametrize(
        "change", [{"site": "north"}, {"run": "other"}, {"fingerprint": "0" * 64}], ids=["site", "run", "study"]
    )
    def test_an_answer_from_elsewhere_is_refused_and_the_sender_named(self, talk, hospitals, change):
        hospitals.hook = lambda r: hospitals.answer(r).model_copy(update=change) if r.site == "south" else ...
        with pytest.raises(WrongAnswer, match="south"):
            hello(talk)

    def test_an_answer_of_another_kind_is_refused(self, talk, hospitals):
        hospitals.hook = lambda r: r  # echoes the request
        with pytest.raises(WrongAnswer, match="HelloRequest"):
            hello(talk)

    @pytest.mark.parametrize("blob", [b"", b"\x80\x04K\x01.", b"\0" * 100])
    def test_bytes_that_are_no_message_are_refused(self, talk, hospitals, blob):
        hospitals.hook = lambda r: blob if r.site == "south" else ...
        with pytest.raises(WrongAnswer, match="south"):
            hello(talk)

    def test_an_answer_of_a_site_that_was_not_asked_does_not_count(self, study, hospitals):
        def exchange(outbox, timeout_s):
            stranger = HelloRequest.model_validate(
                {"version": "0", "fingerprint": study.fingerprint, "run": "trial", "site": "coast"}
            )
            yield Arrival("coast", encode(hospitals.answer(stranger)))
            yield from hospitals(outbox, timeout_s)

        with pytest.raises(WrongAnswer, match="coast"):
            hello(Conversation(study, exchange, "trial"))

    def test_weights_of_another_round_are_refused(self, study, hospitals, run_dir):
        """A late answer to round 1 must not count in round 2."""
        hospitals.hook = lambda r: (
            hospitals.answer(r).model_copy(update={"round": 1})
            if r.kind == "train" and r.scope == "federated" and r.round == 2 and r.site == "south"
            else ...
        )
        with pytest.raises(WrongAnswer, match="south"):
            run_study(study, hospitals, run_dir)

    @pytest.mark.parametrize("size", [1, 7])
    def test_weights_of_another_length_are_refused(self, study, hospitals, run_dir, size):
        hospitals.hook = lambda r: (
            hospitals.answer(r).model_copy(update={"weights": np.ones(size, np.float32)})
            if r.kind == "train" and r.site == "south"
            else ...
        )
        with pytest.raises(FedLoupeError, match="south"):
            run_study(study, hospitals, run_dir)

    def test_scores_of_another_split_are_refused(self, study, hospitals, run_dir):
        hospitals.hook = lambda r: (
            hospitals.answer(r).model_copy(update={"split": "tune"})
            if r.kind == "evaluate" and r.split == "test" and r.site == "south"
            else ...
        )
        with pytest.raises(WrongAnswer, match="south"):
            run_study(study, hospitals, run_dir)


class TestQuorum:
    def test_a_required_site_missing_stops_the_round_and_is_named(self, study, hospitals, run_dir):
        hospitals.hook = lambda r: None if r.kind == "train" and r.site == "north" else ...
        with pytest.raises(QuorumNotMet, match=r"`must` sites missing: north.*north: no answer"):
            run_study(study, hospitals, run_dir)
        assert not (run_dir / "rounds" / "0001.json").exists()

    def test_a_required_site_that_refused_is_named_with_its_code(self, study, hospitals, run_dir):
        hospitals.hook = lambda r: hospitals.failure(r) if r.kind == "train" and r.site == "north" else ...
        with pytest.raises(QuorumNotMet, match="north: FL-515"):
            run_study(study, hospitals, run_dir)

    def test_too_few_sites_stop_the_round_even_with_the_required_one(self, study, hospitals, run_dir):
        hospitals.hook = lambda r: None if r.kind == "train" and r.site != "north" else ...
        with pytest.raises(QuorumNotMet, match="1 of 3 sites answered, 2 needed"):
            run_study(study, hospitals, run_dir)

    def test_another_site_may_be_absent_and_is_recorded(self, study, hospitals, run_dir):
        def hook(r):
            away = r.kind == "train" and r.scope == "federated" and r.round == 2 and r.site == "south"
            return None if away else ...

        hospitals.hook = hook
        results = run_study(study, hospitals, run_dir)
        assert [r.absent for r in results.rounds] == [(), ("south",), ()]
        assert results.rounds[1].participants == ("east", "north")
        assert len(hospitals.asked("train", site="south", round=2, scope="federated")) == 2


class TestTuningPatients:
    def ask(self, talk: Conversation) -> tuple[str, ...]:
        weights = np.zeros(1, np.float32)
        return talk.sums.willing(
            TRAIN, lambda header: MidpointRequest(**header, weights=weights), MidpointReply, "the test"
        ).sites

    @pytest.mark.parametrize("code", TOO_FEW)
    def test_a_site_with_too_few_may_refuse(self, talk, hospitals, code):
        hospitals.hook = lambda r: hospitals.failure(r, code, "too few") if r.site == "east" else ...
        assert self.ask(talk) == ("north", "south")

    def test_another_refusal_is_not_taken_for_too_few(self, talk, hospitals):
        """A site whose approval was withdrawn has not simply too few patients."""
        hospitals.hook = lambda r: hospitals.failure(r, "FL-501", "not approved") if r.site == "east" else ...
        with pytest.raises(SiteRefused, match="the test: east: FL-501"):
            self.ask(talk)

    def test_the_codes_are_those_of_the_sites_errors(self):
        assert {CellTooSmall.code, OneClass.code} == set(TOO_FEW)
