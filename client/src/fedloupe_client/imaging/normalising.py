# mypy: disable-error-code="no-untyped-call"
# (SimpleITK ships wrappers without types)
"""Shading and arbitrary units of MR, taken out of each image by itself, so that an unseen site needs no statistics.

    fields = shading({"t2w": image, ...})         # log bias fields on native grids
    centre, spread = intensity_scale(array)       # inside the body

Images of one native grid share one field, estimated from their mean: the phases of a dynamic series are shaded by the
same coil, and one field keeps their ratios.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from fedloupe_client.ingest.volumes import build, same_grid

# Coarse voxels and few steps are enough for a field that varies over decimetres. On a T1 image with a known field of
# spread 0.138 (log units), N4's own defaults at these counts removed 12 % of it, a kernel of 0.4 removed 70 %.
VOXEL_MM = 12.0
ITERATIONS = (10, 10)
KERNEL = 0.4
CONTROL_POINTS = (4, 4, 4)
STEADY = 1e-4


def shading(images: dict[str, sitk.Image]) -> dict[str, NDArray[np.float32]]:
    """Log bias field of each image by N4 (Tustison 2010), (z, y, x) on its native grid.

    Args:
        images: float32 MR images of arbitrary units.
    """
    fields: dict[str, NDArray[np.float32]] = {}
    for name, image in images.items():
        if name in fields:
            continue
        group = [other for other in images if same_grid(images[other], image)]
        field = _n4([images[other] for other in group])
        fields.update(dict.fromkeys(group, field))
    return fields


def _n4(images: list[sitk.Image]) -> NDArray[np.float32]:
    factors = [
        max(1, min(round(VOXEL_MM / s), n // 6))
        for s, n in zip(images[0].GetSpacing(), images[0].GetSize(), strict=True)
    ]
    small = sitk.BinShrink(images[0], factors)
    arrays = [sitk.GetArrayFromImage(sitk.BinShrink(image, factors)) for image in images]
    levels = [float(a[a > _body_threshold(a)].mean()) if a.max() > a.min() else 0.0 for a in arrays]
    usable = [a / level for a, level in zip(arrays, levels, strict=True) if level > 0]
    if not usable:
        return np.zeros(images[0].GetSize()[::-1], np.float32)
    mean = np.mean(usable, axis=0).astype(np.float32) * 1000
    mean_image = build(mean, small)
    body = build((mean > max(_body_threshold(mean), 1.0)).astype(np.uint8), small)
    filter_ = sitk.N4BiasFieldCorrectionImageFilter()
    filter_.SetNumberOfThreads(1)  # more would change the order of sums, and so the last digits
    filter_.SetMaximumNumberOfIterations(ITERATIONS)
    filter_.SetNumberOfControlPoints(CONTROL_POINTS)
    filter_.SetBiasFieldFullWidthAtHalfMaximum(KERNEL)
    filter_.SetConvergenceThreshold(STEADY)
    filter_.Execute(mean_image, body)
    field = filter_.GetLogBiasFieldAsImage(small)
    spread = sitk.ResampleImageFilter()
    spread.SetReferenceImage(images[0])
    spread.SetNumberOfThreads(1)
    spread.SetInterpolator(sitk.sitkLinear)
    spread.SetUseNearestNeighborExtrapolator(True)
    result: NDArray[np.float32] = sitk.GetArrayFromImage(spread.Execute(sitk.Cast(field, sitk.sitkFloat32)))
    return result


def _body_threshold(array: NDArray[np.float32]) -> float:
    """A quarter of the mean above Otsu's threshold: over the noise of air, under dark tissue such as muscle on T2.

    Otsu's own threshold lies anywhere in the gap between air and tissue, or between two tissues where there is no air.
    """
    step = max(1, round((array.size / 40_000) ** (1 / 3)))  # a histogram needs no more
    thin = np.ascontiguousarray(array[::step, ::step, ::step])
    filter_ = sitk.OtsuThresholdImageFilter()
    filter_.SetNumberOfThreads(1)
    filter_.Execute(sitk.GetImageFromArray(thin))
    above = thin[thin > filter_.GetThreshold()]
    return float(above.mean()) / 4 if above.size else float(filter_.GetThreshold())


def intensity_scale(array: NDArray[np.float32]) -> tuple[float, float] | None:
    """Mean and standard deviation inside the body, of values clipped to their 1st and 99th percentile.

    The body is what exceeds a quarter of the bright voxels' mean. A crop without air counts almost whole.

    Returns:
        (mean, standard deviation) in the image's units, or None where the image has no contrast.
    """
    if array.max() <= array.min():
        return None
    body = array[array > _body_threshold(array)]
    low, high = np.percentile(body, (1, 99))
    clipped = np.clip(body, low, high)
    deviation = float(clipped.std(dtype=np.float64))
    return (float(clipped.mean(dtype=np.float64)), deviation) if deviation > 0 else None
