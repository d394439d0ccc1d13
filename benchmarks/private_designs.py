"""What `private_utility.py` trains and on what: cohorts, preparations, designs, and one private federation in memory.

The steps are the product's own: gradients, clipping, sampling, noise and its price (`noisy_steps`, `planned_spend`),
and FedAvg. Flower, gate and ledger are left out, so that a federation takes seconds. The noise is seeded: nothing here
is private.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from fedloupe.masking import weighted_mean
from fedloupe.models import Inputs, Preparation, Schema, build_model, flatten, group_order, unflatten
from fedloupe.privacy import SeededNoise, Spend
from fedloupe.study import DpSgd, Study, load_study, parse_study
from fedloupe_client.dataset import Cohort, load_cohort, seen_by
from fedloupe_client.training.evaluation import probabilities
from fedloupe_client.training.per_patient import PerPatient
from fedloupe_client.training.private import noisy_steps, planned_spend
from fedloupe_server.simulation.generating import Generate, synthetic_source
from fedloupe_server.simulation.phantoms import fit_preparation, phantoms
from fedloupe_server.simulation.preparing import prepare_sites
from fedloupe_server.simulation.sites import make_home, make_homes

CONFIGS = Path(__file__).parents[1] / "configs"
CHOSEN_ON = 20
"""Seed of the cohort on whose tuning patients learning rates are chosen; the reported one has another."""
ROUNDS = 20
"""Of one step on all patients of a site (sampling rate 1). The noise of n such steps grows as their root, so that their
number hardly matters; smaller batches pay a little more for as much signal."""
TUNE = 0.1
"""Share of the patients that fixes the threshold: few, for noise weighs less where more patients train."""
COMPONENTS = 4
"""A feature group, of the demo's six."""
WITHOUT = float("inf")
HARDLY = 1e-9  # a noise multiplier must be positive
CALIBRATION = "ou"  # of Arita's hospitals the third in size: its patients fit a scaler, and never train nor test

DESIGNS: dict[str, dict[str, Any]] = {
    "logistic regression": {"architecture": "logistic", "image": False},
    "Transformer": {"architecture": "transformer", "image": False, "width": 16, "depth": 1, "heads": 2, "dropout": 0.0},
    "Transformer with crops": {
        "architecture": "transformer", "image": True, "width": 16, "depth": 1, "heads": 2, "dropout": 0.0
    },
}  # fmt: skip


@dataclass(frozen=True)
class Data:
    """Patients of all sites, and the federations that are looked at: each leaves one site out of training.

    Attributes:
        study: its sites train, but for the external ones.
        whole: by site.
        external: one site a federation.
        public: cohorts that are no training patients; a scaler is fitted on them.
        components: principal components a group.
        tune: share of tuning patients.
    """

    study: Study
    whole: Mapping[str, Cohort]
    external: tuple[str, ...]
    public: tuple[Cohort, ...]
    components: int
    tune: float = TUNE


class Ready:
    """A cohort whose model inputs were worked out once."""

    def __init__(self, cohort: Cohort, preparation: Preparation) -> None:
        self.groups, self.labels, self._cohort = cohort.feature_groups, cohort.labels, cohort
        self._inputs = cohort.inputs(preparation, np.arange(len(cohort.cases)))

    def rows(self, split: str) -> NDArray[np.int64]:
        return self._cohort.rows(split)

    def inputs(self, preparation: Preparation, rows: NDArray[np.int64]) -> Inputs:
        return self._inputs.take(torch.from_numpy(rows))


def demo(folder: Path, seed: int | None = None, components: int = COMPONENTS) -> Data:
    """The hospitals of configs/demo-large.yaml, of its sites file's seed where `seed` is None; made on first use.

    Of another seed's cohort only the training hospitals.
    """
    config = CONFIGS / "demo-large.yaml"
    study = load_study(config)
    generate = Generate(**yaml.safe_load(config.with_suffix(".sites.yaml").read_text())["generate"])
    if seed is not None:
        generate = generate.model_copy(update={"seed": seed})
    spec, cohort = generate.cohort(study, config), folder / f"cohort-{generate.seed}"
    homes = {
        site.name: make_home(
            cohort / "sites" / site.name, study, site.name, synthetic_source(cohort / "hospitals", site, study), {}
        )
        for site in spec.sites
        if seed is None or site.role == "train"
    }
    if not (cohort / "prepared").exists():
        prepare_sites(study, homes, lambda *_: None, cohort=(cohort / "hospitals", spec))
        (cohort / "prepared").touch()
    public = phantoms(study, folder / "phantoms", lambda *_: None)
    whole = {site: load_cohort(home, study, site) for site, home in homes.items()}
    return Data(study, whole, study.validate_sites, (public,), components, TUNE if seed is None else study.split.tune)


def arita(folder: Path, data: Path) -> Data:
    """The four hospitals of configs/glioma-radiomics.yaml, one of which gives its patients for the scaler."""
    study = load_study(CONFIGS / "glioma-radiomics.yaml")
    homes = make_homes(study, CONFIGS / "glioma-radiomics.sites.yaml", data, folder / "arita")
    prepare_sites(study, homes, lambda *_: None)
    whole = {site: load_cohort(home, study, site) for site, home in homes.items()}
    apart = whole.pop(CALIBRATION)
    apart = replace(apart, split=np.full(len(apart.cases), "train"))
    return Data(study, whole, tuple(whole), (apart,), study.model.components)


def raw(public: Preparation, columns: tuple[str, ...]) -> Preparation:
    """The public scaler, and each feature for itself; a group's variances add up to one."""
    places = {group: np.flatnonzero(np.array(columns) == group) for group in group_order(columns)}
    projection = np.zeros((len(columns), max(len(rows) for rows in places.values())), np.float32)
    for rows in places.values():
        projection[rows, np.arange(len(rows))] = len(rows) ** -0.5
    return Preparation(public.mean, public.scale, projection, "public")


def drawn(public: Preparation, columns: tuple[str, ...], components: int) -> Preparation:
    """The public scaler, and orthonormal directions drawn at random: nobody's patients chose them."""
    projection = np.zeros((len(columns), components), np.float32)
    for group in group_order(columns):
        rows = np.flatnonzero(np.array(columns) == group)
        normal = np.random.default_rng(7).standard_normal((len(rows), components))
        projection[rows, : min(len(rows), components)] = np.linalg.qr(normal)[0]
    return Preparation(public.mean, public.scale, projection, "public")


def preparation(kind: str, data: Data, cohorts: Mapping[str, Cohort], seed: int) -> Preparation:
    """Scaling and projection of a kind, for these training cohorts."""
    if kind == "federated PCA (not private)":
        return fit_preparation(list(cohorts.values()), data.components, seed=seed, origin="public")
    public = fit_preparation(data.public, data.components, seed=1, origin="public")
    columns = data.public[0].columns
    kinds = {
        "public PCA": lambda: public,
        "raw features": lambda: raw(public, columns),
        "random projection": lambda: drawn(public, columns, data.components),
    }
    return kinds[kind]()


def private_study(
    data: Data, design: str, components: int, epsilon: float, rate: float, seed: int, out: str | None
) -> Study:
    """The study of a design, one site apart; `components` may be more than a study file may name."""
    content = data.study.model_dump(mode="json")
    for section in ("harmonisation", "prediction"):
        content.pop(section, None)
    privacy = {"mode": "dp-sgd", "epsilon": min(epsilon, 100.0), "sampling_rate": 1.0, "learning_rate": rate}
    content |= {
        "aggregation": "plain",
        "sites": [{"name": s, "role": "validate" if s == out else "train"} for s in (*data.whole,)],
        "quorum": {"minimum": 1},
        "model": {**DESIGNS[design], "components": 1, "feature_dropout": 0.0, "feature_noise": 0.0},
        "training": {"rounds": ROUNDS, "local_epochs": 1, "preparation": "public", "start": "random"},
        "privacy": privacy,
        "evaluation": {"local_baseline": False, "logistic_baseline": False},
        "split": {"test": data.study.split.test, "tune": data.tune},
        "seed": seed,
    }
    study = parse_study(content)
    return study.model_copy(update={"model": study.model.model_copy(update={"components": components})})


def federation(
    study: Study, ready: Mapping[str, Ready], prepared: Preparation, epsilon: float, seed: int
) -> NDArray[np.float32]:
    """The last round's weights. Nothing of these designs is random but the noise, so one model serves all sites."""
    assert isinstance(study.privacy, DpSgd)
    spend = Spend(HARDLY, 1.0, 1) if epsilon == WITHOUT else planned_spend(study, study.privacy)
    source = SeededNoise(1000 * seed + round(10 * min(epsilon, 99)))
    model = build_model(study, Schema.of(study, next(iter(ready.values())).groups)).train()
    gradients, weights = PerPatient(model), flatten(model)
    patients = {site: ready[site].rows("train") for site in study.train_sites}
    inputs = {site: ready[site].inputs(prepared, rows) for site, rows in patients.items()}
    labels = {site: torch.from_numpy(ready[site].labels[rows].astype(np.float32)) for site, rows in patients.items()}
    for _ in range(study.training.rounds):
        shares = []
        for site, rows in patients.items():
            unflatten(model, weights)
            noisy_steps(
                list(model.parameters()),
                lambda drawn, site=site: gradients.of(inputs[site].take(drawn), labels[site][drawn]),
                patients=len(rows),
                privacy=study.privacy,
                spend=spend,
                source=source,
            )
            shares.append((flatten(model), len(rows)))
        weights = weighted_mean(shares).astype(np.float32)
    return weights


def scored(study: Study, one: Ready, prepared: Preparation, weights: NDArray[Any], split: str) -> NDArray[np.float64]:
    """(n) probability of each patient of a split, NaN for the others."""
    found, rows = np.full(len(one.labels), np.nan), one.rows(split)
    found[rows] = probabilities(study, one, prepared, "transformer", weights, rows)
    return found


def cohorts_of(study: Study, data: Data) -> dict[str, Cohort]:
    """The sites' patients as this study splits them, without crops where its model sees none."""
    seen = {site: seen_by(study, site, whole) for site, whole in data.whole.items()}
    if study.model.image:
        return seen
    return {site: replace(c, mr=c.mr[:, :0], mr_present=c.mr_present[:, :0]) for site, c in seen.items()}
