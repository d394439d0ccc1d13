"""Where the model looked: a cube of the crop is made blank, and the logit changes (Zeiler and Fergus 2014).

found = occlusion(model, patient.inputs)
found.map             # (D, H, W), change of the log-odds: above 0 the place speaks for the endpoint

Blank means the volume's own mean over the crop, in every volume at once: the level stays, the structure goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedloupe.models import Inputs, RadiomicsModel

EDGE, STRIDE = 8, 4
"""Of the cube, in voxels; shrunk to half a crop smaller than 16 voxels."""
BATCH = 64


@dataclass(frozen=True)
class Occlusion:
    """What each cube changes.

    Attributes:
        corners: (P, 3) first voxel of each cube along z, y, x.
        edge: of a cube, in voxels.
        change: (P) logit of the whole crop less the logit without the cube.
        map: (D, H, W) mean change over the cubes that hold a voxel.
    """

    corners: NDArray[np.int64]
    edge: int
    change: NDArray[np.float64]
    map: NDArray[np.float64]


def occlusion(model: RadiomicsModel, inputs: Inputs) -> Occlusion:
    """Slide the cube over one patient's crop by half its edge; the last cube of an axis ends at the crop's rim.

    Args:
        model: not training.
        inputs: of one patient, with at least one volume.
    """
    size = crop_edge(inputs)
    edge = min(EDGE, max(1, size // 2))
    corners = cube_corners(size, edge, max(1, round(edge * STRIDE / EDGE)))
    boxes = [box(corner, edge, size) for corner in corners]
    change = whole_logit(model, inputs) - blanked_logits(model, inputs, boxes)
    total, count = np.zeros((size,) * 3), np.zeros((size,) * 3)
    for one, value in zip(boxes, change, strict=True):
        total[one] += value
        count[one] += 1
    return Occlusion(corners, edge, change, total / count)


def crop_edge(inputs: Inputs) -> int:
    """Edge of the crop in voxels; 0 where the model sees no image."""
    images = inputs.mr if inputs.mr.shape[1] else inputs.ct
    return int(images.shape[-1]) if images.shape[1] else 0


def cube_corners(size: int, edge: int, stride: int) -> NDArray[np.int64]:
    """(P, 3) corners of cubes that cover a crop of `size` voxels, in steps of `stride`."""
    along = sorted({*range(0, size - edge + 1, stride), size - edge})
    return np.array(list(product(along, repeat=3)), dtype=np.int64)


def box(corner: NDArray[np.int64], edge: int, size: int) -> NDArray[np.bool_]:
    """(D, H, W) true within a cube."""
    inside = np.zeros((size,) * 3, np.bool_)
    inside[tuple(slice(int(start), int(start) + edge) for start in corner)] = True
    return inside


def whole_logit(model: RadiomicsModel, inputs: Inputs) -> float:
    """Logit of one patient."""
    with torch.no_grad():
        return float(model(*inputs.tensors)[0].double())


def blanked_logits(model: RadiomicsModel, inputs: Inputs, regions: Sequence[NDArray[np.bool_]]) -> NDArray[np.float64]:
    """(P) logit of one patient with each of these regions (D, H, W) of every volume at that volume's mean."""
    found = []
    with torch.no_grad():
        for start in range(0, len(regions), BATCH):
            regions_here = torch.from_numpy(np.stack(regions[start : start + BATCH]))
            found.append(model(*blanked(inputs, regions_here).tensors).double().numpy())
    return np.concatenate(found)


def blanked(inputs: Inputs, regions: Tensor) -> Inputs:
    """One patient as often as there are regions (P, D, H, W), each time with one of them blank."""
    count = len(regions)
    others = [tensor.expand(count, *tensor.shape[1:]) for tensor in inputs.tensors]
    places = {"mr": 4, "ct": 6}
    for name, place in places.items():
        images: Tensor = getattr(inputs, name)
        means = images.mean(dim=(-3, -2, -1), keepdim=True)
        others[place] = torch.where(regions[:, None], means, images) if images.shape[1] else others[place]
    return Inputs(*others)
