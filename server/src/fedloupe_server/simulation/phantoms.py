"""A public preparation: scaling and projection without a hospital's patient, so that no privacy is spent on them.

public_preparation(study, folder)            # from SYNTHETIC phantoms of an invented scanner, for the synthetic studies
fit_preparation([cohort], 8, seed=1, origin="public")     # from any patients or phantoms that are public
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from fedloupe.models import Preparation
from fedloupe.statistics import Moments
from fedloupe.study import Study, parse_study
from fedloupe_client.dataset import Cohort, load_cohort
from fedloupe_client.training.statistics import describe, sketch
from fedloupe_server.simulation.cohort import CohortSpec, SiteSpec
from fedloupe_server.simulation.generating import synthetic_source
from fedloupe_server.simulation.preparing import prepare_sites
from fedloupe_server.simulation.sites import make_home
from fedloupe_server.statistics.projection import PASSES, first_probe, next_probe, principal_projection
from fedloupe_server.statistics.scaling import scaling

PHANTOMS = 64
NAME = "phantom"


def public_preparation(
    study: Study,
    folder: Path,
    tell: Callable[[str, str, int, int], None] = lambda *_: None,
    *,
    workers: int | None = None,
) -> Preparation:
    """Scaling and projection from synthetic phantoms; their outcomes play no part.

    The phantoms pass through the same ingest, imaging and radiomics as a hospital's cases.

    Args:
        study: whose sequences, settings and components they are for.
        folder: phantoms are made there once.
        tell: called with (site, stage, done, total).
        workers: processes; all cores where None.
    """
    cohort = phantoms(study, folder, tell, workers=workers)
    return fit_preparation([cohort], study.model.components, seed=study.seed, origin="public")


def phantoms(
    study: Study, folder: Path, tell: Callable[[str, str, int, int], None], *, workers: int | None = None
) -> Cohort:
    """The phantoms as a site's cohort, each of them in training."""
    spec = CohortSpec(
        seed=study.seed + 1_000_003, sites=(SiteSpec(NAME, "train", PHANTOMS, 0.4, "nifti", has_ct=True),)
    )
    content = study.model_dump(mode="json") | {
        "sites": [{"name": NAME, "role": "train"}],
        "aggregation": "plain",
        "privacy": {"mode": "none"},
        "quorum": {"minimum": 1},
    }
    lab = parse_study(content)
    source = synthetic_source(folder / "cohort", spec.sites[0], lab)
    home = make_home(folder / "home", lab, NAME, source, {})
    made = folder / "made-for.txt"
    if not made.exists() or made.read_text() != lab.fingerprint:
        prepare_sites(lab, {NAME: home}, tell, cohort=(folder / "cohort", spec), workers=workers)
        made.write_text(lab.fingerprint)
    cohort = load_cohort(home, lab, NAME)
    return replace(cohort, split=np.full(len(cohort.cases), "train"))


def fit_preparation(
    cohorts: Sequence[Cohort], components: int, *, seed: int, origin: Literal["federated", "public"]
) -> Preparation:
    """The preparation that a federation of these cohorts would fit on their training patients.

    Args:
        cohorts: with the same feature columns.
        components: principal components a group.
        seed: of the first probe.
        origin: what the preparation says of itself.
    """
    moments = Moments.sum([describe(cohort) for cohort in cohorts])
    mean, scale = scaling(moments)
    columns = cohorts[0].columns
    probe = first_probe(columns, components, seed)
    for _ in range(PASSES - 1):
        probe = next_probe(np.sum([sketch(c, mean, scale, probe) for c in cohorts], axis=0), columns)
    last = np.sum([sketch(c, mean, scale, probe) for c in cohorts], axis=0)
    projection = principal_projection(probe, last, columns, components, float(moments.count.max()))
    return Preparation(mean, scale, projection, origin)
