"""Results of a study with `evidence` that never ran: synthetic patients, judged as sites would judge them.

judged()            # five training and three validate-only sites; `hillside` is too small for most of it
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import statsmodels.api as sm
from numpy.typing import NDArray
from scipy.special import expit, logit

from fedloupe.assessing import Fit, Graded, Paired, Recalibration, Subset
from fedloupe.metrics import (
    brier,
    calibration_groups,
    calibration_in_the_large,
    calibration_slope,
    delong,
    paired_delong,
    pool_auc,
    score_histogram,
    threshold_metrics,
)
from fedloupe.study import Evidence, Subgroup
from fedloupe_server.evidence import LeftOut, Pooled, Results, RoundRecord, Scores, SiteResult
from fedloupe_server.evidence.assessed import Assessed, PooledScores

Floats = NDArray[np.float64]
THRESHOLD = 0.4
LEAST = 8
"""Patients of each outcome that a level needs to be shown."""
# name: (patients, event rate, separation, factor of the log-odds, shift of the log-odds)
TRAIN = {
    "north": (152, 0.36, 1.5, 1.0, 0.0),
    "east": (120, 0.42, 1.2, 1.1, -0.2),
    "south": (180, 0.33, 1.4, 0.9, 0.1),
    "west": (66, 0.45, 1.1, 1.3, 0.2),
    "harbour": (240, 0.38, 1.3, 1.0, 0.15),
}
APART = {
    "lakeside": (260, 0.27, 1.0, 1.4, 0.5),
    "seaside": (140, 0.5, 1.25, 0.8, -0.3),
    "hillside": (34, 0.35, 1.0, 1.0, 0.0),
}


@dataclass(frozen=True)
class People:
    """Patients of a site: outcome, probability by model, group by variable, grade."""

    site: str
    truth: NDArray[np.int64]
    scores: dict[str, Floats]
    groups: dict[str, NDArray[np.str_]]
    grade: NDArray[np.str_]


def people(site: str, seed: int) -> People:
    """Synthetic patients of one site; the log-odds of every model share most of their noise."""
    size, rate, separation, factor, shift = (TRAIN | APART)[site]
    rng = np.random.default_rng(seed)
    truth = (rng.random(size) < rate).astype(np.int64)
    common = rng.normal(size=size)
    models = {"federated": (separation, 0.0), "logistic": (0.85 * separation, 0.5), "clinical": (0.5, 0.9)}
    models |= {f"local-{name}": (0.75 * separation, 0.6) for name in TRAIN}
    scores = {}
    for label, (apart, own) in models.items():
        noise = np.sqrt(1 - own**2) * common + own * rng.normal(size=size)
        odds = apart * (noise + apart * (truth - 0.5)) + logit(rate)
        scores[label] = expit(factor * odds + shift)
    age = rng.normal(64, 10, size)
    groups = {
        "sex": np.where(rng.random(size) < 0.38, "women", "men"),
        "age": np.where(age < 60, "<60", np.where(age < 70, "60-<70", ">=70")),
        "stage": rng.choice(["T2", "T3", "T4"], size, p=[0.14, 0.66, 0.2]),
        "vendor": rng.choice(["A", "B"], size, p=[0.7, 0.3]) if site != "east" else np.full(size, "A"),
    }
    best, worst = rng.choice(["1", "2"], size, p=[0.4, 0.6]), rng.choice(["3", "4"], size, p=[0.7, 0.3])
    return People(site, truth, scores, groups, np.where(truth == 1, best, worst))


def scored(label: str, split: str, truth: NDArray[np.int64], value: Floats, hidden: bool = False) -> Scores:
    """As a site answers `evaluate`; `hidden`: its histograms lack small cells, so they do not add up."""
    auc = delong(truth, value)
    histograms = [np.where(h < LEAST, 0, h) if hidden else h for h in score_histogram(truth, value)]
    return Scores(
        label=label,
        split=split,
        patients=truth.size,
        positives=int(truth.sum()),
        auc=auc.auc,
        auc_se=auc.se,
        auc_low=auc.low,
        auc_high=auc.high,
        brier=brier(truth, value),
        calibration=calibration_groups(truth, value),
        reference_auc=None,
        positives_by_score=tuple(map(float, histograms[0])),
        negatives_by_score=tuple(map(float, histograms[1])),
        **asdict(threshold_metrics(truth, value, THRESHOLD)),
    )


def assessed(at: People, split: str, against: tuple[str, ...]) -> Assessed:
    """As a site answers `assess`; a small site shows no slope, no curve, no line and no group."""
    truth, value = at.truth, at.scores["federated"]
    rng, odds, small = np.random.default_rng(5), logit(value), truth.size < 50
    draws = [rng.integers(0, truth.size, truth.size) for _ in range(200)]
    low, high = np.quantile([delong(truth[d], value[d]).auc for d in draws], [0.025, 0.975])
    large, slope = calibration_in_the_large(truth, odds), None if small else calibration_slope(truth, odds)
    subgroups = [] if small else [s for name in at.groups for s in _levels(at, name)]
    shown = {(s.variable, s.level) for s in subgroups}
    withheld = [n for n, levels in at.groups.items() if {(n, x) for x in np.unique(levels)} - shown]
    concordance = None if small else _concordance(at.grade, value)
    return Assessed(
        label="federated",
        split=split,
        patients=truth.size,
        positives=int(truth.sum()),
        low=float(low),
        high=float(high),
        expected=float(value.mean()),
        centre=float(odds.mean()),
        spread=float(odds.std(ddof=1)),
        in_the_large=large.value,
        in_the_large_se=large.se,
        slope=slope.value if slope else None,
        slope_se=slope.se if slope else None,
        curve=() if small else _curve(truth, value),
        recalibration=None if small else _recalibration(truth, odds),
        paired=tuple(Paired(against=x, **asdict(paired_delong(truth, value, at.scores[x]))) for x in against),
        subgroups=tuple(subgroups),
        grades=() if small else _grades(at, value),
        concordance=concordance[0] if concordance else None,
        concordance_se=concordance[1] if concordance else None,
        withheld=tuple(withheld),
    )


def _levels(at: People, name: str) -> list[Subset]:
    found = []
    for level in np.unique(at.groups[name]):
        inside = at.groups[name] == level
        truth, value = at.truth[inside], at.scores["federated"][inside]
        if min(truth.sum(), (1 - truth).sum()) < LEAST:
            continue
        auc, decided = delong(truth, value), threshold_metrics(truth, value, THRESHOLD)
        found.append(
            Subset(
                variable=name,
                level=str(level),
                patients=truth.size,
                positives=int(truth.sum()),
                auc=auc.auc,
                auc_se=auc.se,
                low=auc.low,
                high=auc.high,
                sensitivity=decided.sensitivity,
                specificity=decided.specificity,
                predicted=float(value.mean()),
            )
        )
    return found


def _curve(truth: NDArray[np.int64], value: Floats) -> tuple[tuple[float, float, float, float], ...]:
    """Quadratic in the log-odds, with the delta method's limits."""
    design = lambda x: np.column_stack([np.ones_like(x), x, x**2])  # noqa: E731
    fit = sm.Logit(truth, design(logit(value))).fit(disp=0)
    points = np.linspace(*np.quantile(value, [0.05, 0.95]), 21)
    rows = design(logit(points))
    centre, half = rows @ fit.params, 1.96 * np.sqrt(np.einsum("ij,jk,ik->i", rows, fit.cov_params(), rows))
    curve = np.column_stack([points, expit(centre), expit(centre - half), expit(centre + half)])
    return tuple(tuple(map(float, row)) for row in curve)


def _recalibration(truth: NDArray[np.int64], odds: Floats) -> Recalibration:
    fitted = np.arange(truth.size) % 2 == 0
    judge, y = odds[~fitted], truth[~fitted]
    moved = calibration_in_the_large(truth[fitted], odds[fitted]).value
    line = sm.Logit(truth[fitted], sm.add_constant(odds[fitted])).fit(disp=0).params
    fits = []
    for kind, (a, b) in {"none": (0.0, 1.0), "intercept": (moved, 1.0), "line": tuple(line)}.items():
        after = a + b * judge
        large, slope = calibration_in_the_large(y, after), calibration_slope(y, after)
        fits.append(
            Fit(
                kind=kind,
                line=(float(a), float(b)),
                in_the_large=large.value,
                in_the_large_se=large.se,
                slope=slope.value if slope else None,
                slope_se=slope.se if slope else None,
                observed=float(y.sum() / expit(after).sum()),
                brier=brier(y, expit(after)),
            )
        )
    return Recalibration(fitted=int(fitted.sum()), judged=y.size, positives=int(y.sum()), fits=tuple(fits))


def _grades(at: People, value: Floats) -> tuple[Graded, ...]:
    each = ((str(g), value[at.grade == g]) for g in np.unique(at.grade))
    return tuple(
        Graded(grade=g, patients=v.size, predicted=float(v.mean()), called=float((v >= THRESHOLD).mean()))
        for g, v in each
    )


def _concordance(grade: NDArray[np.str_], value: Floats) -> tuple[float, float]:
    order = -grade.astype(float)  # grade 1 is the best response

    def once(index: NDArray[np.int64]) -> float:
        pairs = np.sign(order[index][:, None] - order[index])
        agree = 0.5 + 0.5 * np.sign(value[index][:, None] - value[index])
        return float(agree[pairs > 0].mean())

    rng, everyone = np.random.default_rng(7), np.arange(grade.size)
    return once(everyone), float(np.std([once(rng.choice(everyone, everyone.size)) for _ in range(60)]))


def digest(text: str) -> str:
    """Stands for any digest."""
    return hashlib.sha256(text.encode()).hexdigest()


def site_result(at: People) -> SiteResult:
    """Everything that the results hold of a site."""
    train, split = at.site in TRAIN, "test" if at.site in TRAIN else "all"
    every = {
        label: scored(label, split, at.truth, value, hidden=at.site == "hillside") for label, value in at.scores.items()
    }
    locals_ = [label for label in every if label.startswith("local-")]
    against = ("logistic", "clinical", *([f"local-{at.site}"] if train else locals_))
    size = at.truth.size
    return SiteResult(
        site=at.site,
        role="train" if train else "validate",
        train=3 * size if train else 0,
        tune=size // 2 if train else 0,
        test=size,
        positives=int(at.truth.sum()) * (4 if train else 1),
        excluded={"FL-205": 2} if at.site == "east" else {},
        data_digest=digest(at.site),
        federated=every["federated"],
        logistic=every["logistic"],
        baselines={"clinical": every["clinical"]},
        local=every[f"local-{at.site}"] if train else None,
        local_elsewhere=() if train else tuple(every[label] for label in locals_),
        epsilon=None,
        assessed=assessed(at, split, against),
    )


def left_out(at: People) -> LeftOut:
    """A fold; the logistic model's scores stand for those of a model fitted without the site."""
    moved = People(at.site, at.truth, at.scores | {"federated": at.scores["logistic"]}, at.groups, at.grade)
    return LeftOut(
        site=at.site,
        federated=scored("federated", "all", moved.truth, moved.scores["federated"]),
        logistic=scored("logistic", "all", moved.truth, moved.scores["clinical"]),
        assessed=assessed(moved, "all", ("logistic",)),
    )


def judged(**changes: Any) -> Results:
    """The whole study; `changes` as fields of `Results`."""
    everyone = [people(site, number) for number, site in enumerate(TRAIN | APART)]
    sites = tuple(site_result(at) for at in everyone)
    train = [at for at in everyone if at.site in TRAIN]
    histograms = [score_histogram(at.truth, at.scores["federated"], 256) for at in train]
    total = [sum(h[side] for h in histograms) for side in (0, 1)]
    pool = [(s.federated.auc, s.federated.auc_se, s.federated.patients) for s in sites if s.role == "train"]
    own = [(s.local.auc, s.local.auc_se, s.local.patients) for s in sites if s.local]
    fields: dict[str, Any] = {
        "run": "judged",
        "version": "0.1.0",
        "study": "rectal-response",
        "title": "Response of rectal tumours to radiotherapy from pre-treatment MRI",
        "synthetic": True,
        "fingerprint": digest("study"),
        "endpoint": "good response",
        "seed": 1,
        "strategy": "fedavg",
        "aggregation": "secure",
        "privacy": "none",
        "preparation": digest("preparation"),
        "preparation_origin": "federated",
        "features": 2210,
        "parameters": 48_321,
        "threshold": THRESHOLD,
        "threshold_sites": tuple(TRAIN),
        "frozen": digest("frozen"),
        "sites": sites,
        "rounds": tuple(
            RoundRecord(
                round=n,
                participants=tuple(TRAIN),
                absent=(),
                loss=0.42 + 0.36 * 0.87**n,
                epsilon={},
                weights=digest(f"round {n}"),
            )
            for n in range(1, 21)
        ),
        "pooled": Pooled(**asdict(pool_auc(pool))),
        "pooled_local": Pooled(**asdict(pool_auc(own))),
        "left_out": tuple(left_out(at) for at in train),
        "evidence": Evidence(
            decision=(0.1, 0.6),
            subgroups=tuple(
                Subgroup(name=name, column=name, fairness=name in ("age", "sex"))
                for name in ("age", "sex", "stage", "vendor")
            ),
        ),
        "pooled_scores": PooledScores(
            label="federated",
            sites=tuple(TRAIN),
            patients=sum(at.truth.size for at in train),
            positives=int(sum(at.truth.sum() for at in train)),
            positives_by_score=tuple(map(float, total[0])),
            negatives_by_score=tuple(map(float, total[1])),
        ),
    }
    return Results(**{**fields, **changes})
