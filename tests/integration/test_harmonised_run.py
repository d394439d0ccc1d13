"""Harmonised studies through real homes, gates and Flower's in-process Grid, against the pooled computation."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fedloupe import __version__
from fedloupe.messages import HarmoniseRequest, RedundancyRequest, StabilityRequest, decode
from fedloupe.models import Preparation, design_matrix, standardise
from fedloupe.study import Study, load_study, parse_study
from fedloupe_client.config import load_site
from fedloupe_client.dataset.cohort import BatchUnknown
from fedloupe_client.gate import approve, verify
from fedloupe_client.harmonising import Harmonised
from fedloupe_client.ingest import ingest
from fedloupe_client.ingest.problems import ColumnMissing
from fedloupe_client.site.site import Site
from fedloupe_server.evidence.report import draw, render
from fedloupe_server.evidence.results import Results
from fedloupe_server.federation import run_study
from fedloupe_server.federation.journal import read_tensors
from fedloupe_server.hub.inprocess import inprocess_exchange
from fedloupe_server.simulation.sites import make_homes
from sealing import hearing

CONFIGS = Path(__file__).parents[2] / "configs"
TOLERANCE = 1e-6
SCANNERS = {"alpha": ("aera", "skyra"), "beta": ("ingenia",), "omega": ("vida",)}


@dataclass
class Federation:
    """Homes that are ingested and approved, and the sites that live in them."""

    study: Study
    homes: dict[str, Path]
    run_dir: Path

    def __post_init__(self) -> None:
        for site, home in self.homes.items():
            if not (home / "store").exists():
                ingest(load_site(home), self.study, home)
            approve(home, self.study, by="test")
            self.__dict__.setdefault("sites", {})[site] = Site(home)

    def run(self, handlers: dict[str, Any] | None = None) -> Results:
        sites = {name: hearing(site, self.run_dir) for name, site in self.sites.items()}
        exchange = inprocess_exchange(sites | (handlers or {}))
        return run_study(self.study, exchange, self.run_dir)

    def cohort(self, site: str):
        return self.sites[site].cohort(self.study)

    def own(self, site: str, run: str | None = None) -> Harmonised:
        found = Harmonised.read(self.homes[site] / "runs" / (run or self.run_dir.name) / "harmonisation.safetensors")
        assert found is not None
        return found


def harmonised_by_the_book(
    features: np.ndarray, batch: np.ndarray, x: np.ndarray, train: np.ndarray, mean_only: set[str]
) -> np.ndarray:
    """Empirical Bayes ComBat on the pooled table: fitted on rows of `train`, applied to every row.

    One design matrix, least squares by feature, and the iteration of Johnson 2007 from the start for each batch.
    """
    out, p = features.copy(), features.shape[1]
    names = np.unique(batch)
    design = np.column_stack([batch[:, None] == names, x]).astype(float)
    level, spread, beta = np.zeros(p), np.zeros(p), np.zeros((p, x.shape[1]))
    for f in range(p):
        rows = train & np.isfinite(features[:, f])
        fit, *_ = np.linalg.lstsq(design[rows], features[rows, f], rcond=None)
        level[f] = design[rows][:, : len(names)].sum(axis=0) @ fit[: len(names)] / rows.sum()
        spread[f] = np.sqrt(np.mean((features[rows, f] - design[rows] @ fit) ** 2))
        beta[f] = fit[len(names) :]
    sd = np.nanstd(features[train], axis=0)
    use = (sd > 1e-9 * np.abs(np.nanmean(features[train], axis=0))) & (spread > 1e-9 * sd)
    left = np.full(features.shape, np.nan)
    left[:, use] = ((features - level - x @ beta.T)[:, use]) / spread[use]
    for name in names:
        part = left[train & (batch == name)][:, use]
        count = np.isfinite(part).sum(axis=0)
        g_hat, d_hat = np.nanmean(part, axis=0), np.nanvar(part, axis=0, ddof=1)
        g_bar, t2 = g_hat.mean(), g_hat.var(ddof=1)
        gamma, delta = g_hat, np.ones(use.sum())
        if name in mean_only:
            gamma = (t2 * count * g_hat + g_bar) / (t2 * count + 1)
        else:
            varies = d_hat > 1e-18  # a feature that is constant in the batch says nothing of widths
            m, s2 = d_hat[varies].mean(), d_hat[varies].var(ddof=1)
            a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
            delta = np.where(varies, d_hat, 1.0)
            for _ in range(200):
                gamma = (t2 * count * g_hat + delta * g_bar) / (t2 * count + delta)
                delta = (np.nansum((part - gamma) ** 2, axis=0) / 2 + b) / (count / 2 + a - 1)
        rows = np.flatnonzero(batch == name)
        scores = (left[rows][:, use] - gamma) / np.sqrt(delta)
        out[np.ix_(rows, use)] = scores * spread[use] + (level + x[rows] @ beta.T)[:, use]
    return out


def check_against_pooled(federation: Federation, mean_only: set[str] = frozenset()) -> None:
    """Harmonised features, scaling and the logistic baseline of the run equal those of the pooled patients."""
    study, train_sites = federation.study, federation.study.train_sites
    cohorts = [federation.cohort(site) for site in train_sites]
    names = [variable.name for variable in study.clinical]
    places = [names.index(name) for name in study.harmonisation.covariates]
    features = np.concatenate([c.features for c in cohorts])
    x = np.concatenate([np.nan_to_num(c.clinical[:, places]) for c in cohorts])
    batch = np.concatenate([[f"{s}:{b}" for b in c.batches] for s, c in zip(train_sites, cohorts, strict=True)])
    train = np.concatenate([c.split == "train" for c in cohorts])
    wanted = harmonised_by_the_book(features, batch, x, train, mean_only)

    applied = [federation.own(site).apply(study, cohort) for site, cohort in zip(train_sites, cohorts, strict=True)]
    found = np.concatenate([c.features for c in applied])
    scale = np.nanstd(features[train], axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)  # constants
    assert np.nanmax(np.abs(found - wanted) / scale) < TOLERANCE
    assert np.nanmax(np.abs(found - features) / scale) > 0.1

    preparation = Preparation.read(federation.run_dir / "preparation.safetensors")
    np.testing.assert_allclose(preparation.mean, np.nanmean(wanted[train], axis=0), rtol=TOLERANCE, atol=TOLERANCE)
    known = preparation.scale > 0
    sd = np.nanstd(wanted[train], axis=0, ddof=1)
    np.testing.assert_allclose(preparation.scale[known], sd[known], rtol=TOLERANCE)

    design = np.concatenate([design_matrix(c.inputs(preparation, c.rows("train"))) for c in applied])
    labels = np.concatenate([c.labels for c in cohorts])[train]
    pooled = LogisticRegression(C=1 / study.evaluation.ridge, tol=1e-12, max_iter=10_000, solver="newton-cholesky").fit(
        design[:, 1:], labels
    )
    beta = read_tensors(federation.run_dir / "logistic.safetensors")[0]["beta"]
    np.testing.assert_allclose(beta, [*pooled.intercept_, *pooled.coef_[0]], atol=TOLERANCE)


@pytest.fixture(scope="module")
def scanned(tmp_path_factory) -> Path:
    """Synthetic feature tables of three hospitals; alpha has two scanners, each with a shift and a width."""
    folder = tmp_path_factory.mktemp("scanned")
    rng, sites = np.random.default_rng(11), {}
    for site, size in {"alpha": 70, "beta": 50, "omega": 40}.items():
        with (folder / f"{site}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["case", "response", "age", "scanner", *(f"f{i}" for i in range(15))])
            for i in range(size):
                scanner, age = SCANNERS[site][i % len(SCANNERS[site])], rng.normal(60, 10)
                shift = np.random.default_rng(sum(map(ord, scanner))).normal(0, 1.5, 16)
                values = (1 + 0.3 * abs(shift[15])) * rng.standard_normal(15) + shift[:15] + 0.05 * (age - 60)
                response = int(values[0] - shift[0] + rng.standard_normal() > 0)
                table.writerow([f"{site}-{i}", response, f"{age:.1f}", scanner, *(f"{v:.6f}" for v in values)])
        sites[site] = {
            "source": {
                "format": "table",
                "root": ".",
                "clinical": {"file": f"{site}.csv", "case": "case"},
                "features": f"{site}.csv",
                "exclude": ["response", "age", "scanner"],
            }
        }
    policy = {"minimum_cohort": 10, "minimum_cell": 2}
    (folder / "sites.yaml").write_text(yaml.safe_dump({"sites": sites, "policy": policy}))
    return folder


@pytest.fixture
def federate(scanned, tmp_path):
    def make(rules: dict[str, Any] | None, **changes: Any) -> Federation:
        content = {
            "study": "scanned",
            "title": "Synthetic tables of several scanners",
            "synthetic": True,
            "endpoint": {"name": "response", "column": "response", "positive": ["1"], "negative": ["0"]},
            "clinical": [{"name": "age", "column": "age", "centre": 60, "scale": 10}],
            "aggregation": "plain",
            "sites": [{"name": s, "role": "validate" if s == "omega" else "train"} for s in SCANNERS],
            "radiomics": {"source": "table"},
            "model": {"components": 5, "image": False, "width": 8, "depth": 1, "heads": 1},
            "training": {"rounds": 1, "local_epochs": 1, "learning_rate": 0.001},
            "evaluation": {"local_baseline": False, "ridge": 2.0},
            **changes,
        }
        study = parse_study(content | ({"harmonisation": rules} if rules is not None else {}))
        homes = make_homes(study, scanned / "sites.yaml", scanned, tmp_path / "homes")
        return Federation(study, homes, tmp_path / "run")

    return make


class TestEqualToPooled:
    def test_over_hospitals_with_a_covariate(self, federate):
        federation = federate({"covariates": ["age"]})
        federation.run()
        check_against_pooled(federation)

    def test_over_scanners_of_which_one_hospital_has_two(self, federate):
        federation = federate({"covariates": ["age"], "batch": "scanner", "minimum": 22, "small": "mean-only"})
        results = federation.run()
        assert results.harmonised.batches == {"alpha": 2, "beta": 1}
        small = {f"alpha:{name}" for name in ("aera", "skyra")}
        assert results.harmonised.small_batches == {"alpha": 2}
        check_against_pooled(federation, small)

    @pytest.mark.data
    def test_on_the_four_hospitals_of_a_real_table(self, real_data, tmp_path):
        study = load_study(CONFIGS / "glioma-radiomics-combat.yaml")
        brief = {"training": {**study.training.model_dump(), "rounds": 1}, "evaluation": {"ridge": 10.0}}
        study = parse_study({**study.model_dump(mode="json"), **brief})
        homes = make_homes(study, CONFIGS / "glioma-radiomics-combat.sites.yaml", real_data, tmp_path / "homes")
        federation = Federation(study, homes, tmp_path / "run")
        results = federation.run()
        assert results.harmonised.small_batches == {"otr": 1}
        check_against_pooled(federation, {"otr:"})


@pytest.mark.data
class TestGliomaOfFourHospitals:
    """Bars of the project; `benchmarks/harmonisation.py` has every number, those of a guesser not linear among them."""

    @staticmethod
    def guessed(cohorts: list, hospitals: tuple[str, ...]) -> float:
        """Accuracy of guessing the hospital in five-fold cross-validation, as the table's own reference figure."""
        hospital = np.concatenate([[s] * len(c.cases) for s, c in zip(hospitals, cohorts, strict=True)])
        guesser = make_pipeline(StandardScaler(), PCA(20, random_state=0), LogisticRegression(max_iter=5000))
        folds = StratifiedKFold(5, shuffle=True, random_state=3)
        return float(cross_val_score(guesser, np.concatenate([c.features for c in cohorts]), hospital, cv=folds).mean())

    def test_the_hospital_cannot_be_guessed_any_more_and_the_endpoint_at_an_unseen_one_as_well_as_before(
        self, real_data, tmp_path
    ):
        harmonised = load_study(CONFIGS / "glioma-radiomics-combat.yaml")
        brief = {"rounds": 1, "local_epochs": 1}
        content = {**harmonised.model_dump(mode="json"), "training": {**harmonised.training.model_dump(), **brief}}
        content["evaluation"] = {"ridge": 10.0, "leave_one_site_out": True, "local_baseline": False}
        content["seed"] = 3
        aucs = {}
        for name, rules in (("with", content.pop("harmonisation")), ("without", None)):
            study = parse_study({**content, "harmonisation": rules})
            homes = make_homes(study, CONFIGS / "glioma-radiomics-combat.sites.yaml", real_data, tmp_path / name)
            federation = Federation(study, homes, tmp_path / f"run-{name}")
            results = federation.run()
            aucs[name] = np.mean([fold.logistic.auc for fold in results.left_out])
            if rules is not None:
                aucs["as measured"] = np.mean([fold.beside.logistic.auc for fold in results.left_out])
                hospitals = study.train_sites
                measured = [federation.cohort(site) for site in hospitals]
                out = [federation.own(s).apply(study, c) for s, c in zip(hospitals, measured, strict=True)]
                assert self.guessed(measured, hospitals) > 0.8
                assert self.guessed(out, hospitals) <= 0.55
        assert aucs["with"] >= aucs["without"] - 0.03
        assert aucs["as measured"] >= aucs["without"] - 0.03


class TestWithQuality:
    def test_features_are_called_redundant_by_what_is_left_of_them_after_harmonisation(self, federate):
        """A scanner that shifts all features makes them look alike; the model sees them without it."""
        limit = 0.4
        federation = federate({}, quality={"perturbations": [], "redundancy": limit})
        federation.run()
        cohorts = {site: federation.cohort(site) for site in federation.study.train_sites}
        harmonised = [federation.own(site).apply(federation.study, cohort) for site, cohort in cohorts.items()]
        lists = {}
        for name, seen in (("measured", cohorts.values()), ("harmonised", harmonised)):
            pooled = np.concatenate([c.features[c.rows("train")] for c in seen])
            scores = standardise(pooled, pooled.mean(axis=0), pooled.std(axis=0, ddof=1))
            matrix, kept = np.abs(np.corrcoef(scores.T)), []
            for place in range(len(matrix)):
                if not kept or matrix[place, kept].max() < limit:
                    kept.append(place)
            lists[name] = [cohorts["alpha"].names[place] for place in kept]
        agreed = json.loads((federation.run_dir / "quality.json").read_text())["features"]
        assert [v["name"] for v in agreed if not v["why"]] == lists["harmonised"]
        assert lists["measured"] != lists["harmonised"]

    def test_repeatability_is_judged_on_features_as_measured(self, federate):
        """Perturbed cases are never harmonised: their version 0 must not be either."""
        federation = federate({})
        federation.run()
        site, measured = federation.sites["alpha"], federation.cohort("alpha")
        header = {"version": __version__, "fingerprint": federation.study.fingerprint, "run": "run", "site": "alpha"}
        none = np.zeros(len(measured.names))
        asked = StabilityRequest(**header, mean=none, scale=none)
        assert np.array_equal(site._seen(asked, federation.study).features, measured.features)
        asked = RedundancyRequest(**header, mean=none, scale=none, earlier=np.zeros(0, int), block=np.zeros(1, int))
        assert not np.array_equal(site._seen(asked, federation.study).features, measured.features)


class TestUnseen:
    @pytest.mark.parametrize(("declared", "other"), [("estimate", "none"), ("none", "estimate")])
    def test_the_declared_rule_is_the_headline_and_the_other_stands_beside_it(self, federate, declared, other):
        results = federate({"unseen": declared}, evaluation={"leave_one_site_out": True}).run()
        omega = next(s for s in results.sites if s.site == "omega")
        assert omega.beside.rule == other
        assert omega.beside.federated.label == f"federated-{other}"
        assert omega.beside.federated.auc != omega.federated.auc
        assert omega.beside.logistic.patients == omega.logistic.patients == 40
        assert all(s.beside is None for s in results.sites if s.role == "train")
        assert [f.beside.rule for f in results.left_out] == [other] * 2
        assert "own shift taken out" in render(results, draw(results))

    def test_the_two_rules_swap_places(self, federate, tmp_path):
        first = federate({"unseen": "estimate"}).run()
        measured = federate({"unseen": "none"})
        measured.run_dir = tmp_path / "measured"  # a site keeps one seal a run
        second = measured.run()
        one, two = (next(s for s in r.sites if s.site == "omega") for r in (first, second))
        assert (one.federated.auc, one.beside.federated.auc) == (two.beside.federated.auc, two.federated.auc)

    def test_a_site_left_out_gives_no_sums_and_is_shifted_by_all_its_patients(self, federate):
        federation = federate({}, evaluation={"leave_one_site_out": True})
        federation.run()
        marks = federation.homes["alpha"] / "gate" / "trained" / "run+without-alpha"
        assert not marks.exists()
        own = federation.own("alpha", "run/without-alpha")
        cohort = federation.cohort("alpha")
        left = own.harmoniser.standardised(cohort.features, np.zeros((len(cohort.cases), 0)))
        assert np.abs(np.nanmean(left, axis=0) - own.shifts[""].gamma).max() < 0.25
        assert all(verify(home) == [] for home in federation.homes.values())


class TestGoesOn:
    def test_a_run_that_stops_between_rounds_ends_with_the_same_bytes(self, federate, tmp_path):
        whole = federate({"covariates": ["age"]}).run()
        (tmp_path / "run").rename(tmp_path / "whole")
        for home in (tmp_path / "homes").iterdir():
            (home / "runs").rename(home / "runs-whole")
            (home / "gate").rename(home / "gate-whole")
        federation = federate({"covariates": ["age"]})

        def dies(blob: bytes) -> bytes:
            if isinstance(decode(blob), HarmoniseRequest):
                raise RuntimeError("the site is killed")
            return hearing(federation.sites["beta"], federation.run_dir)(blob)

        with pytest.raises(Exception, match="beta: no answer"):
            federation.run({"beta": dies})
        again = Federation(federation.study, federation.homes, federation.run_dir)
        assert again.run() == whole
        assert (tmp_path / "run/harmonisation.safetensors").read_bytes() == (
            tmp_path / "whole/harmonisation.safetensors"
        ).read_bytes()


class TestScannerColumn:
    def test_a_store_that_was_ingested_without_it_says_so(self, federate):
        federation = federate({})
        asked = parse_study({**federation.study.model_dump(mode="json"), "harmonisation": {"batch": "scanner"}})
        with pytest.raises(BatchUnknown, match="scanner"):
            federation.sites["alpha"].cohort(asked)

    def test_a_table_without_it_is_refused_by_name(self, federate):
        with pytest.raises(ColumnMissing, match="coil"):
            federate({"batch": "coil"})


class TestWithoutTheSection:
    def test_nothing_of_it_is_asked_or_said(self, federate):
        federation = federate(None)
        results = federation.run()
        assert results.harmonised is None
        assert all(s.beside is None for s in results.sites)
        assert "armonis" not in render(results, draw(results)).split("</style>")[1]
        kinds = (federation.homes["alpha"] / "gate" / "audit.jsonl").read_text()
        assert "crossproducts" not in kinds and '"prior"' not in kinds
