"""Boosted trees at the gate: only where the study grows them, only one tree a round, only on its grid."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fedloupe.messages import GrowReply, GrowRequest, encode
from fedloupe_client.gate import (
    CellTooSmall,
    CohortTooSmall,
    Gate,
    KindNotAllowed,
    NotInStudy,
    ReplyRefused,
    RoleRefused,
    RoundRefused,
    SplitRefused,
    approve,
)

HEADER = ("version", "fingerprint", "run", "site")
STUMP = np.array([[0, 2, 0.53125, 1, 2], [0, -1, -1.0, -1, -1], [0, -1, 2.0, -1, -1]])


@pytest.fixture
def trees(make_study, home):
    study = make_study(evaluation={"trees": {"rounds": 3, "depth": 2, "grid": 16}, "leave_one_site_out": True})
    approve(home, study, by="officer")
    return study


@pytest.fixture
def ask_tree(ask, trees):
    def make(of=trees, **changes):
        header = {name: getattr(ask("hello", of), name) for name in HEADER}
        return GrowRequest(**{**header, "round": 1, "trees": np.zeros((0, 5)), **changes})

    return make


@pytest.fixture
def grown(ask_tree):
    def make(request=None, **changes):
        header = {name: getattr(request or ask_tree(), name) for name in HEADER}
        return GrowReply(**{**header, "round": 1, "trees": STUMP, "patients": 40, **changes})

    return make


class TestAsked:
    def test_a_study_that_grows_trees_may_ask_for_them_and_score_them(self, gate, ask, ask_tree, trees):
        assert gate.admit(encode(ask_tree()))[1] == trees
        gate.admit(encode(ask("evaluate", trees, architecture="trees", label="trees")))

    def test_another_study_may_not(self, gate, ask, ask_tree, study, private_study):
        for other in (study, private_study):
            with pytest.raises(NotInStudy):
                gate.admit(encode(ask_tree(other)))
        with pytest.raises(NotInStudy):
            gate.admit(encode(ask("evaluate", study, architecture="trees", label="trees")))

    def test_a_site_that_only_validates_grows_none(self, home, ask_tree):
        with pytest.raises(RoleRefused):
            Gate(home, "coast").admit(encode(ask_tree(site="coast")))

    def test_a_site_that_grew_a_tree_took_part_in_the_run(self, gate, ask, ask_tree, trees):
        gate.admit(encode(ask("evaluate", trees, split="all")))
        gate.admit(encode(ask_tree()))
        with pytest.raises(SplitRefused):
            gate.admit(encode(ask("evaluate", trees, split="all")))

    def test_rounds_end_where_the_study_and_the_policy_say(self, gate, ask_tree, set_policy):
        gate.admit(encode(ask_tree(round=3)))
        with pytest.raises(RoundRefused):
            gate.admit(encode(ask_tree(round=4)))
        set_policy(maximum_rounds=4)
        gate.admit(encode(ask_tree(round=3)))

    def test_one_round_asked_again_and_again_with_other_trees_has_an_end(self, gate, ask_tree, set_policy):
        set_policy(maximum_rounds=4)
        for number in range(4):
            gate.admit(encode(ask_tree(trees=np.array([[0, -1, float(number), -1, -1]]))))
        with pytest.raises(RoundRefused, match="different requests"):
            gate.admit(encode(ask_tree(trees=np.array([[0, -1, 9.0, -1, -1]]))))

    def test_a_policy_can_forbid_them(self, gate, ask_tree, set_policy):
        set_policy(messages=["hello", "train"])
        with pytest.raises(KindNotAllowed):
            gate.admit(encode(ask_tree()))


class TestReleased:
    def test_one_tree_leaves_as_it_is_and_is_in_the_audit_chain(self, gate, home, ask_tree, grown):
        request = ask_tree()
        gate.admit(encode(request))
        blob = gate.release(grown(request), request)
        assert blob == encode(grown(request))
        last = json.loads((home / "gate" / "audit.jsonl").read_text().splitlines()[-1])
        assert (last["direction"], last["kind"], last["outcome"]) == ("out", "grow-reply", "ok")
        assert last["disclosure"] == ["count", "model", "protocol"]

    def test_a_tree_is_grown_again_for_who_asks_again(self, gate, ask_tree, grown):
        """Its leaves are looked at while it grows, by the policy of that moment; no answer says their sizes."""
        request = ask_tree()
        gate.release(grown(request), request)
        assert gate.stored_answer(request) is None

    @pytest.mark.parametrize(
        "bad",
        [
            np.concatenate([STUMP, STUMP + np.eye(1, 5)]),
            STUMP + 0.001 * (np.arange(3)[:, None] == 0) * np.eye(1, 5, 2),
            STUMP.astype(np.float32),
            np.zeros((5, 4)),
        ],
        ids=["two trees", "a threshold off the grid", "another type", "another shape"],
    )
    def test_anything_but_one_tree_on_the_grid_is_held_back(self, gate, ask_tree, grown, bad):
        with pytest.raises(ReplyRefused):
            gate.release(grown(trees=bad), ask_tree())

    def test_another_rounds_tree_is_held_back(self, gate, ask_tree, grown):
        with pytest.raises(ReplyRefused):
            gate.release(grown(round=2), ask_tree())

    def test_too_few_patients_grow_no_tree(self, gate, ask_tree, grown):
        with pytest.raises(CohortTooSmall):
            gate.release(grown(patients=19), ask_tree())

    def test_a_leaf_below_the_smallest_cell_is_not_described(self, gate, set_policy):
        set_policy(minimum_cell=5)
        gate.check_cell(5)
        with pytest.raises(CellTooSmall, match="4 training patients"):
            gate.check_cell(4)
