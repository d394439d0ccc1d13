# mypy: disable-error-code="no-untyped-call"
# (SimpleITK ships wrappers without types)
"""What a radiographer would note of a case: geometry, intensity, noise, and where the tumour lies.

look = measure(store.volume(case, "t2w"))         # SequenceLook
tumour = measure_tumour(store.mask(case))         # TumourLook
"""

from __future__ import annotations

import hashlib
from math import pi, sqrt

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from fedloupe_client.preflight.findings import Frozen
from fedloupe_client.preflight.marks import still_marks

Triple = tuple[float, float, float]
SNR = (
    "SNR: median of the body (values above a quarter of the 99th percentile) over the noise, which is Immerkaer's "
    "difference estimate (1996), the median over slices. Fine structure counts as noise, so compare scans of one kind."
)
_LAPLACIAN = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float64)


class SequenceLook(Frozen):
    """One volume of a case.

    Attributes:
        size: voxels along x, y, z.
        spacing_mm: along x, y, z.
        orientation: where the axes point, in three letters of R/L, A/P, I/S: `LPS` is a straight axial scan.
        fov_mm: size times spacing.
        percentiles: 1st, 50th and 99th of the body's values, in the image's units.
        snr: see `SNR`; None where there is no noise at all.
        burned_in: text or graphics may stand in the pixels, see `marks`.
        digest: SHA-256 of shape and values: equal for equal pixels.
    """

    size: tuple[int, int, int]
    spacing_mm: Triple
    orientation: str
    fov_mm: Triple
    percentiles: Triple
    snr: float | None
    burned_in: bool
    digest: str


class TumourLook(Frozen):
    """The tumour mask of a case.

    Attributes:
        volume_ml: voxels times their volume.
        components: separate pieces (neighbours share a face, an edge or a corner).
        position: centroid as a fraction of the image along x, y, z, in [0, 1].
        extent_mm: of the box about it, along x, y, z.
        at_edge: it touches the first or last row, column or slice of the image.
    """

    volume_ml: float
    components: int
    position: Triple
    extent_mm: Triple
    at_edge: bool


def measure(image: sitk.Image) -> SequenceLook:
    """Describe one volume, (z, y, x) voxels."""
    array = sitk.GetArrayViewFromImage(image)
    x, y, z = image.GetSize()
    spacing = _triple(image.GetSpacing())
    values = body(array)
    percentiles = np.percentile(values, (1, 50, 99))
    noise = noise_sigma(array)
    orientation = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())
    return SequenceLook(
        size=(x, y, z),
        spacing_mm=spacing,
        orientation=str(orientation),
        fov_mm=_triple(np.multiply(image.GetSize(), spacing)),
        percentiles=_triple(percentiles),
        snr=round(float(percentiles[1]) / noise, 2) if noise > 0 else None,
        burned_in=still_marks(array).suspicious,
        digest=voxel_digest(array),
    )


def body(array: NDArray[np.generic]) -> NDArray[np.float64]:
    """Values above a quarter of the 99th percentile; all values where that leaves none (air only, CT)."""
    values = np.asarray(array, dtype=np.float64).ravel()
    above = values[values > np.percentile(values, 99) / 4]
    return above if above.size else values


def noise_sigma(array: NDArray[np.generic]) -> float:
    """Standard deviation of the noise, the median over slices of Immerkaer's estimate (z, y, x).

    Immerkaer, Comput Vis Image Underst 1996;64:300: sqrt(pi/2) / (6 (W-2)(H-2)) times the sum of |image * N|, N the
    difference of two Laplacians, which is blind to constant and to linearly changing intensity. No air is needed.
    """
    slices = [np.asarray(plane, dtype=np.float64) for plane in array if min(plane.shape) > 2]
    estimates = [
        sqrt(pi / 2) / 6 * float(np.abs(ndimage.convolve(plane, _LAPLACIAN)[1:-1, 1:-1]).mean()) for plane in slices
    ]
    return float(np.median(estimates)) if estimates else 0.0


def voxel_digest(array: NDArray[np.generic]) -> str:
    """SHA-256 of shape and values as float32: blind to names, headers and storage types."""
    state = hashlib.sha256(str(array.shape).encode())
    state.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
    return state.hexdigest()


def measure_tumour(mask: sitk.Image) -> TumourLook:
    """Describe a mask that holds a voxel at least."""
    array = sitk.GetArrayViewFromImage(mask) > 0
    where = np.argwhere(array)[:, ::-1]  # x, y, z
    size, spacing = np.array(mask.GetSize()), np.array(mask.GetSpacing())
    low, high = where.min(axis=0), where.max(axis=0)
    components = ndimage.label(array, structure=np.ones((3, 3, 3)))[1]
    return TumourLook(
        volume_ml=round(float(len(where) * spacing.prod() / 1000), 4),
        components=int(components),
        position=_triple((where.mean(axis=0) + 0.5) / size),
        extent_mm=_triple((high - low + 1) * spacing),
        at_edge=bool((low == 0).any() or (high == size - 1).any()),
    )


def _triple(values: NDArray[np.float64] | tuple[float, ...]) -> Triple:
    x, y, z = (round(float(v), 4) for v in values)
    return x, y, z
