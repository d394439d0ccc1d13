"""What no federation can do: one model on all training patients in one place. For simulations, to measure its price.

weights = train_pooled(study, cohorts, preparation, start)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloupe.models import Preparation
from fedloupe.study import Study
from fedloupe_client.dataset import Cohort
from fedloupe_client.training.local import train_round

NAME = "pooled"
"""Stands for the site in the seeds of its training."""


def pooled(cohorts: Sequence[Cohort]) -> Cohort:
    """The training patients of several sites as one cohort, in the order given.

    Args:
        cohorts: at least one, all with the same columns; features as their sites' models see them.
    """
    first, rows = cohorts[0], [cohort.rows("train") for cohort in cohorts]

    def joined(part: Callable[[Cohort], NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([part(cohort)[own] for cohort, own in zip(cohorts, rows, strict=True)])

    return replace(
        first,
        cases=tuple(cohort.cases[i] for cohort, own in zip(cohorts, rows, strict=True) for i in own),
        labels=joined(lambda c: c.labels),
        split=joined(lambda c: c.split),
        features=joined(lambda c: c.features),
        clinical=joined(lambda c: c.clinical),
        mr=joined(lambda c: c.mr),
        mr_present=joined(lambda c: c.mr_present),
        ct=joined(lambda c: c.ct),
        ct_present=joined(lambda c: c.ct_present),
        reference=None,
        batches=(),
        groups={},
        grades=(),
    )


def train_pooled(
    study: Study, cohorts: Sequence[Cohort], preparation: Preparation, start: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The federation's budget and schedule on the pooled patients: its rounds times its local epochs, AdamW begun anew
    each round as at a site, without FedProx's term, which answers a drift that is not there.

    Args:
        study: its `training` and seed.
        cohorts: of the hospitals; where the study gives hospitals intercepts of their own, each keeps its own here.
        preparation: the federated one; from the same sums, so what pooled patients would give.
        start: the federation's initial weights.
    """
    sizes = [len(c.rows("train")) for c in cohorts]
    cohort, centres = pooled(cohorts), np.repeat(np.arange(len(sizes)), sizes)
    alone = study.model_copy(update={"training": study.training.model_copy(update={"strategy": "fedavg"})})
    weights = start
    for number in range(1, study.training.rounds + 1):
        weights = train_round(alone, NAME, cohort, preparation, weights, number=number, centres=centres).weights
    return weights
