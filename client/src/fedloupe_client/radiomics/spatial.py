"""How intensities lie in the tumour: IBSI's morphological features that need the image (HCUG).

    spatial_features(values, region, volume_mm3)       # 4

Moran's I and Geary's C weigh every pair of voxels by one over its distance. Their weights depend on the displacement
alone, so that all N^2 pairs are one convolution on the region's box: exact, and no sample of pairs is drawn.
"""

from __future__ import annotations

import numpy as np
from scipy import fft

from fedloupe_client.radiomics.kernel import Floats
from fedloupe_client.radiomics.region import Region


def spatial_features(values: Floats, region: Region, volume_mm3: float) -> Floats:
    """Centre of mass shift, integrated intensity, Moran's I and Geary's C.

    Args:
        values: float64 (N), the region's voxels in raster order.
        region: the mask.
        volume_mm3: of the mesh around the outline.

    Returns:
        (4): shift in mm between the centre of the outline and that of the intensities (KLMA; as IBSI defines it, also
        where intensities take both signs: z-scores whose mean is near 0 throw the second centre far out, and at 0 it
        is not finite); volume times mean (99N0); Moran's I (N365) and Geary's C (NPT7), NaN for one voxel or a
        constant.
    """
    spacing = np.array(region.spacing_mm)
    n, mean = len(values), values.mean()
    with np.errstate(invalid="ignore", divide="ignore"):
        weighted = (np.argwhere(region.inside) * values[:, None]).sum(axis=0) / values.sum()
    shift = float(np.linalg.norm((weighted - np.argwhere(region.outline).mean(axis=0)) * spacing))
    deviations = values - mean
    squares = float((deviations**2).sum())
    moran, geary = np.nan, np.nan
    if n > 1 and np.ptp(values) > 0:
        near, pull = _nearness(region, deviations)
        pairs = float(near.sum())
        products = float((deviations * pull).sum())
        moran = n / pairs * products / squares
        # sum of w (x_i - x_j)^2 = 2 sum of w x_i^2 - 2 sum of w x_i x_j
        geary = (n - 1) / pairs * (float((near * deviations**2).sum()) - products) / squares
    return np.array([shift, volume_mm3 * mean, moran, geary])


def _nearness(region: Region, deviations: Floats) -> tuple[Floats, Floats]:
    """For each voxel the sum over all others of 1 / distance, and of 1 / distance times the other's deviation."""
    shape = region.inside.shape
    padded = [fft.next_fast_len(2 * size - 1, real=True) for size in shape]
    # Displacements in FFT order: 0, 1, ..., size - 1, then (after unused places) the negative ones.
    steps = [
        np.minimum(np.arange(size), size - np.arange(size)) * step
        for size, step in zip(padded, region.spacing_mm, strict=True)
    ]
    distance = np.sqrt(steps[0][:, None, None] ** 2 + steps[1][None, :, None] ** 2 + steps[2][None, None, :] ** 2)
    distance[0, 0, 0] = np.inf  # a voxel is no neighbour of itself
    weights = fft.rfftn(1 / distance)
    volumes = np.zeros((2, *shape))
    volumes[0][region.inside] = 1
    volumes[1][region.inside] = deviations
    inside = region.inside
    near, pull = (
        fft.irfftn(fft.rfftn(volume, padded) * weights, padded)[: shape[0], : shape[1], : shape[2]][inside]
        for volume in volumes
    )
    return near, pull
