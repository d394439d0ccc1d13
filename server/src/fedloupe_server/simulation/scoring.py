"""One variant of a comparison, from its run to every patient's scores; the scores stay in the sites' homes.

run_variant(variant, held, folder)                   # run_study, the pooled model, scores at each site's door
scores = read_scores(homes, variant)                 # by site, for `fedloupe_server.comparing`
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloupe.messages import TOO_FEW, TrainRequest, decode
from fedloupe.models import Preparation
from fedloupe.study import Study
from fedloupe_client.dataset import Cohort, seen_by
from fedloupe_client.gate import load_policy
from fedloupe_client.harmonising import Harmonised
from fedloupe_client.site.site import Site
from fedloupe_client.training.evaluation import probabilities
from fedloupe_server.comparing import Fit, SiteScores
from fedloupe_server.federation import run_study
from fedloupe_server.federation.conversation import SiteRefused
from fedloupe_server.federation.fit import initial_weights
from fedloupe_server.federation.journal import Journal, read_tensors, write_atomic, write_tensors
from fedloupe_server.federation.opening import run_name
from fedloupe_server.hub.inprocess import inprocess_exchange
from fedloupe_server.simulation.enrolling import enrol_here
from fedloupe_server.simulation.pooling import train_pooled
from fedloupe_server.simulation.variants import NotCompared, Variant

REFUSED = "evaluation-refused.json"
Models = dict[str, tuple[str, NDArray[Any]]]


@dataclass
class Meter:
    """CPU seconds of training by kind, kept in the run's folder so that an interrupted run goes on counting."""

    path: Path
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def at(cls, folder: Path) -> Meter:
        """The folder's meter, at what it has counted."""
        path = folder / "cpu.json"
        return cls(path, json.loads(path.read_text()) if path.exists() else {})

    def add(self, kind: str, since: float) -> None:
        """Count what this process has used since then (`time.process_time`)."""
        self.seconds[kind] = self.seconds.get(kind, 0.0) + time.process_time() - since
        write_atomic(self.path, json.dumps(self.seconds).encode())


@dataclass(frozen=True)
class Held:
    """A site's home and its patients with all inputs, loaded once for all variants."""

    home: Path
    whole: Cohort


class HeldSite(Site):
    """A site like any other, but for its patients, which are in memory already, and a meter on its training."""

    def __init__(self, held: Held, meter: Meter) -> None:
        super().__init__(held.home)
        self._whole, self._meter = held.whole, meter
        self._split: dict[str, Cohort] = {}

    def cohort(self, study: Study) -> Cohort:
        """The patients as this study sees them."""
        if study.fingerprint not in self._split:
            self._split = {study.fingerprint: seen_by(study, self.name, self._whole)}
        return self._split[study.fingerprint]

    def answer(self, blob: bytes, coordinator: str = "") -> bytes:
        """Answer one request; CPU time counts where it asks for training."""
        request, since = decode(blob), time.process_time()
        answer = super().answer(blob, coordinator)
        if isinstance(request, TrainRequest):
            self._meter.add(request.scope, since)
        return answer


def run_variant(variant: Variant, held: Mapping[str, Held], folder: Path) -> None:
    """Run or continue a variant in `folder/NAME`, train its pooled model, score all patients that it tests.

    A site whose gate lets no evaluation of so few patients out does not end the comparison: the models are there, and
    the site is left out of what is said.

    Raises:
        FedLoupeError: as `run_study`; the same call goes on.
    """
    run_dir, study = folder / variant.name, variant.study
    run_dir.mkdir(parents=True, exist_ok=True)
    Journal(run_dir).open_for(study)  # a folder that an edited study made is another run's, also a finished one
    meter = Meter.at(run_dir)
    sites = {name: HeldSite(one, meter) for name, one in held.items()}
    if not (run_dir / "results.json").exists():
        try:
            key = enrol_here({name: one.home for name, one in held.items()}, folder)
            run_study(study, inprocess_exchange({name: site.handle for name, site in sites.items()}, key=key), run_dir)
        except SiteRefused as refused:
            said = set(re.findall(r"FL-\d{3}|no answer", refused.what))
            if not (_all_trained(study, run_dir) and said <= set(TOO_FEW)):
                raise
            write_atomic(run_dir / REFUSED, json.dumps({"refused": refused.what}).encode())
    preparation = Preparation.read(Journal(run_dir).preparation_path)
    assert preparation is not None, "a run whose rounds are complete has its preparation"
    cohorts = {name: modelled(study, name, sites[name].cohort(study), held[name].home, run_dir) for name in sites}
    models = trained_models(run_dir)
    if variant.pooled:
        models["pooled"] = ("transformer", _pooled(study, cohorts, preparation, run_dir, meter))
    for name, cohort in cohorts.items():
        scores = _scores(study, name, cohort, preparation, models, load_policy(held[name].home).minimum_cell)
        write_tensors(scores_path(held[name].home, variant), {"labels": cohort.labels, **scores})


def finished(variant: Variant, homes: Mapping[str, Path], folder: Path) -> bool:
    """Whether a variant needs nothing more."""
    run_dir = folder / variant.name
    over = (run_dir / "results.json").exists() or (run_dir / REFUSED).exists()
    return over and all(scores_path(home, variant).exists() for home in homes.values())


def scores_path(home: Path, variant: Variant) -> Path:
    """Where a site keeps a variant's scores of its patients."""
    return home / "runs" / variant.name / "compared.safetensors"


def read_scores(homes: Mapping[str, Path], variant: Variant) -> dict[str, SiteScores]:
    """A finished variant's scores by site."""
    found = {}
    for site, home in homes.items():
        kept = read_tensors(scores_path(home, variant))
        assert kept is not None, "`finished` has seen it"
        tensors = kept[0]
        labels = tensors.pop("labels")
        role = variant.study.role(site)
        assert role is not None, "homes are those of the study's sites"
        found[site] = SiteScores(role, labels, tensors)
    return found


def check_same_patients(fits: Sequence[Fit]) -> None:
    """Every variant scored the same patients of a site, with the same outcomes.

    Raises:
        NotCompared: naming a site whose store changed between two calls.
    """
    first: dict[str, NDArray[np.int64]] = {}
    for fit in fits:
        for site, scored in fit.sites.items():
            if not np.array_equal(first.setdefault(site, scored.labels), scored.labels):
                raise NotCompared(
                    "its patients or their outcomes changed since the first variants ran",
                    where=site,
                    remedy="start over with --fresh, or give another --out",
                )


def trained_models(run_dir: Path) -> Models:
    """Architecture and weights of each model of a run whose rounds are complete, by label."""
    journal = Journal(run_dir)
    weights, _ = journal.load_round(journal.rounds()[-1])
    models: Models = {"federated": ("transformer", weights)}
    for label in ("logistic", "clinical"):
        if found := read_tensors(run_dir / f"{label}.safetensors"):
            models[label] = ("logistic", found[0]["beta"])
    if grown := sorted((run_dir / "trees").glob("*.safetensors")):
        found = read_tensors(grown[-1])
        models |= {"trees": ("trees", found[0]["trees"])} if found else {}
    for path in sorted((run_dir / "local").glob("*.safetensors")):
        if found := read_tensors(path):
            models[f"local-{path.stem}"] = ("transformer", found[0]["weights"])
    return models


def _all_trained(study: Study, run_dir: Path) -> bool:
    """Whether a run lacks nothing but its evaluation: it is frozen after the last model."""
    return (run_dir / "frozen.json").exists() and len(Journal(run_dir).rounds()) == study.training.rounds


def modelled(study: Study, name: str, measured: Cohort, home: Path, run_dir: Path) -> Cohort:
    """Features as the run's models see them: harmonised in a study that harmonises.

    Args:
        study: as it was run.
        name: of the site.
        measured: the site's patients.
        home: of the site, which keeps its own shifts of the run.
        run_dir: of a run whose rounds are complete.
    """
    rules = study.harmonisation
    if rules is None or (study.role(name) == "validate" and rules.unseen == "none"):
        return measured
    own = Harmonised.read(home / "runs" / run_name(run_dir) / "harmonisation.safetensors")
    assert own is not None, "a run whose rounds are complete has harmonised its sites"
    return own.apply(study, measured)


def _pooled(
    study: Study, cohorts: Mapping[str, Cohort], preparation: Preparation, run_dir: Path, meter: Meter
) -> NDArray[np.float32]:
    path = run_dir / "pooled.safetensors"
    if (found := read_tensors(path)) is not None:
        return np.asarray(found[0]["weights"], dtype=np.float32)
    since = time.process_time()
    together = [cohorts[site] for site in study.train_sites]
    logistic = read_tensors(run_dir / "logistic.safetensors")
    beta = logistic[0]["beta"] if logistic and study.training.start == "logistic" else None
    weights = train_pooled(study, together, preparation, initial_weights(study, together[0].columns, beta))
    write_tensors(path, {"weights": weights})
    meter.add("pooled", since)
    return weights


def _scores(
    study: Study, site: str, cohort: Cohort, preparation: Preparation, models: Models, cell: int
) -> dict[str, NDArray[np.float64]]:
    """(n) probabilities by model over the site's tested patients, NaN elsewhere; none where an outcome is too rare."""
    trains = study.role(site) == "train"
    rows = cohort.rows("test")
    events = int(cohort.labels[rows].sum())
    if min(events, len(rows) - events) < max(cell, 1):
        return {}
    found = {}
    for label, (architecture, weights) in models.items():
        if trains and label.startswith("local-") and label != f"local-{site}":
            continue
        found[label] = np.full(len(cohort.labels), np.nan)
        found[label][rows] = probabilities(study, cohort, preparation, architecture, weights, rows)
    if cohort.reference is not None:
        found["oracle"] = np.full(len(cohort.labels), np.nan)
        found["oracle"][rows] = cohort.reference[rows]
    return found
