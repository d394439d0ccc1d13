"""Whether a patient lies in the range of the training patients, and if not, what is unusual; a fixed rule.

found = judge_range(frozen, patient)
found.inside, found.reasons

No prediction is made where any of these holds:

- the patient's distance from the training patients exceeds the release's limit (Mahalanobis, a dimension);
- a required volume, or the feature group of one, is missing;
- more than `CLIPPED_SHARE` of the features lie beyond 4 standard deviations of the training patients. By Chebyshev's
  inequality at most 1/16 (6.25 %) of any quantity's training values lie there, so the share averaged over the training
  patients cannot exceed that; a patient with a tenth is unlike them whatever the features' distributions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedloupe.models import range_vector
from fedloupe.models.preparation import CLIP
from fedloupe.study import Study, clinical_inputs
from fedloupe_client.predicting.inputs import FrozenModel, Patient

CLIPPED_SHARE = 0.10
NAMED = 4
"""At most so many unusual parts are named."""


@dataclass(frozen=True)
class PartRange:
    """How far one part of a patient lies from the training patients.

    Attributes:
        kind: `embedding` (what the deep part makes of everything), `radiomics` or `clinical`.
        name: of the group or variable; "" for the embedding.
        distance: Mahalanobis, a dimension: about 1 in the training patients; None where the part is missing.
        clipped: share of the group's features beyond 4 standard deviations; None but for a group that is there.
        value: of a clinical variable, in its own unit; None else.
        usual: its mean and standard deviation in the training patients, in the same unit; None else.
    """

    kind: str
    name: str
    distance: float | None
    clipped: float | None = None
    value: float | None = None
    usual: tuple[float, float] | None = None


@dataclass(frozen=True)
class Range:
    """The verdict.

    Attributes:
        inside: whether a prediction is made.
        distance: of the whole, a dimension; beyond `limit` is outside.
        limit: the release's.
        clipped: share of all features beyond 4 standard deviations.
        reasons: why not, in plain words; empty inside.
        parts: every part, the farthest first.
    """

    inside: bool
    distance: float
    limit: float
    clipped: float
    reasons: tuple[str, ...]
    parts: tuple[PartRange, ...]


def judge_range(frozen: FrozenModel, patient: Patient) -> Range:
    """Apply the rule to one patient."""
    with torch.no_grad():
        vector = range_vector(frozen.model, patient.inputs)[0].double().numpy()
    release = frozen.release
    distance = float(release.distance(vector[None])[0])
    beyond = _beyond(frozen, patient)
    clipped = _share(beyond)
    parts = tuple(sorted(_parts(frozen, patient, vector, beyond), key=lambda part: -(part.distance or 0.0)))
    reasons = [f"{what} is missing, and the study requires it" for what in _missing(frozen, patient)]
    if clipped > CLIPPED_SHARE:
        groups = [f"{p.name} ({p.clipped:.0%})" for p in parts if p.clipped is not None and p.clipped > CLIPPED_SHARE]
        reasons.append(
            f"{clipped:.0%} of the features lie beyond {CLIP:g} standard deviations of the training patients; "
            f"most in {_listed(groups) if groups else 'no group alone'}"
        )
    if distance > release.limit:
        far = [p for p in parts if p.distance is not None and p.distance > release.limit] or list(parts[:1])
        reasons.append(
            f"the patient as a whole lies {distance:.2f} from the training patients, the limit is {release.limit:.2f}; "
            f"most unusual: {_listed([_said(frozen.study, part) for part in far[:NAMED]])}"
        )
    return Range(not reasons, distance, float(release.limit), clipped, tuple(reasons), parts)


def _beyond(frozen: FrozenModel, patient: Patient) -> NDArray[np.float64]:
    """(p) 1 for a feature beyond 4 standard deviations, 0 within, NaN where it is missing or left out by the model."""
    values, mean, scale = patient.cohort.features[0], frozen.release.mean, frozen.release.scale
    used = np.isfinite(values) & (scale > 0)
    return np.where(used, np.abs(values - mean) > CLIP * scale, np.nan)


def _share(beyond: NDArray[np.float64]) -> float:
    known = beyond[np.isfinite(beyond)]
    return float(known.mean()) if known.size else 0.0


def _missing(frozen: FrozenModel, patient: Patient) -> list[str]:
    """Required inputs that are not there, in words."""
    required = {s.name for s in frozen.study.sequences if s.required} | {"shape", "table"}
    present = patient.inputs.radiomics_present[0]
    found = [
        f"every feature of `{group}`"
        for place, group in enumerate(frozen.groups)
        if group in required and not bool(present[place])
    ]
    for modality, marks in (("MR", patient.inputs.mr_present), ("CT", patient.inputs.ct_present)):
        named = [s for s in frozen.study.sequences if s.modality == modality][: marks.shape[1]]
        found += [f"volume `{s.name}`" for s, mark in zip(named, marks[0], strict=True) if s.required and not mark]
    return found


def _parts(
    frozen: FrozenModel, patient: Patient, vector: NDArray[np.float64], beyond: NDArray[np.float64]
) -> list[PartRange]:
    covariance = np.linalg.inv(frozen.release.precision)
    apart = vector - frozen.release.centre

    def far(part: slice) -> float:
        block = apart[part]
        square = float(block @ np.linalg.solve(covariance[part, part], block))
        return float(np.sqrt(max(0.0, square) / len(block)))

    width, k = frozen.study.model.width, frozen.preparation.projection.shape[1]
    found = [PartRange("embedding", "", far(slice(0, width)))]
    columns, at = np.array(frozen.columns), width
    for place, group in enumerate(frozen.groups):
        there = bool(patient.inputs.radiomics_present[0, place])
        share = _share(beyond[columns == group]) if there else None
        found.append(PartRange("radiomics", group, far(slice(at, at + k)) if there else None, share))
        at += k
    for place, variable in enumerate(clinical_inputs(frozen.study)):
        there = bool(patient.inputs.clinical_present[0, place])
        value = float(patient.cohort.clinical[0, place]) * variable.scale + variable.centre if there else None
        usual = (
            float(frozen.release.centre[at]) * variable.scale + variable.centre,
            float(np.sqrt(max(0.0, covariance[at, at]))) * variable.scale,
        )
        distance = far(slice(at, at + 1)) if there else None
        found.append(PartRange("clinical", variable.name, distance, None, value, usual))
        at += 1
    return found


def _said(study: Study, part: PartRange) -> str:
    if part.kind == "embedding":
        return f"images and values together as the model reads them ({part.distance:.2f})"
    if part.kind == "radiomics":
        return f"{radiomics_words(part.name)} ({part.distance:.2f})"
    usual = part.usual or (0.0, 0.0)
    value = value_words(study, part.name, part.value)
    return f"`{part.name}` {value}, usual {usual[0]:.3g} ± {usual[1]:.2g} ({part.distance:.2f})"


def value_words(study: Study, variable: str, value: float | None) -> str:
    """A clinical value as the hospital writes it: a level by its name, a number with its digits."""
    levels = next((one.levels for one in study.clinical if one.name == variable), None)
    if value is None:
        return ""
    near = [name for name, number in (levels or {}).items() if abs(number - value) < 1e-6]
    return near[0] if near else f"{value:.4g}"


def radiomics_words(group: str) -> str:
    """A feature group in words."""
    if group == "shape":
        return "the tumour's shape"
    return "the feature table" if group == "table" else f"the features of `{group}`"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
