"""What a site keeps of a frozen model: `home/models/<study>.safetensors`, and its own shifts of the run beside it.

answer(header, request, study, cohort, preparation, home, shifts)
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from fedloupe.messages import ReleaseReply, ReleaseRequest
from fedloupe.models import Preparation
from fedloupe.release import Release
from fedloupe.study import Study
from fedloupe_client.dataset import Cohort
from fedloupe_client.gate.disk import write_atomic
from fedloupe_client.training.local import model_for
from fedloupe_client.training.predicting import check_range


def answer(
    header: dict[str, Any],
    request: ReleaseRequest,
    study: Study,
    cohort: Cohort,
    preparation: Preparation,
    home: Path,
    shifts: Path,
) -> ReleaseReply:
    """Keep the model, readable by the site's own user only; a later run of the study takes its place.

    The site's shifts are copied before the model, under `<study>-harmonisation.safetensors`. Where the study takes
    features as measured here (`unseen: none`, at a site that did not train), there are none.

    Args:
        header: of the answer.
        request: as admitted.
        study: as approved.
        cohort: the site's patients, for the model's shape.
        preparation: of the run.
        home: of the site.
        shifts: the run's file of the site's own shifts.

    Raises:
        WrongSize, RangeMisfit: the model does not fit the study; nothing is kept.
    """
    weights = np.asarray(request.weights, dtype=np.float32)
    model_for(study, cohort, weights)
    components = len(cohort.groups) * study.model.components
    check_range(study.model.width + components + cohort.clinical.shape[1], np.size(request.centre))
    release = Release(
        fingerprint=study.fingerprint,
        run=request.run,
        weights=weights,
        line=np.asarray(request.line),
        threshold=request.threshold,
        admitted=request.admitted,
        centre=np.asarray(request.centre),
        precision=np.asarray(request.precision),
        limit=request.limit,
        mean=preparation.mean,
        scale=preparation.scale,
        projection=preparation.projection,
        patients=request.patients,
    )
    folder = home / "models"
    folder.mkdir(mode=0o700, exist_ok=True)
    own = folder / f"{study.study}-harmonisation.safetensors"
    if _shifted(study, header["site"]):
        write_atomic(own, shifts.read_bytes())
    else:
        own.unlink(missing_ok=True)
    content = release.to_bytes()
    write_atomic(folder / f"{study.study}.safetensors", content)
    return ReleaseReply(**header, release=hashlib.sha256(content).hexdigest())


def _shifted(study: Study, site: str) -> bool:
    """Whether the study takes this site's own shift out of its features."""
    rules = study.harmonisation
    return rules is not None and (study.role(site) == "train" or rules.unseen == "estimate")
