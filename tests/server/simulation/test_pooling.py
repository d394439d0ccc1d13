"""Pooled training: the training patients of all sites and nobody else, with the federation's budget."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedloupe.models import Preparation, Schema, build_model, flatten
from fedloupe.study import Study
from fedloupe_client.dataset import Cohort
from fedloupe_client.training.local import train_round
from fedloupe_server.simulation.pooling import NAME, pooled, train_pooled

FEATURES = 3


def make_cohort(seed: int, patients: int = 24) -> Cohort:
    rng = np.random.default_rng(seed)
    empty, none = np.zeros((patients, 0, 0, 0, 0), np.float32), np.zeros((patients, 0), np.float32)
    features = rng.standard_normal((patients, FEATURES))
    return Cohort(
        cases=tuple(f"{seed}-{i}" for i in range(patients)),
        labels=(features[:, 0] + rng.standard_normal(patients) > 0).astype(np.int64),
        split=rng.permutation(np.repeat(["train", "tune", "test"], patients // 3)),
        names=tuple(f"f{i}" for i in range(FEATURES)),
        columns=("table",) * FEATURES,
        features=features,
        clinical=np.zeros((patients, 0)),
        mr=empty,
        mr_present=none,
        ct=empty,
        ct_present=none,
        reference=None,
    )


@pytest.fixture
def study() -> Study:
    content: dict[str, Any] = {
        "study": "pooling",
        "title": "Synthetic",
        "endpoint": {"name": "r", "column": "r", "positive": ["1"], "negative": ["0"]},
        "aggregation": "plain",
        "sites": [{"name": "north", "role": "train"}, {"name": "south", "role": "train"}],
        "radiomics": {"source": "table"},
        "model": {"components": 2, "image": False, "width": 8, "depth": 1, "heads": 2},
        "training": {"rounds": 3, "local_epochs": 2, "batch_size": 4},
    }
    return Study.model_validate(content)


@pytest.fixture
def preparation() -> Preparation:
    projection = np.random.default_rng(0).standard_normal((FEATURES, 2)).astype(np.float32)
    return Preparation(np.zeros(FEATURES), np.ones(FEATURES), projection, "federated")


class TestPatients:
    def test_are_the_training_ones_of_every_site_in_order(self):
        cohorts = [make_cohort(1), make_cohort(2, 12)]
        found = pooled(cohorts)
        expected = [c.cases[i] for c in cohorts for i in range(len(c.cases)) if c.split[i] == "train"]
        assert list(found.cases) == expected and len(expected) == 8 + 4
        assert set(found.split) == {"train"}
        for name in ("features", "labels"):
            rows = np.concatenate([getattr(c, name)[c.split == "train"] for c in cohorts])
            np.testing.assert_array_equal(getattr(found, name), rows)


class TestTraining:
    def test_is_the_federations_rounds_one_after_the_other(self, study, preparation):
        cohorts = [make_cohort(1), make_cohort(2)]
        cohort = pooled(cohorts)
        start = flatten(build_model(study, Schema.of(study, ("table",))))
        weights = start
        for number in (1, 2, 3):
            weights = train_round(study, NAME, cohort, preparation, weights, number=number).weights
        found = train_pooled(study, cohorts, preparation, start)
        np.testing.assert_array_equal(found, weights)
        assert not np.array_equal(found, start)

    def test_each_hospital_keeps_its_own_intercept_where_the_study_gives_it_one(self, study, preparation):
        """By hand with who comes from where; and not as if all came from one hospital."""
        training = study.training.model_copy(update={"random_intercept": 3.0, "rounds": 1})
        own = study.model_copy(update={"training": training})
        first, second = make_cohort(1), make_cohort(2, 12)
        second = replace(second, labels=np.where(np.arange(12) % 4 == 0, 0, 1))
        start = flatten(build_model(own, Schema.of(own, ("table",))))
        found = train_pooled(own, [first, second], preparation, start)
        together = pooled([first, second])
        apart, alike = (
            train_round(own, NAME, together, preparation, start, number=1, centres=np.array(centres)).weights
            for centres in ([0] * 8 + [1] * 4, [0] * 12)
        )
        np.testing.assert_array_equal(found, apart)
        assert np.abs(found - alike).max() > 1e-3

    def test_no_patient_who_tunes_or_tests_has_a_part_in_it(self, study, preparation):
        """Their features and outcomes changed, the model stays."""
        cohorts = [make_cohort(1), make_cohort(2)]
        others = []
        for cohort in cohorts:
            held = cohort.split != "train"
            features = np.where(held[:, None], -cohort.features, cohort.features)
            others.append(replace(cohort, features=features, labels=np.where(held, 1 - cohort.labels, cohort.labels)))
        start = flatten(build_model(study, Schema.of(study, ("table",))))
        one, other = (train_pooled(study, part, preparation, start) for part in (cohorts, others))
        np.testing.assert_array_equal(one, other)

    def test_fedproxs_term_is_left_out(self, study, preparation):
        prox = study.model_copy(
            update={"training": study.training.model_copy(update={"strategy": "fedprox", "proximal_mu": 9.0})}
        )
        cohorts, start = [make_cohort(1)], flatten(build_model(study, Schema.of(study, ("table",))))
        one, other = (train_pooled(which, cohorts, preparation, start) for which in (study, prox))
        np.testing.assert_array_equal(one, other)
