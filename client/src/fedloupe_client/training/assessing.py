"""The frozen model judged on one split of a site's patients, from their scores alone.

reply = assess(header, request, study, cohort, scores, others)       # an AssessReply, before the gate looks at it
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from fedloupe.assessing import CURVE, Fit, Graded, Paired, Recalibration, Subset
from fedloupe.messages import AssessReply, AssessRequest, ScoresReply, ScoresRequest
from fedloupe.metrics import (
    bootstrap_auc,
    brier,
    calibration_in_the_large,
    calibration_slope,
    delong,
    ordinal_concordance,
    paired_delong,
    recalibrate,
    score_histogram,
    smooth_calibration,
    threshold_metrics,
)
from fedloupe.study import Evidence, ScaleName, Study
from fedloupe.study.levels import grade_levels
from fedloupe_client.dataset import Cohort
from fedloupe_client.dataset.grouping import told_apart
from fedloupe_client.training.evaluation import EXTREME

Floats = NDArray[np.float64]
LEAST = 10
"""Patients with, and without, the event from whom a curve or a line is fitted, or a recalibration judged."""


def assess(
    header: dict[str, Any],
    request: AssessRequest,
    study: Study,
    cohort: Cohort,
    scores: Floats,
    others: Mapping[str, Floats],
    scale: ScaleName | None = None,
    cell: int = 1,
) -> AssessReply:
    """What the site can say of a model on a split.

    Args:
        header: of the answer.
        request: as admitted.
        study: with a section `evidence`.
        cohort: the site's patients.
        scores: (n) probabilities of the split's patients.
        others: likewise, of the models to compare with.
        scale: of the outcome, that the site declares.
        cell: smallest group that the site's policy allows to be described.
    """
    plan = study.evidence or Evidence()
    rows = cohort.rows(request.split)
    labels, odds = cohort.labels[rows], log_odds(scores)
    boot = bootstrap_auc(labels, scores, resamples=plan.resamples, seed=_seed(study, header["site"], request.split))
    large, slope = calibration_in_the_large(labels, odds), calibration_slope(labels, odds)
    groups = _subsets(cohort, rows, scores, request.threshold, cell)
    pairs = min(labels.sum(), len(labels) - labels.sum()) > 1  # DeLong's covariance needs two patients of each outcome
    grades = [cohort.grades[row] for row in rows] if cohort.grades else []
    return AssessReply(
        **header,
        label=request.label,
        split=request.split,
        patients=len(rows),
        positives=int(labels.sum()),
        low=boot.low,
        high=boot.high,
        expected=float(scores.mean()),
        centre=float(odds.mean()),
        spread=float(odds.std(ddof=1)),
        in_the_large=large.value,
        in_the_large_se=large.se,
        slope=slope.value if slope else None,
        slope_se=slope.se if slope else None,
        curve=_curve(labels, odds),
        recalibration=recalibration(study, header["site"], cohort, rows, odds, plan.recalibration),
        paired=_compared(labels, scores, others) if pairs else (),
        subgroups=tuple(one for some in groups.values() for one in some),
        withheld=tuple(name for name, some in groups.items() if not some),
        **_by_grade(list(grade_levels(study, scale)), grades, scores, request.threshold),
    )


def histograms(header: dict[str, Any], request: ScoresRequest, cohort: Cohort, scores: Floats) -> ScoresReply:
    """Test patients by score bin.

    Args:
        header: of the answer.
        request: as admitted.
        cohort: the site's patients.
        scores: (n) probabilities of its test patients.
    """
    labels = cohort.labels[cohort.rows("test")]
    positives, negatives = score_histogram(labels, scores, request.bins)
    return ScoresReply(
        **header,
        patients=len(labels),
        positives=int(labels.sum()),
        positives_by_score=positives.astype(np.float64),
        negatives_by_score=negatives.astype(np.float64),
    )


def log_odds(scores: Floats) -> Floats:
    """(n) log-odds of probabilities, those of 0 and 1 moved inwards."""
    return np.asarray(logit(np.clip(scores, EXTREME, 1 - EXTREME)), dtype=np.float64)


def recalibration(
    study: Study, site: str, cohort: Cohort, rows: NDArray[np.int64], odds: Floats, share: float
) -> Recalibration | None:
    """Lines fitted on a share of the patients and judged on the others; None where either side has too few.

    Within each outcome patients are ordered by SHA-256 of seed, site and case, and the first `share` of them fit.
    """
    labels = cohort.labels[rows]
    fits = np.zeros(len(rows), dtype=bool)
    for outcome in (0, 1):
        members = [int(i) for i in np.flatnonzero(labels == outcome)]
        members.sort(key=lambda i: _key(study, site, cohort.cases[rows[i]]))
        fits[members[: round(share * len(members))]] = True
    sides = [int(np.sum((labels == outcome) & (fits == side))) for outcome in (0, 1) for side in (True, False)]
    if min(sides) < LEAST:
        return None
    judged = ~fits
    moved, refitted = (recalibrate(labels[fits], odds[fits], kind) for kind in ("intercept", "line"))
    if moved is None or refitted is None:  # outcomes part the scores: no finite line fits best
        return None
    lines = (("none", (0.0, 1.0)), ("intercept", moved), ("line", refitted))
    return Recalibration.model_validate(
        {
            "fitted": int(fits.sum()),
            "judged": int(judged.sum()),
            "positives": int(labels[judged].sum()),
            "fits": tuple(_fit(kind, line, labels[judged], odds[judged]) for kind, line in lines),
        }
    )


def _fit(kind: str, line: tuple[float, float], labels: NDArray[np.int64], odds: Floats) -> Fit:
    moved = line[0] + line[1] * odds
    scores = np.asarray(expit(moved), dtype=np.float64)
    large, slope = calibration_in_the_large(labels, moved), calibration_slope(labels, moved)
    return Fit.model_validate(
        {
            "kind": kind,
            "line": line,
            "in_the_large": large.value,
            "in_the_large_se": large.se,
            "slope": slope.value if slope else None,
            "slope_se": slope.se if slope else None,
            "observed": float(labels.sum() / scores.sum()),
            "brier": brier(labels, scores),
        }
    )


def _curve(labels: NDArray[np.int64], odds: Floats) -> Floats:
    if min(labels.sum(), len(labels) - labels.sum()) < LEAST:
        return np.zeros((4, 0))
    found = smooth_calibration(labels, odds, points=CURVE)
    if found is None:
        return np.zeros((4, 0))
    return np.array([found.predicted, found.observed, found.low, found.high], dtype=np.float64)


def _compared(labels: NDArray[np.int64], scores: Floats, others: Mapping[str, Floats]) -> tuple[Paired, ...]:
    """Differences that have an error; without one, as where few patients are ranked alike, nothing can be tested."""
    found = {name: paired_delong(labels, scores, other) for name, other in others.items()}
    return tuple(
        Paired(against=name, difference=one.difference, se=one.se, p=one.p) for name, one in found.items() if one.se > 0
    )


def _subsets(
    cohort: Cohort, rows: NDArray[np.int64], scores: Floats, threshold: float, cell: int
) -> dict[str, tuple[Subset, ...]]:
    """Every level of each variable; none of one in which a level has patients of one outcome only, or which parts the
    patients nearly as an earlier one does. Whether the rest may be shown is for the gate to say."""
    labels, told = cohort.labels[rows], dict[str, tuple[Subset, ...]]()
    levels_of = {name: [levels[row] for row in rows] for name, levels in cohort.groups.items()}
    apart = told_apart(levels_of, cell)
    for variable, levels in levels_of.items():
        here, found = np.array(levels), []
        names = sorted({name for name in levels if name})
        one_sided = any(len(set(labels[here == name].tolist())) < 2 for name in names)
        for level in names if variable in apart and not one_sided else ():
            inside = here == level
            truth, values = labels[inside], scores[inside]
            area, at = delong(truth, values), threshold_metrics(truth, values, threshold)
            found.append(
                Subset(
                    variable=variable,
                    level=level,
                    patients=int(inside.sum()),
                    positives=int(truth.sum()),
                    auc=area.auc,
                    auc_se=area.se,
                    low=area.low,
                    high=area.high,
                    sensitivity=at.sensitivity,
                    specificity=at.specificity,
                    predicted=float(values.mean()),
                )
            )
        if names:
            told[variable] = tuple(found)
    return told


def _by_grade(ordered: list[str], grades: list[str], scores: Floats, threshold: float) -> dict[str, Any]:
    """How the probability lies in each grade of the outcome, the best first, where there are more than two."""
    order = [grade for grade in ordered if grade in set(grades)]
    if len(order) < 3 or set(grades) - set(order):
        return {}
    here = np.array(grades)
    found = [
        Graded(
            grade=grade,
            patients=int((here == grade).sum()),
            predicted=float(scores[here == grade].mean()),
            called=float((scores[here == grade] >= threshold).mean()),
        )
        for grade in order
    ]
    ranks = np.array([len(order) - order.index(grade) for grade in grades])
    concordance = ordinal_concordance(ranks, scores)
    if concordance.se is None:
        return {"grades": tuple(found)}
    return {"grades": tuple(found), "concordance": concordance.value, "concordance_se": concordance.se}


def _seed(study: Study, site: str, split: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{study.seed}|{site}|{split}|bootstrap".encode()).digest()[:8], "big")


def _key(study: Study, site: str, case: str) -> bytes:
    return hashlib.sha256(f"{study.seed}|{site}|{case}|recalibration".encode()).digest()
