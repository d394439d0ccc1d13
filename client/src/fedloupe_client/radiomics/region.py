"""The tumour as a list of voxels with their neighbours: made once a case, shared by all images and families.

region = make_region(mask, spacing_mm=2.0)
levels = discretise(image[region.box][region.inside], ...)     # one value a voxel, in the order of `neighbours`
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fedloupe_client.radiomics.errors import EmptyRegion
from fedloupe_client.radiomics.kernel import Ints, kernel

DIRECTIONS = 13


def _directions() -> Ints:
    """The 13 unique directions (z, y, x) at Chebyshev distance 1: those that come later in raster order."""
    steps = [(z, y, x) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return np.array([step for step in steps if step > (0, 0, 0)], dtype=np.int64)


@dataclass(frozen=True)
class Region:
    """A mask of N voxels.

    Attributes:
        box: the mask's bounding box in the crop.
        inside: bool, the mask within the box (z, y, x).
        neighbours: int64 (N, 26), indices of neighbours in raster order of the mask's voxels, -1 outside;
            columns 0-12 look forward, column d + 13 looks against direction d.
        distance: int64 (N), city-block distance to the region's border, 1 at the border (IBSI GLDZM).
        spacing_mm: isotropic voxel size.
    """

    box: tuple[slice, slice, slice]
    inside: NDArray[np.bool_]
    neighbours: Ints
    distance: Ints
    spacing_mm: float

    @property
    def voxels(self) -> int:
        """N."""
        return len(self.distance)


def make_region(mask: NDArray[np.bool_], spacing_mm: float) -> Region:
    """Index a mask.

    Args:
        mask: bool (z, y, x).
        spacing_mm: isotropic voxel size.

    Raises:
        EmptyRegion: no voxel is set.
    """
    found = ndimage.find_objects(mask.astype(np.int8))
    if not found:
        raise EmptyRegion("the mask holds no voxel", where="mask", remedy="draw the tumour, or leave the case out")
    z, y, x = found[0]
    inside = mask[z, y, x]
    padded = np.pad(inside, 1)
    index = np.full(padded.shape, -1, dtype=np.int64)
    index[padded] = np.arange(int(padded.sum()))
    distance = ndimage.distance_transform_cdt(padded, metric="taxicab")[padded].astype(np.int64)
    return Region((z, y, x), inside, _link(index, _directions(), len(distance)), distance, spacing_mm)


@kernel
def _link(index: Ints, directions: Ints, voxels: int) -> Ints:
    neighbours = np.full((voxels, 26), -1, dtype=np.int64)
    depth, height, width = index.shape
    for z in range(1, depth - 1):
        for y in range(1, height - 1):
            for x in range(1, width - 1):
                here = index[z, y, x]
                if here < 0:
                    continue
                for d in range(13):
                    there = index[z + directions[d, 0], y + directions[d, 1], x + directions[d, 2]]
                    if there >= 0:
                        neighbours[here, d] = there
                        neighbours[there, d + 13] = here
    return neighbours
