"""How often 95 % intervals hold the truth: an AUC at a site, the mean over sites, and a new site.

    python benchmarks/intervals.py                  # `make bench-statistics`: minutes on two cores
    python benchmarks/intervals.py --runs 100       # a quick look

Scores are binormal: normal with variance 1 in both outcomes, means d apart, so that the true AUC is Phi(d / sqrt 2). A
federation's true log-odds of the AUC are normal about that of 0.78 with standard deviation tau, and so is that of a new
site: mean and new site are defined on the scale that is pooled. Sites have 100, 200 or 400 patients and an
event rate of 15, 30 or 45 %, with equal probability. Every cell has a seed of its own, so cells do not depend on each
other or on the number of cores.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from itertools import product
from math import sqrt
from multiprocessing import Pool

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm
from scipy.stats import t as student

from fedloupe.metrics import bootstrap_auc, delong, random_effects

SIZES = (100, 200, 400)
RATES = (0.1, 0.15, 0.3, 0.5)
AUCS = (0.7, 0.8, 0.9)
SITES = (5, 8, 12)
TAUS = (0.0, 0.1, 0.2, 0.3, 0.5)
MIXED = (0.15, 0.3, 0.45)
MANY = 5
MEAN = float(logit(0.78))


def patients(
    rng: np.random.Generator, auc: float, n: int, rate: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels and scores of one site; a site without two patients of each outcome is drawn again."""
    while True:
        labels = (rng.random(n) < rate).astype(np.int64)
        if 2 <= labels.sum() <= n - 2:
            return labels, expit(sqrt(2) * norm.ppf(auc) * labels + rng.normal(size=n))


def site(cell: tuple[int, int, float, float]) -> tuple[float, float]:
    """Coverage of DeLong's interval over five times `runs` sites, and of the bootstrap's over the first `runs`."""
    runs, n, rate, auc = cell
    rng = np.random.default_rng([1, n, round(100 * rate), round(100 * auc)])
    held, drawn = 0, 0
    for run in range(MANY * runs):
        labels, scores = patients(rng, auc, n, rate)
        found = delong(labels, scores)
        held += found.low <= auc <= found.high
        if run < runs:
            resampled = bootstrap_auc(labels, scores, seed=run)
            drawn += resampled.low <= auc <= resampled.high
    return held / (MANY * runs), drawn / runs


def federation(cell: tuple[int, int, float]) -> tuple[float, ...]:
    """Coverage: sites' DeLong, mean, new site, new site after Higgins 2009; mean limits of the new site's AUC."""
    runs, k, tau = cell
    rng = np.random.default_rng([2, k, round(100 * tau)])
    kept = []
    for _ in range(runs):
        truths, new = MEAN + tau * rng.normal(size=k), MEAN + tau * rng.normal()
        held, effects, errors = 0, [], []
        for truth in truths:
            found = delong(*patients(rng, float(expit(truth)), int(rng.choice(SIZES)), float(rng.choice(MIXED))))
            held += found.low <= expit(truth) <= found.high
            inner = found.auc if 0 < found.auc < 1 else abs(found.auc - found.se)  # as `pool_auc` takes it
            effects.append(float(logit(inner)))
            errors.append(found.se / (inner * (1 - inner)))
        meta = random_effects(effects, errors)
        low, high = meta.prediction_low or 0.0, meta.prediction_high or 0.0
        higgins = float(student.ppf(0.975, k - 2)) * sqrt(meta.tau2 + meta.se**2)
        kept.append(
            (
                held / k,
                meta.low <= MEAN <= meta.high,
                low <= new <= high,
                abs(new - meta.estimate) <= higgins,
                expit(low),
                expit(high),
            )
        )
    return tuple(np.mean(kept, axis=0).tolist())


def tables(runs: int) -> Iterator[str]:
    """Both tables, line by line."""
    percent = "{:.1f}".format
    with Pool(os.cpu_count()) as pool:
        found = pool.imap(site, [(runs, n, rate, auc) for n, rate, auc in product(SIZES, RATES, AUCS)])
        yield "| patients | events | " + " | ".join(f"AUC {auc}" for auc in AUCS) + " |"
        yield "|---|---|" + "---|" * len(AUCS)
        for n, rate in product(SIZES, RATES):
            row = [" / ".join(percent(100 * share) for share in next(found)) for _ in AUCS]
            yield f"| {n} | {rate:.0%} | " + " | ".join(row) + " |"
        yield ""
        groups = [(runs, k, tau) for k, tau in product(SITES, TAUS)]
        yield "| sites | tau | sites' AUCs | mean | new site | Higgins 2009 | new site's limits, mean |"
        yield "|---|---|---|---|---|---|---|"
        for (_, k, tau), row in zip(groups, pool.imap(federation, groups), strict=True):
            shares = " | ".join(percent(100 * share) for share in row[:4])
            yield f"| {k} | {tau} | {shares} | {row[4]:.2f} to {row[5]:.2f} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000, help="federations a row, and sites a cell")
    for line in tables(parser.parse_args().runs):
        print(line, flush=True)
