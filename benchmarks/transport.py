"""What makes probabilities hold at a hospital that never trained: one change of the study at a time, SYNTHETIC.

    python benchmarks/transport.py FOLDER [--seeds 1,2,3] [--rows "the study; without harmonisation"]

Generates the hospitals of configs/demo-large.yaml with the cohort's seed 20 (configs/demo-large.sites.yaml has another,
so nothing here was chosen on the patients that are reported), runs each variant through homes, gates and Flower's Grid,
and prints the AUC at the training sites (weighted by patients) and at the external site, and how well calibrated the
external site is, beside the true probability's own calibration on the same patients: what chance alone does to 244 of
them. Some two minutes of one core a row and seed.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logit

from fedloupe.metrics import calibration_in_the_large, calibration_slope, delong, expected_calibration_error
from fedloupe.study import Study, load_study, parse_study
from fedloupe_client.dataset import Cohort, load_cohort
from fedloupe_client.gate import approve
from fedloupe_server.simulation.generating import Generate, synthetic_source
from fedloupe_server.simulation.preparing import prepare_sites
from fedloupe_server.simulation.scoring import Held, run_variant
from fedloupe_server.simulation.sites import make_home
from fedloupe_server.simulation.variants import Variant
from fedloupe_server.simulation.working import one_thread

CONFIG = Path(__file__).parents[1] / "configs" / "demo-large.yaml"
SEED = 20
EXTERNAL = "island"
Changes = dict[str, dict[str, Any] | None]
ROWS: dict[str, Changes] = {
    "the study": {},
    "without hospitals' own intercepts": {"training": {"random_intercept": None}},
    "own intercepts of SD 1": {"training": {"random_intercept": 1.0}},
    "without harmonisation": {"harmonisation": None},
    "without either": {"harmonisation": None, "training": {"random_intercept": None}},
    "harmonised in width as well": {"harmonisation": {"mean_only": False}},
    "mild augmentation": {"training": {"augmentation": "mild"}},
    "line without a prior": {"prediction": {"prior": None}},
    "15 % tuning patients, 25 % test": {"split": {"tune": 0.15, "test": 0.25}},
    "none of these": {
        "harmonisation": None,
        "training": {"random_intercept": None, "augmentation": "mild"},
        "prediction": {"prior": None},
        "split": {"tune": 0.15, "test": 0.15},
    },
}
NAMES = ("training sites", "external", "in the large", "slope", "ECE", "covered")


def changed(study: Study, changes: Changes, seed: int) -> Study:
    content = study.model_dump(mode="json")
    content["evaluation"]["local_baseline"] = False
    for section, keys in changes.items():
        content[section] = None if keys is None else {**(content.get(section) or {}), **keys}
    return parse_study({**content, "seed": seed})


def prepared(folder: Path) -> tuple[Study, dict[str, Held]]:
    """The hospitals, generated and derived on first use."""
    study = load_study(CONFIG)
    spec = Generate(hospitals="demo", seed=SEED, scale=2.44).cohort(study, CONFIG)
    homes = {
        site.name: make_home(
            folder / "sites" / site.name, study, site.name, synthetic_source(folder / "hospitals", site, study), {}
        )
        for site in spec.sites
    }
    prepare_sites(study, homes, lambda *_: None, cohort=(folder / "hospitals", spec))
    return study, {site: Held(home, load_cohort(home, study, site)) for site, home in homes.items()}


def measured(results: Path) -> list[float]:
    sites = {site["site"]: site for site in json.loads(results.read_text())["sites"]}
    inside = [s["federated"] for s in sites.values() if s["role"] == "train"]
    outside = sites[EXTERNAL]["federated"]
    within = np.average([s["auc"] for s in inside], weights=[s["patients"] for s in inside])
    return [float(within), *(outside[key] for key in ("auc", "in_the_large", "slope", "ece", "covered"))]


def truth(cohort: Cohort) -> list[float]:
    """The same of the true probability."""
    assert cohort.reference is not None
    odds = logit(cohort.reference)
    slope = calibration_slope(cohort.labels, odds)
    assert slope is not None
    large = calibration_in_the_large(cohort.labels, odds).value
    area = delong(cohort.labels, cohort.reference).auc
    return [float("nan"), area, large, slope.value, expected_calibration_error(cohort.labels, cohort.reference)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--rows", help="names of rows, with ; between them; all if not given")
    parser.add_argument("--seeds", default="1,2,3")
    arguments = parser.parse_args()
    if arguments.folder is None:
        print(__doc__)
        return
    chosen = list(ROWS) if arguments.rows is None else [name.strip() for name in arguments.rows.split(";")]
    if unknown := [name for name in chosen if name not in ROWS]:
        parser.error(f"no such rows: {unknown}; there are {list(ROWS)}")
    study, held = prepared(arguments.folder)
    one_thread(arguments.folder / "sites.log")
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    print(f"SYNTHETIC patients, cohort seed {SEED}; mean over seeds {seeds}\n")
    print(f"| what | {' | '.join(NAMES)} |\n|---|{'---|' * len(NAMES)}")
    print(
        f"| true probability | {' | '.join(f'{value:.2f}' for value in truth(held[EXTERNAL].whole))} | - |", flush=True
    )
    for name in chosen:
        rows = []
        for seed in seeds:
            variant = changed(study, ROWS[name], seed)
            for one in held.values():
                approve(one.home, variant, by="benchmark")
            slug = f"{re.sub('[^a-z0-9]+', '-', name.lower())}-{seed}"
            run_variant(Variant(slug, name, seed, "", variant, False), held, arguments.folder / "runs")
            rows.append(measured(arguments.folder / "runs" / slug / "results.json"))
        mean = np.mean(rows, axis=0)
        print(f"| {name} | {mean[0]:.3f} | {mean[1]:.3f} | {' | '.join(f'{v:.2f}' for v in mean[2:])} |", flush=True)


if __name__ == "__main__":
    main()
