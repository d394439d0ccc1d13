"""UCI heart disease at its four hospitals (`configs/heart.yaml`) beside the figures that FLamby published.

    python benchmarks/heart.py DATA             # five seeds, the study's own splits and FLamby's
    python benchmarks/heart.py DATA --choose    # how the settings were chosen: inside the training patients alone

DATA is the folder of the real data (or FEDLOUPE_DATA). Each run goes through real homes, gates and Flower's in-process
Grid. Protocol and results: `benchmarks/README.md`.
"""

from __future__ import annotations

import csv
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from statistics import fmean, stdev
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors.numpy import load_file
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from statsmodels.stats.proportion import proportion_confint

from fedloupe.models import Preparation
from fedloupe.study import Study, parse_study
from fedloupe_client.config import load_site
from fedloupe_client.dataset import Cohort, load_cohort
from fedloupe_client.gate import approve
from fedloupe_client.ingest import ingest
from fedloupe_client.site.site import Site
from fedloupe_client.training.evaluation import probabilities
from fedloupe_client.training.local import train_alone
from fedloupe_server.federation import run_study
from fedloupe_server.federation.fit import initial_weights
from fedloupe_server.hub.inprocess import inprocess_exchange
from fedloupe_server.simulation.enrolling import enrol_here
from fedloupe_server.simulation.sites import make_homes

CONFIGS = Path(__file__).parents[1] / "configs"
SEEDS = (1, 2, 3, 4, 5)
FLAMBY_CUT = 0.5
FLAMBY_SHARE = 0.34
CANDIDATES: dict[str, dict[str, dict[str, Any]]] = {
    "as shipped: ridge 10": {},
    "ridge 3": {"evaluation": {"ridge": 3.0}},
    "ridge 30": {"evaluation": {"ridge": 30.0}},
}
HELD_OUT = 3
ARRAYS = ("labels", "split", "features", "clinical", "mr", "mr_present", "ct", "ct_present")
ALONE = {"local_baseline": False, "describe": False}
Deal = Callable[[Study, Path, str, Cohort], Cohort]
Scored = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Labels (n) and probabilities (n)."""


@dataclass(frozen=True)
class Run:
    """A finished run with its hospitals' patients, which are together nowhere but here."""

    study: Study
    folder: Path
    cohorts: dict[str, Cohort]
    preparation: Preparation
    threshold: float

    def score(self, architecture: str, weights: NDArray[Any], site: str, rows: NDArray[np.int64]) -> Scored:
        cohort = self.cohorts[site]
        found = probabilities(self.study, cohort, self.preparation, architecture, weights, rows)
        return cohort.labels[rows], found

    def pooled(self, architecture: str, weights: NDArray[Any], tested: dict[str, NDArray[np.int64]]) -> Scored:
        labels, scores = zip(*(self.score(architecture, weights, *one) for one in tested.items()), strict=True)
        return np.concatenate(labels), np.concatenate(scores)


def study_of(seed: int, changes: dict[str, dict[str, Any]], *, validate: bool = True) -> Study:
    """The shipped study with another seed and other settings; without its validate-only hospital where not wanted."""
    content = yaml.safe_load((CONFIGS / "heart.yaml").read_text())
    for section, values in changes.items():
        content[section] = content.get(section, {}) | values
    sites = [site for site in content["sites"] if validate or site["role"] == "train"]
    return parse_study(content | {"seed": seed, "sites": sites})


def as_dealt(study: Study, _home: Path, site: str, cohort: Cohort) -> Cohort:
    """The study's own splits; of the validate-only hospital FLamby's share counts, drawn without regard to outcome."""
    if study.role(site) == "train":
        return cohort
    order = in_order(study.seed, site, cohort.cases, range(len(cohort.cases)))
    split = np.full(len(order), "none")
    split[order[: ceil(FLAMBY_SHARE * len(order))]] = "test"
    return replace(cohort, split=split)


def as_flamby_deals(study: Study, home: Path, site: str, cohort: Cohort) -> Cohort:
    """FLamby's one split: scikit-learn's with seed 43 over the rows in the file's order, stratified where it can be."""
    with (home / "ingest-local.csv").open() as file:
        number = {line["case"]: int(line["local_id"].removeprefix("row-")) for line in csv.DictReader(file)}
    order = np.array(sorted(range(len(cohort.cases)), key=lambda i: number[cohort.cases[i]]))
    labels = cohort.labels[order]
    stratify = labels if min(np.bincount(labels)) > 2 else None
    _, test = train_test_split(
        order, test_size=1 - 0.66, train_size=0.66, random_state=43, shuffle=True, stratify=stratify
    )
    split = np.full(len(order), "train" if study.role(site) == "train" else "none")
    split[test] = "test"
    if study.role(site) == "train":
        for label in (0, 1):
            members = np.flatnonzero((cohort.labels == label) & (split == "train"))
            tunes = round(study.split.tune * np.sum(cohort.labels == label))
            split[in_order(study.seed, site, cohort.cases, members)[:tunes]] = "tune"
    return replace(cohort, split=split)


def run(study: Study, data: Path, folder: Path, name: str = "run", deal: Deal = as_dealt) -> Run:
    """Prepare the hospitals unless `folder` has them, run the study in this process, and open what it froze."""

    def load(home: Path, study: Study, site: str) -> Cohort:
        cohort = load_cohort(home, study, site)
        return deal(study, home, site, cohort) if study.role(site) == "train" else cohort

    homes = make_homes(study, CONFIGS / "heart.sites.yaml", data, folder / "sites")
    for home in homes.values():
        if not (home / "store").exists():
            ingest(load_site(home), study, home)
        approve(home, study, by="benchmark")
    key = enrol_here(homes, folder)
    with patch("fedloupe_client.site.site.load_cohort", load):
        rooms = {site: Site(home) for site, home in homes.items()}
        exchange = inprocess_exchange({site: room.handle for site, room in rooms.items()}, key=key)
        results = run_study(study, exchange, folder / name)
    cohorts = {
        site: room.cohort(study) if study.role(site) == "train" else deal(study, homes[site], site, room.cohort(study))
        for site, room in rooms.items()
    }
    preparation = Preparation.read(folder / name / "preparation.safetensors")
    assert preparation is not None
    return Run(study, folder / name, cohorts, preparation, results.threshold)


def federated(done: Run) -> NDArray[Any]:
    """Weights after the last round."""
    return load_file(done.folder / f"rounds/{done.study.training.rounds:04d}.safetensors")["weights"]


def logistic(done: Run) -> NDArray[Any]:
    """Coefficients of the federated logistic regression."""
    return load_file(done.folder / "logistic.safetensors")["beta"]


def in_order(seed: int, site: str, cases: Sequence[str], members: Iterable[int]) -> list[int]:
    """Positions in the order by which a study deals its patients out."""
    return sorted(members, key=lambda i: hashlib.sha256(f"{seed}|{site}|{cases[i]}".encode()).digest())


def tested(done: Run, sites: Iterable[str]) -> dict[str, NDArray[np.int64]]:
    """Test patients by hospital."""
    return {site: done.cohorts[site].rows("test") for site in sites}


def all_in_one(done: Run) -> NDArray[Any]:
    """Pooled training: the federation's budget on the training patients of all hospitals in one place."""
    train = [taken(done.cohorts[site], done.cohorts[site].rows("train")) for site in done.study.train_sites]
    joined = replace(train[0], **{name: np.concatenate([getattr(c, name) for c in train]) for name in ARRAYS})
    start = initial_weights(done.study, joined.columns)
    return train_alone(done.study, "pooled", joined, done.preparation, start).weights


def taken(cohort: Cohort, rows: NDArray[np.int64]) -> Cohort:
    """The cohort's patients at these positions alone."""
    cases = tuple(cohort.cases[i] for i in rows)
    arrays = {name: getattr(cohort, name)[rows] for name in ARRAYS}
    return replace(cohort, cases=cases, batches=(), groups={}, grades=(), **arrays)


def right(scored: Scored, cut: float) -> float:
    labels, scores = scored
    return float(np.mean((scores > cut) == labels))


def within_training(study: Study, _home: Path, site: str, cohort: Cohort) -> Cohort:
    """A third of the study's training and tuning patients tests, the others train; its test patients are gone."""
    inner = taken(cohort, np.flatnonzero(cohort.split != "test"))
    split = np.full(len(inner.cases), "train")
    for label in (0, 1):
        order = in_order(study.seed, f"{site}|choose", inner.cases, np.flatnonzero(inner.labels == label))
        split[order[::HELD_OUT]] = "test"
        rest = [case for place, case in enumerate(order) if place % HELD_OUT]
        split[rest[: max(1, round(study.split.tune * len(order)))]] = "tune"
    return replace(inner, split=split)


def choose(data: Path) -> None:
    """Print accuracy at 0.5 and log loss, Transformer then logistic, on patients held out of the training patients."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for what, changes in CANDIDATES.items():
            wanted = changes | {"evaluation": ALONE | changes.get("evaluation", {})}
            found: dict[str, list[tuple[float, float]]] = {"transformer": [], "logistic": []}
            for seed in SEEDS:
                study = study_of(seed, wanted, validate=False)
                run_name = f"run-{list(CANDIDATES).index(what)}"
                done = run(study, data, folder / f"seed-{seed}", run_name, within_training)
                for architecture, weights in (("transformer", federated(done)), ("logistic", logistic(done))):
                    scored = done.pooled(architecture, weights, tested(done, done.cohorts))
                    found[architecture].append((right(scored, FLAMBY_CUT), float(log_loss(*scored))))
            columns = [f"{fmean(column):.3f}" for rows in found.values() for column in zip(*rows, strict=True)]
            print(f"| {what} | {' | '.join(columns)} |", flush=True)


Row = tuple[str, str, float]
"""Whose test patients, which model, accuracy."""


def judged(done: Run) -> list[Row]:
    """Every model of a run on the pooled test patients, and on those of the training hospitals."""
    everywhere, trained = tested(done, done.cohorts), tested(done, done.study.train_sites)
    count = [sum(map(len, rows.values())) for rows in (everywhere, trained)]
    four, three = f"four hospitals, n = {count[0]}", f"three, n = {count[1]}"
    best, beta, pooled = federated(done), logistic(done), all_in_one(done)
    rows = []
    for whose, patients in ((four, everywhere), (three, trained)):
        scored = done.pooled("transformer", best, patients)
        rows += [
            (whose, "federated Transformer", right(scored, FLAMBY_CUT)),
            (whose, "federated Transformer, frozen threshold", right(scored, done.threshold)),
            (whose, "federated logistic", right(done.pooled("logistic", beta, patients), FLAMBY_CUT)),
            (whose, "pooled training, Transformer", right(done.pooled("transformer", pooled, patients), FLAMBY_CUT)),
        ]
    own = {site: load_file(done.folder / f"local/{site}.safetensors")["weights"] for site in trained}
    parts = [done.score("transformer", own[site], site, patients) for site, patients in trained.items()]
    labels, scores = (np.concatenate(part) for part in zip(*parts, strict=True))
    rows.append((three, "each hospital's own model at home", right((labels, scores), FLAMBY_CUT)))
    for site, weights in own.items():
        rows.append((four, f"{site}'s own model", right(done.pooled("transformer", weights, everywhere), FLAMBY_CUT)))
    return sorted(rows, key=lambda row: row[0])


def table(data: Path, deal: Deal) -> list[tuple[str, str, list[float]]]:
    """Accuracy of every model by seed."""
    found: dict[tuple[str, str], list[float]] = {}
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            for whose, model, accuracy in judged(run(study_of(seed, {}), data, Path(folder), deal=deal)):
                found.setdefault((whose, model), []).append(accuracy)
    return [(*key, accuracies) for key, accuracies in found.items()]


def published(data: Path) -> list[tuple[str, list[float]]]:
    """FLamby's accuracies at its pooled test, by method."""
    found: dict[str, list[float]] = {}
    for path in sorted((data / "tables/flamby_reference/results_benchmark_fed_heart_disease").glob("*.csv")):
        with path.open() as file:
            for line in csv.DictReader(file):
                if line["Test"] == "Pooled Test":
                    found.setdefault(line["Method"], []).append(float(line["Metric"]))
    return list(found.items())


def printed(whose: str, model: str, accuracies: Sequence[float], patients: int) -> None:
    """One row: mean, SD over the seeds, each seed, and the 95 % interval (Wilson) of the mean on so many patients."""
    mean = fmean(accuracies)
    low, high = proportion_confint(round(mean * patients), patients, method="wilson")
    each = " ".join(f"{one:.3f}" for one in accuracies)
    print(f"| {whose} | {model} | {mean:.3f} | {stdev(accuracies):.3f} | {low:.2f}-{high:.2f} | {each} |", flush=True)


DEALT: dict[str, Deal] = {"the study's splits": as_dealt, "FLamby's split": as_flamby_deals}


def main() -> None:
    """Print the tables of `benchmarks/README.md`."""
    torch.set_num_threads(1)
    arguments = [one for one in sys.argv[1:] if not one.startswith("--")]
    data = Path(arguments[0] if arguments else os.environ["FEDLOUPE_DATA"]).resolve()
    if "--choose" in sys.argv:
        choose(data)
        return
    for name, deal in DEALT.items():
        for whose, model, accuracies in table(data, deal):
            printed(f"{name}: {whose}", model, accuracies, int(whose.split()[-1]))
    for method, accuracies in published(data):
        printed("FLamby, published: n = 254", method, accuracies, 254)


if __name__ == "__main__":
    main()
