"""Sums about features: asked only where the study judges features, shown only of enough patients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fedloupe
from fedloupe.features import FeatureSettings
from fedloupe.messages import (
    RedundancyReply,
    RedundancyRequest,
    Request,
    StabilityReply,
    StabilityRequest,
    decode,
    encode,
)
from fedloupe_client.gate import CohortTooSmall, Gate, NotInStudy, ReplyRefused, RoleRefused, approve

P, K, CHANGES = 4, 3, [{"rotate_deg": 4}, {"bins_times": 2}]


@pytest.fixture
def judging(make_study, home):
    """A study that judges features; the validating site has approved it as well."""
    images = {
        "sequences": [{"name": "t2w"}],
        "radiomics": {"source": "computed", "settings": FeatureSettings().model_dump(mode="json")},
    }
    study = make_study(**images, quality={"perturbations": CHANGES})
    approve(home, study, by="officer")
    return study


@pytest.fixture
def request_of(judging):
    def make(kind: str, study=judging, **changes: Any) -> Request:
        header = {"version": fedloupe.__version__, "fingerprint": study.fingerprint, "run": "run-1", "site": "north"}
        arrays = {"mean": np.zeros(P), "scale": np.ones(P)}
        if kind == "stability":
            return StabilityRequest(**{**header, **changes}, **arrays)
        return RedundancyRequest(**{**header, **changes}, **arrays, earlier=np.array([0]), block=np.array([1, 2]))

    return make


def answer(request: Request, **changes: Any) -> StabilityReply | RedundancyReply:
    header = {name: getattr(request, name) for name in ("version", "fingerprint", "run", "site")}
    if isinstance(request, StabilityRequest):
        body = {"count": np.array([22.0, 2, 0, 3]), "total": np.ones((P, K)), "product": np.ones((P, 6))}
        return StabilityReply(**{**header, "patients": 25, **body, **changes})
    pairs = np.array([[25.0, 2], [25, 2], [2, 2]])
    body = {"pairs": pairs, "product": np.ones((3, 2)), "total": np.ones(2)}
    return RedundancyReply(**{**header, "patients": 25, **body, **changes})


@pytest.mark.parametrize("kind", ["stability", "redundancy"])
class TestAsked:
    def test_a_study_that_judges_features_may(self, gate, request_of, judging, kind):
        assert gate.admit(encode(request_of(kind)))[1] == judging

    def test_another_study_may_not(self, gate, request_of, study, kind):
        with pytest.raises(NotInStudy):
            gate.admit(encode(request_of(kind, study)))

    def test_each_sum_only_where_the_study_needs_it(self, gate, request_of, make_study, home, kind):
        section = {"perturbations": []} if kind == "stability" else {"redundancy": None}
        half = make_study(
            sequences=[{"name": "t2w"}],
            radiomics={"source": "computed", "settings": {}},
            quality={"perturbations": CHANGES, **section},
        )
        approve(home, half, by="officer")
        with pytest.raises(NotInStudy):
            gate.admit(encode(request_of(kind, half)))

    def test_a_site_that_only_validates_gives_none(self, home, request_of, kind):
        with pytest.raises(RoleRefused):
            Gate(home, "coast").admit(encode(request_of(kind, site="coast")))

    def test_who_answered_has_taken_part(self, gate, request_of, ask, judging, kind):
        """So that its patients are no external validation of this run."""
        gate.admit(encode(request_of(kind)))
        with pytest.raises(Exception, match="took part"):
            gate.admit(encode(ask("evaluate", judging, split="all")))

    def test_of_too_small_a_cohort_nothing_leaves(self, gate, request_of, kind):
        request = request_of(kind)
        few = {"patients": 19} if kind == "redundancy" else {"patients": 19, "count": np.full(P, 19.0)}
        with pytest.raises(CohortTooSmall):
            gate.release(answer(request, **few), request)


class TestLeaving:
    def test_sums_over_fewer_perturbed_patients_than_the_least_cohort_do_not_leave(self, gate, request_of):
        """However many patients train: a study may ask to perturb some of them only."""
        request = request_of("stability")
        with pytest.raises(CohortTooSmall):
            gate.release(answer(request, patients=200, count=np.full(P, 19.0)), request)

    def test_a_feature_of_two_patients_is_reported_as_absent(self, gate, request_of):
        request = request_of("stability")
        reply = decode(gate.release(answer(request), request))
        assert reply.count.tolist() == [22, 0, 0, 3]
        assert reply.total.any(axis=1).tolist() == reply.product.any(axis=1).tolist() == [True, False, False, True]

    def test_two_features_of_two_common_patients_were_never_seen_together(self, gate, request_of):
        request = request_of("redundancy")
        reply = decode(gate.release(answer(request), request))
        assert reply.pairs.tolist() == [[25, 0], [25, 0], [0, 0]]
        assert (reply.product != 0).tolist() == [[True, False], [True, False], [False, False]]
        assert reply.total.tolist() == [1, 0]

    @pytest.mark.parametrize(
        ("kind", "change"),
        [
            ("stability", {"count": np.ones(P + 1)}),
            ("stability", {"total": np.ones((P, K + 1))}),
            ("stability", {"product": np.ones((P, 9))}),
            ("redundancy", {"pairs": np.ones((4, 2))}),
            ("redundancy", {"product": np.ones((3, 3))}),
            ("redundancy", {"total": np.ones(25)}),
        ],
    )
    def test_there_is_room_for_nothing_else(self, gate, request_of, kind, change):
        request = request_of(kind)
        with pytest.raises(ReplyRefused):
            gate.release(answer(request, **change), request)
