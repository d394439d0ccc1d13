"""What leaves: typed answers to what was asked, small cells hidden, refusals without details, repeats byte by byte."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fedloupe.messages import DescribeReply, HelloReply, NewtonReply, SketchReply, decode, encode
from fedloupe.privacy import Spend
from fedloupe.statistics import Moments, ring
from fedloupe_client.gate import (
    AlreadyAnswered,
    BudgetExceeded,
    CellTooSmall,
    CohortTooSmall,
    Gate,
    ReplyRefused,
    StudyNotApproved,
    WrongSite,
    approve,
    verify,
)
from fedloupe_client.gate.decisions import pause, resume
from fedloupe_client.gate.disclosure import coarsen, merge_groups
from fedloupe_client.gate.errors import CoordinatorUnknown, PaidAndFailed, Paused
from fedloupe_client.gate.trust import distrust, trust

SPEND = Spend(4.0, 0.25, 4)
KEY = "ab" * 32


def lines(home):
    return [json.loads(line) for line in (home / "gate" / "audit.jsonl").read_text().splitlines()]


def header(request):
    return {name: getattr(request, name) for name in ("version", "fingerprint", "run", "site")}


class TestTrained:
    def test_leaves_and_is_recorded_with_its_disclosure_classes(self, gate, ask, trained, home):
        request = ask("train", round=2)
        blob = gate.release(trained(request), request)
        assert decode(blob).patients == 40
        line = lines(home)[-1]
        assert (line["direction"], line["kind"], line["round"], line["bytes"]) == ("out", "train-reply", 2, len(blob))
        assert line["disclosure"] == ["aggregate", "count", "model", "protocol"]

    def test_of_too_small_a_cohort_does_not_leave(self, gate, ask, trained, home):
        request = ask("train")
        with pytest.raises(CohortTooSmall):
            gate.release(trained(request, patients=19), request)
        assert (lines(home)[-1]["direction"], lines(home)[-1]["outcome"]) == ("local", "FL-511")
        with pytest.raises(CohortTooSmall):
            gate.check_cohort(19)
        gate.check_cohort(20)

    @pytest.mark.parametrize(
        "changes",
        [
            {"round": 2},
            {"run": "run-2"},
            {"site": "south"},
            {"weights": np.zeros(6, np.float32)},
            {"weights": np.full(5, np.nan, np.float32)},
        ],
    )
    def test_does_not_leave_if_it_is_not_what_was_asked(self, gate, ask, trained, changes):
        request = ask("train")
        with pytest.raises(ReplyRefused):
            gate.release(trained(request, **changes), request)

    def test_does_not_leave_in_answer_to_another_kind(self, gate, ask, trained):
        with pytest.raises(ReplyRefused):
            gate.release(trained(ask("train")), ask("hello"))

    def test_does_not_leave_once_the_approval_is_withdrawn(self, gate, ask, trained, home, study):
        request = ask("train")
        (home / "gate" / "approved" / f"{study.fingerprint}.json").unlink()
        with pytest.raises(StudyNotApproved):
            gate.release(trained(request), request)


class TestPrivate:
    def test_the_loss_stays_at_home_and_epsilon_is_recorded(self, gate, ask, trained, private_study, home):
        request = ask("train", private_study)
        gate.intend(request, SPEND)
        reply = decode(gate.release(trained(request, epsilon=1.25), request))
        assert reply.loss is None
        assert lines(home)[-1]["epsilon"] == 1.25
        assert lines(home)[-1]["disclosure"] == ["count", "model", "protocol"]

    def test_weights_without_an_epsilon_do_not_leave(self, gate, ask, trained, private_study):
        request = ask("train", private_study)
        gate.intend(request, SPEND)
        with pytest.raises(ReplyRefused, match="without an epsilon"):
            gate.release(trained(request), request)

    def test_weights_of_a_round_that_is_not_in_the_ledger_do_not_leave(self, gate, ask, trained, private_study):
        request = ask("train", private_study)
        gate.intend(request, SPEND)
        other = ask("train", private_study, round=2)
        with pytest.raises(ReplyRefused, match="not in the ledger"):
            gate.release(trained(other, epsilon=1.25), other)

    def test_the_budget_is_the_policys(self, gate, ask, private_study, set_policy):
        set_policy(epsilon_budget=8.0)
        with pytest.raises(BudgetExceeded):
            gate.intend(ask("train", private_study), Spend(1.0, 0.25, 60))
        with pytest.raises(BudgetExceeded):
            gate.check_budget("run-1", Spend(1.0, 0.25, 15), 4)
        assert gate.ledger.entries() == ()

    def test_an_answered_request_is_not_paid_twice_and_a_lost_answer_is(self, gate, ask, trained, private_study):
        request = ask("train", private_study)
        gate.intend(request, SPEND)  # then the site is killed before it could answer
        entry = gate.intend(request, SPEND)
        gate.release(trained(request, epsilon=1.0), request, entry=entry)
        assert [row.confirmed for row in gate.ledger.entries()] == [False, True]
        with pytest.raises(AlreadyAnswered):
            gate.intend(request, SPEND)
        assert len(gate.ledger.entries()) == 2

    def test_a_round_whose_answer_may_not_leave_is_not_paid_each_time_it_is_asked(
        self, home, gate, ask, trained, private_study
    ):
        request = ask("train", private_study)
        lost = trained(request, epsilon=1.0, weights=np.full(5, np.nan, np.float32))
        with pytest.raises(ReplyRefused):
            gate.release(lost, request, entry=gate.intend(request, SPEND))
        for again in (gate, Gate(home, "north")):
            with pytest.raises(PaidAndFailed):
                again.intend(request, SPEND)
        assert len(gate.ledger.entries()) == 1
        (note,) = (home / "gate" / "failed").rglob("*.txt")
        note.unlink()
        gate.intend(request, SPEND)

    def test_an_answer_that_a_pause_keeps_here_is_not_given_up(self, home, gate, ask, trained, private_study):
        request = ask("train", private_study)
        entry = gate.intend(request, SPEND)
        pause(home, by="Dr Ito")
        with pytest.raises(Paused):
            gate.release(trained(request, epsilon=1.0), request, entry=entry)
        resume(home, by="Dr Ito")
        assert gate.stored_answer(request) is not None
        assert not (home / "gate" / "failed").exists()

    def test_a_row_whose_confirmation_a_crash_lost_is_confirmed_with_the_stored_answer(
        self, gate, ask, trained, private_study
    ):
        request = ask("train", private_study)
        gate.intend(request, SPEND)
        gate.release(trained(request, epsilon=1.0), request)  # then the site is killed
        gate.stored_answer(request)
        assert [row.confirmed for row in gate.ledger.entries()] == [True]
        gate.stored_answer(request)

    def test_the_same_round_with_other_weights_is_paid_again(self, gate, ask, trained, private_study):
        request = ask("train", private_study)
        gate.release(trained(request, epsilon=1.0), request, entry=gate.intend(request, SPEND))
        gate.intend(ask("train", private_study, weights=np.ones(5, np.float32)), SPEND)
        assert len(gate.ledger.entries()) == 2


class TestScores:
    def test_pass_where_every_cell_is_large_enough(self, gate, ask, scored):
        request = ask("evaluate")
        reply = decode(gate.release(scored(request), request))
        assert (reply.positives_by_score.sum(), reply.negatives_by_score.sum()) == (10, 30)
        assert len(reply.calibration) == 2

    @pytest.mark.parametrize("positives", [0, 2, 38, 40])
    def test_of_too_few_patients_with_or_without_the_event_do_not_leave(self, gate, ask, scored, positives):
        request = ask("evaluate")
        with pytest.raises(CellTooSmall):
            gate.release(scored(request, positives=positives), request)

    def test_merge_small_cells_and_small_groups(self, gate, ask, scored):
        request = ask("evaluate")
        counts = np.zeros(20, np.int64)
        counts[:4] = (1, 2, 3, 4)
        groups = ((0.1, 0.0, 1), (0.3, 0.5, 19), (0.8, 0.5, 20))
        reply = decode(gate.release(scored(request, positives_by_score=counts, calibration=groups), request))
        # negatives are 10 in bin 2 and 20 in bin 5, so nothing else has to merge
        assert reply.positives_by_score.tolist() == [1.5, 1.5, 3, 4] + [0] * 16
        assert reply.calibration[0] == pytest.approx((0.29, 0.475, 20))

    def test_name_a_generators_auc_only_in_a_synthetic_study(self, gate, ask, scored, make_study, home):
        real = make_study(synthetic=False)
        approve(home, real, by="officer")
        gate.release(scored(ask("evaluate"), reference_auc=0.9), ask("evaluate"))
        gate.release(scored(ask("evaluate", real)), ask("evaluate", real))
        with pytest.raises(ReplyRefused):
            gate.release(scored(ask("evaluate", real), reference_auc=0.9), ask("evaluate", real))

    def test_take_the_sites_own_cell_size(self, gate, ask, scored, set_policy):
        set_policy(minimum_cell=11)
        with pytest.raises(CellTooSmall):
            gate.release(scored(ask("evaluate")), ask("evaluate"))


class TestCoarsen:
    def test_merges_neighbours_until_no_cell_of_either_outcome_is_small(self):
        positives, negatives = coarsen(np.array([0, 1, 2, 0, 4]), np.array([3, 0, 1, 2, 0]), 3)
        assert positives.tolist() == [0, 1, 1, 1, 4]
        assert negatives.tolist() == [3, 1, 1, 1, 0]

    def test_a_small_rest_joins_its_predecessors(self):
        positives, negatives = coarsen(np.array([3, 0, 1]), np.array([3, 3, 0]), 3)
        assert positives.tolist() == [pytest.approx(4 / 3)] * 3
        assert negatives.tolist() == [2, 2, 2]

    def test_a_cell_of_one_changes_nothing(self):
        counts = np.array([5, 0, 1, 2])
        assert [c.tolist() for c in coarsen(counts, counts[::-1], 1)] == [[5, 0, 1, 2], [2, 1, 0, 5]]

    @pytest.mark.parametrize("seed", range(20))
    def test_keeps_totals_and_leaves_no_small_merged_bin(self, seed):
        rng = np.random.default_rng(seed)
        counts = rng.poisson(0.7, (2, 20))
        coarse = coarsen(counts[0], counts[1], 3)
        assert [c.sum() for c in coarse] == [pytest.approx(c.sum()) for c in counts]
        both = np.stack(coarse)
        if counts.sum(axis=1).min() >= 3:
            starts = np.flatnonzero(np.r_[True, (np.abs(np.diff(both)) > 1e-9).any(axis=0)])
            merged = np.add.reduceat(both, starts, axis=1)
            assert ((merged < 1e-9) | (merged > 3 - 1e-9)).all()


class TestMergeGroups:
    def test_keeps_patients_and_weighted_means(self):
        groups = ((0.1, 0.0, 2), (0.2, 0.5, 2), (0.5, 0.5, 8), (0.9, 1.0, 1))
        merged = merge_groups(groups, 3)
        assert [g[2] for g in merged] == [4, 9]
        for value in (0, 1):
            assert sum(g[value] * g[2] for g in merged) == pytest.approx(sum(g[value] * g[2] for g in groups))

    def test_of_too_few_patients_altogether_is_empty(self):
        assert merge_groups(((0.1, 0.0, 1), (0.4, 1.0, 1)), 3) == ()


class TestSums:
    def test_of_a_feature_in_one_or_two_patients_are_reported_as_absent(self, gate, ask):
        request = ask("describe")
        reply = DescribeReply(
            **header(request),
            count=np.array([30, 2, 3]),
            total=ring.encode(np.array([1.0, -2.0, -3.0])),
            square=ring.encode(np.array([4.0, 5.0, 6.0])),
        )
        out = decode(gate.release(reply, request))
        assert out.count.tolist() == [30, 0, 3]
        assert (ring.decode(out.total).tolist(), ring.decode(out.square).tolist()) == ([1, 0, -3], [4, 0, 6])

    def test_of_too_small_a_cohort_do_not_leave(self, gate, ask):
        request = ask("describe")
        reply = DescribeReply(**header(request), **vars(Moments.of(np.ones((19, 2)))))
        with pytest.raises(CohortTooSmall):
            gate.release(reply, request)

    def test_of_features_that_no_patient_has_say_so_and_nothing_else(self, gate, ask):
        """A site without a CT takes part in a study whose features are all of CT: its sums are zero."""
        request, sums = ask("describe"), vars(Moments.of(np.full((30, 2), np.nan)))
        out = decode(gate.release(DescribeReply(**header(request), **sums), request))
        assert not out.count.any() and not out.total.any() and not out.square.any()
        hidden = {**sums, "total": ring.encode(np.array([0.0, 7.0]))}
        with pytest.raises(ReplyRefused, match="no patient has"):
            gate.release(DescribeReply(**header(request), **hidden), request)

    def test_of_another_shape_do_not_leave(self, gate, ask):
        sketch, newton = ask("sketch"), ask("newton")
        gate.release(SketchReply(**header(sketch), sketch=np.ones((3, 2))), sketch)
        with pytest.raises(ReplyRefused):
            gate.release(SketchReply(**header(sketch), sketch=np.ones((3, 3))), sketch)
        describe, sums = ask("describe"), vars(Moments.of(np.ones((30, 2))))
        gate.release(DescribeReply(**header(describe), **sums), describe)
        with pytest.raises(ReplyRefused):
            gate.release(DescribeReply(**header(describe), **{**sums, "total": np.ones((2, 300))}), describe)
        gate.release(NewtonReply(**header(newton), gradient=np.ones(3), hessian=np.ones((3, 3))), newton)
        with pytest.raises(ReplyRefused):
            gate.release(NewtonReply(**header(newton), gradient=np.ones(3), hessian=np.ones((30, 3))), newton)


class TestHello:
    @pytest.fixture
    def hello(self, ask):
        def make(**changes):
            body = {"train": 30, "tune": 5, "test": 10, "positives": 15, "excluded": {"FL-211": 2}}
            fixed = {"features": ("a",), "groups": ("g",), "data_digest": "d"}
            return HelloReply(**{**header(ask("hello")), **body, **fixed, **changes})

        return make

    def test_leaves(self, gate, ask, hello):
        gate.release(hello(), ask("hello"))

    def test_with_names_in_the_place_of_error_codes_does_not_leave(self, gate, ask, hello):
        with pytest.raises(ReplyRefused):
            gate.release(hello(excluded={"case Smith": 1}), ask("hello"))

    @pytest.mark.parametrize("positives", [2, 43])
    def test_with_nearly_one_label_only_does_not_leave(self, gate, ask, hello, positives):
        with pytest.raises(CellTooSmall):
            gate.release(hello(positives=positives), ask("hello"))


class TestRefuse:
    def test_tells_code_and_title_and_nothing_of_the_site(self, gate, ask, home):
        error = WrongSite("patient Smith", where="/data/smith.dcm", remedy="ask Smith")
        error.title = "Smith"  # not even a title set on the one error
        failure = decode(gate.refuse(error, ask("hello")))
        assert (failure.code, failure.title, failure.run) == ("FL-503", WrongSite.title, "run-1")
        assert "mith" not in str(gate.refuse(error, ask("hello")))
        assert lines(home)[-1]["outcome"] == "FL-503"

    def test_of_bytes_that_could_not_be_read_names_no_run(self, gate):
        assert decode(gate.refuse(WrongSite("x", remedy="y"))).run == "unknown"

    def test_of_an_unforeseen_exception_is_a_fault_of_the_gate(self, gate, ask):
        assert decode(gate.refuse(RuntimeError("Smith"), ask("hello"))).code == "FL-599"


class TestWhatLeavesLater:
    """A decision that falls while the site works, or after, holds for the answer too."""

    def test_an_answer_that_meets_a_pause_stays_and_is_there_afterwards(self, gate, ask, trained, home):
        request = ask("train")
        pause(home, by="Dr Ito")
        with pytest.raises(Paused):
            gate.release(trained(request), request)
        assert (lines(home)[-1]["direction"], lines(home)[-1]["outcome"]) == ("local", "FL-532")
        resume(home, by="Dr Ito")
        assert decode(gate.stored_answer(request)).weights.shape == trained(request).weights.shape

    def test_an_answer_for_a_coordinator_who_is_trusted_no_longer_stays(self, gate, ask, trained, home):
        request = ask("train")
        trust(home, "Coordinating Hospital", KEY, by="Dr Ito")
        gate.release(trained(request), request, coordinator=KEY)
        distrust(home, KEY, by="Dr Ito")
        with pytest.raises(CoordinatorUnknown):
            gate.release(trained(request), request, coordinator=KEY)

    def test_a_stored_answer_passes_the_policy_of_now(self, gate, ask, scored, set_policy):
        request = ask("evaluate")
        gate.release(scored(request), request)
        set_policy(metrics=[])
        assert decode(gate.stored_answer(request)).calibration == ()
        set_policy(minimum_cell=50)
        with pytest.raises(CellTooSmall):
            gate.stored_answer(request)


class TestWholePassage:
    def test_leaves_a_chain_that_verifies(self, gate, ask, trained, private_study, home):
        for number in (1, 2):
            request, _ = gate.admit(encode(ask("train", private_study, round=number)))
            entry = gate.intend(request, SPEND)
            gate.release(trained(request, epsilon=gate.ledger.spent(1e-5)), request, entry=entry)
        assert verify(home) == []
        assert [line["direction"] for line in lines(home)] == ["local", "local", "in", "out", "in", "out"]
        approve(home, private_study, by="another officer")
        assert lines(home)[-1]["kind"] == "approve"
