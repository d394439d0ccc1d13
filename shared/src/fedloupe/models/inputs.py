"""What a model sees of a patient: projected radiomics, clinical values, image crops, and what is missing of each."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from fedloupe.study import Study, clinical_inputs, sees


@dataclass(frozen=True)
class Schema:
    """Sizes that the study and the agreed feature columns fix.

    Attributes:
        groups: feature groups in column order (`shape`, then one a sequence; `table` for ready-made tables).
        components: principal components a group.
        clinical: number of clinical variables that the model sees.
        mr: number of MR volumes, the image stem's channels (0: no image tokens).
        ct: number of CT volumes (0 or 1 and more; 0: no CT tokens).
        crop: edge of the cubic crop in voxels.
    """

    groups: tuple[str, ...]
    components: int
    clinical: int
    mr: int
    ct: int
    crop: int

    @classmethod
    def of(cls, study: Study, groups: tuple[str, ...]) -> Schema:
        """The schema of a study whose feature columns fall into `groups`."""
        image = study.model.image and bool(study.sequences)
        return cls(
            groups=groups,
            components=study.model.components,
            clinical=len(clinical_inputs(study)),
            mr=sum(s.modality == "MR" for s in study.sequences) if image and sees(study, "image-mr") else 0,
            ct=sum(s.modality == "CT" for s in study.sequences) if image and sees(study, "image-ct") else 0,
            crop=round(study.imaging.crop_mm / study.imaging.spacing_mm) if image else 0,
        )


@dataclass(frozen=True)
class Inputs:
    """A batch of B patients. Absent values are zero and marked in the `*_present` masks (1 present, 0 missing).

    Attributes:
        radiomics: (B, G, K) principal components.
        radiomics_present: (B, G).
        clinical: (B, V) centred and scaled.
        clinical_present: (B, V).
        mr: (B, M, D, H, W), or (B, 0, ...) without image tokens.
        mr_present: (B, M).
        ct: (B, T, D, H, W).
        ct_present: (B, T).
    """

    radiomics: Tensor
    radiomics_present: Tensor
    clinical: Tensor
    clinical_present: Tensor
    mr: Tensor
    mr_present: Tensor
    ct: Tensor
    ct_present: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The eight tensors in the order of `RadiomicsModel.forward`."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def __len__(self) -> int:
        return int(self.radiomics.shape[0])

    def take(self, index: Tensor) -> Inputs:
        """The patients at these positions."""
        return Inputs(*(tensor[index] for tensor in self.tensors))

    def to(self, device: torch.device) -> Inputs:
        """The same batch on a device."""
        return Inputs(*(tensor.to(device) for tensor in self.tensors))
