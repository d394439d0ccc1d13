"""What is changed at random about a batch while a model trains: images as another scanner would have made them.

disturb = augmenting(study, cohort.feature_groups)
batch = disturb(batch)                        # chance is PyTorch's own generator
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from fedloupe.features import sequences_of
from fedloupe.models import Inputs
from fedloupe.study import Study

SHIFT = 2
"""Voxels by which a crop moves at most along each axis, `strong` only."""
SPREAD = 0.1
"""Standard deviation of gains about 1, and in units of the scaled crop of offsets and of noise."""


def augmenting(study: Study, groups: tuple[str, ...]) -> Callable[[Inputs], Inputs]:
    """The study's `training.augmentation` and `training.hide`.

    Args:
        study: its sequences.
        groups: feature groups, in the order of the batch's.
    """
    change = strong if study.training.augmentation == "strong" else mild
    if not study.training.hide:
        return change
    hidden = _hiding(study, groups)
    return lambda batch: hidden(change(batch))


def mild(batch: Inputs) -> Inputs:
    """Left-right mirror (anatomy allows it; up-down and front-back do not) and a random gain a patient."""
    if not (batch.mr.shape[1] or batch.ct.shape[1]):
        return batch
    mirror = torch.rand(len(batch)) < 0.5
    gain = (1 + SPREAD * torch.randn(len(batch), 1, 1, 1, 1)).to(batch.mr.device)
    mirror = mirror.to(batch.mr.device)[:, None, None, None, None]
    mr, ct = (torch.where(mirror, image.flip(-1), image) * gain for image in (batch.mr, batch.ct))
    return replace(batch, mr=mr, ct=ct)


def strong(batch: Inputs) -> Inputs:
    """`mild`, and each crop is moved by up to `SHIFT` voxels; each MR volume has a gain and an offset of its own; every
    volume has more noise. HU are calibrated: a CT keeps its scale."""
    batch = mild(batch)
    if not (batch.mr.shape[1] or batch.ct.shape[1]):
        return batch
    steps = torch.randint(0, 2 * SHIFT + 1, (len(batch), 3)).tolist()
    mr, ct = (_moved(image, steps) for image in (batch.mr, batch.ct))
    size, device = (*mr.shape[:2], 1, 1, 1), mr.device
    mr = mr * (1 + SPREAD * torch.randn(size)).to(device) + SPREAD * torch.randn(size).to(device)
    mr, ct = (image + SPREAD * torch.randn(image.shape).to(device) for image in (mr, ct))
    present = (batch.mr_present[:, :, None, None, None], batch.ct_present[:, :, None, None, None])
    return replace(batch, mr=mr * present[0], ct=ct * present[1])


def _moved(images: Tensor, steps: list[list[int]]) -> Tensor:
    if not images.shape[1]:
        return images
    wide = F.pad(images, (SHIFT,) * 6, mode="replicate")
    d, h, w = images.shape[2:]
    return torch.stack([one[:, z : z + d, y : y + h, x : x + w] for one, (z, y, x) in zip(wide, steps, strict=True)])


def _hiding(study: Study, groups: tuple[str, ...]) -> Callable[[Inputs], Inputs]:
    optional = [sequence for sequence in study.sequences if not sequence.required]
    channel = {
        s.name: i for kind in ("MR", "CT") for i, s in enumerate(q for q in study.sequences if q.modality == kind)
    }
    within = torch.tensor([[s.name in sequences_of(group) for group in groups] for s in optional])

    def hide(batch: Inputs) -> Inputs:
        kept = torch.rand(len(batch), len(optional)) >= study.training.hide
        radiomics = batch.radiomics_present.clone()
        present = {"MR": batch.mr_present.clone(), "CT": batch.ct_present.clone()}
        for position, sequence in enumerate(optional):
            stays = kept[:, position].to(radiomics.device, radiomics.dtype)
            if groups:
                radiomics[:, within[position]] *= stays[:, None]
            if present[sequence.modality].shape[1]:
                present[sequence.modality][:, channel[sequence.name]] *= stays
        mr, ct = present["MR"], present["CT"]
        return replace(
            batch,
            radiomics=batch.radiomics * radiomics.unsqueeze(-1),
            radiomics_present=radiomics,
            mr=batch.mr * mr[:, :, None, None, None],
            mr_present=mr,
            ct=batch.ct * ct[:, :, None, None, None],
            ct_present=ct,
        )

    return hide
