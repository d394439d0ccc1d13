# mypy: disable-error-code="no-untyped-call"
# (SimpleITK ships wrappers without types)
"""How a case might have come out otherwise: the grid turned and moved about the tumour, the mask's border elsewhere.

    region = posed(region, mask, Pose(rotate_deg=4, shift_mm=(0.5, -0.5, 0.5)))     # then `onto`, `mask_onto` as ever
    wider = grown_onto(region, mask, 1.0)

It is the grid that moves, so that a turned image is interpolated as often as one that is not: once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from fedloupe_client.imaging.resampling import onto

FINE_MM = 0.5
FINE_VOXELS = 16_000_000


@dataclass(frozen=True)
class Pose:
    """How the grid lies about the tumour.

    Attributes:
        rotate_deg: turned about the grid's third axis (the slices' normal) through the mask's centroid.
        shift_mm: moved along the grid's axes (x, y, z), after the turn.
    """

    rotate_deg: float = 0.0
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)


STILL = Pose()


def posed(region: sitk.Image, mask: sitk.Image, pose: Pose) -> sitk.Image:
    """The region in another pose; itself where nothing moves.

    Args:
        region: from `common_region`.
        mask: the tumour, native, not empty.
        pose: turn and shift.
    """
    if pose == STILL:
        return region
    centroid = np.argwhere(sitk.GetArrayViewFromImage(mask) > 0).mean(axis=0)[::-1]
    centre = np.array(mask.TransformContinuousIndexToPhysicalPoint(centroid.tolist()))
    axes = np.array(region.GetDirection()).reshape(3, 3)
    angle = np.deg2rad(pose.rotate_deg)
    c, s = np.cos(angle), np.sin(angle)
    turned = axes @ np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    origin = centre + turned @ (axes.T @ (np.array(region.GetOrigin()) - centre) + np.array(pose.shift_mm))
    moved = sitk.Image(region.GetSize(), region.GetPixelID())
    moved.SetSpacing(region.GetSpacing())
    moved.SetDirection(turned.ravel().tolist())
    moved.SetOrigin(origin.tolist())
    return moved


def grown_onto(region: sitk.Image, mask: sitk.Image, grow_mm: float) -> NDArray[np.bool_]:
    """A mask on the region, (z, y, x), its border moved by a distance; empty where nothing is left.

    The surface is where the interpolated mask is one half, found between voxels of at most half a millimetre (larger
    about a very large mask). Such a voxel joins or leaves the mask by its distance to the surface; the share of them
    then decides about a voxel of the region, so that a border that moves by less than a voxel moves.

    Args:
        region: from `common_region`.
        mask: native, not empty.
        grow_mm: outwards; below 0 inwards.
    """
    edge = region.GetSpacing()[0]
    box = _touched(region, mask, abs(grow_mm) + 2 * edge)
    voxels = int(np.prod(box.GetSize()))
    parts = int(np.ceil(edge / FINE_MM)) // 2 * 2 + 1  # odd: no voxel is half full
    parts = max(1, min(parts, int((FINE_VOXELS / voxels) ** (1 / 3))))
    fine = _refined(box, parts)
    share = onto(fine, sitk.Cast(mask, sitk.sitkFloat32))
    inside = share >= 0.5
    near = _near_surface(share, abs(grow_mm) / (edge / parts), outside=grow_mm > 0)
    grown = inside | near if grow_mm > 0 else inside & ~near
    depth, height, width = (n // parts for n in grown.shape)
    kept = grown.reshape(depth, parts, height, parts, width, parts).mean(axis=(1, 3, 5)) >= 0.5
    result = np.zeros(region.GetSize()[::-1], dtype=np.bool_)
    x, y, z = region.TransformPhysicalPointToIndex(box.GetOrigin())
    result[z : z + depth, y : y + height, x : x + width] = kept
    return result


def _touched(region: sitk.Image, mask: sitk.Image, margin_mm: float) -> sitk.Image:
    """The part of the region about the mask's bounding box, as an empty image."""
    found = np.argwhere(sitk.GetArrayViewFromImage(mask) > 0)[:, ::-1]
    ends = np.stack([found.min(axis=0) - 0.5, found.max(axis=0) + 0.5])
    corners = [
        region.TransformPhysicalPointToContinuousIndex(
            mask.TransformContinuousIndexToPhysicalPoint([float(ends[i, 0]), float(ends[j, 1]), float(ends[k, 2])])
        )
        for i in (0, 1)
        for j in (0, 1)
        for k in (0, 1)
    ]
    margin, last = margin_mm / region.GetSpacing()[0], np.array(region.GetSize()) - 1
    low = np.clip(np.floor(np.min(corners, axis=0) - margin), 0, last).astype(int)
    high = np.clip(np.ceil(np.max(corners, axis=0) + margin), low, last).astype(int)
    box: sitk.Image = region[tuple(slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True))]
    return box


def _refined(box: sitk.Image, parts: int) -> sitk.Image:
    """The same box with each voxel cut into `parts` along each axis, as an empty image."""
    fine = sitk.Image([n * parts for n in box.GetSize()], sitk.sitkUInt8)
    fine.SetSpacing([s / parts for s in box.GetSpacing()])
    fine.SetDirection(box.GetDirection())
    fine.SetOrigin(box.TransformContinuousIndexToPhysicalPoint([0.5 / parts - 0.5] * 3))
    return fine


def _near_surface(share: NDArray[np.float32], reach: float, *, outside: bool) -> NDArray[np.bool_]:
    """Voxels on one side of the surface that are no further from it than `reach` voxels."""
    inside = share >= 0.5
    crossings = []
    for axis in range(3):
        here, there = (np.moveaxis(share, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
        places = np.argwhere((here >= 0.5) != (there >= 0.5))
        low, high = here[tuple(places.T)], there[tuple(places.T)]
        found = places.astype(np.float64)
        found[:, 0] += (0.5 - low) / (high - low)
        crossings.append(np.insert(found[:, 1:], axis, found[:, 0], axis=1))
    near = np.zeros(share.shape, dtype=np.bool_)
    surface = np.concatenate(crossings)
    if len(surface):
        side = inside if outside else ~inside
        band = ndimage.binary_dilation(side, iterations=int(np.ceil(reach * np.sqrt(3))) + 1) & ~side
        places = np.argwhere(band)
        distance, _ = cKDTree(surface).query(places, distance_upper_bound=reach + 1e-6)
        near[tuple(places[np.isfinite(distance)].T)] = True
    return near
