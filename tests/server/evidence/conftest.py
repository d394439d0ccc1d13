"""Results of a study that never ran: synthetic scores with a known separation, summarised as a site would."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from fedloupe.metrics import (
    Auc,
    brier,
    calibration_groups,
    delong,
    pool_auc,
    score_histogram,
    threshold_metrics,
)
from fedloupe_server.evidence import LeftOut, Pooled, Results, RoundRecord, Scores, SiteResult
from judged import judged

Maker = Callable[..., Results]
SIZES = {"north": 52, "east": 44, "south": 61, "west": 38, "harbour": 70}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def scores(label: str, split: str, patients: int, separation: float, seed: int, best: float | None) -> Scores:
    """A model whose logits lie `separation` standard deviations apart."""
    rng = np.random.default_rng(seed)
    truth = (np.arange(patients) % 5 < 2).astype(int)
    probability = expit(rng.normal(size=patients) + separation * (truth - 0.6))
    found: Auc = delong(truth, probability)
    positives, negatives = score_histogram(truth, probability)
    return Scores(
        label=label,
        split=split,
        patients=patients,
        positives=int(truth.sum()),
        auc=found.auc,
        auc_se=found.se,
        auc_low=found.low,
        auc_high=found.high,
        brier=brier(truth, probability),
        calibration=calibration_groups(truth, probability),
        reference_auc=best,
        positives_by_score=tuple(positives.tolist()),
        negatives_by_score=tuple(negatives.tolist()),
        **asdict(threshold_metrics(truth, probability, 0.45)),
    )


def pooled(every: list[Scores]) -> Pooled:
    return Pooled(**asdict(pool_auc([(s.auc, s.auc_se, s.patients) for s in every])))


def build(
    *, private: bool = False, synthetic: bool = True, external: bool = True, left_out: bool = False, **changes: Any
) -> Results:
    best = 0.94 if synthetic else None
    sites = [
        SiteResult(
            site=name,
            role="train",
            train=2 * test,
            tune=test // 2,
            test=test,
            positives=round(3.5 * test * 0.4),
            excluded={"FL-205": 2, "FL-209": 1} if name == "east" else {},
            data_digest=digest(name),
            federated=scores("federated", "test", test, 1.35, number, best),
            logistic=None if private else scores("logistic", "test", test, 1.15, 20 + number, best),
            local=None if private else scores(f"local-{name}", "test", test, 0.9, 40 + number, best),
            local_elsewhere=(),
            epsilon=7.4312 + number / 10 if private else None,
        )
        for number, (name, test) in enumerate(SIZES.items())
    ]
    train = list(sites)
    if external:
        sites.append(
            SiteResult(
                site="lakeside",
                role="validate",
                train=0,
                tune=0,
                test=120,
                positives=48,
                excluded={"FL-207": 1},
                data_digest=digest("lakeside"),
                federated=scores("federated", "all", 120, 1.3, 60, best),
                logistic=None if private else scores("logistic", "all", 120, 1.1, 61, best),
                local=None,
                local_elsewhere=()
                if private
                else tuple(
                    scores(f"local-{name}", "all", 120, 0.75, 70 + number, best) for number, name in enumerate(SIZES)
                ),
                epsilon=None,
            )
        )
    rounds = tuple(
        RoundRecord(
            round=number,
            participants=tuple(n for n in SIZES if not (n == "west" and number in (5, 6))),
            absent=("west",) if number in (5, 6) else (),
            loss=None if private else 0.42 + 0.36 * 0.87**number,
            epsilon={n: 2.0 + number * 0.27 + place / 10 for place, n in enumerate(SIZES)} if private else {},
            weights=digest(f"round {number}"),
        )
        for number in range(1, 21)
    )
    fields: dict[str, Any] = {
        "run": "fixture",
        "version": "0.1.0",
        "study": "rectal-response",
        "title": "Response of rectal tumours to radiotherapy from pre-treatment MRI",
        "synthetic": synthetic,
        "fingerprint": digest("study"),
        "endpoint": "good response",
        "seed": 1,
        "strategy": "fedavg",
        "privacy": "dp-sgd, epsilon 8, delta 1e-05, clip 1" if private else "none",
        "planned_epsilon": 8.0 if private else None,
        "preparation": digest("preparation"),
        "preparation_origin": "public" if private else "federated",
        "features": 2210,
        "parameters": 48_321,
        "threshold": 0.45,
        "frozen": digest("frozen"),
        "sites": tuple(sites),
        "rounds": rounds,
        "pooled": pooled([s.federated for s in train]),
        "pooled_local": None if private else pooled([s.local for s in train if s.local]),
        "left_out": tuple(
            LeftOut(
                site=s.site,
                federated=scores("federated", "all", 3 * s.test, 1.2, 80 + number, best),
                logistic=scores("logistic", "all", 3 * s.test, 1.1, 90 + number, best),
            )
            for number, s in enumerate(train)
        )
        if left_out
        else (),
    }
    return Results(**{**fields, **changes})


@pytest.fixture
def make_results() -> Maker:
    """Build results: `private`, `synthetic`, `external`, `left_out`, or any field of `Results`."""
    return build


@pytest.fixture
def make_scores() -> Callable[..., Scores]:
    """Build scores: label, split, patients, separation, seed, best."""
    return scores


@pytest.fixture(scope="session")
def rich() -> Results:
    """A study with `evidence`: five training and three validate-only sites; see `judged`."""
    return judged()
