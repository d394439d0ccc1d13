"""Calcification shows in CT alone, leaves older cohorts as they were, and is worth what its weight says."""

from __future__ import annotations

import csv
import math
from dataclasses import replace

import numpy as np
import pytest

from fedloupe_server.simulation.cohort import (
    CT_SITES,
    CohortSpec,
    SiteSpec,
    draw_patient,
    generate_cohort,
    oracle_table,
    simulate_case,
)
from fedloupe_server.simulation.cohort.calcification import ADDED_HU, calcify, share
from fedloupe_server.simulation.cohort.latents import (
    CALCIFICATION,
    LATENTS,
    calcification_score,
    draw_latents,
    intercept,
    logistic,
    score,
)
from fedloupe_server.simulation.cohort.phantom import build_phantom
from fedloupe_server.simulation.cohort.scanner import acquire

WEIGHT = -0.9
PLAIN, USELESS, USEFUL = (CohortSpec(3, CT_SITES, weight) for weight in (None, 0.0, WEIGHT))
COAST = USEFUL.site("coast")


class TestPainting:
    @pytest.mark.parametrize("latent", [-2.0, 0.0, 2.0])
    def test_a_share_of_the_tumour_is_denser_and_nothing_else(self, latent):
        latents = draw_patient(PLAIN, COAST, 0).latents
        plain = build_phantom(latents, np.random.default_rng(7))
        painted = calcify(plain, {**latents, CALCIFICATION: latent}, np.random.default_rng(8))
        change = painted.volumes["ct"] - plain.volumes["ct"]
        assert set(np.unique(change)) == {0.0, ADDED_HU}
        assert not change[~plain.mask].any()
        assert np.count_nonzero(change) / plain.mask.sum() == pytest.approx(share(latent), abs=1e-3)

    def test_the_share_is_a_logistic_of_the_latent(self):
        assert share(-40) == pytest.approx(0.02)
        assert share(40) == pytest.approx(0.42)
        assert share(1 / 1.2) == pytest.approx(0.22)

    def test_every_mri_and_the_contour_are_the_same_at_either_end(self):
        seen = []
        for latent in (-2.0, 2.0):
            latents = {**draw_patient(PLAIN, COAST, 1).latents, CALCIFICATION: latent}
            phantom = calcify(build_phantom(latents, np.random.default_rng(7)), latents, np.random.default_rng(8))
            seen.append(acquire(phantom, COAST, np.random.default_rng(9)))
        (few, one), (much, other) = seen
        assert np.array_equal(one, other)
        assert {n for n in few if not np.array_equal(few[n].array, much[n].array)} == {"ct"}


class TestNothingElse:
    def test_the_images_are_those_of_the_cohort_without_it_but_for_the_tumour_in_ct(self):
        plain, painted = (simulate_case(spec, COAST, 2) for spec in (PLAIN, USEFUL))
        assert np.array_equal(plain.mask, painted.mask)
        for name in set(plain.volumes) - {"ct"}:
            assert np.array_equal(plain.volumes[name].array, painted.volumes[name].array), name
        differs = plain.volumes["ct"].array != painted.volumes["ct"].array
        assert 0 < differs.mean() < 0.03

    def test_useful_and_useless_show_the_same_images(self):
        one, other = (simulate_case(spec, COAST, 3) for spec in (USELESS, USEFUL))
        assert all(np.array_equal(one.volumes[n].array, other.volumes[n].array) for n in one.volumes)

    def test_without_weight_each_patient_fares_as_if_it_were_not_there(self):
        for index in range(20):
            plain, useless = (draw_patient(spec, COAST, index) for spec in (PLAIN, USELESS))
            drawn = useless.latents[CALCIFICATION]
            assert useless == replace(plain, latents={**plain.latents, CALCIFICATION: drawn})

    def test_a_cohort_without_it_keeps_the_digest_that_its_folders_bear(self):
        """As computed before there was a weight of calcification."""
        assert CohortSpec().digest == "87a2c483997c247995c8f5aafc683f5efab32a9d233cc3a4a1fa63107e673ec0"
        assert len({PLAIN.digest, USELESS.digest, USEFUL.digest}) == 3

    def test_the_truth_names_it_only_where_it_is(self, tmp_path):
        tiny = (SiteSpec("alpha", "train", 1, 0.4, "nifti", t2_mm=(4.0, 8.0), functional_mm=(4.0, 8.0)),)
        for name, weight in (("plain", None), ("useful", WEIGHT)):
            generate_cohort(tmp_path / name, CohortSpec(2, tiny, weight), workers=1)
        columns = {name: next(csv.reader((tmp_path / name / "truth.csv").open())) for name in ("plain", "useful")}
        assert columns["plain"] == ["site", "case", *LATENTS, "probability", "response", "synthetic"]
        assert set(columns["useful"]) - set(columns["plain"]) == {CALCIFICATION}


class TestWeight:
    @pytest.mark.parametrize("prevalence", [0.28, 0.40, 0.55])
    def test_the_intercept_gives_the_prevalence_in_another_population(self, prevalence):
        rng = np.random.default_rng(5)
        scores = score(draw_latents(rng, 40_000)) + calcification_score(rng.standard_normal(40_000), WEIGHT)
        assert logistic(scores + intercept(1, prevalence, WEIGHT)).mean() == pytest.approx(prevalence, abs=0.015)

    def test_a_patients_log_odds_hold_it_with_its_weight(self):
        for index in range(5):
            patient = draw_patient(USEFUL, COAST, index)
            row = np.array([[patient.latents[name] for name in LATENTS]])
            own = calcification_score(np.array([patient.latents[CALCIFICATION]]), WEIGHT)
            expected = score(row) + own + intercept(3, COAST.prevalence, WEIGHT)
            odds = math.log(patient.probability / (1 - patient.probability))
            assert odds == pytest.approx(float(expected[0]), abs=1e-6)

    def test_responses_happen_as_often_as_their_probabilities_say(self):
        patients = [draw_patient(USEFUL, site, index) for site in CT_SITES for index in range(300)]
        probability = np.array([p.probability for p in patients])
        responds = np.array([p.responds for p in patients])
        for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1)):
            group = (probability >= low) & (probability < high)
            spread = math.sqrt((probability[group] * (1 - probability[group])).sum())
            assert abs(responds[group].sum() - probability[group].sum()) < 3.5 * spread


class TestOracle:
    @staticmethod
    def losses(weight: float) -> list[float]:
        table = {(r.prevalence, r.known): r.auc for r in oracle_table(seed=2, calcification=weight)}
        return [table[p, "everything"] - table[p, f"all but {CALCIFICATION}"] for p in (0.25, 0.40, 0.55)]

    def test_a_useful_ct_is_worth_three_to_five_hundredths(self):
        assert all(0.03 < loss < 0.05 for loss in self.losses(WEIGHT))

    def test_a_useless_ct_is_worth_nothing(self):
        assert self.losses(0.0) == [0.0, 0.0, 0.0]

    def test_without_calcification_the_table_is_the_same(self):
        plain = [row for row in oracle_table(seed=2)]
        useless = [row for row in oracle_table(seed=2, calcification=0.0) if row.known != f"all but {CALCIFICATION}"]
        assert plain == useless
