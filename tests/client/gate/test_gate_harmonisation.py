"""Harmonisation at the gate: who may be asked what, and the shape in which sums leave."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedloupe.messages import (
    CrossProductsReply,
    HarmoniseReply,
    PriorReply,
    ResidualsReply,
    decode,
    encode,
)
from fedloupe.statistics import ring
from fedloupe.statistics.combat import CrossProducts, Residuals
from fedloupe.study import Study
from fedloupe_client.gate import (
    CohortTooSmall,
    Gate,
    KindNotAllowed,
    NotInStudy,
    ReplyRefused,
    RoleRefused,
    approve,
)
from sealing import open_site

COMBAT = ("crossproducts", "residuals", "prior")
AGE = [{"name": "age", "column": "age"}]


@pytest.fixture
def harmonised(make_study, home) -> Study:
    study = make_study(clinical=AGE, harmonisation={"covariates": ["age"]})
    approve(home, study, by="officer")
    return study


@pytest.fixture
def with_reference(make_study, home) -> Study:
    rules = {"covariates": ["age"], "reference": "south"}
    study = make_study(clinical=AGE, harmonisation=rules, evaluation={"leave_one_site_out": False})
    approve(home, study, by="officer")
    return study


def header(request: Any) -> dict[str, Any]:
    return {name: getattr(request, name) for name in ("version", "fingerprint", "run", "site")}


def table(n: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of three features, the last known in two patients; ages; one batch."""
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((n, 3))
    scores[2:, 2] = np.nan
    return scores, rng.standard_normal((n, 1)), np.zeros(n, np.int64)


class TestAdmitted:
    @pytest.mark.parametrize("kind", [*COMBAT, "harmonise"])
    def test_what_a_study_that_harmonises_needs(self, gate, ask, harmonised, kind):
        assert gate.admit(encode(ask(kind, harmonised)))[0].kind == kind

    def test_sums_of_harmonised_features(self, gate, ask, harmonised):
        gate.admit(encode(ask("describe", harmonised, harmonised=True)))

    def test_a_site_that_only_validates_and_one_left_out_as_unseen(self, home, gate, ask, harmonised):
        unseen = ask("harmonise", harmonised, site="coast", scope="unseen")
        open_site(home, harmonised, unseen).admit(encode(unseen))
        gate.admit(encode(ask("harmonise", harmonised, scope="unseen", run="run-1/without-north")))
        as_measured = {"run": "run-1/without-north", "split": "all", "shift": "none"}
        gate.admit(encode(ask("evaluate", harmonised, **as_measured)))


class TestRefused:
    @pytest.mark.parametrize("kind", [*COMBAT, "harmonise"])
    def test_all_of_it_in_a_study_without_harmonisation(self, gate, ask, kind):
        with pytest.raises(NotInStudy, match="harmonisation"):
            gate.admit(encode(ask(kind)))

    @pytest.mark.parametrize(("kind", "field"), [("describe", {"harmonised": True}), ("evaluate", {"shift": "none"})])
    def test_its_fields_in_a_study_without_harmonisation(self, gate, ask, kind, field):
        with pytest.raises(NotInStudy, match="harmonisation"):
            gate.admit(encode(ask(kind, **field)))

    @pytest.mark.parametrize("kind", COMBAT)
    def test_sums_of_a_site_that_only_validates(self, home, ask, harmonised, kind):
        with pytest.raises(RoleRefused):
            Gate(home, "coast").admit(encode(ask(kind, harmonised, site="coast")))

    def test_a_site_that_only_validates_as_if_it_were_fitted(self, home, ask, harmonised):
        with pytest.raises(RoleRefused, match="only validates"):
            Gate(home, "coast").admit(encode(ask("harmonise", harmonised, site="coast")))

    @pytest.mark.parametrize(
        ("kind", "field"), [("harmonise", {"scope": "unseen"}), ("evaluate", {"shift": "none", "split": "test"})]
    )
    def test_a_site_that_was_fitted_as_unseen(self, gate, ask, harmonised, kind, field):
        gate.admit(encode(ask("residuals", harmonised)))
        with pytest.raises(RoleRefused, match="was fitted"):
            gate.admit(encode(ask(kind, harmonised, **field)))

    def test_a_training_site_as_unseen_where_no_site_is_left_out(self, gate, ask, with_reference):
        with pytest.raises(NotInStudy, match="leaves no site out"):
            gate.admit(encode(ask("harmonise", with_reference, scope="unseen")))

    @pytest.mark.parametrize("kind", [*COMBAT, "harmonise"])
    def test_a_kind_that_the_policy_does_not_name(self, gate, ask, harmonised, set_policy, kind):
        set_policy(messages=["hello", "train"])
        with pytest.raises(KindNotAllowed):
            gate.admit(encode(ask(kind, harmonised)))


class TestSums:
    def test_of_a_feature_in_two_patients_are_reported_as_absent(self, gate, ask, harmonised):
        scores, x, batch = table()
        first, second = ask("crossproducts", harmonised), ask("residuals", harmonised)
        out = decode(gate.release(CrossProductsReply(**header(first), **vars(CrossProducts.of(*table()))), first))
        assert out.count.tolist() == [30, 30, 0]
        assert out.cross[:2].any() and not out.cross[2].any() and not out.moment[2].any()
        terms = Residuals.of(scores, x, batch, np.ones((3, 1)))
        out = decode(gate.release(ResidualsReply(**header(second), **vars(terms)), second))
        assert out.total[:2].any() and not out.total[2].any() and not out.square[2].any()

    def test_of_too_small_a_cohort_do_not_leave(self, gate, ask, harmonised):
        request = ask("residuals", harmonised)
        with pytest.raises(CohortTooSmall):
            terms = Residuals.of(*table(19), np.ones((3, 1)))
            gate.release(ResidualsReply(**header(request), **vars(terms)), request)

    def test_of_a_site_that_is_not_the_reference_are_zeros_or_do_not_leave(self, gate, ask, with_reference):
        request = ask("residuals", with_reference)
        nobody = Residuals.of(*(part[:0] for part in table()), np.ones((3, 1)))
        gate.release(ResidualsReply(**header(request), **vars(nobody)), request)
        with pytest.raises(ReplyRefused, match="reference"):
            terms = Residuals.of(*table(), np.ones((3, 1)))
            gate.release(ResidualsReply(**header(request), **vars(terms)), request)

    @pytest.mark.parametrize("name", ["count", "cross", "moment"])
    def test_of_another_shape_or_type_do_not_leave(self, gate, ask, harmonised, name):
        request, good = ask("crossproducts", harmonised), vars(CrossProducts.of(*table()))
        for wrong in (good[name][:2], good[name].astype(np.float64), np.zeros((30, 30), np.int64)):
            with pytest.raises(ReplyRefused):
                gate.release(CrossProductsReply(**header(request), **{**good, name: wrong}), request)

    def test_a_prior_is_eight_numbers_and_no_more(self, gate, ask, harmonised):
        request = ask("prior", harmonised)
        gate.release(PriorReply(**header(request), sums=ring.encode(np.ones(8))), request)
        for wrong in (ring.encode(np.ones(300)), np.ones((8, 6))):
            with pytest.raises(ReplyRefused):
                gate.release(PriorReply(**header(request), sums=wrong), request)

    def test_what_is_installed_leaves_as_a_digest_and_counts(self, gate, ask, harmonised):
        request = ask("harmonise", harmonised)
        reply = HarmoniseReply(**header(request), harmoniser="ab" * 32, batches=2, small=0)
        assert decode(gate.release(reply, request)) == reply
