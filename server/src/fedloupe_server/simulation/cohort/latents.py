"""What truly drives response in a synthetic cohort: nine standardised values, a tenth in some, and a known logistic.

patient = draw_patient(spec, spec.site("north"), 41)
patient.probability          # the oracle's
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloupe_server.simulation.cohort.spec import CohortSpec, SiteSpec, entropy

Floats = NDArray[np.floating[Any]]

IMAGE_LATENTS = ("texture", "shape", "washout", "habitat", "polarity")
CLINICAL_LATENTS = ("ct_stage", "cea", "emvi", "age")
LATENTS = (*IMAGE_LATENTS, *CLINICAL_LATENTS)
CALCIFICATION = "calcification"
"""In cohorts with `CohortSpec.calcification` only; CT alone shows it."""

# Weights of the standardised latents in the score. With STEEPNESS they give an oracle AUC of 0.93 to 0.94 over
# prevalences of 0.55 to 0.25, 0.69 from the clinical values alone, and 0.03 to 0.05 less without any one image latent
# (`oracle_table`).
WEIGHTS = {
    "texture": 0.75,
    "shape": 0.70,
    "washout": 0.75,
    "habitat": -0.75,
    "polarity": 0.70,
    "ct_stage": -0.65,
    "cea": -0.45,
    "emvi": -0.40,
    "age": 0.25,
}
TEXTURE_BY_WASHOUT = 0.60
STEEPNESS = 1.65
POPULATION = 20_000

STAGES = ("T2", "T3", "T4")
_STAGE_SHARES = np.array([0.25, 0.53, 0.22])
_EMVI_SHARE = 0.35
_BLANK_EMVI, _BLANK_CEA = 0.08, 0.05


@dataclass(frozen=True)
class Patient:
    """One synthetic patient: truth, outcome and what the clinical table shows.

    Attributes:
        site: name of the hospital.
        case: local id.
        index: number within the site, from 0.
        latents: by name, standardised; `polarity` is +1 (sub-region anterior) or -1 (posterior); `calcification` only
            where the cohort has it.
        probability: true probability of response, in (0, 1).
        response: text in the clinical table; complete and near-complete are the event.
        age: years.
        sex: `F` or `M`; plays no part.
        ct_stage: `T2`, `T3` or `T4`.
        cea: carcinoembryonic antigen, ng/mL; None where the table is blank.
        emvi: extramural vascular invasion, `yes` or `no`; None where the table is blank.
    """

    site: str
    case: str
    index: int
    latents: dict[str, float]
    probability: float
    response: str
    age: int
    sex: str
    ct_stage: str
    cea: float | None
    emvi: str | None

    @property
    def responds(self) -> bool:
        """Whether the event happened."""
        return self.response in ("complete", "near-complete")


def draw_latents(rng: np.random.Generator, number: int) -> Floats:
    """Independent latents of `number` patients, (number, 9) float64 in the order of `LATENTS`, mean 0 and SD 1."""
    values = rng.standard_normal((number, len(LATENTS)))
    column = {name: values[:, i] for i, name in enumerate(LATENTS)}
    column["polarity"][:] = np.where(column["polarity"] >= 0, 1.0, -1.0)
    uniform = rng.random((number, 2))
    stage = np.searchsorted(np.cumsum(_STAGE_SHARES)[:-1], uniform[:, 0], side="right")
    column["ct_stage"][:] = _standardised_stages()[stage]
    spread = math.sqrt(_EMVI_SHARE * (1 - _EMVI_SHARE))
    column["emvi"][:] = ((uniform[:, 1] < _EMVI_SHARE) - _EMVI_SHARE) / spread
    return values


def score(latents: Floats) -> Floats:
    """The log-odds of response without a site's intercept, (n) from (n, 9)."""
    terms = latents * np.array([WEIGHTS[name] for name in LATENTS])
    interaction = latents[:, LATENTS.index("texture")] * latents[:, LATENTS.index("washout")]
    total: Floats = STEEPNESS * (terms.sum(axis=1) + TEXTURE_BY_WASHOUT * interaction)
    return total


def calcification_score(latent: Floats, weight: float) -> Floats:
    """What calcification adds to the log-odds, (n) from its standardised latent (n)."""
    added: Floats = STEEPNESS * weight * latent
    return added


def logistic(log_odds: Floats) -> Floats:
    """1 / (1 + exp(-x))."""
    result: Floats = 1.0 / (1.0 + np.exp(-log_odds))
    return result


@lru_cache(maxsize=64)
def intercept(seed: int, prevalence: float, calcification: float = 0.0) -> float:
    """The intercept at which a large population of this seed has the prevalence; found by bisection.

    Args:
        seed: of the cohort.
        prevalence: expected share with the event.
        calcification: weight of calcification in the score.
    """
    scores = score(draw_latents(np.random.default_rng(entropy(seed, "population")), POPULATION))
    unseen = np.random.default_rng(entropy(seed, "population", CALCIFICATION)).standard_normal(POPULATION)
    scores += calcification_score(unseen, calcification)
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        if float(logistic(scores + middle).mean()) < prevalence:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def draw_patient(spec: CohortSpec, site: SiteSpec, index: int) -> Patient:
    """Patient `index` of a site: a pure function of the seed, the site and the index."""
    rng = np.random.default_rng(entropy(spec.seed, site.name, index, "latents"))
    row = draw_latents(rng, 1)
    log_odds = score(row)
    own = {}
    if spec.calcification is not None:
        # a stream of its own: the other draws are those of the cohort without it
        drawn = np.random.default_rng(entropy(spec.seed, site.name, index, CALCIFICATION)).standard_normal(1)
        log_odds += calcification_score(drawn, spec.calcification)
        own = {CALCIFICATION: float(drawn[0])}
    probability = float(logistic(log_odds + intercept(spec.seed, site.prevalence, spec.calcification or 0.0))[0])
    outcome, degree, sex, blank_emvi, blank_cea = rng.random(5)
    latents = {name: float(row[0, i]) for i, name in enumerate(LATENTS)} | own
    texts = ("near-complete", "complete") if outcome < probability else ("none", "partial")
    return Patient(
        site=site.name,
        case=site.case(index),
        index=index,
        latents=latents,
        probability=probability,
        response=texts[int(degree < 0.5)],
        age=round(min(max(64 + 10 * latents["age"], 30), 92)),
        sex="F" if sex < 0.4 else "M",
        ct_stage=STAGES[int(np.argmin(np.abs(_standardised_stages() - latents["ct_stage"])))],
        cea=None if blank_cea < _BLANK_CEA else round(math.exp(1.3 + 0.9 * latents["cea"]), 1),
        emvi=None if blank_emvi < _BLANK_EMVI else ("yes" if latents["emvi"] > 0 else "no"),
    )


def _standardised_stages() -> Floats:
    steps = np.arange(len(STAGES), dtype=np.float64)
    mean = float((_STAGE_SHARES * steps).sum())
    result: Floats = (steps - mean) / math.sqrt(float((_STAGE_SHARES * (steps - mean) ** 2).sum()))
    return result
