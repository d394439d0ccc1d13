"""Local intensity peaks: means over a sphere of one cubic centimetre (IBSI 9ST6).

local_features(image, region)       # 2: around the brightest voxel, and the brightest such mean of all
"""

from __future__ import annotations

import numpy as np

from fedloupe_client.radiomics.kernel import Floats, Ints, kernel
from fedloupe_client.radiomics.region import Region

RADIUS_MM = (3 / (4 * np.pi)) ** (1 / 3) * 10  # 6.2 mm: 1 cm3


def local_features(image: Floats, region: Region) -> Floats:
    """Local (VJGA) and global (0F91) intensity peak.

    Args:
        image: float64 (z, y, x), the crop. Spheres are cut off where it ends; IBSI counts voxels by their centres.
        region: the mask. Peaks stand in it, their spheres read beyond it.

    Returns:
        (2), in the image's unit; of several brightest voxels the highest mean counts. Not finite where a sphere meets a
        voxel that is not.
    """
    reach = [int(RADIUS_MM // step) for step in region.spacing_mm]
    offsets = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach[:2]), indexing="ij"), axis=-1).reshape(-1, 2)
    left = RADIUS_MM**2 - ((offsets * region.spacing_mm[:2]) ** 2).sum(axis=1)
    rows = np.column_stack([offsets, np.sqrt(np.maximum(left, 0)) // region.spacing_mm[2]])[left >= 0].astype(np.int64)
    near = tuple(
        slice(max(0, where.start - r), min(size, where.stop + r))
        for where, r, size in zip(region.box, reach, image.shape, strict=True)
    )
    crop = image[near]
    places = np.argwhere(region.inside) + [where.start - n.start for where, n in zip(region.box, near, strict=True)]
    values = image[region.box][region.inside]
    means = _means(np.ascontiguousarray(crop), places, rows)
    return np.array([means[values == values.max()].max(), means.max()])


@kernel
def _means(crop: Floats, places: Ints, rows: Ints) -> Floats:
    """Mean over a sphere around each place (M, 3); a row is (dz, dy, half its length along x)."""
    depth, height, width = crop.shape
    means = np.empty(places.shape[0], dtype=np.float64)
    for i in range(places.shape[0]):
        total, count = 0.0, 0
        for r in range(rows.shape[0]):
            z, y = places[i, 0] + rows[r, 0], places[i, 1] + rows[r, 1]
            if z < 0 or z >= depth or y < 0 or y >= height:
                continue
            for x in range(max(0, places[i, 2] - rows[r, 2]), min(width, places[i, 2] + rows[r, 2] + 1)):
                total += crop[z, y, x]
                count += 1
        means[i] = total / count
    return means
