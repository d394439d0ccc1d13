# mypy: disable-error-code="no-untyped-call"
# (SimpleITK ships wrappers without types)
"""Shading and arbitrary units of MR, taken out of each image by itself, so that an unseen site needs no statistics.

    fields = shading({"t2w": image, ...})         # log bias fields on native grids
    centre, spread = intensity_scale(array)       # inside the body

Images of one native grid share one field, estimated from their mean: the phases of a dynamic series are shaded by the
same coil, and one field keeps their ratios.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from fedloupe_client.imaging.threads import one_thread
from fedloupe_client.ingest.formats.volumes import build, same_grid


@dataclass(frozen=True)
class N4Setting:
    """How N4 works: voxel edge in mm, most steps a level, width of its deconvolution kernel in log units, and the
    change of the field below which a level ends."""

    voxel_mm: float
    iterations: tuple[int, ...]
    kernel: float
    steady: float


# Coarse voxels and few steps are enough for a field that varies over decimetres: on synthetic tissue this leaves 7 % of
# a known field and N4's own defaults leave 1 %, at a small part of the time (benchmarks/README.md).
QUICK = N4Setting(voxel_mm=8.0, iterations=(20, 20, 20), kernel=0.3, steady=5e-3)
FULL = N4Setting(voxel_mm=4.0, iterations=(50, 50, 50, 50), kernel=0.15, steady=1e-3)  # N4's defaults (Tustison 2010)
CONTROL_POINTS = (4, 4, 4)
BRIGHTEST = 99.5  # percentile of the whole image


def shading(images: dict[str, sitk.Image], setting: N4Setting = QUICK) -> dict[str, NDArray[np.float32]]:
    """Log bias field of each image by N4 (Tustison 2010), (z, y, x) on its native grid.

    Args:
        images: float32 MR images of arbitrary units.
        setting: `QUICK`; `FULL` is what `benchmarks/imaging.py` holds it against.
    """
    fields: dict[str, NDArray[np.float32]] = {}
    for name, image in images.items():
        if name in fields:
            continue
        group = [other for other in images if same_grid(images[other], image)]
        field = _n4([images[other] for other in group], setting)
        fields.update(dict.fromkeys(group, field))
    return fields


def without_shading(images: dict[str, sitk.Image]) -> dict[str, sitk.Image]:
    """Images divided by their bias fields, on the same grids."""
    return {
        name: build((sitk.GetArrayViewFromImage(images[name]) * np.exp(-field)).astype(np.float32), images[name])
        for name, field in shading(images).items()
    }


@one_thread()
def _n4(images: list[sitk.Image], setting: N4Setting) -> NDArray[np.float32]:
    factors = [
        max(1, min(round(setting.voxel_mm / s), n // 6))
        for s, n in zip(images[0].GetSpacing(), images[0].GetSize(), strict=True)
    ]
    small = sitk.BinShrink(images[0], factors)
    arrays = [sitk.GetArrayFromImage(sitk.BinShrink(image, factors)) for image in images]
    levels = [float(a[a > body_threshold(a)].mean()) if a.max() > a.min() else 0.0 for a in arrays]
    usable = [a / level for a, level in zip(arrays, levels, strict=True) if level > 0]
    if not usable:
        return np.zeros(images[0].GetSize()[::-1], np.float32)
    mean = np.mean(usable, axis=0).astype(np.float32) * 1000
    mean_image = build(mean, small)
    body = build((mean > max(body_threshold(mean), 1.0)).astype(np.uint8), small)
    filter_ = sitk.N4BiasFieldCorrectionImageFilter()
    filter_.SetMaximumNumberOfIterations(setting.iterations)
    filter_.SetNumberOfControlPoints(CONTROL_POINTS)
    filter_.SetBiasFieldFullWidthAtHalfMaximum(setting.kernel)
    filter_.SetConvergenceThreshold(setting.steady)
    filter_.Execute(mean_image, body)
    field = filter_.GetLogBiasFieldAsImage(small)
    spread = sitk.ResampleImageFilter()
    spread.SetReferenceImage(images[0])
    spread.SetInterpolator(sitk.sitkLinear)
    spread.SetUseNearestNeighborExtrapolator(True)
    result: NDArray[np.float32] = sitk.GetArrayFromImage(spread.Execute(sitk.Cast(field, sitk.sitkFloat32)))
    return result


def body_threshold(array: NDArray[np.float32]) -> float:
    """A quarter of the mean above Otsu's threshold: over the noise of air, under dark tissue such as muscle on T2.

    Otsu's own threshold lies anywhere in the gap between air and tissue, or between two tissues where there is no air.
    """
    step = max(1, round((array.size / 40_000) ** (1 / 3)))  # a histogram needs no more
    thin = np.ascontiguousarray(array[::step, ::step, ::step])
    thin = np.minimum(thin, np.percentile(thin, BRIGHTEST))  # an artefact must not be the one class, all else the other
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
    body = array[array > body_threshold(array)]
    low, high = np.percentile(body, (1, 99))
    clipped = np.clip(body, low, high)
    deviation = float(clipped.std(dtype=np.float64))
    return (float(clipped.mean(dtype=np.float64)), deviation) if deviation > 0 else None
