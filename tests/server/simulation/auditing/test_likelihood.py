"""Likelihood ratios on confidences whose distribution is known, against closed forms and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from fedloupe_server.simulation.auditing import Attack, likelihood, likelihood_ratio, rehearse
from fedloupe_server.simulation.auditing.shadows import drawn, trained_on

SHIFT = 1.0
BEST = float(norm.cdf(SHIFT / 2**0.5))  # area of two normals of one width: 0.760


def confidences(shadows, patients, *, shift=SHIFT, hardness=5.0, seed=4):
    """(S, n) confidences, a member's larger by `shift`, some patients harder for every model; and who trained."""
    rng = np.random.default_rng(seed)
    inside = np.argsort(np.argsort(rng.random((shadows, patients)), axis=0), axis=0) < shadows // 2
    level = hardness * rng.standard_normal(patients)
    return level + shift * inside + rng.standard_normal((shadows, patients)), inside


class TestLikelihood:
    def test_it_reaches_the_best_that_can_be_where_the_loss_alone_sees_hardly_anything(self):
        confidence, inside = confidences(201, 2000)
        found = likelihood_ratio(confidence[0], confidence[1:], inside[1:])
        area = roc_auc_score(inside[0], found)
        assert area == pytest.approx(BEST, abs=0.025)  # two standard errors of 2,000 patients
        assert roc_auc_score(inside[0], confidence[0]) < 0.6

    def test_with_few_shadows_it_finds_less_and_still_more_than_the_loss(self):
        confidence, inside = confidences(17, 2000)
        found = likelihood_ratio(confidence[0], confidence[1:], inside[1:])
        assert roc_auc_score(inside[0], confidence[0]) + 0.05 < roc_auc_score(inside[0], found) < BEST

    def test_a_patient_of_many_shadows_has_widths_of_its_own(self):
        confidence, inside = confidences(100, 3)
        confidence[:, 1] *= 4.0
        found = likelihood_ratio(np.array([0.5, 0.5, 0.5]), confidence, inside)
        for patient in range(3):
            sides = [confidence[side[:, patient], patient] for side in (inside, ~inside)]
            member, other = (norm.logpdf(0.5, side.mean(), side.std(ddof=1)) for side in sides)
            assert found[patient] == pytest.approx(member - other, rel=1e-6)

    def test_few_shadows_share_the_widths_of_all_patients(self):
        confidence, inside = confidences(16, 40)
        found = likelihood_ratio(confidence[0], confidence, inside)
        widths = []
        for side in (inside, ~inside):
            own = [confidence[side[:, i], i] for i in range(40)]
            widths.append(np.sqrt(np.mean([values.var(ddof=1) for values in own])))  # everybody in eight
        sides = [[confidence[side[:, i], i].mean() for i in range(40)] for side in (inside, ~inside)]
        expected = norm.logpdf(confidence[0], sides[0], widths[0]) - norm.logpdf(confidence[0], sides[1], widths[1])
        np.testing.assert_allclose(found, expected, rtol=1e-6)

    def test_where_training_leaves_no_trace_it_guesses(self):
        confidence, inside = confidences(17, 1000, shift=0.0)
        found = likelihood_ratio(confidence[0], confidence[1:], inside[1:])
        attack = Attack.of(found[inside[0]], found[~inside[0]])
        assert attack.low < 0.5 < attack.high


class TestRehearsal:
    def test_each_shadow_is_attacked_by_the_others(self):
        confidence, inside = confidences(8, 300)
        found = rehearse(confidence, inside)
        left = [np.delete(np.arange(8), i) for i in range(8)]
        suspicion = [likelihood_ratio(confidence[i], confidence[o], inside[o]) for i, o in enumerate(left)]
        assert found.auc == pytest.approx(roc_auc_score(inside.ravel(), np.ravel(suspicion)), abs=1e-9)
        assert 0.5 < found.low < found.auc < found.high
        assert (found.shadows, found.patients) == (8, 300)
        threshold = np.sort(np.ravel(suspicion)[~inside.ravel()])[-13]  # above it, 12 of 1,200: 1 %
        assert found.caught[0.01].share == pytest.approx((np.ravel(suspicion)[inside.ravel()] > threshold).mean())

    def test_its_interval_is_as_wide_as_its_patients_are_few(self):
        few, many = (rehearse(*confidences(8, patients)) for patients in (50, 800))
        ratio = (few.high - few.low) / (many.high - many.low)
        assert 2.5 < ratio < 6.5  # 4 by the square root of sixteen

    def test_its_interval_is_that_of_other_patients_not_of_other_trials(self, monkeypatch):
        """Half of the patients give themselves away and half do not: which ones there are decides, in all shadows."""

        def cohort(seed):
            leaks = 6.0 * (np.random.default_rng(seed).random(40) < 0.5)
            return confidences(24, 40, shift=leaks, hardness=0.0, seed=seed)

        found = rehearse(*cohort(0))
        monkeypatch.setattr(likelihood, "DRAWS", 1)
        spread = np.std([rehearse(*cohort(seed)).auc for seed in range(1, 41)], ddof=1)
        assert 0.6 < (found.high - found.low) / (2 * 1.96 * spread) < 1.7  # a spread of forty is known to a fifth or so

    def test_it_holds_a_half_where_training_leaves_no_trace(self):
        found = rehearse(*confidences(10, 400, shift=0.0))
        assert found.low < 0.5 < found.high
        assert found.caught[0.05].low < 0.05 < found.caught[0.05].high


class _Patients:
    """Of a cohort, as much as the drawing of shadows looks at."""

    cases = tuple(range(50))

    def rows(self, split):
        return np.arange(30)


class TestWhoTrains:
    def test_everybody_trains_as_many_shadows_as_the_runs_share_says(self):
        inside = drawn(_Patients(), 20, np.random.default_rng(1))
        assert set(inside.sum(0)) == {12} and inside.shape == (20, 50)
        assert len({tuple(row) for row in inside}) == 20 and inside.sum(1).std() > 1  # a coin each, not a fixed number

    @pytest.mark.parametrize("trained", [1, 49])
    def test_everybody_is_in_two_and_out_of_two(self, trained, monkeypatch):
        monkeypatch.setattr(_Patients, "rows", lambda self, split: np.arange(trained))
        assert set(drawn(_Patients(), 6, np.random.default_rng(1)).sum(0)) == {2 if trained == 1 else 4}

    def test_a_shadow_trains_on_those_who_were_drawn_and_on_nobody_else(self):
        from dataclasses import dataclass

        @dataclass(frozen=True)
        class Split:
            split: np.ndarray

        inside = np.array([True, False, True, False])
        found = trained_on(Split(np.array(["train", "train", "test", "all"])), inside)
        assert [s == "train" for s in found.split] == list(inside) and "all" not in found.split
