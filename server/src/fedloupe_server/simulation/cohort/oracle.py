"""What could be known at best: AUC of the true score in the population, and of the score with parts of it unknown.

for row in oracle_table(seed=1): print(row.prevalence, row.known, row.auc)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from fedloupe_server.simulation.cohort.latents import (
    CALCIFICATION,
    CLINICAL_LATENTS,
    IMAGE_LATENTS,
    LATENTS,
    POPULATION,
    STEEPNESS,
    TEXTURE_BY_WASHOUT,
    Floats,
    calcification_score,
    draw_latents,
    intercept,
    logistic,
    score,
)
from fedloupe_server.simulation.cohort.spec import entropy


@dataclass(frozen=True)
class OracleRow:
    """AUC in [0, 1] at a prevalence, of the score in the knowledge of `known`."""

    prevalence: float
    known: str
    auc: float


def oracle_table(
    seed: int = 1, prevalences: tuple[float, ...] = (0.25, 0.40, 0.55), calcification: float | None = None
) -> list[OracleRow]:
    """AUC on 20,000 sampled patients: everything known, each image latent unknown in turn, the clinical values only.

    An unknown latent is set to its mean, 0, and takes its interaction along; latents are independent, so this is close
    to the best score without it.

    Args:
        seed: of the cohort.
        prevalences: expected shares with the event.
        calcification: its weight where the cohort has it, which adds the row without it.
    """
    rng = np.random.default_rng(entropy(seed, "oracle"))
    latents = draw_latents(rng, POPULATION)
    chance = rng.random(POPULATION)
    weight = calcification or 0.0
    shown = calcification_score(
        np.random.default_rng(entropy(seed, "oracle", CALCIFICATION)).standard_normal(POPULATION), weight
    )
    everything = score(latents) + shown
    variants: dict[str, Floats] = {"everything": everything}
    for name in IMAGE_LATENTS:
        variants[f"all but {name}"] = score(_without(latents, (name,))) + shown
    if calcification is not None:
        variants[f"all but {CALCIFICATION}"] = score(latents)
    linear: Floats = (
        everything
        - STEEPNESS * TEXTURE_BY_WASHOUT * latents[:, LATENTS.index("texture")] * latents[:, LATENTS.index("washout")]
    )
    variants["all but the interaction"] = linear
    variants["clinical only"] = score(_without(latents, IMAGE_LATENTS))
    variants["images only"] = score(_without(latents, CLINICAL_LATENTS)) + shown
    rows = []
    for prevalence in prevalences:
        event = chance < logistic(everything + intercept(seed, prevalence, weight))
        rows += [OracleRow(prevalence, known, auc(event, values)) for known, values in variants.items()]
    return rows


def auc(event: np.typing.NDArray[np.bool_], values: Floats) -> float:
    """Area under the ROC curve as the Mann-Whitney statistic; ties count half."""
    ranks = rankdata(values)
    positives = int(event.sum())
    negatives = event.size - positives
    return float((ranks[event].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _without(latents: Floats, names: tuple[str, ...]) -> Floats:
    known = latents.copy()
    known[:, [LATENTS.index(name) for name in names]] = 0.0
    return known
