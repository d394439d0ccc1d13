"""Line, range, sets and release: asked only where the study predicts, shown only of enough patients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fedloupe
from fedloupe.messages import (
    CalibrateReply,
    CalibrateRequest,
    ConformReply,
    ConformRequest,
    EmbedReply,
    EmbedRequest,
    MessageRefused,
    MidpointReply,
    MidpointRequest,
    ReleaseRequest,
    Request,
    decode,
    encode,
)
from fedloupe.metrics.conformal import DISTANCES, MISFIT_EDGES, MISFITS, misfit_counts, quantile, rank
from fedloupe_client.gate import (
    CellTooSmall,
    CohortTooSmall,
    Gate,
    NotInStudy,
    ReplyRefused,
    RoleRefused,
    RoundRefused,
    SplitRefused,
    approve,
    rules,
)
from fedloupe_client.gate.cells import coarsen
from sealing import open_site

D = 3
SUMS = ("calibrate", "embed", "conform")
WEIGHTS = {"weights": np.zeros(5, np.float32)}
RANGE = {"centre": np.zeros(D), "precision": np.eye(D)}
BODIES: dict[str, tuple[type, dict[str, Any]]] = {
    "calibrate": (CalibrateRequest, {**WEIGHTS, "step": 0, "targets": (0.1, 0.9), "line": np.zeros(2)}),
    "embed": (EmbedRequest, {**WEIGHTS, "size": D}),
    "conform": (ConformRequest, {**WEIGHTS, **RANGE, "line": (0.0, 1.0)}),
    "release": (
        ReleaseRequest,
        {
            **WEIGHTS,
            **RANGE,
            **{"line": np.array([0.0, 1.0]), "threshold": 0.4, "admitted": 0.6, "limit": 2.0, "patients": 90},
        },
    ),
}


@pytest.fixture
def predicting(make_study, home):
    """A study that predicts; the validating site has approved it as well."""
    study = make_study(prediction={})
    approve(home, study, by="officer")
    return study


@pytest.fixture
def request_of(predicting):
    def make(kind: str, study=predicting, **changes: Any) -> Request:
        record, body = BODIES[kind]
        header = {"version": fedloupe.__version__, "fingerprint": study.fingerprint, "run": "run-1", "site": "north"}
        return record(**{**header, **body, **changes})

    return make


def bins(size: int, **counts: int) -> np.ndarray:
    found = np.zeros(size, np.int64)
    for place, count in counts.items():
        found[int(place[1:])] = count
    return found


def answer(request: Request, **changes: Any) -> MidpointReply | CalibrateReply | EmbedReply | ConformReply:
    header = {name: getattr(request, name) for name in ("version", "fingerprint", "run", "site")}
    if isinstance(request, MidpointRequest):
        return MidpointReply(**{**header, "patients": 9, "positives": 4, "odds": np.array([-3.0, 2.0]), **changes})
    if isinstance(request, CalibrateRequest):
        body = {"patients": 9, "positives": 4, "gradient": np.ones(2), "hessian": np.eye(2)}
        return CalibrateReply(**{**header, **body, **changes})
    if isinstance(request, EmbedRequest):
        # the first number in everybody, the second in two, the third in eight, of whom two also have the second
        count = np.array([[25, 2, 8], [2, 2, 2], [8, 2, 8]])
        body = {"patients": 25, "count": count, "total": np.ones(D), "product": np.ones((D, D))}
        return EmbedReply(**{**header, **body, **changes})
    body = {"patients": 9, "positives": 4, "misfits": bins(MISFITS, _3=8, _40=1), "distances": bins(DISTANCES, _20=9)}
    return ConformReply(**{**header, **body, **changes})


class TestAsked:
    @pytest.mark.parametrize("kind", BODIES)
    def test_a_study_that_predicts_may(self, gate, request_of, predicting, kind):
        assert gate.admit(encode(request_of(kind)))[1] == predicting

    @pytest.mark.parametrize("kind", BODIES)
    def test_another_study_may_not(self, gate, request_of, study, private_study, kind):
        for other in (study, private_study):
            with pytest.raises(NotInStudy):
                gate.admit(encode(request_of(kind, other)))

    @pytest.mark.parametrize("kind", SUMS)
    def test_a_site_that_only_validates_gives_no_sums(self, home, request_of, kind):
        with pytest.raises(RoleRefused):
            Gate(home, "coast").admit(encode(request_of(kind, site="coast")))

    @pytest.mark.parametrize(("kind", "most"), [("calibrate", 200), ("embed", 3), ("conform", 3)])
    def test_what_is_asked_of_ever_other_weights_is_refused_and_the_same_again_is_not(
        self, gate, request_of, kind, most, monkeypatch
    ):
        """Two hundred steps would take a while: the limit is lowered, and read where it stands."""
        assert rules.REPEATS[kind] == most
        monkeypatch.setitem(rules.REPEATS, kind, 2)
        asked = [request_of(kind, weights=np.full(5, value, np.float32)) for value in range(3)]
        for one in (asked[0], asked[1], asked[0]):
            gate.admit(encode(one))
        with pytest.raises(RoundRefused, match="more than 2 different"):
            gate.admit(encode(asked[2]))

    @pytest.mark.parametrize("targets", [(-0.1, 0.9), (0.1, 1.1), (-1e9, 5)])
    def test_targets_are_probabilities(self, request_of, targets):
        with pytest.raises(ValueError, match="targets"):
            request_of("calibrate", targets=targets)

    @pytest.mark.parametrize(
        ("kind", "change"),
        [
            ("calibrate", {"line": np.zeros(7)}),
            ("release", {"line": np.zeros(7)}),
            ("release", {"precision": np.ones(1)}),
            ("conform", {"precision": np.eye(D + 1)}),
        ],
    )
    def test_what_does_not_fit_together_is_no_message(self, request_of, kind, change):
        with pytest.raises(ValueError, match=r"line|precision"):
            request_of(kind, **change)

    def test_it_keeps_the_model(self, home, request_of, predicting):
        request = request_of("release", site="coast")
        open_site(home, predicting, request).admit(encode(request))

    def test_a_folds_model_is_kept_nowhere(self, gate, request_of):
        with pytest.raises(NotInStudy, match="fold"):
            gate.admit(encode(request_of("release", run="run-1/without-south")))

    @pytest.mark.parametrize("kind", SUMS)
    def test_who_answered_has_taken_part(self, gate, request_of, ask, predicting, kind):
        """So that its patients are no external validation of this run."""
        gate.admit(encode(request_of(kind)))
        with pytest.raises(SplitRefused):
            gate.admit(encode(ask("evaluate", predicting, split="all")))

    def test_having_kept_the_model_is_no_part_in_it(self, gate, request_of, ask, predicting):
        gate.admit(encode(request_of("release")))
        gate.admit(encode(ask("evaluate", predicting, split="all")))

    @pytest.mark.parametrize("more", [{}, {"admitted": 0.6, "limit": 2.0, **RANGE}], ids=["line", "sets"])
    def test_calibrated_scores_are_for_such_studies(self, gate, ask, study, predicting, more):
        calibrated = {"line": (0.1, 0.8), **more}
        gate.admit(encode(ask("evaluate", predicting, **calibrated)))
        with pytest.raises(NotInStudy, match="predictions"):
            gate.admit(encode(ask("evaluate", study, **calibrated)))

    @pytest.mark.parametrize(
        "half",
        [{"admitted": 0.6, "limit": 2.0}, {"line": (0.0, 1.0), "admitted": 0.6}, {**RANGE, "centre": np.zeros(D + 1)}],
        ids=["no line", "no limit", "another range"],
    )
    def test_half_of_it_is_no_message(self, ask, predicting, half):
        with pytest.raises((ValueError, MessageRefused)):
            ask("evaluate", predicting, **half)


class TestTheThreshold:
    """Of any study: the sums of log-odds from which it follows."""

    def test_other_weights_without_end_are_refused_and_the_same_again_are_not(self, gate, ask):
        assert rules.REPEATS["midpoint"] == 3
        asked = [ask("midpoint", weights=np.full(5, value, np.float32)) for value in range(4)]
        for one in (*asked[:3], asked[0]):
            gate.admit(encode(one))
        with pytest.raises(RoundRefused, match="more than 3 different `midpoint`"):
            gate.admit(encode(asked[3]))

    @pytest.mark.parametrize("positives", [0, 2, 7, 9])
    def test_too_few_tuning_patients_of_an_outcome_are_not_described(self, gate, ask, positives):
        request = ask("midpoint")
        sent = decode(gate.release(answer(request), request))
        assert (sent.patients, sent.positives, sent.odds.tolist()) == (9, 4, [-3, 2])
        with pytest.raises(CellTooSmall):
            gate.release(answer(request, positives=positives), request)

    @pytest.mark.parametrize("odds", [np.ones(1), np.ones(9), np.ones((2, 2))])
    def test_there_is_room_for_two_sums(self, gate, ask, odds):
        request = ask("midpoint")
        with pytest.raises(ReplyRefused):
            gate.release(answer(request, odds=odds), request)


class TestLeaving:
    @pytest.mark.parametrize("kind", ["calibrate", "conform"])
    @pytest.mark.parametrize("positives", [2, 7])
    def test_too_few_tuning_patients_of_an_outcome_are_not_described(self, gate, request_of, kind, positives):
        request = request_of(kind)
        gate.release(answer(request), request)
        with pytest.raises(CellTooSmall):
            gate.release(answer(request, positives=positives), request)

    def test_of_too_small_a_cohort_no_range_leaves(self, gate, request_of):
        request = request_of("embed")
        with pytest.raises(CohortTooSmall):
            gate.release(answer(request, patients=19), request)

    def test_a_number_that_two_patients_have_counts_as_nobodys(self, gate, request_of):
        request = request_of("embed")
        reply = decode(gate.release(answer(request), request))
        assert reply.count.tolist() == [[25, 0, 8], [0, 0, 0], [8, 0, 8]]
        assert (reply.total.tolist(), reply.product.tolist()) == ([1, 0, 1], [[1, 0, 1], [0, 0, 0], [1, 0, 1]])

    def test_two_numbers_that_two_patients_both_have_were_never_seen_together(self, gate, request_of):
        request = request_of("embed")
        count = np.array([[25, 9, 9], [9, 9, 2], [9, 2, 9]])
        reply = decode(gate.release(answer(request, count=count), request))
        assert reply.product.tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 1]] and reply.total.tolist() == [1, 1, 1]

    def test_small_bins_are_merged_from_the_top(self, gate, request_of):
        """One patient at bin 40 joins those at bin 3; nothing is spread above him."""
        request = request_of("conform")
        reply = decode(gate.release(answer(request), request))
        assert reply.misfits[41:].sum() == 0
        np.testing.assert_allclose(reply.misfits[3:41], 9 / 38)
        assert reply.distances[20] == 9

    @pytest.mark.parametrize(
        ("kind", "change"),
        [
            ("calibrate", {"gradient": np.ones(9)}),
            ("calibrate", {"hessian": np.ones((9, 2))}),
            ("embed", {"count": np.ones(D, np.int64)}),
            ("embed", {"total": np.ones(25)}),
            ("embed", {"product": np.ones((D, 25))}),
            ("conform", {"misfits": bins(MISFITS + 1, _1=9)}),
            ("conform", {"distances": bins(9, _1=9)}),
            ("conform", {"distances": bins(DISTANCES, _1=8)}),
            ("conform", {"misfits": bins(MISFITS, _1=10, _2=-1)}),
            ("conform", {"misfits": np.full(MISFITS, 9 / MISFITS)}),
        ],
    )
    def test_there_is_room_for_nothing_else(self, gate, request_of, kind, change):
        request = request_of(kind)
        with pytest.raises(ReplyRefused):
            gate.release(answer(request, **change), request)


class TestWhatMergingCosts:
    @pytest.mark.parametrize("cell", [3, 5])
    @pytest.mark.parametrize(("size", "farthest"), [(15, 0.07), (25, 0.05), (60, 0.035), (250, 0.01)])
    def test_coverage_of_four_merged_sites_stays_near_that_of_the_raw_scores(self, cell, size, farthest):
        """Tuning patients a site; over 100 draws, the share at or below the quantile against that of the exact one."""
        apart = []
        for seed in range(100):
            rng, counts, misfits = np.random.default_rng(seed), np.zeros(MISFITS), []
            for _ in range(4):
                probability = rng.beta(0.8, 1.2, size)
                labels = rng.random(size) < probability
                raw = misfit_counts(labels, probability)[::-1]
                counts += coarsen(raw, np.zeros_like(raw), cell)[0][::-1]
                misfits.append(np.where(labels, 1 - probability, probability))
            wanted = rank(4 * size, 0.9)
            found = quantile(counts, MISFIT_EDGES, wanted)
            apart.append((np.concatenate(misfits) <= found).mean() - wanted / (4 * size))
        assert np.abs(apart).max() <= farthest
        assert abs(np.mean(apart)) <= 0.012
