"""One patient from the released model to everything that is said of him.

frozen = open_model(home, study)
predicted = predict_case(frozen, embed_cohort(frozen), find_case(frozen, name))
predicted.result                    # numbers and words, for `--json`
predicted.maps                      # what the page draws
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from fedloupe import __version__
from fedloupe.models import RadiomicsModel, Schema
from fedloupe_client.ingest import CaseRecord
from fedloupe_client.predicting.abstaining import Range, judge_range
from fedloupe_client.predicting.attribution import attribution, intercept
from fedloupe_client.predicting.gradcam import convolutional, grad_cam
from fedloupe_client.predicting.inputs import FrozenModel, Patient, read_patient
from fedloupe_client.predicting.neighbours import Embedded, nearest
from fedloupe_client.predicting.occlusion import crop_edge, occlusion, whole_logit
from fedloupe_client.predicting.pictures import tumour_in_crop
from fedloupe_client.predicting.result import (
    MapResult,
    NeighbourResult,
    PartResult,
    RangePart,
    RangeResult,
    Result,
    Used,
    Verdict,
)
from fedloupe_client.predicting.sanity import deletion, randomised_maps

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DrawnMap:
    """What the page draws of a map: grey volume and its name, map, one of random weights, tumour; all (D, H, W)."""

    result: MapResult
    grey: NDArray[np.float32]
    sequence: str
    heat: Floats
    random: Floats
    tumour: NDArray[np.bool_]


@dataclass(frozen=True)
class Predicted:
    """The result, and the maps in full."""

    result: Result
    maps: tuple[DrawnMap, ...]


def predict_case(frozen: FrozenModel, embedded: Embedded, record: CaseRecord) -> Predicted:
    """Everything that is said of one case; the same case, model and cohort give the same numbers.

    Raises:
        CaseUnusable, BatchUnharmonised: see `read_patient`.
        StoreUnreadable: a file of the store.
    """
    patient = read_patient(frozen, record)
    release, study = frozen.release, frozen.study
    logit = whole_logit(frozen.model, patient.inputs)
    probability = float(release.probability(np.array([logit]))[0])
    holds = release.allowed(np.array([probability]))[0]
    found = judge_range(frozen, patient)
    verdict = verdict_of(found.inside, bool(holds[0]), bool(holds[1]))
    words = (f"no {study.endpoint.name}", study.endpoint.name)
    near = nearest(frozen, embedded, patient)
    maps = _maps(frozen, patient, sign=1 if probability >= release.threshold else -1)
    split = embedded.use_of(record.patient)
    result = Result(
        case=record.case,
        site=frozen.site,
        study=study.study,
        fingerprint=study.fingerprint,
        run=release.run,
        model_digest=frozen.digest,
        version=__version__,
        trained_on=release.patients,
        synthetic=study.synthetic,
        verdict=verdict,
        headline=headline(verdict, study.endpoint.name, probability),
        endpoint=study.endpoint.name,
        logit=logit,
        probability=probability,
        threshold=release.threshold,
        coverage=frozen.rules.coverage,
        allowed=tuple(word for word, held in zip(words, holds, strict=True) if held),
        used_for=next((used for used in get_args(Used) if used == split), "new"),
        certain=embedded.same_data,
        outcome=record.label,
        range=_range(found),
        intercept=intercept(frozen),
        linear=_linear(frozen, patient),
        attribution=tuple(PartResult(**asdict(part)) for part in attribution(frozen, patient)),
        neighbours=tuple(NeighbourResult(**asdict(one)) for one in near),
        responded=sum(one.label for one in near),
        maps=tuple(one.result for one in maps),
    )
    return Predicted(result, maps)


def verdict_of(inside: bool, no_event: bool, event: bool) -> Verdict:
    """What the prediction set amounts to; outside the training range nothing is said."""
    if not inside:
        return "outside"
    if event:
        return "undecided" if no_event else "event"
    return "no event" if no_event else "neither"


def headline(verdict: Verdict, endpoint: str, probability: float) -> str:
    """The verdict in words, as the page's first line."""
    match verdict:
        case "outside":
            return "Outside the range of the training patients: no prediction"
        case "undecided":
            return f"Undecided: {endpoint} and no {endpoint} are both possible"
        case "neither":
            return "Neither outcome fits: unlike any tuning patient"
        case "event":
            return f"{endpoint[0].upper()}{endpoint[1:]}: probability {percent(probability)}"
        case "no event":
            return f"No {endpoint}: probability of {endpoint} {percent(probability)}"


def percent(share: float) -> str:
    """A probability in whole percent; never 0 or 100, which no model can know."""
    if share < 0.01:
        return "below 1 %"
    return "above 99 %" if share > 0.99 else f"{100 * share:.0f} %"


def _range(found: Range) -> RangeResult:
    parts: list[dict[str, Any]] = [asdict(part) for part in found.parts]
    return RangeResult(
        inside=found.inside,
        distance=found.distance,
        limit=found.limit,
        clipped=found.clipped,
        reasons=found.reasons,
        parts=tuple(RangePart(**part) for part in parts),
    )


def _linear(frozen: FrozenModel, patient: Patient) -> float:
    known = patient.inputs.radiomics * patient.inputs.radiomics_present.unsqueeze(-1)
    values = torch.cat([known.flatten(1), patient.inputs.clinical * patient.inputs.clinical_present], dim=1)
    with torch.no_grad():
        return float(frozen.model.wide(values)[0, 0])


def _maps(frozen: FrozenModel, patient: Patient, sign: int) -> tuple[DrawnMap, ...]:
    """Occlusion for every model that reads images, Grad-CAM beside it for a convolutional one."""
    if not crop_edge(patient.inputs):
        return ()
    tumour = tumour_in_crop(frozen.store, patient.record.case, frozen.study)

    def occluded(model: RadiomicsModel) -> Floats:
        return occlusion(model, patient.inputs).map

    cube = occlusion(frozen.model, patient.inputs)
    found = [_map(frozen, patient, "occlusion", cube.map, occluded, tumour, cube.edge)]
    if convolutional(frozen.model):

        def cam(model: RadiomicsModel) -> Floats:
            return sign * grad_cam(model, patient.inputs, sign=sign)

        found.append(_map(frozen, patient, "grad-cam", cam(frozen.model), cam, tumour, None))
    return tuple(found)


def _map(
    frozen: FrozenModel,
    patient: Patient,
    kind: Literal["occlusion", "grad-cam"],
    heat: Floats,
    map_of: Callable[[RadiomicsModel], Floats],
    tumour: NDArray[np.bool_],
    edge: int | None,
) -> DrawnMap:
    """A map with its two checks."""
    study, inputs = frozen.study, patient.inputs
    other = randomised_maps(study, Schema.of(study, frozen.groups), heat, map_of)
    curve = deletion(frozen.model, inputs, heat, seed=study.seed)
    strength = np.abs(heat)
    z, y, x = (int(one) for one in np.unravel_index(int(strength.argmax()), heat.shape))
    result = MapResult(
        kind=kind,
        cube_mm=None if edge is None else edge * study.imaging.spacing_mm,
        largest=float(heat.max()),
        smallest=float(heat.min()),
        peak=(z, y, x),
        in_tumour=float(strength[tumour].sum() / strength.sum()) if strength.any() else 0.0,
        tumour_share=float(tumour.mean()),
        correlations=tuple(value if np.isfinite(value) else None for value in other.correlations),
        changed=other.passed,
        deletion_share=tuple(curve.share.tolist()),
        deletion_ordered=tuple(curve.ordered.tolist()),
        deletion_random=tuple(curve.random.tolist()),
        deletion_area=curve.area,
        deletion_sooner=curve.sooner,
        deletion_moved=curve.moved,
        matters=curve.matters,
        deletion_passed=curve.passed,
        passed=other.passed and curve.passed,
    )
    modality = "MR" if inputs.mr.shape[1] else "CT"
    grey = (inputs.mr if modality == "MR" else inputs.ct)[0, 0].numpy()
    name = next(sequence.name for sequence in study.sequences if sequence.modality == modality)
    return DrawnMap(result, grey, name, heat, other.first, tumour)
