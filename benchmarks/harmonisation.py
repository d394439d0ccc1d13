"""Does ComBat hide the hospital in the features, and what does it do to the prediction at a hospital never seen?

    FEDLOUPE_DATA=... python benchmarks/harmonisation.py [arita keek ahn ixi ...]

Each run goes through real homes, gates and Flower's in-process Grid. Prints the rows of the tables in
`benchmarks/README.md`. The guessers (standardise, 20 principal components, logistic regression; a random forest as one
that is not linear) are judged in five-fold cross-validation on all patients, and on tuning and test patients after
learning on training patients: ComBat is fitted on training patients alone in both.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fedloupe.study import Study, parse_study
from fedloupe_client.config import load_site
from fedloupe_client.gate import approve
from fedloupe_client.harmonising import Harmonised
from fedloupe_client.ingest import ingest
from fedloupe_client.site.site import Site
from fedloupe_server.evidence.results import Results
from fedloupe_server.federation import run_study
from fedloupe_server.hub.inprocess import inprocess_exchange
from fedloupe_server.simulation.sites import make_homes

SEEDS = (1, 2, 3)
VARIANTS: dict[str, dict[str, Any] | None] = {
    "as measured": None,
    "ComBat": {},
    "ComBat without empirical Bayes": {"empirical_bayes": False},
    "ComBat, mean only": {"mean_only": True},
}


@dataclass(frozen=True)
class Data:
    """A table, its hospitals by prefix or part of the id, and what is predicted."""

    hospitals: dict[str, str]
    table: Callable[[Path], pd.DataFrame]
    event: str = "1"
    clinical: tuple[dict[str, Any], ...] = ()
    drop: tuple[str, ...] = ("Target",)


def radmlbench(name: str) -> Callable[[Path], pd.DataFrame]:
    """One of the tables of radMLBench."""
    return lambda data: pd.read_csv(data / f"tables/radmlbench/{name}.csv.gz", dtype={"ID": str})


def ixi(data: Path) -> pd.DataFrame:
    """Regional brain volumes with age and sex; ids begin with the hospital."""
    folder = data / "tables/ixi_3hospitals"
    table = pd.read_csv(folder / "IXI_DLMUSE.csv.gz").merge(pd.read_csv(folder / "IXI_demog.csv"), on="ID")
    table["ID"] = table["ID"].str.split("-").str[1] + "-" + table["ID"]
    return table.rename(columns={"Sex": "Target"})


AGE = ({"name": "age", "column": "Age", "centre": 48, "scale": 16},)
DATA = {
    "arita": Data({"ncc": "NCC*", "knbtg": "KNBTG*", "ou": "OU*", "otr": "OTR*"}, radmlbench("Arita2018")),
    "keek": Data({"avl": "AVL*", "umcu": "UMCU*", "vumc": "VUMC*", "maastro": "MAASTRO*"}, radmlbench("Keek2020")),
    "ahn": Data({"s": "S*", "t": "T*"}, radmlbench("Ahn2021")),
    "ixi": Data({"guys": "Guys-*", "hh": "HH-*", "iop": "IOP-*"}, ixi, "M", AGE, ("Target", "Age")),
}


def study_of(name: str, rules: dict[str, Any] | None, seed: int) -> Study:
    """Leave-one-site-out of the logistic baseline; one round of training, whose model is not looked at."""
    data = DATA[name]
    content = {
        "study": name,
        "title": f"Harmonisation of {name}",
        "endpoint": {
            "name": "endpoint",
            "column": "Target",
            "positive": [data.event],
            "negative": ["F" if data.event == "M" else "0"],
        },
        "clinical": list(data.clinical),
        "aggregation": "plain",
        "sites": [{"name": site, "role": "train"} for site in data.hospitals],
        "radiomics": {"source": "table"},
        "model": {"components": 20, "image": False, "width": 8, "depth": 1, "heads": 1},
        "training": {"rounds": 1, "local_epochs": 1, "learning_rate": 1e-3},
        "quorum": {"minimum": 1},
        "evaluation": {"local_baseline": False, "leave_one_site_out": True, "ridge": 10.0},
        "seed": seed,
    }
    if rules is not None:
        covariates = [variable["name"] for variable in data.clinical]
        content["harmonisation"] = {"covariates": covariates, "small": "mean-only", "minimum": 10, **rules}
    return parse_study(content)


def run(name: str, rules: dict[str, Any] | None, seed: int, data: Path, folder: Path) -> tuple[Results, Any]:
    """One run, and the features that models see with their hospitals and splits."""
    source = {"format": "table", "root": str(folder), "features": "table.csv", "exclude": list(DATA[name].drop)}
    DATA[name].table(data).to_csv(folder / "table.csv", index=False)
    sites = {
        site: {"source": source | {"clinical": {"file": "table.csv", "case": "ID", "where": {"ID": prefix}}}}
        for site, prefix in DATA[name].hospitals.items()
    }
    policy = {"minimum_cohort": 3, "minimum_cell": 1}
    (folder / "sites.yaml").write_text(yaml.safe_dump({"sites": sites, "policy": policy}))
    study = study_of(name, rules, seed)
    homes = make_homes(study, folder / "sites.yaml", folder, folder / "homes")
    for home in homes.values():
        ingest(load_site(home), study, home)
        approve(home, study, by="benchmark")
    rooms = {site: Site(home) for site, home in homes.items()}
    results = run_study(study, inprocess_exchange({s: room.answer for s, room in rooms.items()}), folder / "run")
    cohorts = {site: room.cohort(study) for site, room in rooms.items()}
    if rules is not None:
        for site, home in homes.items():
            own = Harmonised.read(home / "runs/run/harmonisation.safetensors")
            assert own is not None
            cohorts[site] = own.apply(study, cohorts[site])
    features = np.concatenate([c.features for c in cohorts.values()])
    hospital = np.concatenate([[site] * len(c.cases) for site, c in cohorts.items()])
    split = np.concatenate([c.split for c in cohorts.values()])
    return results, (features, hospital, split)


def guessed(
    features: NDArray[np.float64], hospital: NDArray[np.str_], split: NDArray[np.str_], seed: int
) -> tuple[float, ...]:
    """Accuracy of guessing the hospital: linear and forest, by cross-validation on all; both on held-out patients."""
    components = min(20, features.shape[1])
    linear = make_pipeline(StandardScaler(), PCA(components, random_state=0), LogisticRegression(max_iter=5000))
    forest = RandomForestClassifier(500, random_state=0, n_jobs=1)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    train = split == "train"
    crossed = [float(cross_val_score(g, features, hospital, cv=folds).mean()) for g in (linear, forest)]
    held = [
        float(g.fit(features[train], hospital[train]).score(features[~train], hospital[~train]))
        for g in (linear, forest)
    ]
    return (*crossed, *held)


def main() -> None:
    """Print a row for each table, variant and seed."""
    data = Path(os.environ["FEDLOUPE_DATA"])
    for name in sys.argv[1:] or list(DATA):
        for variant, rules in VARIANTS.items():
            for seed in SEEDS if name != "ixi" else SEEDS[:1]:
                with tempfile.TemporaryDirectory() as folder:
                    results, (features, hospital, split) = run(name, rules, seed, data, Path(folder))
                share = max(np.mean(hospital == site) for site in DATA[name].hospitals)
                numbers = " / ".join(f"{g:.2f}" for g in guessed(features, hospital, split, seed))
                folds = {fold.site: fold.logistic.auc for fold in results.left_out if fold.logistic}
                beside = {f.site: f.beside.logistic.auc for f in results.left_out if f.beside and f.beside.logistic}
                print(f"| {name} | {variant} | {seed} | {share:.2f} | {numbers} | {_row(folds)} | {_row(beside)} |")
                sys.stdout.flush()


def _row(aucs: dict[str, float]) -> str:
    if not aucs:
        return ""
    each = ", ".join(f"{site} {auc:.3f}" for site, auc in aucs.items())
    return f"{np.mean(list(aucs.values())):.3f} ({each})"


if __name__ == "__main__":
    main()
