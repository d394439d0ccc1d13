"""The known logistic: calibrated outcomes, the prevalence asked for, and how much each latent is worth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fedloupe_server.simulation.cohort import CohortSpec, draw_patient, oracle_table
from fedloupe_server.simulation.cohort.latents import (
    IMAGE_LATENTS,
    LATENTS,
    draw_latents,
    intercept,
    logistic,
    score,
)
from fedloupe_server.simulation.cohort.oracle import auc


@pytest.fixture(scope="module")
def population():
    return draw_latents(np.random.default_rng(5), 40_000)


@pytest.fixture(scope="module")
def patients():
    spec = CohortSpec(seed=3)
    return [draw_patient(spec, site, index) for site in spec.sites for index in range(400)]


@pytest.fixture(scope="module")
def table():
    return {(row.prevalence, row.known): row.auc for row in oracle_table(seed=2)}


class TestLatents:
    def test_each_has_mean_zero_and_unit_spread(self, population):
        assert np.allclose(population.mean(axis=0), 0, atol=0.025)
        assert np.allclose(population.std(axis=0), 1, atol=0.02)

    def test_they_are_unrelated(self, population):
        assert np.abs(np.corrcoef(population.T) - np.eye(len(LATENTS))).max() < 0.025

    def test_polarity_is_one_of_two_sides(self, population):
        assert set(population[:, LATENTS.index("polarity")]) == {-1.0, 1.0}


class TestOutcome:
    @pytest.mark.parametrize("prevalence", [0.28, 0.40, 0.55])
    def test_the_intercept_gives_the_prevalence_in_another_population(self, population, prevalence):
        found = logistic(score(population) + intercept(1, prevalence)).mean()
        assert found == pytest.approx(prevalence, abs=0.015)  # two samples, SD of the mean about 0.003

    def test_responses_happen_as_often_as_their_probabilities_say(self, patients):
        probability = np.array([p.probability for p in patients])
        responds = np.array([p.responds for p in patients])
        for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1)):
            group = (probability >= low) & (probability < high)
            spread = math.sqrt((probability[group] * (1 - probability[group])).sum())
            assert abs(responds[group].sum() - probability[group].sum()) < 3.5 * spread

    def test_a_patient_depends_on_seed_site_and_index_alone(self):
        full, small = CohortSpec(seed=4), CohortSpec(seed=4).scaled(0.1)
        assert draw_patient(full, full.site("island"), 3) == draw_patient(small, small.site("island"), 3)
        assert draw_patient(full, full.site("island"), 3) != draw_patient(full, full.site("island"), 4)
        other = CohortSpec(seed=5)
        assert draw_patient(full, full.site("north"), 3).latents != draw_patient(other, other.site("north"), 3).latents


class TestClinicalTable:
    def test_values_are_plausible_and_some_are_blank(self, patients):
        assert all(30 <= p.age <= 92 for p in patients)
        assert {p.ct_stage for p in patients} == {"T2", "T3", "T4"}
        assert {p.emvi for p in patients} == {"yes", "no", None}
        assert {p.response for p in patients} == {"complete", "near-complete", "partial", "none"}
        assert 0.02 < np.mean([p.cea is None for p in patients]) < 0.09

    def test_stage_in_the_table_is_the_latent_one(self, patients):
        by_stage = {
            s: {round(p.latents["ct_stage"], 6) for p in patients if p.ct_stage == s} for s in ("T2", "T3", "T4")
        }
        assert all(len(values) == 1 for values in by_stage.values())
        assert max(by_stage["T2"]) < max(by_stage["T3"]) < max(by_stage["T4"])


class TestOracle:
    def test_the_best_possible_auc_is_high_but_not_perfect(self, table):
        assert all(0.92 <= table[p, "everything"] <= 0.95 for p in (0.25, 0.40, 0.55))

    @pytest.mark.parametrize("latent", IMAGE_LATENTS)
    def test_no_image_latent_is_idle_and_none_is_all(self, table, latent):
        loss = table[0.40, "everything"] - table[0.40, f"all but {latent}"]
        assert 0.02 < loss < 0.07

    def test_clinical_values_alone_do_moderately(self, table):
        assert 0.66 < table[0.40, "clinical only"] < 0.72

    def test_the_area_is_scikit_learns_ties_included(self):
        rng = np.random.default_rng(0)
        event, values = rng.random(200) < 0.3, rng.integers(0, 12, 200).astype(float)
        assert auc(event, values) == pytest.approx(roc_auc_score(event, values), abs=1e-12)
