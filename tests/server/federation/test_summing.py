"""Secure sums between a coordinator and sites whose part is the real one (`fedloupe_client.gate.sums`).

Whatever crosses the wire passes through one exchange that keeps it all: what cannot be told from that, no coordinator
can tell who follows the protocol.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from tests.server.federation.wire import SITES, SIZES, describing, plain_sum, same, sum_words, training

from fedloupe.masked import SESSIONS
from fedloupe.masking import Term, sum_digest, term_of, unmask
from fedloupe.messages import (
    DescribeReply,
    KeysReply,
    NewtonReply,
    NewtonRequest,
    SharesReply,
    SumReply,
    TrainReply,
    UnmaskReply,
)
from fedloupe_server.federation import run_study
from fedloupe_server.federation.conversation import SiteRefused, WrongAnswer
from fedloupe_server.federation.summing import MasksRemain


class TestSums:
    def test_a_masked_sum_is_the_plain_one_to_the_bit(self, talk, wire):
        found = talk.sums.all(SITES, describing, DescribeReply)
        assert same(found, plain_sum(wire, describing, DescribeReply, SITES))
        assert found.count.tolist() == [sum(SIZES.values())] * 6

    def test_weights_are_the_mean_over_patients_within_the_stated_error(self, talk, wire):
        found = talk.sums.quorum(SITES, training, TrainReply)
        exact = sum(
            n * wire.hospitals.answer(training(talk.header(site))).weights.astype(np.float64)
            for site, n in SIZES.items()
        ) / sum(SIZES.values())
        assert found.reply.patients == sum(SIZES.values())
        assert np.abs(found.reply.weights - exact).max() <= 2.0**-33 * len(SITES) / sum(SIZES.values()) + 1e-16
        assert np.linalg.norm(found.reply.weights - exact) <= 1e-6 * np.linalg.norm(exact)

    def test_one_set_up_serves_many_sums(self, talk, wire):
        for _ in range(3):
            talk.sums.all(SITES, describing, DescribeReply)
        assert wire.kinds().count("keys-reply") == len(SITES)
        assert len({m.session for m in wire.seen if isinstance(m, SumReply)}) == 3

    def test_a_new_set_up_is_made_when_its_sums_are_used_up(self, talk, wire):
        talk.sums.all(SITES, describing, DescribeReply)
        talk.sums._setups._now.used = SESSIONS
        assert same(talk.sums.all(SITES, describing, DescribeReply), plain_sum(wire, describing, DescribeReply, SITES))
        assert wire.kinds().count("keys-reply") == 2 * len(SITES)

    def test_a_whole_study_ends_as_with_plain_sums(self, secure, make_study, wire, new_hospitals, tmp_path):
        plain = make_study(
            aggregation="plain",
            sites=[s.model_dump() for s in secure.sites],
            quorum=secure.quorum.model_dump(),
            evaluation={"local_models": "home"},
        )
        one = run_study(secure, wire, tmp_path / "a" / "trial")
        two = run_study(plain, new_hospitals(SIZES), tmp_path / "b" / "trial")
        assert [r.weights for r in one.rounds] == [r.weights for r in two.rounds]
        assert (one.threshold, one.frozen, one.preparation) == (two.threshold, two.frozen, two.preparation)


class TestSecrecy:
    """A coordinator with a copy of everything that crossed the wire."""

    def test_no_answer_crosses_the_wire(self, talk, wire):
        talk.sums.quorum(SITES, training, TrainReply)
        assert set(wire.kinds()) == {"keys-reply", "shares-reply", "sum-reply", "unmask-reply"}

    def test_what_a_site_sent_says_nothing_of_its_answer(self, talk, wire):
        """Bits of masked vectors are fair coins, and do not go with the answer's."""
        size = 20_000
        talk.sums.quorum(SITES, lambda header: training(header, size), TrainReply)
        for reply in (m for m in wire.seen if isinstance(m, SumReply)):
            answer = wire.hospitals.answer(training(talk.header(reply.site), size))
            term = term_of(answer, equal=False)[0]
            masked = np.unpackbits(reply.narrow.view(np.uint8))
            assert abs(masked.mean() - 0.5) < 5 * 0.5 / len(masked) ** 0.5
            agree = (masked == np.unpackbits(term.narrow.view(np.uint8))).mean()
            assert abs(agree - 0.5) < 5 * 0.5 / len(masked) ** 0.5
            assert abs(np.corrcoef(reply.narrow[1:-1], answer.weights)[0, 1]) < 5 / size**0.5

    def test_everything_that_was_seen_opens_no_single_answer(self, talk, wire):
        """Every way to treat one site as the only contributor, with all shares that were ever given."""
        talk.sums.quorum(SITES, training, TrainReply)
        keys = {m.site: m for m in wire.seen if isinstance(m, KeysReply)}
        masks = np.stack([keys[site].masks[0] for site in SITES])
        opened = {m.site: m.shares for m in wire.seen if isinstance(m, UnmaskReply)}
        request = training(talk.header("north"))
        replies = {m.site: m for m in wire.seen if isinstance(m, SumReply)}
        for size in (1, 2, 4):
            for alone in itertools.combinations(SITES, size):
                wide = sum_words([replies[s].wide for s in alone])
                narrow = np.sum([replies[s].narrow for s in alone], axis=0)
                found = unmask(
                    Term(wide, narrow), replies["north"].setup, 0, sum_digest(request), SITES, masks, alone, opened
                )
                answers = [term_of(wire.hospitals.answer(training(talk.header(s))), equal=False)[0] for s in alone]
                near = np.abs(found.narrow - np.sum([a.narrow for a in answers], axis=0)) < 2**60
                assert near.mean() < 0.5  # chance: an eighth

    def test_all_answers_together_do_open(self, talk, wire):
        """The test above can fail: with all contributors its arithmetic gives the sum."""
        talk.sums.quorum(SITES, training, TrainReply)
        keys = {m.site: m for m in wire.seen if isinstance(m, KeysReply)}
        replies = {m.site: m for m in wire.seen if isinstance(m, SumReply)}
        opened = {m.site: m.shares for m in wire.seen if isinstance(m, UnmaskReply)}
        request = training(talk.header("north"))
        found = unmask(
            Term(sum_words([replies[s].wide for s in SITES]), np.sum([replies[s].narrow for s in SITES], axis=0)),
            replies["north"].setup,
            0,
            sum_digest(request),
            SITES,
            np.stack([keys[site].masks[0] for site in SITES]),
            SITES,
            opened,
        )
        answers = [term_of(wire.hospitals.answer(training(talk.header(s))), equal=False)[0] for s in SITES]
        assert np.array_equal(found.narrow, np.sum([a.narrow for a in answers], axis=0))

    def test_shares_are_sealed_against_the_coordinator_and_other_members(self, talk, wire):
        talk.sums.all(SITES, describing, DescribeReply)
        boxes = {m.site: m.boxes for m in wire.seen if isinstance(m, SharesReply)}
        every = np.concatenate([box[place, s] for box in boxes.values() for place in range(5) for s in range(3)])
        assert len({boxes["north"][0, 0].tobytes(), boxes["north"][2, 0].tobytes(), boxes["east"][2, 0].tobytes()}) == 3
        assert 0.45 < np.unpackbits(every[every != 0]).mean() < 0.56

    @pytest.mark.parametrize("other", [0.0, 0.5])
    def test_sites_that_are_asked_different_things_add_up_to_noise(self, talk, other):
        """Elements of the whole ring: of 2^384 with 64 fraction bits hardly one is below 2^300."""

        def asking(header: dict[str, Any]) -> NewtonRequest:
            return NewtonRequest(**header, step=0, beta=np.full(3, other * (header["site"] == "north")))

        found = talk.sums.all(SITES, asking, NewtonReply)
        large = np.abs(np.concatenate([found.gradient, found.hessian.ravel()])) > 2.0**300
        assert large.all() if other else not large.any()

    def test_two_sums_of_one_request_share_no_mask(self, talk, wire):
        talk.sums.all(SITES, describing, DescribeReply)
        talk.sums.all(SITES, describing, DescribeReply)
        one, two = (m for m in wire.seen if isinstance(m, SumReply) and m.site == "north")
        assert not (one.narrow == two.narrow).any()


class TestWrong:
    def test_a_term_of_another_kind_names_the_site(self, talk, wire):
        honest = wire.answer

        def other(request):
            reply = honest(request)
            wrong = isinstance(reply, SumReply) and reply.site == "south"
            return reply.model_copy(update={"of": "newton-reply"}) if wrong else reply

        wire.answer = other
        with pytest.raises(WrongAnswer, match="south sent a term of `newton-reply`"):
            talk.sums.all(SITES, describing, DescribeReply)

    def test_a_term_of_another_shape_names_the_site(self, talk, wire):
        honest = wire.answer

        def short(request):
            reply = honest(request)
            wrong = isinstance(reply, SumReply) and reply.site == "south"
            return reply.model_copy(update={"layout": {**reply.layout, "count": (5,)}}) if wrong else reply

        wire.answer = short
        with pytest.raises(WrongAnswer, match="south sent a term that is none"):
            talk.sums.all(SITES, describing, DescribeReply)

    @pytest.mark.parametrize(
        ("kind", "name", "says"),
        [
            (KeysReply, "masks", "keys of another"),
            (SharesReply, "boxes", "shares of another"),
            (UnmaskReply, "shares", "sent shares"),
        ],
    )
    def test_arrays_of_another_shape_name_the_site(self, talk, wire, kind, name, says):
        honest = wire.answer

        def short(request):
            reply = honest(request)
            wrong = isinstance(reply, kind) and reply.site == "south"
            return reply.model_copy(update={name: getattr(reply, name)[:2]}) if wrong else reply

        wire.answer = short
        with pytest.raises(WrongAnswer, match=rf"south .*{says}"):
            talk.sums.all(SITES, describing, DescribeReply)

    def test_a_set_up_that_is_lost_twice_ends_the_sum(self, talk, wire):
        honest = wire.answer
        wire.answer = lambda r: (
            wire.hospitals.failure(r, "FL-522", "lost") if r.kind == "sum" and r.site == "east" else honest(r)
        )
        with pytest.raises(SiteRefused, match="east: FL-522"):
            talk.sums.all(SITES, describing, DescribeReply)
        assert wire.kinds().count("keys-reply") == 2 * len(SITES)

    def test_a_key_that_gives_no_secret_names_the_site(self, talk, wire):
        """All others would fail on it, and be blamed."""
        honest = wire.answer

        def weak(request):
            reply = honest(request)
            wrong = isinstance(reply, KeysReply) and reply.site == "south"
            return reply.model_copy(update={"channel": np.zeros(32, np.uint8)}) if wrong else reply

        wire.answer = weak
        with pytest.raises(WrongAnswer, match="south sent a key that gives no secret"):
            talk.sums.all(SITES, describing, DescribeReply)

    def test_a_wrong_share_is_noticed_where_another_can_tell(self, talk, wire):
        honest = wire.answer

        def spoilt(request):
            reply = honest(request)
            wrong = isinstance(reply, UnmaskReply) and reply.site == "south"
            return reply.model_copy(update={"shares": reply.shares ^ np.uint8(1)}) if wrong else reply

        wire.answer = spoilt
        with pytest.raises(MasksRemain, match="do not agree"):
            talk.sums.all(SITES, describing, DescribeReply)
