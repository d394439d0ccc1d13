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
from fedloupe_client.harmonising import shifted
from fedloupe_client.kept import release_path, shifts_path
from fedloupe_client.site.files import keep
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

    The site's shifts are copied before the model, which names their digest: one without the other is noticed. Where
    the study takes features as measured here (`unseen: none`, at a site that did not train), there are none.

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
        RunFileUnwritable: see there; send it again.
    """
    weights = np.asarray(request.weights, dtype=np.float32)
    model_for(study, cohort, weights)
    components = len(cohort.feature_groups) * study.model.components
    check_range(study.model.width + components + cohort.clinical.shape[1], np.size(request.centre), header["site"])
    own = shifts.read_bytes() if shifted(study, header["site"]) else None
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
        shifts=None if own is None else hashlib.sha256(own).hexdigest(),
    )
    if own is None:
        shifts_path(home, study).unlink(missing_ok=True)
    else:
        keep(shifts_path(home, study), own)
    content = release.to_bytes()
    keep(release_path(home, study), content)
    return ReleaseReply(**header, release=hashlib.sha256(content).hexdigest())
