"""`scores` and `assess`: asked as the study declares, and what leaves of groups that few patients are in."""

from __future__ import annotations

import numpy as np
import pytest

import fedloupe
from fedloupe.messages import AssessReply, AssessRequest, ScoresReply, ScoresRequest, decode, encode
from fedloupe_client.gate import Gate, approve
from fedloupe_client.gate.errors import CellTooSmall, NotInStudy, ReplyRefused, RoleRefused, RoundRefused, SplitRefused

KINDS = {
    "scores": (ScoresRequest, {"bins": 256}),
    "assess": (AssessRequest, {"split": "test", "threshold": 0.5, "against": ()}),
}
LEVEL = {"auc": 0.8, "auc_se": 0.1, "low": 0.6, "high": 0.9, "sensitivity": 0.7, "specificity": 0.6, "predicted": 0.4}
FIT = {"in_the_large": 0.1, "in_the_large_se": 0.2, "slope": 0.9, "slope_se": 0.2, "observed": 1.1, "brier": 0.2}


def level(name, patients, positives, variable="sex"):
    return {"variable": variable, "level": name, "patients": patients, "positives": positives, **LEVEL}


@pytest.fixture
def judged(make_study, home):
    recist = {"recist": {"positive": ["CR", "PR"], "negative": ["SD", "PD"]}}
    endpoint = {"name": "response", "column": "response", "positive": ["1"], "negative": ["0"], "scales": recist}
    study = make_study(endpoint=endpoint, evidence={"bins": 256, "subgroups": [{"name": "sex", "column": "sex"}]})
    approve(home, study, by="officer")
    return study


@pytest.fixture
def want(judged):
    def make(kind: str, of=judged, site="north", **changes):
        record, body = KINDS[kind]
        header = {"version": fedloupe.__version__, "fingerprint": of.fingerprint, "run": "run-1", "site": site}
        return record(**{**header, "label": "federated", "scored": "ab" * 32, **body, **changes})

    return make


@pytest.fixture
def leaves(gate, want):
    """What leaves of an assessment of 60 patients, 20 with the event."""

    def release(request=None, **changes):
        request = request or want("assess")
        header = {name: getattr(request, name) for name in ("version", "fingerprint", "run", "site", "label", "split")}
        body = {
            **header, "patients": 60, "positives": 20, "low": 0.6, "high": 0.9, "expected": 0.4, "centre": -0.4,
            "spread": 1.0, "in_the_large": 0.1, "in_the_large_se": 0.2, "slope": 0.9, "slope_se": 0.2,
            "curve": np.full((4, 21), 0.5),
        }  # fmt: skip
        return decode(gate.release(AssessReply(**{**body, **changes}), request))

    return release


class TestWhatMayBeAsked:
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_study_without_the_section_is_refused(self, gate, want, study, kind):
        with pytest.raises(NotInStudy):
            gate.admit(encode(want(kind, of=study)))

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_study_with_it_is_admitted(self, gate, want, kind):
        assert gate.admit(encode(want(kind)))[0].kind == kind

    def test_other_bins_than_declared_are_refused(self, gate, want):
        with pytest.raises(NotInStudy, match="255 bins"):
            gate.admit(encode(want("scores", bins=255)))

    def test_a_validate_only_site_is_asked_for_no_sum_and_for_all_its_patients(self, home, want):
        gate = Gate(home, "coast")
        with pytest.raises(RoleRefused):
            gate.admit(encode(want("scores", site="coast")))
        with pytest.raises(SplitRefused):
            gate.admit(encode(want("assess", site="coast", split="test")))

    def test_no_histogram_of_a_fold(self, gate, want):
        with pytest.raises(RoleRefused):
            gate.admit(encode(want("scores", run="run-1/without-north")))


class TestSubgroups:
    def test_two_large_levels_of_everybody_are_told(self, leaves):
        found = leaves(subgroups=(level("f", 30, 8), level("m", 30, 12)))
        assert [one.level for one in found.subgroups] == ["f", "m"]
        assert found.withheld == ()

    @pytest.mark.parametrize("small", [level("f", 4, 2), level("f", 12, 10)])
    def test_a_small_level_takes_all_of_its_variable_with_it(self, leaves, small):
        found = leaves(subgroups=(small, level("m", 20, 6), level("x", 20, 6)))
        assert found.subgroups == ()
        assert found.withheld == ("sex",)

    def test_few_patients_whose_level_is_not_known_hide_the_others(self, leaves):
        found = leaves(subgroups=(level("f", 29, 8), level("m", 30, 12)))
        assert (found.subgroups, found.withheld) == ((), ("sex",))
        many = leaves(subgroups=(level("f", 20, 6), level("m", 20, 6)))
        assert [one.level for one in many.subgroups] == ["f", "m"]

    def test_of_a_training_site_left_out_no_group_is_told(self, gate, judged, want, leaves):
        request = want("assess", split="all", run="run-1/without-north")
        found = leaves(request, subgroups=(level("f", 30, 8), level("m", 30, 12)))
        assert (found.subgroups, found.withheld) == ((), ("sex",))

    @pytest.mark.parametrize("name", ["Meier, Anna", "19610302", "a" * 40])
    def test_a_level_that_may_be_a_name_or_a_number_does_not_leave(self, leaves, name):
        with pytest.raises(ReplyRefused, match="level"):
            leaves(subgroups=(level(name, 30, 8), level("m", 30, 12)))

    def test_a_variable_that_the_study_does_not_have_does_not_leave(self, leaves):
        with pytest.raises(ReplyRefused, match="level"):
            leaves(subgroups=(level("a", 30, 8, "ward"), level("b", 30, 12, "ward")))

    def test_a_policy_may_keep_them_all(self, leaves, set_policy):
        set_policy(metrics=["calibration"])
        found = leaves(subgroups=(level("f", 30, 8), level("m", 30, 12)))
        assert found.subgroups == ()
        assert found.withheld == ("sex",)
        assert found.slope == 0.9


class TestGrades:
    GRADES = tuple({"grade": g, "patients": 15, "predicted": 0.5, "called": 0.4} for g in ("CR", "PR", "SD", "PD"))

    def test_are_told_where_all_are_large(self, leaves):
        found = leaves(grades=self.GRADES, concordance=0.7, concordance_se=0.05)
        assert [one.grade for one in found.grades] == ["CR", "PR", "SD", "PD"]
        assert found.concordance == 0.7

    @pytest.mark.parametrize("small", [{"patients": 2, "called": 0.0}, {"called": 2 / 15}, {"called": 14 / 15}])
    def test_none_is_told_where_one_shows_few(self, leaves, small):
        found = leaves(grades=({**self.GRADES[0], **small}, *self.GRADES[1:]), concordance=0.7, concordance_se=0.05)
        assert (found.grades, found.concordance, found.withheld) == ((), None, ("grade",))

    def test_a_grade_of_no_scale_does_not_leave(self, leaves):
        with pytest.raises(ReplyRefused, match="grade"):
            leaves(grades=({**self.GRADES[0], "grade": "Meier"}, *self.GRADES[1:]))


class TestOnce:
    def test_a_second_threshold_in_one_run_is_refused_and_the_same_again_is_not(self, gate, want):
        gate.admit(encode(want("assess")))
        gate.admit(encode(want("assess")))
        with pytest.raises(RoundRefused):
            gate.admit(encode(want("assess", threshold=0.51)))
        gate.admit(encode(want("assess", threshold=0.51, run="run-2")))

    @pytest.mark.parametrize("kind", KINDS)
    def test_so_is_another_model(self, gate, want, kind):
        gate.admit(encode(want(kind)))
        with pytest.raises(RoundRefused):
            gate.admit(encode(want(kind, scored="cd" * 32)))

    @pytest.mark.parametrize("kind", KINDS)
    def test_only_the_federated_model_is_judged(self, gate, want, kind):
        with pytest.raises(NotInStudy, match="`other`"):
            gate.admit(encode(want(kind, label="other")))


class TestTheRest:
    def test_too_few_of_an_outcome_is_refused(self, leaves):
        with pytest.raises(CellTooSmall):
            leaves(positives=2)

    def test_a_recalibration_judged_by_few_is_held_back(self, leaves):
        fits = tuple({"kind": kind, "line": (0.0, 1.0), **FIT} for kind in ("none", "intercept", "line"))
        told = {"fitted": 30, "judged": 30, "positives": 10, "fits": fits}
        assert leaves(recalibration=told).recalibration.judged == 30
        assert leaves(recalibration={**told, "positives": 18}).recalibration is None  # two are left that fitted

    def test_a_policy_without_calibration_keeps_lines_and_curve(self, leaves, set_policy):
        set_policy(metrics=["subgroups"])
        found = leaves()
        assert (found.slope, found.in_the_large, found.curve.shape) == (None, None, (4, 0))
        assert (found.expected, found.centre, found.spread) == (None, None, None)  # events over them would tell it
        assert found.low == 0.6

    def test_a_curve_of_other_points_is_refused(self, leaves):
        with pytest.raises(ReplyRefused):
            leaves(curve=np.full((4, 60), 0.5))


class TestHistograms:
    @pytest.fixture
    def told(self, gate, want, judged):
        def release(**changes):
            request = want("scores", **changes)
            positives, negatives = np.zeros(256), np.zeros(256)
            positives[[200, 210]], negatives[[20, 30]] = (1, 9), (2, 18)
            header = {name: getattr(request, name) for name in ("version", "fingerprint", "run", "site")}
            reply = ScoresReply(
                **header, patients=30, positives=10, positives_by_score=positives, negatives_by_score=negatives
            )
            return decode(gate.release(reply, request, summed=changes.get("of") is not None))

        return release

    def test_in_the_clear_small_bins_are_merged_and_totals_stay(self, told):
        found = told()
        assert found.positives_by_score.sum() == pytest.approx(10)
        assert found.positives_by_score.max() < 9
        assert found.positives_by_score[200] == pytest.approx(found.positives_by_score[201])

    def test_as_a_term_of_a_secure_sum_they_stay_as_they_are(self, told, make_study, home):
        sites = [{"name": n, "role": "train"} for n in ("north", "south", "east")]
        secure = make_study(aggregation="secure", sites=sites, evaluation={}, evidence={"bins": 256})
        approve(home, secure, by="officer")
        found = told(of=secure)
        assert (found.positives_by_score[200], found.negatives_by_score[20]) == (1, 2)

    def test_a_policy_without_histograms_gives_one_bin_even_then(self, told, make_study, home, set_policy):
        sites = [{"name": n, "role": "train"} for n in ("north", "south", "east")]
        secure = make_study(aggregation="secure", sites=sites, evaluation={}, evidence={"bins": 256})
        approve(home, secure, by="officer")
        set_policy(metrics=[])
        assert np.ptp(told(of=secure).positives_by_score) == 0


class TestWords:
    """No answer carries a word of its own out."""

    def test_only_models_that_were_asked_for_are_compared(self, leaves, want):
        told = {"difference": 0.1, "se": 0.05, "p": 0.05}
        asked = want("assess", against=("logistic",))
        assert leaves(asked, paired=[{"against": "logistic", **told}]).paired[0].against == "logistic"
        with pytest.raises(ReplyRefused, match="not asked for"):
            leaves(asked, paired=[{"against": "Jane Doe", **told}])

    def test_only_the_studys_own_variables_are_withheld(self, leaves):
        assert leaves(withheld=("sex",)).withheld == ("sex",)
        with pytest.raises(ReplyRefused, match="a variable"):
            leaves(withheld=("Jane Doe",))


def test_of_two_variables_on_one_column_the_first_is_told(make_study, home, gate):
    groups = [{"name": f"age-{cut}", "column": "age", "cuts": [cut]} for cut in (60, 61)]
    study = make_study(evidence={"subgroups": groups})
    approve(home, study, by="officer")
    header = {"version": fedloupe.__version__, "fingerprint": study.fingerprint, "run": "run-1", "site": "north"}
    request = AssessRequest(**header, label="federated", scored="ab" * 32, split="test", threshold=0.5, against=())
    reply = AssessReply(
        **header, label="federated", split="test", patients=60, positives=20, low=0.6, high=0.9, expected=0.4,
        centre=-0.4, spread=1.0, curve=np.zeros((4, 0)),
        subgroups=(
            level("<60", 30, 8, "age-60"), level(">=60", 30, 12, "age-60"),
            level("<61", 31, 9, "age-61"), level(">=61", 29, 11, "age-61"),
        ),
    )  # fmt: skip
    found = decode(gate.release(reply, request))
    assert [one.variable for one in found.subgroups] == ["age-60", "age-60"]
    assert found.withheld == ("age-61",)


def test_runs_of_two_studies_may_have_one_name(make_study, home, gate, want, judged):
    other = make_study(evidence={"bins": 256}, seed=7)
    approve(home, other, by="officer")
    gate.admit(encode(want("assess")))
    gate.admit(encode(want("assess", of=other, scored="cd" * 32)))
