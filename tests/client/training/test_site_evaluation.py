"""Scores of a split against scikit-learn and by hand, and the sums from which the threshold follows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedloupe.messages import EvaluateRequest, MidpointRequest, decode, encode
from fedloupe.models import logistic_probability
from fedloupe_client.dataset import OneClass
from fedloupe_client.training.evaluation import evaluate, probabilities
from fedloupe_client.training.predicting import answer

HEADER = {"version": "0", "fingerprint": "0" * 64, "run": "test", "site": "north"}


@pytest.fixture
def ask(study, cohort, preparation, start):
    def make(cohort=cohort, split="all", threshold=0.5, architecture="transformer", weights=start, cell=2):
        request = EvaluateRequest(
            **HEADER, label="federated", architecture=architecture, split=split, threshold=threshold, weights=weights
        )
        return evaluate(study, cohort, preparation, request, cell)[0]

    return make


@pytest.fixture
def moved(start):
    return start + np.random.default_rng(2).standard_normal(start.shape).astype(np.float32) * 0.2


class TestNumbers:
    def test_discrimination_and_brier_are_scikit_learns(self, ask, study, cohort, preparation, moved):
        from sklearn.metrics import brier_score_loss, roc_auc_score

        reply = ask(weights=moved)
        scores = probabilities(study, cohort, preparation, "transformer", moved, cohort.rows("all"))
        assert len(np.unique(scores)) > 40
        assert reply.auc == pytest.approx(roc_auc_score(cohort.labels, scores), abs=1e-9)
        assert reply.brier == pytest.approx(brier_score_loss(cohort.labels, scores), abs=1e-9)
        assert reply.auc_low < reply.auc < reply.auc_high

    def test_the_threshold_counts_by_hand(self, ask, study, cohort, preparation, moved):
        scores = probabilities(study, cohort, preparation, "transformer", moved, cohort.rows("all"))
        threshold = float(np.median(scores))
        called = scores >= threshold
        truth = cohort.labels == 1
        reply = ask(weights=moved, threshold=threshold)
        assert reply.sensitivity == pytest.approx(called[truth].mean())
        assert reply.specificity == pytest.approx((~called)[~truth].mean())
        assert reply.accuracy == pytest.approx((called == truth).mean())

    def test_without_a_threshold_nothing_is_asked(self, ask):
        with pytest.raises(ValueError, match="threshold"):
            ask(threshold=None)

    @pytest.mark.parametrize(("split", "patients"), [("test", 8), ("all", 48)])
    def test_a_split_is_scored_whole_and_alone(self, ask, cohort, split, patients):
        reply = ask(split=split)
        labels = cohort.labels[cohort.rows(split)]
        assert (reply.patients, reply.positives) == (patients, labels.sum())
        assert reply.positives_by_score.sum() == labels.sum()
        assert reply.negatives_by_score.sum() == (1 - labels).sum()
        assert sum(group[2] for group in reply.calibration) == patients

    def test_the_logistic_baseline_is_read_from_its_coefficients(self, ask, cohort, preparation):
        from sklearn.metrics import roc_auc_score

        beta = np.random.default_rng(1).standard_normal(6)
        scores = logistic_probability(cohort.inputs(preparation, cohort.rows("all")), beta)
        assert ask(architecture="logistic", weights=beta).auc == pytest.approx(roc_auc_score(cohort.labels, scores))

    def test_the_true_probability_is_scored_on_the_same_patients(self, ask, cohort):
        from sklearn.metrics import roc_auc_score

        truth = np.random.default_rng(4).random(48)
        reply = ask(cohort=replace(cohort, reference=truth), split="test")
        rows = cohort.rows("test")
        assert reply.reference_auc == pytest.approx(roc_auc_score(cohort.labels[rows], truth[rows]))
        assert ask().reference_auc is None

    def test_a_patients_score_does_not_depend_on_who_else_is_scored(self, study, cohort, preparation, moved):
        everyone = probabilities(study, cohort, preparation, "transformer", moved, cohort.rows("all"))
        some = probabilities(study, cohort, preparation, "transformer", moved, np.array([40, 3]))
        np.testing.assert_allclose(some, everyone[[40, 3]], atol=1e-6)

    def test_the_reply_crosses_the_wire(self, ask):
        reply = ask()
        assert decode(encode(reply)).auc == reply.auc
        assert reply.label == "federated" and reply.site == "north"


class TestOneOutcome:
    def test_it_is_refused_in_words(self, ask, cohort):
        labels = cohort.labels.copy()
        labels[cohort.rows("test")] = 1
        with pytest.raises(OneClass, match="same outcome"):
            ask(cohort=replace(cohort, labels=labels), split="test")


class TestMidpoint:
    """The sums over tuning patients from which the coordinator has the threshold."""

    @pytest.fixture
    def midpoint(self, study, cohort, preparation, moved):
        def make(cohort=cohort):
            return answer(HEADER, MidpointRequest(**HEADER, weights=moved), study, cohort, preparation)

        return make

    def test_they_are_those_of_the_tuning_patients_log_odds_by_hand(self, midpoint, study, cohort, preparation, moved):
        rows = cohort.rows("tune")
        scores = probabilities(study, cohort, preparation, "transformer", moved, rows)
        odds, truth = np.log(scores / (1 - scores)), cohort.labels[rows] == 1
        reply = midpoint()
        assert (reply.patients, reply.positives) == (8, truth.sum())
        np.testing.assert_allclose(reply.odds, [odds[~truth].sum(), odds[truth].sum()], rtol=1e-6)
        assert decode(encode(reply)).odds.tolist() == reply.odds.tolist()

    def test_nobody_else_counts(self, midpoint, cohort):
        others, features, labels = cohort.split != "tune", cohort.features.copy(), cohort.labels.copy()
        features[others], labels[others] = 9.0, 1 - labels[others]
        assert midpoint(replace(cohort, features=features, labels=labels)).odds.tolist() == midpoint().odds.tolist()

    def test_of_one_outcome_they_are_refused_in_words(self, midpoint, cohort):
        labels = cohort.labels.copy()
        labels[cohort.rows("tune")] = 1
        with pytest.raises(OneClass, match="same outcome"):
            midpoint(replace(cohort, labels=labels))
