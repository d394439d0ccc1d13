"""A site's terms and its own shifts: over training patients alone, kept on disk, never the outcome."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedloupe.statistics.combat import Harmoniser, to_scores
from fedloupe.statistics.shifts import Prior, fit_shift
from fedloupe.study import Study
from fedloupe_client.dataset import Cohort
from fedloupe_client.harmonising import (
    BatchTooSmall,
    HarmonisationMisfit,
    Harmonised,
    HarmonisedDamaged,
    cross_products,
    residuals,
)

FEATURES = 12
SPLIT = ["train"] * 30 + ["tune"] * 8 + ["test"] * 12


@pytest.fixture
def make_study():
    def make(**rules: Any) -> Study:
        return Study.model_validate(
            {
                "study": "shift-test",
                "title": "Synthetic study of the harmonisation's tests",
                "endpoint": {"name": "r", "column": "r", "positive": ["1"], "negative": ["0"]},
                "clinical": [{"name": "sex", "column": "sex"}, {"name": "age", "column": "age"}],
                "aggregation": "plain",
                "sites": [{"name": n, "role": "train"} for n in ("north", "south")],
                "radiomics": {"source": "table"},
                "harmonisation": {"covariates": ["age"], **rules},
            }
        )

    return make


@pytest.fixture
def cohort() -> Cohort:
    rng = np.random.default_rng(0)
    n = len(SPLIT)
    features = 50 + 10 * rng.standard_normal((n, FEATURES)) + 7
    features[rng.random(features.shape) < 0.05] = np.nan
    clinical = rng.standard_normal((n, 2))
    clinical[4, 1] = np.nan
    none, empty = np.zeros((n, 0), np.float32), np.zeros((n, 0, 0, 0, 0), np.float32)
    return Cohort(
        cases=tuple(f"c{i}" for i in range(n)),
        labels=np.arange(n) % 2,
        split=np.array(SPLIT),
        names=tuple(f"f{i}" for i in range(FEATURES)),
        columns=("t2w",) * FEATURES,
        features=features,
        clinical=clinical,
        mr=empty,
        mr_present=none,
        ct=empty,
        ct_present=none,
        reference=None,
        batches=("",) * n,
    )


@pytest.fixture
def harmoniser() -> Harmoniser:
    rng = np.random.default_rng(1)
    return Harmoniser(
        centre=np.full(FEATURES, 50.0),
        scale=np.full(FEATURES, 10.0),
        beta=0.3 * rng.standard_normal((FEATURES, 1)),
        level=0.1 * rng.standard_normal(FEATURES),
        spread=rng.uniform(0.7, 1.0, FEATURES),
        prior=np.array([0.0, 0.1, 1.0, 0.05]),
    )


def others_changed(cohort: Cohort, keep: str = "train") -> Cohort:
    """The same site with other features and ages of the patients of other splits, and all labels turned round."""
    features, clinical = cohort.features.copy(), cohort.clinical.copy()
    features[cohort.split != keep], clinical[cohort.split != keep] = 1e3, -1e3
    return replace(cohort, features=features, clinical=clinical, labels=1 - cohort.labels)


def scanners(cohort: Cohort, **patients: int) -> Cohort:
    """The first training patients by scanner; all others are of the last one named."""
    labels = [name for name, size in patients.items() for _ in range(size)]
    return replace(cohort, batches=tuple((labels + [labels[-1]] * len(SPLIT))[: len(SPLIT)]))


class TestTerms:
    def test_only_training_patients_count_and_no_label(self, make_study, cohort, harmoniser):
        study, h = make_study(), harmoniser
        for terms in (
            lambda c: cross_products(study, c, h.centre, h.scale),
            lambda c: residuals(study, c, "north", h.centre, h.scale, h.beta),
        ):
            one, two = vars(terms(cohort)), vars(terms(others_changed(cohort)))
            assert all(np.array_equal(one[name], two[name]) for name in one)
            assert one["count"].tolist() == np.isfinite(cohort.features[:30]).sum(axis=0).tolist()

    def test_where_another_site_is_the_reference_they_are_of_nobody(self, make_study, cohort, harmoniser):
        h = harmoniser
        study = make_study(reference="south")
        terms = vars(residuals(study, cohort, "north", h.centre, h.scale, h.beta))
        assert not any(array.any() for array in terms.values())
        assert vars(residuals(study, cohort, "south", h.centre, h.scale, h.beta))["count"].any()

    def test_arrays_for_other_features_or_covariates_are_refused(self, make_study, cohort, harmoniser):
        h = harmoniser
        for study, scale, beta in (
            (make_study(), h.scale[1:], h.beta),
            (make_study(), h.scale, h.beta[:, :0]),
            (make_study(covariates=[]), h.scale, h.beta),
        ):
            with pytest.raises(HarmonisationMisfit, match="12 features"):
                residuals(study, cohort, "north", h.centre, scale, beta)


class TestShifts:
    def test_a_training_site_is_shifted_by_its_training_patients_alone(self, make_study, cohort, harmoniser):
        study = make_study()
        own = Harmonised.fit(study, cohort, "north", harmoniser, "train")
        other = Harmonised.fit(study, others_changed(cohort), "north", harmoniser, "train")
        assert own.to_bytes() == other.to_bytes()
        ages = np.nan_to_num(cohort.clinical[:, 1:])
        left = harmoniser.standardised(cohort.features[:30], ages[:30])
        wanted = fit_shift(left, empirical_bayes=True, mean_only=False)
        out = own.apply(study, cohort)
        np.testing.assert_allclose(
            out.features, harmoniser.adjust(cohort.features, ages, wanted.gamma, wanted.delta), rtol=1e-12
        )
        assert np.array_equal(np.isnan(out.features), np.isnan(cohort.features))
        assert np.array_equal(out.clinical, cohort.clinical, equal_nan=True)

    def test_a_site_never_seen_is_shifted_by_all_its_patients_and_the_frozen_prior(
        self, make_study, cohort, harmoniser
    ):
        own = Harmonised.fit(make_study(), cohort, "coast", harmoniser, "unseen")
        left = harmoniser.standardised(cohort.features, np.nan_to_num(cohort.clinical[:, 1:]))
        prior = Prior.from_array(harmoniser.prior)
        wanted = fit_shift(left, empirical_bayes=True, mean_only=False, prior=prior)
        np.testing.assert_array_equal(own.shifts[""].gamma, wanted.gamma)
        np.testing.assert_array_equal(own.shifts[""].delta, wanted.delta)
        turned = Harmonised.fit(make_study(), replace(cohort, labels=1 - cohort.labels), "coast", harmoniser, "unseen")
        assert own.to_bytes() == turned.to_bytes()

    def test_the_reference_stays_as_it_is(self, make_study, cohort, harmoniser):
        own = Harmonised.fit(make_study(reference="north"), cohort, "north", harmoniser, "train")
        back = own.apply(make_study(reference="north"), cohort).features
        np.testing.assert_allclose(back, cohort.features, rtol=1e-12)

    def test_each_scanner_of_a_site_has_its_own(self, make_study, cohort, harmoniser):
        study, mixed = make_study(batch="scanner"), scanners(cohort, aera=14, skyra=16)
        features = mixed.features.copy()
        features[np.array(mixed.batches) == "skyra"] += 30
        own = Harmonised.fit(study, replace(mixed, features=features), "north", harmoniser, "train")
        assert set(own.shifts) == {"aera", "skyra"}
        apart = (own.shifts["skyra"].gamma - own.shifts["aera"].gamma) * harmoniser.spread * harmoniser.scale
        assert np.median(apart) == pytest.approx(30, abs=4)

    def test_a_scanner_with_few_training_patients_is_refused_or_shifted_only(self, make_study, cohort, harmoniser):
        mixed = scanners(cohort, aera=9, skyra=21)
        with pytest.raises(BatchTooSmall, match="9 training patients of batch `aera`, the study asks 10"):
            Harmonised.fit(make_study(batch="scanner"), mixed, "north", harmoniser, "train")
        own = Harmonised.fit(make_study(batch="scanner", small="mean-only"), mixed, "north", harmoniser, "train")
        assert own.small == 1
        assert (own.shifts["aera"].delta == 1).all()
        assert (own.shifts["skyra"].delta != 1).all()

    def test_a_scanner_without_training_patients_is_treated_as_unseen(self, make_study, cohort, harmoniser):
        mixed = scanners(cohort, aera=30, vida=20)
        estimated = Harmonised.fit(make_study(batch="scanner"), mixed, "north", harmoniser, "train")
        assert estimated.shifts["vida"].gamma.any()
        left = Harmonised.fit(make_study(batch="scanner", unseen="none"), mixed, "north", harmoniser, "train")
        assert not left.shifts["vida"].gamma.any()
        back = left.apply(make_study(batch="scanner", unseen="none"), mixed).features
        np.testing.assert_allclose(back[30:], mixed.features[30:], rtol=1e-12)

    def test_arrays_that_do_not_fit_are_refused(self, make_study, cohort, harmoniser):
        for change in ({"level": harmoniser.level[1:]}, {"prior": np.zeros(3)}, {"centre": harmoniser.centre[1:]}):
            with pytest.raises(HarmonisationMisfit):
                Harmonised.fit(make_study(), cohort, "north", replace(harmoniser, **change), "train")


class TestOnDisk:
    def test_what_is_read_back_harmonises_the_same(self, make_study, cohort, harmoniser, tmp_path):
        mixed, study = scanners(cohort, aera=14, skyra=16), make_study(batch="scanner")
        own = Harmonised.fit(study, mixed, "north", harmoniser, "train")
        (tmp_path / "own").write_bytes(own.to_bytes())
        again = Harmonised.read(tmp_path / "own")
        assert np.array_equal(again.apply(study, mixed).features, own.apply(study, mixed).features, equal_nan=True)
        assert again.to_bytes() == own.to_bytes()
        assert Harmonised.read(tmp_path / "absent") is None

    def test_a_damaged_file_is_named(self, make_study, cohort, harmoniser, tmp_path):
        blob = Harmonised.fit(make_study(), cohort, "north", harmoniser, "train").to_bytes()
        for damaged in (blob[:-9], b"", blob.replace(b"gamma", b"gemma")):
            (tmp_path / "own").write_bytes(damaged)
            with pytest.raises(HarmonisedDamaged):
                Harmonised.read(tmp_path / "own")


def test_scores_of_constants_and_infinities():
    found = to_scores(np.array([[3.0, np.inf], [4.0, 2.0]]), np.array([3.0, 1.0]), np.array([0.0, 2.0]))
    assert found[:, 0].tolist() == [0, 0]
    assert np.isnan(found[0, 1]) and found[1, 1] == 0.5
