"""RTSTRUCT to a mask on the reference series' grid, by the even-odd rule at voxel centres.

    mask = draw(contours, grid)                   # list of (n, 3) points in mm -> uint8 (z, y, x)

Contours are planar polygons in patient coordinates (Contour Data, PS3.3 C.8.8.6). Several contours on a slice are
taken together, so an inner one is a hole.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from fedloupe_client.ingest.dicom.choose import Chosen, Reference
from fedloupe_client.ingest.dicom.series import Grid
from fedloupe_client.ingest.problems import MaskElsewhere, MaskInvalid

Points = NDArray[np.float64]


def refers_to(structures: Dataset, chosen: Chosen) -> Reference:
    """How a structure set refers to a series (PS3.3 C.8.8.5)."""
    nearest = Reference.NOT
    for frame in structures.get("ReferencedFrameOfReferenceSequence") or []:
        if chosen.frame_of_reference and frame.get("FrameOfReferenceUID") == chosen.frame_of_reference:
            nearest = Reference.FRAME
        for study in frame.get("RTReferencedStudySequence") or []:
            for series in study.get("RTReferencedSeriesSequence") or []:
                if series.get("SeriesInstanceUID") == chosen.uid:
                    return Reference.SERIES
    return nearest


def rois(structures: Dataset, pattern: str) -> dict[str, int]:
    """ROI names that fit the pattern, and their numbers."""
    found = {str(roi.get("ROIName", "")): int(roi.ROINumber) for roi in structures.get("StructureSetROISequence") or []}
    return {name: number for name, number in found.items() if re.search(pattern, name)}


def contours(structures: Dataset, number: int, path: Path) -> list[Points]:
    """The closed planar contours of one ROI, (n, 3) in mm (LPS).

    Raises:
        MaskInvalid: a contour of another kind, or a number of values that is not a multiple of three.
    """
    found = []
    for roi in structures.get("ROIContourSequence") or []:
        if int(roi.ReferencedROINumber) != number:
            continue
        for contour in roi.get("ContourSequence") or []:
            kind, data = contour.get("ContourGeometricType"), contour.get("ContourData") or []
            if kind == "POINT":
                continue  # a seed or marker beside the drawing
            if kind not in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR") or len(data) % 3:
                raise MaskInvalid(
                    f"a contour is `{kind}`, not a closed planar one", where=str(path), remedy="draw closed contours"
                )
            found.append(np.array(data, dtype=np.float64).reshape(-1, 3))
    return found


def draw(polygons: list[Points], grid: Grid, path: Path) -> NDArray[np.uint8]:
    """Fill polygons on a grid.

    Returns:
        (z, y, x), 0 or 1; a voxel is inside when its centre is.

    Raises:
        MaskElsewhere: a contour lies beyond the grid or not in the plane of a slice.
    """
    rows, columns, _ = grid.slices[0].matrix
    depth = len(grid.slices)
    axes = np.array(grid.direction).reshape(3, 3)
    toggles = np.zeros((depth, rows, columns + 1), dtype=np.int64)
    for points in polygons:
        index = (points - np.array(grid.origin)) @ axes / np.array(grid.spacing)
        plane = int(np.rint(index[:, 2].mean()))
        if not 0 <= plane < depth or np.abs(index[:, 2] - plane).max() > 0.45:
            raise MaskElsewhere(
                "contours do not lie on the slices of the first sequence",
                where=str(path),
                remedy="draw the tumour on that series",
            )
        low, high = index[:, :2].min(0), index[:, :2].max(0)
        if (high < -0.5).any() or (low > (columns - 0.5, rows - 0.5)).any():
            raise MaskElsewhere(
                "a contour lies beside the image of the first sequence",
                where=str(path),
                remedy="draw the tumour on that series",
            )
        _toggle(toggles[plane], index[:, 0], index[:, 1])
    filled: NDArray[np.uint8] = (np.cumsum(toggles, axis=2)[:, :, :columns] % 2).astype(np.uint8)
    return filled


def _toggle(plane: NDArray[np.int64], x: Points, y: Points) -> None:
    """Mark, in each row that an edge crosses, the first voxel centre at or beyond the crossing.

    Summed along the row this counts the crossings to the left of each centre: odd is inside.
    """
    rows, width = plane.shape  # one column more than the image, for crossings beyond its right edge
    for x0, y0, x1, y1 in zip(x, y, np.roll(x, -1), np.roll(y, -1), strict=True):
        if y0 == y1:
            continue
        low, high = min(y0, y1), max(y0, y1)
        crossed = np.arange(max(0, int(np.ceil(low))), min(rows, int(np.ceil(high))))
        at = np.ceil(x0 + (crossed - y0) * (x1 - x0) / (y1 - y0))
        plane[crossed, np.clip(at, 0, width - 1).astype(np.int64)] += 1
