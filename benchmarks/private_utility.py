"""What does epsilon cost? AUC under record-level DP-SGD by design, preparation and epsilon; the loss against no noise.

    python benchmarks/private_utility.py choose FOLDER                   # learning rates, written to FOLDER/rates.json
    python benchmarks/private_utility.py table FOLDER [--data demo|arita] [--seeds 1,2,3]

`--designs` and `--preparations` name some of them, with commas between.

`choose` climbs to a learning rate for each design, preparation and epsilon by the AUC of TUNING patients of the five
training hospitals of a SYNTHETIC cohort (seed 20) that is not the one reported. `table` trains at these rates and
prints the rows of docs/privacy.md: `demo` on the cohort of configs/demo-large.sites.yaml, test patients inside, one
hospital outside; `arita` on three glioma hospitals below FEDLOUPE_DATA, each left out in turn, with the demo's rates.
What was trained is kept in FOLDER and not trained again. Delta 1e-5 and clipping at 1 throughout; epsilon inf has the
same steps and clipping without noise. Cohorts take some ten minutes of two cores each, a table as long again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import private_designs as designs
from fedloupe.metrics import Repeated, delong, repeated_auc, repeated_difference
from private_designs import WITHOUT, Data

EPSILONS = (WITHOUT, 8.0, 3.0, 1.0)
PREPARATIONS = ("raw features", "federated PCA (not private)", "public PCA")
ARITA = (*PREPARATIONS, "random projection")
START = {"logistic regression": 4.0, "Transformer": 2.0, "Transformer with crops": 1.0}
"""Where the climb begins without noise; each smaller epsilon begins where the larger one ended."""
Scores = dict[str, NDArray[np.float64]]


class Trainer:
    """Federations of one data set; scores are kept in a folder.

    Args:
        data: see `private_designs.Data`.
        folder: of the kept scores.
        seeds: how many are looked at in turn.
    """

    def __init__(self, data: Data, folder: Path, seeds: int) -> None:
        self.data, self.folder = data, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.ready = lru_cache(seeds * len(data.external))(self._ready)

    def _ready(self, design: str, kind: str, seed: int, out: str | None) -> tuple:
        study = designs.private_study(self.data, design, 1, WITHOUT, 1.0, seed, out)
        cohorts = designs.cohorts_of(study, self.data)
        training = {site: cohorts[site] for site in study.train_sites}
        prepared = designs.preparation(kind, self.data, training, seed)
        return prepared, {site: designs.Ready(cohort, prepared) for site, cohort in cohorts.items()}

    def scores(
        self, design: str, kind: str, epsilon: float, rate: float, seed: int, out: str | None, split: str
    ) -> Scores:
        """(n) by site: probability of each patient of a split, NaN for the others; all patients of the site apart."""
        words = f"{design} {kind} {epsilon:g} {rate:g} {seed} {out} {split}"
        file = self.folder / (re.sub("[^a-z0-9.]+", "-", words.lower()) + ".npz")
        if not file.exists():
            prepared, ready = self.ready(design, kind, seed, out)
            components = prepared.projection.shape[1]
            study = designs.private_study(self.data, design, components, epsilon, rate, seed, out)
            weights = designs.federation(study, ready, prepared, epsilon, seed)
            found = {site: designs.scored(study, one, prepared, weights, split) for site, one in ready.items()}
            np.savez(file, **found)
        with np.load(file) as kept:
            return dict(kept)

    def area(self, found: Scores) -> float:
        """Mean AUC over sites, weighted by patients."""
        each = []
        for site, values in found.items():
            there = np.isfinite(values)
            each.append((delong(self.data.whole[site].labels[there], values[there]).auc, int(there.sum())))
        return float(np.average([auc for auc, _ in each], weights=[n for _, n in each]))


def climb(quality: Callable[[float], float], start: float) -> tuple[float, float]:
    """The learning rate from which neither twice nor half as much is better, and its AUC."""
    rate, best = start, quality(start)
    for step in (2.0, 0.5):
        moved = False
        while (found := quality(rate * step)) > best:
            rate, best, moved = rate * step, found, True
        if moved:
            break
    return rate, best


def choose(folder: Path, names: list[str], kinds: list[str], seeds: list[int], components: int) -> None:
    """Learning rates by the tuning patients of the cohort that is not reported."""
    suffix = "" if components == designs.COMPONENTS else f"-{components}-components"
    data = designs.demo(folder, designs.CHOSEN_ON, components)
    trainer = Trainer(data, folder / f"scores-choosing{suffix}", len(seeds))
    path = folder / f"rates{suffix}.json"
    for name in names:
        for kind in kinds:
            rate = START[name]
            for epsilon in EPSILONS:

                def quality(rate: float, name: str = name, kind: str = kind, epsilon: float = epsilon) -> float:
                    found = [trainer.scores(name, kind, epsilon, rate, seed, None, "tune") for seed in seeds]
                    return float(np.mean([trainer.area(one) for one in found]))

                rate, best = climb(quality, rate)
                rates = json.loads(path.read_text()) if path.exists() else {}
                rates[f"{name}; {kind}; {epsilon:g}"] = rate
                path.write_text(json.dumps(rates, indent=1) + "\n")
                print(f"{name}, {kind}, epsilon {epsilon:g}: rate {rate:g}, tuning AUC {best:.3f}", flush=True)


def strata(trainer: Trainer, runs: list[list[Scores]], inside: bool) -> list[Repeated]:
    """Sites as strata: the external ones, or the training sites, of each federation; a row of scores a seed.

    A site that ever tested fewer than two patients of an outcome is left out.
    """
    found = []
    for place, out in enumerate(trainer.data.external):
        for site, whole in trainer.data.whole.items():
            if (site == out) != inside:
                found.append(Repeated(whole.labels, np.stack([run[place][site] for run in runs])))
    return [one for one in found if one.fewest >= 2]


def row(trainer: Trainer, name: str, kind: str, rates: dict[str, float], seeds: list[int]) -> str:
    """AUC inside and outside at each epsilon, and below it the loss against no noise (95 % interval outside)."""
    cells, plain = [], None
    for epsilon in EPSILONS:
        borrowed = "public PCA" if kind == "random projection" else kind
        rate = rates.get(f"{name}; {borrowed}; {epsilon:g}", rates[f"{name}; public PCA; {epsilon:g}"])
        runs = [
            [trainer.scores(name, kind, epsilon, rate, seed, out, "test") for out in trainer.data.external]
            for seed in seeds
        ]
        both = [strata(trainer, runs, inside) for inside in (True, False)]
        aucs = [repeated_auc(groups).auc for groups in both]
        cell = f"{aucs[0]:.3f} / {aucs[1]:.3f}"
        if plain is None:
            plain = both
        else:
            lost = [repeated_difference(old, new) for old, new in zip(plain, both, strict=True)]
            inner, outer = (f"{d.difference:+.3f} ({d.low:+.3f} to {d.high:+.3f})" for d in lost)
            cell += f"; lost {inner} / {outer}"
        cells.append(cell)
    return f"| {name} | {kind} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("choose", "table"), nargs="?")
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--data", choices=("demo", "arita"), default="demo")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--designs", default=",".join(designs.DESIGNS))
    parser.add_argument("--preparations", default=",".join(ARITA))
    parser.add_argument("--components", type=int, default=designs.COMPONENTS, help="of `choose`; beside the default's")
    arguments = parser.parse_args()
    if arguments.folder is None:
        print(__doc__)
        return
    names, seeds = arguments.designs.split(","), [int(seed) for seed in arguments.seeds.split(",") if seed]
    if unknown := sorted(set(names) - set(designs.DESIGNS)):
        parser.error(f"no such designs: {unknown}; there are {list(designs.DESIGNS)}")
    kinds = [kind for kind in ARITA if kind in arguments.preparations.split(",")]
    if arguments.what == "choose" or arguments.data == "demo":
        kinds = [kind for kind in kinds if kind in PREPARATIONS]
    torch.set_num_threads(1)
    if arguments.what == "choose":
        choose(arguments.folder, names, kinds, seeds, arguments.components)
        return
    rates = json.loads((arguments.folder / "rates.json").read_text())
    if arguments.data == "demo":
        data = designs.demo(arguments.folder)
    else:
        data = designs.arita(arguments.folder, Path(os.environ["FEDLOUPE_DATA"]))
        names = [name for name in names if "crops" not in name]
    trainer = Trainer(data, arguments.folder / f"scores-{arguments.data}", len(seeds))
    print(f"delta 1e-5, {designs.ROUNDS} full-batch rounds, seeds {seeds}; AUC inside / outside\n")
    columns = " | ".join(f"epsilon {epsilon:g}" for epsilon in EPSILONS)
    print(f"| design | preparation | {columns} |\n|---|---|{'---|' * len(EPSILONS)}", flush=True)
    for name in names:
        for kind in kinds:
            print(row(trainer, name, kind, rates, seeds), flush=True)


if __name__ == "__main__":
    main()
