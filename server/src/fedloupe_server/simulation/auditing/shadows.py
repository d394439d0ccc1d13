"""Shadow models: the federation of a finished run again, on other patients of the same hospitals.

    shadows = train_shadows(study, cohorts, preparation, 16, seed=1)
    shadows["north"].inside, shadows["north"].confidence        # (16, n) each

Every shadow begins where the run began (the study's seed, or the logistic baseline of its own patients), uses the
released preparation and the product's own training, with fresh noise where the study is private. A coin decides for
each patient of a training site, those who tuned or tested as well, in which shadows it trains: in as many as the share
of patients who trained in the run says, each in the same number of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloupe.masking import real_sum, weighted_mean
from fedloupe.models import Penalty, Preparation, Schema, build_model, norm_positions
from fedloupe.privacy import Randomness
from fedloupe.study import DpSgd, Study
from fedloupe_client.dataset import Cohort
from fedloupe_client.training.local import train_round
from fedloupe_client.training.predicting import model_logits
from fedloupe_client.training.private import planned_spend, train_round_privately
from fedloupe_client.training.statistics import newton_terms
from fedloupe_server.federation.fit import initial_weights
from fedloupe_server.federation.strategies import strategy_for
from fedloupe_server.statistics.logistic import fit_logistic

FEWEST = 4
"""Of shadows: everybody has to be in two and out of two."""
Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Shadows:
    """What all shadows say of a site's patients.

    Attributes:
        inside: (S, n) whether the patient trained the shadow.
        confidence: (S, n) log-odds that the shadow gives to the patient's own outcome.
    """

    inside: NDArray[np.bool_]
    confidence: NDArray[np.float64]


def train_shadows(
    study: Study,
    cohorts: Mapping[str, Cohort],
    preparation: Preparation,
    count: int,
    *,
    seed: int = 1,
    tell: Tell = lambda done, total: None,
    source: Randomness | None = None,
) -> dict[str, Shadows]:
    """Train `count` shadows, `FEWEST` at least, and ask each about everybody.

    Args:
        study: as it was run.
        cohorts: of the training sites, as their models saw them.
        preparation: of the run.
        count: shadows.
        seed: of who trains which.
        tell: told (done, total) after each.
        source: of noise and sampling under DP-SGD; the operating system's where None.
    """
    rng = np.random.default_rng(seed)
    inside = {site: drawn(cohort, count, rng) for site, cohort in cohorts.items()}
    confidence: dict[str, list[NDArray[np.float64]]] = {site: [] for site in cohorts}
    for shadow in range(count):
        chosen = {site: trained_on(cohort, inside[site][shadow]) for site, cohort in cohorts.items()}
        weights = federate(study, chosen, preparation, source)
        for site, cohort in cohorts.items():
            confidence[site].append(confidence_of(study, cohort, preparation, weights))
        tell(shadow + 1, count)
    return {site: Shadows(inside[site], np.stack(confidence[site])) for site in cohorts}


def drawn(cohort: Cohort, count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(count, n) who trains which shadow: each patient the same number of them, whoever else does."""
    share = len(cohort.rows("train")) / len(cohort.cases)
    times = int(np.clip(round(share * count), FEWEST // 2, count - FEWEST // 2))
    return np.asarray(np.argsort(np.argsort(rng.random((count, len(cohort.cases))), axis=0), axis=0) < times)


def trained_on(cohort: Cohort, inside: NDArray[np.bool_]) -> Cohort:
    """The cohort with these patients, and no others, to train on."""
    return replace(cohort, split=np.where(inside, "train", "out"))


def federate(
    study: Study, cohorts: Mapping[str, Cohort], preparation: Preparation, source: Randomness | None = None
) -> NDArray[np.float32]:
    """The federation's final weights, by the training functions of the sites and the coordinator's strategy.

    Args:
        study: as it was run.
        cohorts: of the training sites; one without training patients stands aside.
        preparation: of the run.
        source: of noise and sampling under DP-SGD; the operating system's where None.
    """
    active = {site: cohort for site, cohort in cohorts.items() if len(cohort.rows("train"))}
    weights = _start(study, active, preparation)
    strategy, privacy = strategy_for(study.training), study.privacy
    norms = _own_norms(study, next(iter(active.values())))
    kept: dict[str, NDArray[np.float32]] = {}
    for number in range(1, study.training.rounds + 1):
        shares = []
        for site, cohort in active.items():
            begun = weights
            if norms is not None and site in kept:
                begun = weights.copy()
                begun[norms] = kept[site]
            if isinstance(privacy, DpSgd):
                spend = planned_spend(study, privacy)
                trained = train_round_privately(
                    study, site, cohort, preparation, begun, number=number, privacy=privacy, spend=spend, source=source
                )
            else:
                trained = train_round(study, site, cohort, preparation, begun, number=number).weights
            if norms is not None:
                kept[site] = trained[norms]
            patients = len(cohort.rows("train")) if study.training.weighting == "patients" else 1
            shares.append((trained, patients))
        weights = strategy.aggregate(weights, weighted_mean(shares))
    return weights


def confidence_of(study: Study, cohort: Cohort, preparation: Preparation, weights: NDArray[Any]) -> NDArray[np.float64]:
    """(n) log-odds that a model gives to each patient's own outcome."""
    odds = model_logits(study, cohort, preparation, weights, np.arange(len(cohort.cases)))
    return np.asarray(np.where(cohort.labels == 1, odds, -odds), dtype=np.float64)


def _start(study: Study, cohorts: Mapping[str, Cohort], preparation: Preparation) -> NDArray[np.float32]:
    first = next(iter(cohorts.values()))
    if study.training.start != "logistic":
        return initial_weights(study, first.columns)
    spread = study.training.random_intercept

    def ask(step: int, beta: NDArray[np.float64]) -> list[Any]:
        terms = [newton_terms(cohort, preparation, beta, spread) for cohort in cohorts.values()]
        gradients, hessians = zip(*terms, strict=True)
        return [SimpleNamespace(gradient=real_sum(gradients), hessian=real_sum(hessians))]

    width = 1 + len(first.feature_groups) * preparation.projection.shape[1] + first.clinical.shape[1]
    penalty = Penalty(study.evaluation.ridge, study.evaluation.l1_ratio)
    return initial_weights(study, first.columns, fit_logistic(ask, width, penalty, where="shadow model"))


def _own_norms(study: Study, cohort: Cohort) -> NDArray[np.bool_] | None:
    """Positions that each site keeps to itself (FedBN), where the study has it so."""
    if study.personalisation is None or study.personalisation.method != "local-norm":
        return None
    return norm_positions(build_model(study, Schema.of(study, cohort.feature_groups)))
