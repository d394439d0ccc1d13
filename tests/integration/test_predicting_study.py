"""A study with `prediction` through real homes, gates and Flower's in-process Grid, against the pooled patients."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.covariance import OAS

from fedloupe.messages import KINDS, decode, encode
from fedloupe.metrics import calibration_in_the_large, calibration_slope
from fedloupe.metrics.conformal import DISTANCE_EDGES, MISFIT_EDGES
from fedloupe.models import Preparation, own_intercept
from fedloupe.release import Release
from fedloupe_client.config import load_site
from fedloupe_client.gate import approve, load_policy
from fedloupe_client.ingest import ingest
from fedloupe_client.site.site import Site
from fedloupe_client.training.predicting import model_logits, vectors
from fedloupe_server.evidence.predicting import words
from fedloupe_server.evidence.tables import provenance
from fedloupe_server.federation import run_study
from fedloupe_server.federation.freezing import SealBroken
from fedloupe_server.federation.journal import JournalDamaged, read_tensors, write_tensors
from fedloupe_server.hub.inprocess import inprocess_exchange
from fedloupe_server.simulation.sites import make_homes
from sealing import hearing

SHARE = {
    "prediction": {"coverage": 0.8, "beyond": 0.05},
    "split": {"tune": 0.3},
    "quorum": {"minimum": 1},
    "training": {"rounds": 2, "local_epochs": 1, "start": "logistic", "batch_size": 16},
}
TRAIN = ("alpha", "beta")


class Federation:
    """Homes that are ingested and approved, the sites in them, and what these were asked."""

    def __init__(self, study: Any, homes: dict[str, Path], run_dir: Path) -> None:
        self.study, self.homes, self.run_dir = study, homes, run_dir
        for home in homes.values():
            if not (home / "store").exists():
                ingest(load_site(home), study, home)
            approve(home, study, by="test")
        self.sites = {site: Site(home) for site, home in homes.items()}
        self.asked: list[Any] = []

    def run(self) -> Any:
        def handler(site: str) -> Any:
            def handle(blob: bytes) -> bytes:
                self.asked.append(decode(blob))
                return hearing(self.sites[site], self.run_dir)(blob)

            return handle

        return run_study(self.study, inprocess_exchange({s: handler(s) for s in self.sites}), self.run_dir)

    def kinds(self, site: str) -> set[str]:
        return {request.kind for request in self.asked if request.site == site}


@pytest.fixture(scope="module")
def finished(tables, make_study, tmp_path_factory):
    """Federation, results, and every site's cohort as the model sees it."""
    folder = tmp_path_factory.mktemp("predicting")
    study = make_study(**SHARE, evaluation={"logistic_baseline": False, "local_baseline": False}, harmonisation={})
    federation = Federation(study, make_homes(study, tables / "sites.yaml", tables, folder / "homes"), folder / "run")
    return federation, federation.run()


def pooled(federation: Federation, split: str, what: Any) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and what the model makes of these patients of the training sites."""
    weights = read_tensors(federation.run_dir / "rounds/0002.safetensors")[0]["weights"]
    preparation = Preparation.read(federation.run_dir / "preparation.safetensors")
    found, labels = [], []
    for site in TRAIN:
        cohort = federation.sites[site]._harmonised["run"]
        rows = cohort.rows(split)
        found.append(what(federation.study, cohort, preparation, weights, rows))
        labels.append(cohort.labels[rows])
    return np.concatenate(labels), np.concatenate(found)


class TestCalibration:
    def test_the_line_is_platts_on_the_pooled_tuning_patients(self, finished):
        federation, results = finished
        labels, odds = pooled(federation, "tune", model_logits)
        many, few = labels.sum(), len(labels) - labels.sum()
        target = np.where(labels == 1, (many + 1) / (many + 2), 1 / (few + 2))

        def loss(line: np.ndarray) -> float:
            risk = line[0] + line[1] * odds
            return float((np.logaddexp(0, risk) - target * risk).sum())

        def slope(line: np.ndarray) -> np.ndarray:
            apart = expit(line[0] + line[1] * odds) - target
            return np.array([apart.sum(), (apart * odds).sum()])

        best = minimize(loss, np.zeros(2), jac=slope, method="BFGS", options={"gtol": 1e-10}).x
        np.testing.assert_allclose(results.predicted.line, best, atol=1e-6)
        assert (results.predicted.tuned, results.predicted.sites) == (len(labels), TRAIN)

    def test_it_is_scikit_learns(self, finished):
        from sklearn.calibration import _sigmoid_calibration

        federation, results = finished
        labels, odds = pooled(federation, "tune", model_logits)
        falling, offset = _sigmoid_calibration(odds, labels)
        np.testing.assert_allclose(results.predicted.line, (-offset, -falling), atol=1e-3)

    def test_the_threshold_moves_with_it(self, finished):
        _, results = finished
        line, raw = results.predicted.line, results.predicted.raw_threshold
        assert results.threshold == pytest.approx(expit(line[0] + line[1] * logit(raw)))
        for site in results.sites:
            assert site.uncalibrated.auc == pytest.approx(site.federated.auc, abs=1e-12)
            assert site.uncalibrated.sensitivity == site.federated.sensitivity

    def test_slope_and_intercept_of_a_validating_site_are_those_of_its_patients(self, finished):
        federation, results = finished
        omega = next(s for s in results.sites if s.site == "omega")
        cohort = federation.sites["omega"]._harmonised["run"]
        weights = read_tensors(federation.run_dir / "rounds/0002.safetensors")[0]["weights"]
        preparation = Preparation.read(federation.run_dir / "preparation.safetensors")
        odds = model_logits(federation.study, cohort, preparation, weights, cohort.rows("all"))
        a, b = results.predicted.line
        for scores, values in ((omega.uncalibrated, odds), (omega.federated, a + b * odds)):
            assert scores.slope == pytest.approx(calibration_slope(cohort.labels, values).value, rel=1e-6)
            large = calibration_in_the_large(cohort.labels, values)
            assert (scores.in_the_large, scores.in_the_large_se) == pytest.approx((large.value, large.se), rel=1e-6)
        assert omega.uncalibrated.covered is None


class TestRange:
    def test_its_precision_is_that_of_shrunk_pooled_training_patients(self, finished):
        federation, _ = finished
        _, places = pooled(federation, "train", vectors)
        kept = Release.read(federation.homes["omega"] / "models/small-tables.safetensors")
        np.testing.assert_allclose(kept.centre, places.mean(axis=0), atol=1e-9)
        scale = places.std(axis=0)
        book = OAS().fit((places - places.mean(axis=0)) / scale).precision_ / np.outer(scale, scale)
        np.testing.assert_allclose(kept.precision, book, rtol=1e-6, atol=1e-8 * np.abs(book).max())
        assert kept.patients == len(places)

    def test_the_limit_is_near_the_exact_quantile_of_the_tuning_patients_distances(self, finished):
        """Two sites with cells of two: the rank is off by fewer patients than a merged bin holds at each."""
        federation, results = finished
        _, places = pooled(federation, "tune", vectors)
        kept = Release.read(federation.homes["alpha"] / "models/small-tables.safetensors")
        distances = np.sort(kept.distance(places))
        place = min(int(np.ceil((len(distances) + 1) * 0.95)), len(distances)) - 1
        low, high = distances[place - 2], distances[-1]
        assert low - DISTANCE_EDGES[1] <= results.predicted.limit <= high + DISTANCE_EDGES[1]


class TestSets:
    def test_admitted_is_near_the_exact_conformal_quantile(self, finished):
        """Two sites with cells of two: the rank is off by fewer patients than a merged bin holds at each."""
        federation, results = finished
        labels, odds = pooled(federation, "tune", model_logits)
        probability = expit(results.predicted.line[0] + results.predicted.line[1] * odds)
        misfit = np.sort(np.where(labels == 1, 1 - probability, probability))
        place = int(np.ceil((len(misfit) + 1) * 0.8)) - 1
        low, high = misfit[place - 2], misfit[min(place + 2, len(misfit) - 1)]
        assert low - MISFIT_EDGES[1] <= results.predicted.admitted <= high + MISFIT_EDGES[1]

    def test_what_a_validating_site_tells_of_them_is_true_of_its_patients(self, finished):
        """Worked out again from the released model alone; a share of one patient, or of all but one, is not told."""
        federation, results = finished
        omega = next(s for s in results.sites if s.site == "omega").federated
        cohort = federation.sites["omega"]._harmonised["run"]
        kept = Release.read(federation.homes["omega"] / "models/small-tables.safetensors")
        preparation, rows = Preparation(kept.mean, kept.scale, kept.projection, "federated"), cohort.rows("all")
        risk = kept.probability(model_logits(federation.study, cohort, preparation, kept.weights, rows))
        far = kept.distance(vectors(federation.study, cohort, preparation, kept.weights, rows)) > kept.limit
        outcome, cell = cohort.labels[rows], load_policy(federation.homes["omega"]).minimum_cell
        holds = np.stack([risk <= kept.admitted, risk >= 1 - kept.admitted], axis=1)
        told = {
            "covered": holds[np.arange(len(rows)), outcome],
            "single": holds[:, 0] != holds[:, 1],
            "beyond": far,
        }
        for name, those in told.items():
            hidden = any(0 < count < cell for count in (those.sum(), len(those) - those.sum()))
            assert getattr(omega, name) == (None if hidden else pytest.approx(those.mean())), name
        groups = np.array_split(np.argsort(risk, kind="stable"), min(10, len(rows) // 10))
        ece = sum(len(g) * abs(risk[g].mean() - outcome[g].mean()) for g in groups) / len(rows)
        assert omega.ece == pytest.approx(ece)


class TestRelease:
    def test_every_site_keeps_the_frozen_model_for_its_own_user_alone(self, finished):
        federation, results = finished
        weights = read_tensors(federation.run_dir / "rounds/0002.safetensors")[0]["weights"]
        preparation = Preparation.read(federation.run_dir / "preparation.safetensors")
        for home in federation.homes.values():
            path = home / "models/small-tables.safetensors"
            kept = Release.read(path)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            np.testing.assert_array_equal(kept.weights, weights)
            np.testing.assert_array_equal(kept.projection, preparation.projection)
            assert (kept.threshold, kept.admitted, kept.limit, kept.run, kept.fingerprint) == (
                results.threshold,
                results.predicted.admitted,
                results.predicted.limit,
                "run",
                federation.study.fingerprint,
            )
            own = (home / "models/small-tables-harmonisation.safetensors").read_bytes()
            assert own == (home / "runs/run/harmonisation.safetensors").read_bytes()

    def test_a_site_that_only_validates_is_asked_for_no_sums(self, finished):
        federation, _ = finished
        assert federation.kinds("omega") == {"hello", "open", "harmonise", "prepare", "evaluate", "release"}
        assert {"calibrate", "embed", "conform", "release"} <= federation.kinds("alpha")

    def test_nothing_is_released_before_validation(self, finished):
        federation, _ = finished
        order = [request.kind for request in federation.asked]
        assert order.index("release") > max(i for i, kind in enumerate(order) if kind == "evaluate")

    def test_a_model_that_was_lost_comes_again_and_the_run_ends_the_same(self, finished):
        federation, _ = finished
        before = (federation.run_dir / "results.json").read_bytes()
        path = federation.homes["omega"] / "models/small-tables.safetensors"
        kept = path.read_bytes()
        path.unlink()
        again = Federation(federation.study, federation.homes, federation.run_dir)
        again.run()
        assert path.read_bytes() == kept
        assert (federation.run_dir / "results.json").read_bytes() == before
        assert not again.kinds("alpha") & {"train", "calibrate", "embed", "conform"}

    def test_one_that_does_not_fit_is_refused_and_the_old_one_stays(self, finished):
        federation, _ = finished
        request = next(r for r in federation.asked if r.kind == "release" and r.site == "beta")
        small = request.model_copy(update={"centre": np.zeros(3), "precision": np.eye(3)})
        path = federation.homes["beta"] / "models/small-tables.safetensors"
        before = path.read_bytes()
        assert decode(Site(federation.homes["beta"]).answer(encode(small))).code == "FL-643"
        assert path.read_bytes() == before


class TestFreeze:
    def test_it_holds_the_line(self, finished, tmp_path):
        federation, results = finished
        frozen = json.loads((federation.run_dir / "frozen.json").read_text())
        assert frozen["prediction"] == results.predicted.digest
        copied = Path(shutil.copytree(federation.run_dir, tmp_path / "run"))
        arrays, words = read_tensors(copied / "prediction.safetensors")
        write_tensors(copied / "prediction.safetensors", arrays | {"line": arrays["line"] + 0.01}, **words)
        altered = Federation(federation.study, federation.homes, copied)
        with pytest.raises(SealBroken, match="threshold, line"):
            altered.run()

    def test_a_calibration_of_another_model_is_named(self, finished, tmp_path):
        federation, _ = finished
        copied = Path(shutil.copytree(federation.run_dir, tmp_path / "run"))
        arrays, words = read_tensors(copied / "prediction.safetensors")
        write_tensors(copied / "prediction.safetensors", arrays | {"centre": arrays["centre"][:-1]}, **words)
        with pytest.raises(JournalDamaged, match="not the calibration"):
            Federation(federation.study, federation.homes, copied).run()


def test_with_a_prior_and_own_intercepts_the_line_is_the_joint_optimum(tables, make_study, tmp_path):
    prior = {"intercept_sd": 0.3, "slope_sd": 0.4}
    study = make_study(
        **{**SHARE, "prediction": {"prior": prior}, "training": {**SHARE["training"], "random_intercept": 1.5}},
        evaluation={"logistic_baseline": True, "local_baseline": False},
        harmonisation={},
    )
    homes = make_homes(study, tables / "sites.yaml", tables, tmp_path / "homes")
    federation = Federation(study, homes, tmp_path / "run")
    results = federation.run()
    parts = []
    for site in TRAIN:
        cohort = federation.sites[site]._harmonised["run"]
        rows = cohort.rows("tune")
        weights = read_tensors(federation.run_dir / "rounds/0002.safetensors")[0]["weights"]
        preparation = Preparation.read(federation.run_dir / "preparation.safetensors")
        parts.append((cohort.labels[rows], model_logits(study, cohort, preparation, weights, rows)))
    labels = np.concatenate([part[0] for part in parts])
    high, low = (labels.sum() + 1) / (labels.sum() + 2), 1 / (len(labels) - labels.sum() + 2)
    # at the line (0, 0) a site's own intercept leaves its weights p (1 - p) alike, and shrinks its share of the mean
    shares = []
    for own, odds in parts:
        target = np.where(own == 1, high, low)
        u = own_intercept(np.zeros(len(odds)), target, 1.5)
        weight = expit(u) * (1 - expit(u))
        shares.append((weight * len(odds) / (1 + weight * len(odds) * 1.5**2), odds.mean()))
    mean = sum(share * odds for share, odds in shares) / sum(share for share, _ in shares)

    def loss(values: np.ndarray) -> float:
        total = ((values[0] + (values[1] - 1) * mean) / 0.3) ** 2 / 2 + ((values[1] - 1) / 0.4) ** 2 / 2
        for (own, odds), u in zip(parts, values[2:], strict=True):
            z = values[0] + values[1] * odds + u
            total += float((np.logaddexp(0, z) - np.where(own == 1, high, low) * z).sum()) + (u / 1.5) ** 2 / 2
        return float(total)

    best = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-9}).x
    np.testing.assert_allclose(results.predicted.line, best[:2], atol=1e-5)
    assert results.predicted.prior is not None and results.strategy == "fedavg, sites' own intercepts (SD 1.5)"
    assert "with a prior about no change (SD 0.4 of the slope, 0.3 in height)" in " ".join(words(results))
    assert "own intercepts" in dict(provenance(results).rows)["Strategy"]


def test_each_fold_is_calibrated_again_and_keeps_no_model(tables, make_study, tmp_path):
    study = make_study(
        **SHARE, evaluation={"logistic_baseline": False, "local_baseline": False, "leave_one_site_out": True}
    )
    homes = make_homes(study, tables / "sites.yaml", tables, tmp_path / "homes")
    federation = Federation(study, homes, tmp_path / "run")
    results = federation.run()
    assert {r.run for r in federation.asked if r.kind == "release"} == {"run"}
    folds = {r.run: r.site for r in federation.asked if r.kind == "calibrate" and "/" in r.run}
    assert folds == {"run/without-alpha": "beta", "run/without-beta": "alpha"}
    assert all(fold.federated.covered is not None and fold.uncalibrated.slope is not None for fold in results.left_out)


def test_a_site_with_too_few_tuning_patients_leaves_the_line_to_the_other(tables, make_study, tmp_path):
    changes = {**SHARE, "split": {"tune": 0.2, "test": 0.4}}
    study = make_study(**changes, evaluation={"logistic_baseline": False, "local_baseline": False})
    homes = make_homes(study, tables / "sites.yaml", tables, tmp_path / "homes")
    federation = Federation(study, homes, tmp_path / "run")
    cohort = federation.sites["beta"].cohort(study)
    few = int(np.bincount(cohort.labels[cohort.rows("tune")]).min())
    (homes["beta"] / "policy.yaml").write_text(f"{{minimum_cohort: 10, minimum_cell: {few + 1}}}")
    results = federation.run()
    assert results.predicted.sites == ("alpha",) == results.threshold_sites
    asked = {r.site for r in federation.asked if r.kind == "conform"}
    assert asked == {"alpha"}
    assert results.predicted.trained == sum(len(federation.sites[s].cohort(study).rows("train")) for s in TRAIN)
    assert KINDS["embed"] in {type(r) for r in federation.asked if r.site == "beta"}
