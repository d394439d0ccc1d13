"""A site's look at its own features: the federation's judgement on its own training patients alone. Never leaves.

found = own_quality(home, study, site="north")       # derives what is missing; writes home/quality/<study>.json
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from fedloupe.errors import FedLoupeError
from fedloupe.quality import Row, Verdict, by_family, by_filter, judge, verdicts
from fedloupe.study import Study
from fedloupe_client.dataset import derive, load_cohort
from fedloupe_client.dataset.derive import Progress
from fedloupe_client.quality.sums import chosen_rows, stability
from fedloupe_client.quality.versions import derive_versions, load_versions


class NotJudged(FedLoupeError):
    """The study judges no features by perturbing images."""

    code = "FL-605"
    title = "the study perturbs no images"


class OwnQuality(BaseModel):
    """What a site's own patients say; the federation's list may differ."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    site: str
    study: str
    fingerprint: str
    patients: int
    by_filter: tuple[Row, ...]
    by_family: tuple[Row, ...]
    features: tuple[Verdict, ...]


def own_quality(
    home: Path, study: Study, site: str, *, workers: int = 1, progress: Progress | None = None
) -> tuple[OwnQuality, Path]:
    """Derive what is missing, judge, and keep the table at the site.

    Args:
        home: the site's home, with a store.
        study: with `quality.perturbations`.
        site: this site's name.
        workers: processes for deriving.
        progress: called with (done, total, case) after each case's versions.

    Returns:
        The judgement without redundancy, and the file that holds it.

    Raises:
        NotJudged: the study has nothing to perturb.
    """
    if study.quality is None or not study.quality.perturbations:
        raise NotJudged(
            "no `quality.perturbations` in the study", where=study.study, remedy="nothing to look at: go on without"
        )
    derive(home, study, workers=workers)
    cohort = load_cohort(home, study, site)
    rows = chosen_rows(cohort, study)
    cases = [cohort.cases[row] for row in rows]
    derive_versions(home, study, cases, workers=workers, progress=progress)
    versions = load_versions(home, study, cases, cohort.features[rows])
    known = np.isfinite(versions)
    count = np.maximum(known.sum(axis=(0, 2)), 1)
    mean = np.where(known, versions, 0.0).sum(axis=(0, 2)) / count
    spread = np.where(known, versions - mean[None, :, None], 0.0)
    scale = np.sqrt((spread**2).sum(axis=(0, 2)) / count)
    scale = np.where(scale > 1e-7 * np.abs(mean), scale, 0.0)
    found = verdicts(cohort.names, judge(stability(versions, mean, scale), study.quality), scale == 0)
    minimum = study.quality.minimum_icc
    result = OwnQuality(
        site=site,
        study=study.study,
        fingerprint=study.fingerprint,
        patients=len(rows),
        by_filter=by_filter(found, minimum),
        by_family=by_family(found, minimum),
        features=found,
    )
    path = home / "quality" / f"{study.study}.json"
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
    part.replace(path)
    return result, path
