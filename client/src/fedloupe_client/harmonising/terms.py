"""The site's terms of the sums that couple the sites, over its training patients and nobody else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedloupe.errors import FedLoupeError
from fedloupe.statistics.combat import CrossProducts, Residuals, to_scores
from fedloupe.study import Harmonisation, Study, clinical_inputs
from fedloupe_client.dataset import Cohort

Floats = NDArray[np.float64]


class HarmonisationMisfit(FedLoupeError):
    """What the coordinator sent does not fit the features of this site or the covariates of the study."""

    code = "FL-612"
    title = "the harmonisation does not fit the site's features"


def section(study: Study) -> Harmonisation:
    """The study's section; the gate has let only requests of studies that have one through."""
    if study.harmonisation is None:
        raise HarmonisationMisfit("the study has no harmonisation", where=study.study, remedy="ask the coordinator")
    return study.harmonisation


def covariates(study: Study, cohort: Cohort) -> Floats:
    """(n, q) the study's covariates, centred and scaled as the model sees them; an unknown value stands at its centre,
    0."""
    names = [variable.name for variable in clinical_inputs(study)]
    places = [names.index(name) for name in section(study).covariates]
    return np.nan_to_num(cohort.clinical[:, places])


def check_fit(study: Study, cohort: Cohort, centre: Floats, scale: Floats, beta: Floats | None = None) -> None:
    """Raise where arrays from the coordinator are not for this site's features.

    Raises:
        HarmonisationMisfit: see there.
    """
    p, q = len(cohort.names), len(section(study).covariates)
    shapes = [np.shape(centre), np.shape(scale)] + ([] if beta is None else [np.shape(beta)])
    if shapes != [(p,), (p,), (p, q)][: len(shapes)]:
        raise HarmonisationMisfit(
            f"arrays of shape {shapes} arrived, this site has {p} features and the study {q} covariates",
            where=study.study,
            remedy="bring the same columns everywhere; run the same FedLoupe version everywhere",
        )


def cross_products(study: Study, cohort: Cohort, centre: Floats, scale: Floats) -> CrossProducts:
    """The first round's term.

    Raises:
        HarmonisationMisfit: see there.
    """
    check_fit(study, cohort, centre, scale)
    rows = cohort.rows("train")
    scores = to_scores(cohort.features[rows], centre, scale)
    return CrossProducts.of(scores, covariates(study, cohort)[rows], _codes(cohort, rows))


def residuals(study: Study, cohort: Cohort, site: str, centre: Floats, scale: Floats, beta: Floats) -> Residuals:
    """The second round's term; of nobody where another site is the reference.

    Raises:
        HarmonisationMisfit: see there.
    """
    check_fit(study, cohort, centre, scale, beta)
    rows = cohort.rows("train")
    if section(study).reference not in (None, site):
        rows = rows[:0]
    scores = to_scores(cohort.features[rows], centre, scale)
    return Residuals.of(scores, covariates(study, cohort)[rows], _codes(cohort, rows), beta)


def _codes(cohort: Cohort, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(np.asarray(cohort.batches)[rows], return_inverse=True)[1].astype(np.int64)


def shifted(study: Study, site: str) -> bool:
    """Whether the study takes this site's own shift out of its features."""
    rules = study.harmonisation
    return rules is not None and (study.role(site) == "train" or rules.unseen == "estimate")
