"""A whole run with synthetic hospitals: what it computes, in which order it asks, and what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fedloupe.models import Preparation, digest
from fedloupe_server.evidence.results import Results
from fedloupe_server.federation import run_study
from fedloupe_server.federation.columns import FeaturesDiffer
from fedloupe_server.federation.fit import NoPublicPreparation, initial_weights
from fedloupe_server.federation.freezing import read_seal
from fedloupe_server.federation.journal import JournalDamaged, read_tensors
from fedloupe_server.federation.opening import name_run, run_name

COLUMNS = ("shape", "shape", "t2w", "t2w", "t2w", "t2w")
SIZES = {"north": 30, "south": 10, "east": 20}


def weights_after(run_dir: Path, number: int) -> np.ndarray:
    found = read_tensors(run_dir / "rounds" / f"{number:04d}.safetensors")
    assert found is not None
    return found[0]["weights"]


class TestRounds:
    @pytest.mark.parametrize("weighting", ["patients", "equal"])
    def test_fedavg_is_the_weighted_mean_of_the_sites(self, make_study, hospitals, run_dir, weighting):
        """w' = w / 2 + c with c the mean of the sites' constants, so w3 = w0 / 8 + 1.75 c."""
        study = make_study(training={"weighting": weighting})
        run_study(study, hospitals, run_dir)
        shares = SIZES if weighting == "patients" else dict.fromkeys(SIZES, 1)
        constant = sum(n * hospitals.shift(s) for s, n in shares.items()) / sum(shares.values())
        start = initial_weights(study, COLUMNS)
        np.testing.assert_allclose(weights_after(run_dir, 3), start / 8 + 1.75 * constant, rtol=1e-5, atol=1e-6)

    def test_each_round_starts_from_the_one_before(self, study, hospitals, run_dir):
        run_study(study, hospitals, run_dir)
        first = hospitals.asked("train", round=1, scope="federated")
        assert len(first) == 3
        assert all(np.array_equal(r.weights, initial_weights(study, COLUMNS)) for r in first)
        for r in hospitals.asked("train", round=3, scope="federated"):
            assert np.array_equal(r.weights, weights_after(run_dir, 2))

    def test_a_rounds_record_names_its_model(self, study, hospitals, run_dir):
        results = run_study(study, hospitals, run_dir)
        assert [r.round for r in results.rounds] == [1, 2, 3]
        assert [r.weights for r in results.rounds] == [digest(weights_after(run_dir, n)) for n in (1, 2, 3)]


class TestPreparation:
    def test_it_is_the_pooled_one(self, study, hospitals, run_dir):
        run_study(study, hospitals, run_dir)
        preparation = Preparation.read(run_dir / "preparation.safetensors")
        stacked = np.concatenate([hospitals.table(s) for s in SIZES])
        np.testing.assert_allclose(preparation.mean, stacked.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(preparation.scale, stacked.std(axis=0, ddof=1), rtol=1e-6)
        scores = (stacked - preparation.mean) / preparation.scale
        for group in ("shape", "t2w"):
            rows = np.array(COLUMNS) == group
            values = np.linalg.eigvalsh(np.cov(scores[:, rows], rowvar=False))[::-1][:2]
            covariance = np.cov(scores[:, rows] @ preparation.projection[rows], rowvar=False)
            np.testing.assert_allclose(covariance, np.diag(values / values[0]), atol=1e-4)

    def test_sites_with_other_columns_are_named(self, study, hospitals, run_dir):
        def hook(r):
            if r.kind == "hello" and r.site == "south":
                return hospitals.answer(r).model_copy(update={"features": tuple(f"feature-{i}" for i in range(1, 7))})
            return ...

        hospitals.hook = hook
        with pytest.raises(FeaturesDiffer, match=r"south.*feature-0"):
            run_study(study, hospitals, run_dir)

    def test_the_same_columns_in_other_groups_differ_too(self, study, hospitals, run_dir):
        def hook(r):
            if r.kind == "hello" and r.site == "south":
                return hospitals.answer(r).model_copy(update={"groups": COLUMNS[::-1]})
            return ...

        hospitals.hook = hook
        with pytest.raises(FeaturesDiffer, match="south"):
            run_study(study, hospitals, run_dir)

    def test_a_validating_site_with_other_columns_is_named(self, study, hospitals, run_dir):
        def hook(r):
            if r.kind == "hello" and r.site == "coast":
                return hospitals.answer(r).model_copy(update={"features": ("x",), "groups": ("t2w",)})
            return ...

        hospitals.hook = hook
        with pytest.raises(FeaturesDiffer, match="coast"):
            run_study(study, hospitals, run_dir)


class TestPublicPreparation:
    @pytest.fixture
    def public(self, make_study):
        def make(**changes):
            return make_study(training={"preparation": "public"}, **changes)

        return make

    def put(self, run_dir: Path, features: int = 6) -> Preparation:
        rng = np.random.default_rng(0)
        projection = rng.standard_normal((features, 2)).astype(np.float32)
        preparation = Preparation(rng.standard_normal(features), np.ones(features), projection, "public")
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "public-preparation.safetensors").write_bytes(preparation.to_bytes())
        return preparation

    def test_without_one_the_run_stops_before_any_sum_is_asked(self, public, hospitals, run_dir):
        with pytest.raises(NoPublicPreparation, match=r"public-preparation\.safetensors"):
            run_study(public(), hospitals, run_dir)
        assert {m.kind for m in hospitals.log} == {"hello"}

    def test_one_for_other_features_does_not_serve(self, public, hospitals, run_dir):
        self.put(run_dir, features=5)
        with pytest.raises(NoPublicPreparation, match="6 features"):
            run_study(public(), hospitals, run_dir)

    def test_it_is_installed_and_no_sums_are_asked(self, public, hospitals, run_dir):
        preparation = self.put(run_dir)
        results = run_study(public(), hospitals, run_dir)
        assert results.preparation == preparation.digest
        assert results.preparation_origin == "public"
        assert not hospitals.asked("describe") and not hospitals.asked("sketch")
        assert {m.origin for m in hospitals.asked("prepare")} == {"public"}

    def test_it_serves_the_folds_as_well(self, public, hospitals, run_dir):
        self.put(run_dir)
        results = run_study(public(evaluation={"leave_one_site_out": True}), hospitals, run_dir)
        assert len(results.left_out) == 3


class TestFreeze:
    def test_a_validating_site_hears_nothing_before_the_freeze(self, study, hospitals, run_dir):
        def hook(r):
            if r.site == "coast":
                frozen = json.loads((run_dir / "frozen.json").read_text())
                assert set(frozen) == {"frozen", "threshold", "preparation", "weights"}
                assert read_seal(run_dir).threshold == frozen["threshold"]
            return ...

        hospitals.hook = hook
        results = run_study(study, hospitals, run_dir)
        assert [m.kind for m in hospitals.log if m.site == "coast"][:3] == ["hello", "open", "prepare"]
        assert {m.kind for m in hospitals.log if m.site == "coast"} == {"hello", "open", "prepare", "evaluate"}
        assert json.loads((run_dir / "frozen.json").read_text())["frozen"] == results.frozen

    def test_nothing_is_fitted_after_a_validating_site_was_opened(self, study, hospitals, run_dir):
        run_study(study, hospitals, run_dir)
        opened = next(i for i, m in enumerate(hospitals.log) if m.site == "coast")
        assert {m.kind for m in hospitals.log[opened:]} == {"hello", "open", "prepare", "evaluate"}

    def test_what_was_frozen_is_what_is_scored(self, study, hospitals, run_dir):
        results = run_study(study, hospitals, run_dir)
        (request,) = hospitals.asked("evaluate", site="coast", label="federated")
        assert digest(request.weights) == results.rounds[-1].weights
        assert request.threshold == results.threshold
        assert request.split == "all"


class TestThreshold:
    def test_it_comes_from_the_tuning_patients_of_the_training_sites(self, study, hospitals, run_dir):
        """Half way between the mean log-odds: 0.5 + shift/10 of each site's three positives, and -0.7."""
        results = run_study(study, hospitals, run_dir)
        assert results.threshold_sites == ("east", "north", "south")
        assert {m.site for m in hospitals.asked("midpoint")} == set(SIZES)
        mean = np.mean([0.5 + hospitals.shift(site) / 10 for site in SIZES])
        assert results.threshold == pytest.approx(1 / (1 + np.exp(-(mean - 0.7) / 2)))

    def test_a_site_with_too_few_tuning_patients_leaves_it_to_the_others(self, study, hospitals, run_dir):
        few = ("FL-512", "a group of patients is too small to report")
        hospitals.hook = lambda r: hospitals.failure(r, *few) if r.kind == "midpoint" and r.site == "south" else ...
        assert run_study(study, hospitals, run_dir).threshold_sites == ("east", "north")

    def test_a_silent_required_site_stops_the_run_rather_than_moving_the_threshold(self, study, hospitals, run_dir):
        """Silence is not a refusal: the run pauses, as a round would."""
        from fedloupe.errors import FedLoupeError

        hospitals.hook = lambda r: None if r.kind == "midpoint" and r.site == "north" else ...
        with pytest.raises(FedLoupeError, match="north"):
            run_study(study, hospitals, run_dir)
        assert not (run_dir / "frozen.json").exists()


class TestComparisons:
    def test_local_models_are_scored_at_home_and_at_validating_sites(self, study, hospitals, run_dir):
        results = run_study(study, hospitals, run_dir)
        by_site = {s.site: s for s in results.sites}
        assert [by_site[s].local.label for s in SIZES] == [f"local-{s}" for s in SIZES]
        assert [s.label for s in by_site["coast"].local_elsewhere] == ["local-east", "local-north", "local-south"]
        assert by_site["coast"].local is None and by_site["north"].local_elsewhere == ()
        (request,) = hospitals.asked("evaluate", site="coast", label="local-south")
        start = initial_weights(study, COLUMNS)
        np.testing.assert_allclose(request.weights, start / 2 + hospitals.shift("south"), rtol=1e-6, atol=1e-7)

    def test_switched_off_they_are_not_asked_for(self, make_study, hospitals, run_dir):
        study = make_study(evaluation={"local_baseline": False, "logistic_baseline": False})
        results = run_study(study, hospitals, run_dir)
        assert not hospitals.asked("newton") and not hospitals.asked("train", scope="local")
        assert all(s.local is None and s.logistic is None for s in results.sites)

    def test_a_start_at_the_logistic_baseline_is_not_a_report_of_it(self, make_study, hospitals, run_dir):
        study = make_study(training={"start": "logistic"}, evaluation={"logistic_baseline": False})
        results = run_study(study, hospitals, run_dir)
        assert hospitals.asked("newton")
        assert all(s.logistic is None for s in results.sites)

    def test_the_rounds_start_at_the_federated_logistic_baseline(self, make_study, hospitals, run_dir):
        study = make_study(training={"start": "logistic"})
        run_study(study, hospitals, run_dir)
        (beta,) = {m.weights.tobytes(): m.weights for m in hospitals.asked("evaluate", label="logistic")}.values()
        expected = initial_weights(study, COLUMNS, beta)
        assert not np.array_equal(expected, initial_weights(study, COLUMNS))
        for request in hospitals.asked("train", round=1, scope="federated"):
            assert np.array_equal(request.weights, expected)
        for request in hospitals.asked("train", scope="local"):
            assert np.array_equal(request.weights, initial_weights(study, COLUMNS))

    def test_under_dp_neither_baseline_spends_budget(self, make_study, hospitals, run_dir):
        study = make_study(training={"preparation": "public"}, privacy={"mode": "dp-sgd", "epsilon": 8})
        TestPublicPreparation().put(run_dir)
        hospitals.hook = lambda r: (
            hospitals.answer(r).model_copy(update={"loss": None, "epsilon": float(r.round)})
            if r.kind == "train"
            else ...
        )
        results = run_study(study, hospitals, run_dir)
        assert {m.kind for m in hospitals.log} == {"hello", "prepare", "train", "midpoint", "open", "evaluate"}
        assert not hospitals.asked("train", scope="local")
        assert {s.site: s.epsilon for s in results.sites} == {"north": 3, "south": 3, "east": 3, "coast": None}
        assert all(r.loss is None for r in results.rounds)
        assert results.privacy.startswith("dp-sgd, epsilon 8")
        assert results.planned_epsilon == 8

    def test_the_logistic_baseline_is_at_its_optimum(self, make_study, hospitals, run_dir):
        study = make_study(evaluation={"ridge": 2.0})
        run_study(study, hospitals, run_dir)
        (beta,) = {m.weights.tobytes(): m.weights for m in hospitals.asked("evaluate", label="logistic")}.values()
        gradient = -2.0 * np.array([0, *beta[1:]])
        for request in hospitals.asked("newton", step=0):
            gradient += hospitals.answer(request.model_copy(update={"beta": beta})).gradient
        assert np.abs(gradient).max() < 1e-6

    def test_the_clinical_baseline_is_the_optimum_of_the_clinical_values_alone(self, make_study, hospitals, run_dir):
        """The last of six coefficients is the clinical value's; the components' four stay zero."""
        clinical = [{"name": "age", "column": "age"}]
        evaluation = {"ridge": 2.0, "clinical_baseline": True, "leave_one_site_out": True}
        results = run_study(make_study(clinical=clinical, evaluation=evaluation), hospitals, run_dir)
        for run, sites in (("trial", SIZES), ("trial/without-south", {"north", "east"})):
            asked = [m.weights for m in hospitals.asked("evaluate", label="clinical", architecture="logistic", run=run)]
            beta = asked[0]
            assert all(np.array_equal(beta, other) for other in asked)
            assert np.flatnonzero(beta).tolist() == [0, 5]
            gradient = -2.0 * np.array([0, *beta[1:]])
            first = {m.site: m for m in hospitals.asked("newton", step=0, run=run)}
            assert set(first) == set(sites)
            for request in first.values():
                gradient += hospitals.answer(request.model_copy(update={"beta": beta})).gradient
            assert np.abs(gradient[[0, 5]]).max() < 1e-8 < np.abs(gradient[1:5]).max()
        assert [list(s.baselines) for s in results.sites] == [["clinical"]] * 4
        assert [list(f.baselines) for f in results.left_out] == [["clinical"]] * 3
        assert {s.baselines["clinical"].split for s in results.sites} == {"test", "all"}

    def test_a_further_baseline_is_frozen_with_the_rest(self, make_study, new_hospitals, tmp_path):
        clinical, digests = [{"name": "age", "column": "age"}], set()
        for asks in (False, True):
            study = make_study(clinical=clinical, evaluation={"clinical_baseline": asks})
            digests.add(run_study(study, new_hospitals(), tmp_path / str(asks)).frozen)
        assert len(digests) == 2


class TestLeaveOneSiteOut:
    def test_each_fold_is_refitted_without_the_site_and_scores_all_its_patients(self, make_study, hospitals, run_dir):
        study = make_study(evaluation={"leave_one_site_out": True})
        results = run_study(study, hospitals, run_dir)
        assert [fold.site for fold in results.left_out] == ["north", "south", "east"]
        for left in SIZES:
            requests = [m for m in hospitals.log if m.run == f"trial/without-{left}"]
            fitted = [m for m in requests if m.kind in ("describe", "sketch", "newton", "train")]
            assert {m.kind for m in fitted} == {"describe", "sketch", "newton", "train"}
            assert {m.site for m in fitted} == set(SIZES) - {left}
            heard = [m for m in requests if m.site == left]
            assert [m.kind for m in heard] == ["prepare", "evaluate", "evaluate"]
            assert {m.split for m in heard[1:]} == {"all"}
            mean, rest = heard[0].mean, [hospitals.table(s) for s in SIZES if s != left]
            np.testing.assert_allclose(mean, np.concatenate(rest).mean(axis=0), rtol=1e-6)

    def test_validating_sites_take_no_part(self, make_study, hospitals, run_dir):
        run_study(make_study(evaluation={"leave_one_site_out": True}), hospitals, run_dir)
        assert not [m for m in hospitals.log if m.site == "coast" and "without" in m.run]


class TestResults:
    def test_the_same_seed_gives_the_same_bytes_and_another_does_not(self, make_study, new_hospitals, tmp_path):
        contents = []
        for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
            run_study(make_study(seed=seed), new_hospitals(), tmp_path / folder / "trial")
            contents.append((tmp_path / folder / "trial" / "results.json").read_bytes())
        assert contents[0] == contents[1] != contents[2]

    def test_what_is_written_is_what_is_returned(self, study, hospitals, run_dir):
        results = run_study(study, hospitals, run_dir)
        assert Results.model_validate_json((run_dir / "results.json").read_bytes()) == results
        assert [(s.site, s.role) for s in results.sites][-1] == ("coast", "validate")
        assert results.parameters == len(initial_weights(study, COLUMNS))
        assert results.pooled.sites == results.pooled_local.sites == 3
        assert {s.site: s.excluded for s in results.sites}["south"] == {"FL-231": 1}

    def test_an_observer_sees_every_round(self, study, hospitals, run_dir):
        events = []
        run_study(study, hospitals, run_dir, observer=events.append)
        assert [(e.done, e.total) for e in events if e.stage == "rounds"] == [(1, 3), (2, 3), (3, 3)]

    @pytest.mark.parametrize(
        ("folder", "name"), [("Demo Run", "demo-run"), ("--x", "x"), ("直腸", "run"), ("2026-11-23", "2026-11-23")]
    )
    def test_a_folders_name_becomes_a_name_for_the_wire(self, tmp_path, folder, name):
        assert run_name(tmp_path / folder) == name

    def test_a_run_may_have_another_name_from_its_beginning_on(self, study, hospitals, run_dir):
        run_dir.mkdir(parents=True)
        for name in ("trial-0", "trial-1"):
            name_run(run_dir, name)
        results = run_study(study, hospitals, run_dir)
        name_run(run_dir, "trial-2")
        assert run_name(run_dir) == results.run == read_seal(run_dir).run == "trial-1"
        assert {request.run for request in hospitals.asked("hello")} == {"trial-1"}
        (run_dir / "name.txt").write_text("../x")
        with pytest.raises(JournalDamaged, match="no run's name"):
            run_name(run_dir)
