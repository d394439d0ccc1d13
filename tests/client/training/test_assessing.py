"""What a site says of a model from its scores: against statsmodels and scikit-learn, and by counting."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

from fedloupe.messages import AssessRequest, ScoresRequest
from fedloupe.metrics import bootstrap_auc
from fedloupe_client.training.assessing import assess, histograms, recalibration

HEADER = {"version": "0", "fingerprint": "0" * 64, "run": "test", "site": "north"}
EVIDENCE = {"subgroups": [{"name": "sex", "column": "sex"}], "resamples": 400}


@pytest.fixture
def patients(cohort):
    """240 patients, scores that are too extreme by half, three grades and two sexes."""
    rng = np.random.default_rng(3)
    truth = rng.standard_normal(240)
    labels = (rng.random(240) < expit(truth)).astype(np.int64)
    grades = tuple("CR" if y and t > 0.5 else "PR" if y else "SD" for y, t in zip(labels, truth, strict=True))
    whole = replace(
        cohort,
        cases=tuple(f"c{i:03d}" for i in range(240)),
        labels=labels,
        split=np.full(240, "test"),
        features=np.zeros((240, 5)),
        groups={"sex": tuple(("f", "m", "")[i % 3] for i in range(240))},
        grades=grades,
    )
    return whole, np.asarray(expit(0.3 + 1.5 * truth)), truth


@pytest.fixture
def study(make_study):
    endpoint = {"name": "r", "column": "r", "scales": {"recist": {"positive": ["CR", "PR"], "negative": ["SD", "PD"]}}}
    return make_study(evidence=EVIDENCE, endpoint=endpoint)


@pytest.fixture
def said(study, patients):
    cohort, scores, truth = patients
    others = {"logistic": np.asarray(expit(truth)), "noise": np.random.default_rng(4).random(240)}
    request = AssessRequest(
        **HEADER, label="federated", scored="ab" * 32, split="all", threshold=0.4, against=tuple(others)
    )
    return assess(HEADER, request, study, cohort, scores, others, "recist")


class TestCalibration:
    def test_slope_and_intercept_are_those_of_logistic_regression(self, said, patients):
        import statsmodels.api as sm

        cohort, scores, _ = patients
        odds = logit(scores)
        line = sm.Logit(cohort.labels, sm.add_constant(odds)).fit(disp=0)
        large = sm.GLM(cohort.labels, np.ones(240), family=sm.families.Binomial(), offset=odds).fit()
        assert (said.slope, said.slope_se) == pytest.approx((line.params[1], line.bse[1]), abs=1e-6)
        assert (said.in_the_large, said.in_the_large_se) == pytest.approx((large.params[0], large.bse[0]), abs=1e-6)
        assert said.slope < 0.85  # the scores are too extreme

    def test_the_curve_ascends_in_what_is_predicted_within_its_band(self, said):
        predicted, observed, low, high = said.curve
        assert said.curve.shape == (4, 21)
        assert (np.diff(predicted) > 0).all() and (low < observed).all() and (observed < high).all()

    def test_mean_and_spread_are_of_the_log_odds(self, said, patients):
        _, scores, _ = patients
        assert said.expected == pytest.approx(scores.mean())
        assert (said.centre, said.spread) == pytest.approx((logit(scores).mean(), logit(scores).std(ddof=1)))

    def test_few_of_an_outcome_give_no_curve(self, study, patients):
        cohort, scores, _ = patients
        rows = np.concatenate([np.flatnonzero(cohort.labels == 1)[:9], np.flatnonzero(cohort.labels == 0)])
        split = np.full(240, "train")
        split[rows] = "test"
        request = AssessRequest(**HEADER, label="federated", scored="ab" * 32, split="test", threshold=0.4, against=())
        found = assess(HEADER, request, study, replace(cohort, split=split), scores[cohort_rows(split)], {})
        assert found.curve.shape == (4, 0) and found.recalibration is None


def cohort_rows(split):
    return np.flatnonzero(split == "test")


class TestRecalibration:
    def test_is_judged_on_patients_that_did_not_fit_it(self, said, study, patients):
        import statsmodels.api as sm

        cohort, scores, _ = patients
        found = said.recalibration
        assert found.fitted + found.judged == 240 and abs(found.fitted - 120) <= 1
        shipped, moved, line = found.fits
        assert shipped.line == (0.0, 1.0) and moved.line[1] == 1.0
        # fitted on one half, so near the line of everybody and not on it, and nearly right on the other half
        refit = sm.Logit(cohort.labels, sm.add_constant(logit(scores))).fit(disp=0)
        assert line.line[1] == pytest.approx(refit.params[1], abs=0.25) and line.line[1] != refit.params[1]
        assert line.brier < shipped.brier and abs(line.in_the_large) < 0.6

    def test_does_not_depend_on_the_order_of_patients(self, study, patients):
        cohort, scores, _ = patients
        order = np.random.default_rng(5).permutation(240)
        moved = replace(
            cohort, cases=tuple(cohort.cases[i] for i in order), labels=cohort.labels[order], split=cohort.split[order]
        )
        odds = logit(scores)
        rows = np.arange(240)
        one = recalibration(study, "north", cohort, rows, odds, 0.5)
        two = recalibration(study, "north", moved, rows, odds[order], 0.5)
        assert one.fits[2].line == pytest.approx(two.fits[2].line, abs=1e-9)

    def test_each_outcome_is_divided_as_declared(self, study, patients):
        cohort, scores, _ = patients
        events = int(cohort.labels.sum())
        found = recalibration(study, "north", cohort, np.arange(240), logit(scores), 0.25)
        assert found.positives == events - round(0.25 * events)

    def test_scores_that_part_the_outcomes_give_none(self, study, patients):
        cohort, _, _ = patients
        odds = np.where(cohort.labels == 1, 2.0, -2.0) + np.linspace(-1, 1, 240)
        assert recalibration(study, "north", cohort, np.arange(240), odds, 0.5) is None


class TestComparisons:
    def test_differences_are_of_areas_on_the_same_patients(self, said, patients):
        from sklearn.metrics import roc_auc_score

        cohort, scores, _ = patients
        noise = np.random.default_rng(4).random(240)
        own = roc_auc_score(cohort.labels, scores)
        by_name = {one.against: one for one in said.paired}
        assert by_name["noise"].difference == pytest.approx(own - roc_auc_score(cohort.labels, noise), abs=1e-9)
        assert by_name["noise"].p < 0.001
        assert "logistic" not in by_name  # the same ranking: a difference of 0 without an error is no test

    def test_the_bootstrap_has_the_studys_resamples_and_a_seed_of_study_site_and_split(self, said, patients):
        cohort, scores, _ = patients
        seed = int.from_bytes(hashlib.sha256(b"1|north|all|bootstrap").digest()[:8], "big")
        found = bootstrap_auc(cohort.labels, scores, resamples=400, seed=seed)
        assert (said.low, said.high) == (found.low, found.high)


class TestGroups:
    def test_levels_are_counted_and_the_unknown_are_in_none(self, said, patients):
        from sklearn.metrics import roc_auc_score

        cohort, scores, _ = patients
        assert [(one.level, one.patients) for one in said.subgroups] == [("f", 80), ("m", 80)]
        here = np.arange(240) % 3 == 1
        assert said.subgroups[1].auc == pytest.approx(roc_auc_score(cohort.labels[here], scores[here]), abs=1e-9)
        assert said.subgroups[1].predicted == pytest.approx(scores[here].mean())

    def test_grades_stand_best_first_and_are_ranked(self, said, patients):
        cohort, scores, _ = patients
        grades = np.array(cohort.grades)
        assert [one.grade for one in said.grades] == ["CR", "PR", "SD"]
        assert [one.patients for one in said.grades] == [int((grades == g).sum()) for g in ("CR", "PR", "SD")]
        assert said.grades[0].called == pytest.approx((scores[grades == "CR"] >= 0.4).mean())
        rank = np.array([{"CR": 3, "PR": 2, "SD": 1}[g] for g in grades])
        better = worse = 0.0
        for i in range(240):
            above = rank[i] > rank
            better += (scores[i] > scores[above]).sum()
            worse += (scores[i] < scores[above]).sum()
        assert said.concordance == pytest.approx(better / (better + worse))

    def test_a_site_is_ranked_by_its_own_scale_where_the_study_has_several(self, make_study, patients):
        """Mandard has 1 for the best response, Dworak 4."""
        cohort, scores, truth = patients
        scales = {
            "mandard": {"positive": ["1", "2"], "negative": ["3", "4", "5"]},
            "dworak": {"positive": ["4", "3"], "negative": ["2", "1", "0"]},
        }
        study = make_study(evidence=EVIDENCE, endpoint={"name": "r", "column": "r", "scales": scales})
        noisy = truth + np.random.default_rng(6).normal(0, 0.3, 240)
        grades = tuple(str(one) for one in np.digitize(noisy, np.quantile(noisy, [0.2, 0.4, 0.6, 0.8])))
        request = AssessRequest(**HEADER, label="federated", scored="ab" * 32, split="all", threshold=0.4, against=())
        found = assess(HEADER, request, study, replace(cohort, grades=grades), scores, {}, "dworak")
        assert [one.grade for one in found.grades] == ["4", "3", "2", "1", "0"]
        assert found.concordance > 0.85  # ranked by both scales at once it was below one half

    def test_a_variable_with_a_level_of_one_outcome_only_is_left_out_whole(self, study, patients):
        cohort, scores, _ = patients
        events = np.flatnonzero(cohort.labels == 1)[:12]
        sex = tuple("x" if i in events else "f" if i % 2 else "m" for i in range(240))
        request = AssessRequest(**HEADER, label="federated", scored="ab" * 32, split="all", threshold=0.4, against=())
        found = assess(HEADER, request, study, replace(cohort, groups={"sex": sex}), scores, {}, "recist")
        assert (found.subgroups, found.withheld) == ((), ("sex",))

    def test_a_variable_that_parts_patients_nearly_as_an_earlier_one_is_left_out(self, study, patients):
        cohort, scores, _ = patients
        age = tuple("old" if i < 120 else "young" for i in range(240))
        born = tuple("early" if i < 122 else "late" for i in range(240))
        request = AssessRequest(**HEADER, label="federated", scored="ab" * 32, split="all", threshold=0.4, against=())
        grouped = replace(cohort, groups={"age": age, "born": born})
        found = assess(HEADER, request, study, grouped, scores, {}, "recist", cell=5)
        assert {one.variable for one in found.subgroups} == {"age"}
        assert found.withheld == ("born",)
        assert {one.variable for one in assess(HEADER, request, study, grouped, scores, {}, cell=2).subgroups} == {
            "age", "born"
        }  # fmt: skip

    def test_two_grades_are_the_outcome_itself(self, study, patients):
        cohort, scores, _ = patients
        two = replace(cohort, grades=tuple("CR" if y else "SD" for y in cohort.labels))
        request = AssessRequest(**HEADER, label="federated", scored="ab" * 32, split="all", threshold=0.4, against=())
        assert assess(HEADER, request, study, two, scores, {}, "recist").grades == ()


class TestHistograms:
    def test_count_test_patients_by_score(self, patients):
        cohort, scores, _ = patients
        request = ScoresRequest(**HEADER, label="federated", scored="ab" * 32, bins=256)
        found = histograms(HEADER, request, cohort, scores)
        wanted, _ = np.histogram(scores[cohort.labels == 1], bins=256, range=(0, 1))
        np.testing.assert_array_equal(found.positives_by_score, wanted)
        assert found.positives == found.positives_by_score.sum()
        assert found.patients - found.positives == found.negatives_by_score.sum()
