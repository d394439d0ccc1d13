"""The tumour as a list of voxels with their neighbours: made once a case, shared by all images and families.

region = make_region(mask, spacing_mm=2.0)
levels = discretise(image[region.box][region.inside], ...)     # one value a voxel, in the order of `neighbours`
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fedloupe_client.radiomics.errors import EmptyRegion
from fedloupe_client.radiomics.kernel import Ints, kernel

Spacing = tuple[float, float, float]


def _directions(planar: bool) -> Ints:
    """The 13 (within a slice: 4) directions (z, y, x) at Chebyshev distance 1 that come later in raster order."""
    steps = [(z, y, x) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return np.array([step for step in steps if step > (0, 0, 0) and not (planar and step[0])], dtype=np.int64)


@dataclass(frozen=True)
class Voxels:
    """N voxels that textures are counted over: the whole region or one of its slices.

    Attributes:
        start, stop: which of the region's voxels.
        neighbours: int64 (N, 2 D), indices of neighbours among these voxels, -1 outside; the D first columns look
            forward in raster order, column d + D looks against direction d.
        distance: int64 (N), city-block distance to the border, 1 at the border (IBSI GLDZM).
    """

    start: int
    stop: int
    neighbours: Ints
    distance: Ints

    @property
    def directions(self) -> int:
        """D."""
        return int(self.neighbours.shape[1]) // 2

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Region:
    """A mask of N voxels.

    Attributes:
        box: the outline's bounding box in the crop.
        inside: bool, the mask within the box (z, y, x).
        outline: bool, IBSI's morphological mask within the box, from which re-segmentation may have taken voxels;
            it gives shape and distances.
        neighbours, distance: of all N voxels, see `Voxels`.
        slices: int64 (N), ascending: in which slice of the box a voxel lies.
        spacing_mm: voxel size (z, y, x).
    """

    box: tuple[slice, slice, slice]
    inside: NDArray[np.bool_]
    outline: NDArray[np.bool_]
    neighbours: Ints
    distance: Ints
    slices: Ints
    spacing_mm: Spacing

    @property
    def voxels(self) -> int:
        """N."""
        return len(self.distance)

    @property
    def whole(self) -> Voxels:
        """All voxels."""
        return Voxels(0, self.voxels, self.neighbours, self.distance)

    def by_slice(self) -> Iterator[Voxels]:
        """The voxels of each slice that has some; the region's neighbours must lie within slices."""
        for z in np.unique(self.slices):
            start, stop = np.searchsorted(self.slices, [z, z + 1])
            near = self.neighbours[start:stop]
            yield Voxels(int(start), int(stop), np.where(near < 0, -1, near - start), self.distance[start:stop])


def make_region(
    mask: NDArray[np.bool_],
    spacing_mm: float | Spacing,
    *,
    planar: bool = False,
    outline: NDArray[np.bool_] | None = None,
) -> Region:
    """Index a mask.

    Args:
        mask: bool (z, y, x).
        spacing_mm: voxel size, of each edge or (z, y, x).
        planar: neighbours and distances stay within the slice.
        outline: the morphological mask, a superset of `mask`; None: `mask` itself.

    Raises:
        EmptyRegion: no voxel is set.
    """
    outline = mask if outline is None else outline
    found = ndimage.find_objects(outline.astype(np.int8))
    if not found or not mask.any():
        raise EmptyRegion("the mask holds no voxel", where="mask", remedy="draw the tumour, or leave the case out")
    z, y, x = found[0]
    inside, outline = mask[z, y, x], outline[z, y, x]
    index = np.full(np.add(inside.shape, 2), -1, dtype=np.int64)
    within = (slice(1, -1),) * 3
    index[within][inside] = np.arange(int(inside.sum()))
    spacing = (spacing_mm,) * 3 if isinstance(spacing_mm, float | int) else spacing_mm
    return Region(
        box=(z, y, x),
        inside=inside,
        outline=outline,
        neighbours=_link(index, _directions(planar), int(inside.sum())),
        distance=_border_distance(outline, planar)[inside],
        slices=np.nonzero(inside)[0].astype(np.int64),
        spacing_mm=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
    )


def _border_distance(outline: NDArray[np.bool_], planar: bool) -> Ints:
    """City-block steps to the nearest voxel outside the outline; in the plane, slice by slice."""
    padded = np.pad(outline, 1)
    if planar:
        # A slice's own transform: what lies in other slices counts as far away.
        found = np.stack([ndimage.distance_transform_cdt(part, metric="taxicab") for part in padded])
    else:
        found = ndimage.distance_transform_cdt(padded, metric="taxicab")
    distance: Ints = found[1:-1, 1:-1, 1:-1].astype(np.int64)
    return distance


@kernel
def _link(index: Ints, directions: Ints, voxels: int) -> Ints:
    count = directions.shape[0]
    neighbours = np.full((voxels, 2 * count), -1, dtype=np.int64)
    depth, height, width = index.shape
    for z in range(1, depth - 1):
        for y in range(1, height - 1):
            for x in range(1, width - 1):
                here = index[z, y, x]
                if here < 0:
                    continue
                for d in range(count):
                    there = index[z + directions[d, 0], y + directions[d, 1], x + directions[d, 2]]
                    if there >= 0:
                        neighbours[here, d] = there
                        neighbours[there, d + count] = here
    return neighbours
