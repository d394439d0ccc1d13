# mypy: disable-error-code="no-untyped-call"
# (SimpleITK ships wrappers without types)
"""Three planes through the tumour with its contour, small enough that a hundred cases fit on a page.

for plane in three_planes(image, mask):
    plane.name, plane.png, plane.letters          # "transverse", bytes, ("A", "P", "R", "L")
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

VIEW_MM = 200.0
"""Longest edge that is shown, about the tumour."""
EDGE = 200
"""Pixels of that edge."""
GREYS = 64
CONTOUR = 255
COLOUR = (255, 196, 0)


@dataclass(frozen=True)
class Plane:
    """One picture.

    Attributes:
        name: `transverse`, `sagittal` or `coronal`, the nearest to the scan's own axes.
        png: an 8-bit palette PNG.
        width, height: in pixels, which are square.
        letters: nearest patient direction at top, bottom, left and right (A, P, L, R, H, F).
    """

    name: str
    png: bytes
    width: int
    height: int
    letters: tuple[str, str, str, str]


def three_planes(image: sitk.Image, mask: sitk.Image | None) -> tuple[Plane, Plane, Plane]:
    """Transverse, sagittal and coronal plane through the mask's voxel nearest to its centroid.

    Seen as radiologists do: the patient's right is on the left of the picture. The window runs from the 1st to the
    99.5th percentile of what is shown.

    Args:
        image: three-dimensional, any orientation.
        mask: on its grid, or None: then planes go through the image's middle, without a contour.
    """
    straight = sitk.DICOMOrient(image, "LPS")
    array = sitk.GetArrayFromImage(straight).astype(np.float32)
    tumour = np.zeros(array.shape, bool)
    if mask is not None:
        tumour = sitk.GetArrayFromImage(sitk.DICOMOrient(mask, "LPS")) > 0
    spacing = np.array(straight.GetSpacing()[::-1])  # z, y, x as the array
    centre = middle(tumour)
    box = _box(centre, array.shape, spacing)
    array, tumour, centre = array[box], tumour[box], centre - [one.start for one in box]
    scale = EDGE / float((np.array(array.shape) * spacing).max())
    grey = _windowed(array)
    z, y, x = (int(c) for c in centre)
    up = slice(None, None, -1)  # head first
    cuts = (
        ("transverse", (z, slice(None), slice(None)), (1, 2), ("A", "P", "R", "L")),
        ("sagittal", (up, slice(None), x), (0, 1), ("H", "F", "A", "P")),
        ("coronal", (up, y, slice(None)), (0, 2), ("H", "F", "R", "L")),
    )
    planes = [
        Plane(name, *_draw(grey[cut], tumour[cut], spacing[list(axes)] * scale), letters)
        for name, cut, axes, letters in cuts
    ]
    return planes[0], planes[1], planes[2]


def middle(tumour: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Index of the tumour's voxel nearest to its centroid, or of the image's middle where there is no tumour."""
    where = np.argwhere(tumour)
    if not len(where):
        return np.array(tumour.shape) // 2
    return np.asarray(where[np.argmin(((where - where.mean(axis=0)) ** 2).sum(axis=1))], dtype=np.int64)


def outline(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of a region that have a neighbour outside it across an edge; the picture's rim counts as outside."""
    padded = np.pad(region, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return region & ~inside


def _box(centre: NDArray[np.int64], shape: tuple[int, ...], spacing: NDArray[np.float64]) -> tuple[slice, ...]:
    """The part of the image within `VIEW_MM` about the centre; shifted inwards at a rim, so that it stays large."""
    edges = np.minimum(np.maximum(1, np.rint(VIEW_MM / spacing)), shape).astype(int)
    starts = np.clip(centre - edges // 2, 0, np.array(shape) - edges)
    return tuple(slice(int(start), int(start + edge)) for start, edge in zip(starts, edges, strict=True))


def _windowed(array: NDArray[np.float32]) -> NDArray[np.uint8]:
    finite = np.nan_to_num(array)
    low, high = np.percentile(finite, (1, 99.5))
    if high <= low:
        low, high = finite.min(), finite.max()
    if high <= low:
        return np.zeros(array.shape, np.uint8)
    return np.asarray(np.clip((finite - low) / (high - low), 0, 1) * 255, dtype=np.uint8)


def _draw(grey: NDArray[np.uint8], tumour: NDArray[np.bool_], pixels: NDArray[np.float64]) -> tuple[bytes, int, int]:
    """A plane as PNG with square pixels; `pixels` a voxel along rows and columns."""
    height, width = (max(1, round(n * p)) for n, p in zip(grey.shape, pixels, strict=True))
    shown = Image.fromarray(np.ascontiguousarray(grey)).resize((width, height), Image.Resampling.BILINEAR)
    drawn = Image.fromarray(tumour.astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
    levels = np.asarray(shown, dtype=np.uint8) // (256 // GREYS)
    levels = np.where(outline(np.asarray(drawn) > 0), np.uint8(CONTOUR), levels)
    picture = Image.fromarray(levels)
    greys = [round(level * 255 / (GREYS - 1)) for level in range(GREYS)]
    palette = [value for grey in greys for value in (grey, grey, grey)]
    picture.putpalette(palette + [0] * (3 * (CONTOUR - GREYS)) + list(COLOUR))
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return file.getvalue(), width, height
