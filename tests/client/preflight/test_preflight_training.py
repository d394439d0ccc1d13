"""The dry round and the local baseline: nothing is spent, nothing leaves, and few patients promise little."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from fedloupe.models import design_matrix
from fedloupe.study import Study, parse_study
from fedloupe_client.config import load_site
from fedloupe_client.dataset import Cohort, load_cohort
from fedloupe_client.ingest import ingest
from fedloupe_client.preflight import preflight
from fedloupe_client.preflight.baseline import FOLDS, Baseline, _folds, local_baseline, own_preparation
from fedloupe_client.preflight.findings import RehearsalFailed
from fedloupe_client.preflight.rehearsal import dry_round, rehearse, rounds_of
from fedloupe_server.statistics.projection import principal_projection

PATIENTS = 60
PRIVATE = {
    "privacy": {"mode": "dp-sgd", "epsilon": 8.0, "sampling_rate": 0.5},
    "training": {"rounds": 2, "local_epochs": 1, "preparation": "public", "start": "random"},
}


def make_study(role: str = "train", **changes) -> Study:
    sites = [{"name": "alpha", "role": role}, {"name": "beta", "role": "train"}]
    content = {
        "study": "tiny",
        "title": "Synthetic table",
        "synthetic": True,
        "endpoint": {"name": "response", "column": "response", "positive": ["yes"], "negative": ["no"]},
        "aggregation": "plain",
        "sites": sites,
        "radiomics": {"source": "table"},
        "model": {"components": 2, "image": False, "width": 8, "depth": 1, "heads": 2},
        "training": {"rounds": 2, "local_epochs": 1},
        "quorum": {"minimum": 1},
    }
    return parse_study({**content, **changes})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty synthetic patients with four features; the first one tells the outcome, with noise."""
    home = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    rows = ["case,response,f1,f2,f3,f4"]
    for i in range(PATIENTS):
        values = rng.standard_normal(4) + np.array([1.2 * (i % 2), 0, 0, 0])
        rows.append(f"PAT-{i:03d},{'yes' if i % 2 else 'no'}," + ",".join(map(str, values)))
    (home / "cases.csv").write_text("\n".join(rows) + "\n")
    source = {"format": "table", "root": ".", "clinical": {"file": "cases.csv"}, "features": "cases.csv"}
    (home / "site.yaml").write_text(yaml.safe_dump({"site": "alpha", "source": {**source, "exclude": ["response"]}}))
    ingest(load_site(home), make_study(), home)
    return home


@pytest.fixture(scope="module")
def cohort(home: Path) -> Cohort:
    return load_cohort(home, make_study(), "alpha")


class TestTheDryRound:
    def test_is_the_studys_own_training(self, home, cohort):
        result = dry_round(home, make_study(), "alpha")
        assert (result.work, result.patients, result.measured) == ("train", len(cohort.rows("train")), True)

    def test_under_differential_privacy_takes_the_private_path_and_spends_nothing(self, home, monkeypatch):
        monkeypatch.setattr("fedloupe_client.gate.gate.Gate.intend", lambda *_, **__: pytest.fail("spent"))
        assert dry_round(home, make_study(**PRIVATE), "alpha").work == "train privately"
        assert not (home / "gate").exists()

    def test_of_a_validate_only_site_scores_its_patients(self, home):
        result = dry_round(home, make_study(role="validate"), "alpha")
        assert (result.work, result.patients) == ("validate", PATIENTS)

    def test_that_takes_too_long_is_ended_and_said(self, tmp_path):
        (tmp_path / "store").mkdir()
        os.mkfifo(tmp_path / "store" / "index.json")  # nobody writes to it, so that reading it never ends
        failed = rehearse(tmp_path, make_study(), "alpha", limit_s=0.05)
        assert isinstance(failed, RehearsalFailed)
        assert "did not end within" in failed.what

    def test_that_meets_a_problem_hands_it_on_without_where(self, home, tmp_path):
        failed = rehearse(tmp_path, make_study(), "alpha")
        assert isinstance(failed, RehearsalFailed)
        assert "have not been ingested" in failed.what
        assert str(tmp_path) not in failed.what


class TestTheWholeStudy:
    TEN: ClassVar = {"rounds": 10, "local_epochs": 2}

    @pytest.mark.parametrize(
        ("role", "changes", "rounds"),
        [
            ("train", {"evaluation": {"local_baseline": False}}, 10),
            ("train", {}, 10 + 10),  # the site's own model has the federation's budget, in one request
            ("train", {"evaluation": {"leave_one_site_out": True}}, 10 + 10 + 10),  # of two folds it trains in one
            ("train", {"personalisation": {"epochs": 5}}, 10 + 10 + 2.5),
            ("train", {"personalisation": {"method": "local-norm"}}, 10 + 10),
            ("validate", {}, 1),  # the federation's model: own models stay at home
            ("validate", {"evaluation": {"local_models": "everywhere"}}, 1 + 1),  # and that of the one site that trains
        ],
    )
    def test_is_counted_in_rounds(self, role, changes, rounds):
        assert rounds_of(make_study(role, training=self.TEN, **changes), "alpha") == rounds

    def test_under_differential_privacy_has_no_own_model(self):
        assert rounds_of(make_study(**PRIVATE), "alpha") == 2

    def test_is_said_beside_the_round(self, home):
        result = dry_round(home, make_study(training=self.TEN), "alpha")
        assert result.study_seconds == pytest.approx(20 * result.seconds, abs=0.02)


class TestTheBaseline:
    def test_equals_a_cross_validation_by_scikit_learn(self, cohort):
        study = make_study()
        result = local_baseline(cohort, study, "alpha")
        assert isinstance(result, Baseline)
        rows = np.union1d(cohort.rows("train"), cohort.rows("tune"))
        folds, scores = _folds(study, "alpha", cohort, rows), np.zeros(len(rows))
        for fold in range(FOLDS):
            fit, held = rows[folds != fold], rows[folds == fold]
            preparation = own_preparation(cohort, study, fit)
            model = LogisticRegression(C=1 / study.evaluation.ridge, tol=1e-10, max_iter=1000)
            model.fit(design_matrix(cohort.inputs(preparation, fit))[:, 1:], cohort.labels[fit])
            scores[folds == fold] = model.predict_proba(design_matrix(cohort.inputs(preparation, held))[:, 1:])[:, 1]
        assert result.auc == pytest.approx(roc_auc_score(cohort.labels[rows], scores), abs=1e-9)
        assert (result.patients, result.events) == (len(rows), int(cohort.labels[rows].sum()))

    def test_never_looks_at_test_patients(self, cohort):
        study, test = make_study(), cohort.rows("test")
        features = cohort.features.copy()
        features[test] = 1e6
        spoiled = replace(cohort, features=features)
        assert local_baseline(spoiled, study, "alpha") == local_baseline(cohort, study, "alpha")

    def test_of_values_without_signal_is_one_half_on_average(self, cohort):
        """A hundred draws of noise: one AUC has a standard error near 0.09, so their mean one of 0.009.

        The interval knows nothing of the models that other folds would have given: it covers one half in nine of ten
        draws, not in 95 of 100, as the page says.
        """
        size = len(cohort.cases)
        fixed = replace(  # pseudonyms are random, and with them the order of labels and the folds
            cohort,
            cases=tuple(f"{number:016x}" for number in range(size)),
            labels=np.sort(cohort.labels),
            split=np.full(size, "train"),
        )
        results = []
        for seed in range(100):
            noise = np.random.default_rng(seed)
            features, clinical = (noise.standard_normal(a.shape) for a in (cohort.features, cohort.clinical))
            results.append(local_baseline(replace(fixed, features=features, clinical=clinical), make_study(), "alpha"))
        assert np.mean([result.auc for result in results]) == pytest.approx(0.5, abs=0.05)
        assert np.mean([result.low < 0.5 < result.high for result in results]) >= 0.8

    def test_of_too_few_events_is_not_given(self, cohort):
        few = replace(cohort, labels=(np.arange(PATIENTS) < 6).astype(np.int64))
        said = local_baseline(few, make_study(), "alpha")
        assert isinstance(said, str) and "too few" in said

    def test_of_a_validate_only_site_is_not_given(self, cohort):
        assert "unopened" in str(local_baseline(cohort, make_study(role="validate"), "alpha"))

    def test_stratifies_its_folds(self, cohort):
        rows = cohort.rows("train")
        folds = _folds(make_study(), "alpha", cohort, rows)
        for label in (0, 1):
            counts = np.bincount(folds[cohort.labels[rows] == label], minlength=FOLDS)
            assert np.ptp(counts) <= 1


class TestTheSitesOwnPreparation:
    def test_is_what_the_federation_would_agree_on_with_this_site_alone(self, cohort):
        rows = cohort.rows("train")
        own = own_preparation(cohort, make_study())
        x = cohort.features[rows]
        assert own.mean == pytest.approx(x.mean(axis=0))
        assert own.scale == pytest.approx(x.std(axis=0, ddof=1))
        scores = np.clip((x - x.mean(axis=0)) / x.std(axis=0, ddof=1), -4, 4)
        theirs = principal_projection(np.eye(4), scores.T @ scores, cohort.columns, 2, len(rows))
        assert own.projection == pytest.approx(theirs, abs=1e-5)


class TestATableSite:
    def test_with_the_same_row_of_features_twice_is_told(self, home, tmp_path, monkeypatch):
        monkeypatch.setattr("fedloupe_client.preflight.check.rehearse", dry_round)
        for name in ("site.yaml", "cases.csv"):
            (tmp_path / name).write_text((home / name).read_text())
        lines = (tmp_path / "cases.csv").read_text().splitlines()
        lines[2] = ",".join([*lines[2].split(",")[:2], *lines[1].split(",")[2:]])
        (tmp_path / "cases.csv").write_text("\n".join(lines) + "\n")
        study = make_study()
        ingest(load_site(tmp_path), study, tmp_path)
        result = preflight(tmp_path, study).result
        twins = next(f for f in result.findings if f.code == "FL-630")
        assert len(twins.cases) == 2 and "row of features" in twins.what
        assert not result.ready
