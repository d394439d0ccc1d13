"""What drove the logit: each input in turn is taken away, and what the linear path adds is given exactly.

for part in attribution(frozen, patient):
    part.kind, part.name, part.change, part.linear       # "radiomics", "t2w", 0.41, 0.38

What "taken away" means depends on what the model has met in training. A feature group, or a clinical value, is put at
the training patients' mean. A volume that the study allows to be missing is marked missing; a required one, which no
model ever met missing, is made blank (its own mean everywhere). Changes do not add up to the logit, because inputs act
together; the linear parts and the intercept add up to the linear path.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fedloupe.models import Inputs
from fedloupe.study import clinical_inputs
from fedloupe_client.predicting.inputs import FrozenModel, Patient

Kind = Literal["radiomics", "clinical", "image"]


@dataclass(frozen=True)
class Part:
    """One input of a patient.

    Attributes:
        kind: a feature group, a clinical value, or an image volume.
        name: the group's, variable's or sequence's.
        present: whether the patient has it.
        change: logit with it less logit without; None where it is missing already.
        linear: its part of the linear path, beta x; None for a volume, which the linear path does not read.
        without: what stood in its place.
    """

    kind: Kind
    name: str
    present: bool
    change: float | None
    linear: float | None
    without: Literal["training mean", "marked missing", "blank"]


def attribution(frozen: FrozenModel, patient: Patient) -> tuple[Part, ...]:
    """Every feature group, clinical value and volume, in the study's order."""
    parts = [*_groups(frozen, patient.inputs), *_clinical(frozen, patient.inputs), *_volumes(frozen, patient.inputs)]
    every = [patient.inputs, *(other for _, other in parts)]
    rows = zip(*(one.tensors for one in every), strict=True)
    with torch.no_grad():
        logits = frozen.model(*(torch.cat(row) for row in rows)).double().numpy()
    changes = logits[0] - logits[1:]
    return tuple(
        replace(part, change=float(change)) if part.present else part
        for (part, _), change in zip(parts, changes, strict=True)
    )


def intercept(frozen: FrozenModel) -> float:
    """Of the linear path."""
    return float(frozen.model.wide.bias.detach()[0])


def _groups(frozen: FrozenModel, inputs: Inputs) -> Iterator[tuple[Part, Inputs]]:
    k = inputs.radiomics.shape[2]
    for place, group in enumerate(frozen.groups):
        there = bool(inputs.radiomics_present[0, place])
        columns = slice(place * k, (place + 1) * k)
        radiomics = inputs.radiomics.clone()
        radiomics[0, place] = _means(frozen)[columns]
        linear = float((_slopes(frozen)[columns] * inputs.radiomics[0, place]).sum()) if there else 0.0
        yield (
            Part("radiomics", group, there, None, linear, "training mean"),
            replace(inputs, radiomics=radiomics),
        )


def _clinical(frozen: FrozenModel, inputs: Inputs) -> Iterator[tuple[Part, Inputs]]:
    first = inputs.radiomics.shape[1] * inputs.radiomics.shape[2]
    for place, variable in enumerate(clinical_inputs(frozen.study)):
        there = bool(inputs.clinical_present[0, place])
        clinical = inputs.clinical.clone()
        clinical[0, place] = _means(frozen)[first + place]
        linear = float(_slopes(frozen)[first + place] * inputs.clinical[0, place]) if there else 0.0
        yield (
            Part("clinical", variable.name, there, None, linear, "training mean"),
            replace(inputs, clinical=clinical),
        )


def _volumes(frozen: FrozenModel, inputs: Inputs) -> Iterator[tuple[Part, Inputs]]:
    place = {"MR": 0, "CT": 0}
    for sequence in frozen.study.sequences:
        images, marks = (inputs.mr, inputs.mr_present) if sequence.modality == "MR" else (inputs.ct, inputs.ct_present)
        if not images.shape[1]:
            continue
        at = place[sequence.modality]
        place[sequence.modality] += 1
        images, marks, there = images.clone(), marks.clone(), bool(marks[0, at])
        if sequence.required:
            images[0, at] = images[0, at].mean()
        else:
            images[0, at], marks[0, at] = 0.0, 0.0
        part = Part("image", sequence.name, there, None, None, "blank" if sequence.required else "marked missing")
        if sequence.modality == "MR":
            yield part, replace(inputs, mr=images, mr_present=marks)
        else:
            yield part, replace(inputs, ct=images, ct_present=marks)


def _means(frozen: FrozenModel) -> Tensor:
    """(G*K + V) training patients' means of what the linear path reads: the end of the release's range vector."""
    return torch.from_numpy(frozen.release.centre[frozen.study.model.width :].astype(np.float32))


def _slopes(frozen: FrozenModel) -> Tensor:
    """(G*K + V) of the linear path."""
    return frozen.model.wide.weight.detach()[0]
