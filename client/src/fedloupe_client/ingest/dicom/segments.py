"""DICOM SEG to a mask on the reference series' grid, frame by frame, without resampling.

    numbers = segments(dataset, "(?i)tumou?r")    # label -> Segment Number
    mask = place(dataset, number, grid, path)     # uint8 (z, y, x)

BINARY segmentations (PS3.3 C.8.20.2), and FRACTIONAL ones that hold nothing between 0 and their maximum: any other has
no edge until somebody chooses it.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from fedloupe_client.ingest.dicom.choose import Chosen, Reference
from fedloupe_client.ingest.dicom.frames import frames
from fedloupe_client.ingest.dicom.headers import frame_geometry
from fedloupe_client.ingest.dicom.series import Grid
from fedloupe_client.ingest.problems import MaskElsewhere, MaskInvalid


def refers_to(segmentation: Dataset, chosen: Chosen) -> Reference:
    """How a segmentation refers to a series (PS3.3 C.12.4)."""
    referenced = segmentation.get("ReferencedSeriesSequence") or []
    if any(series.get("SeriesInstanceUID") == chosen.uid for series in referenced):
        return Reference.SERIES
    same = chosen.frame_of_reference and segmentation.get("FrameOfReferenceUID") == chosen.frame_of_reference
    return Reference.FRAME if same else Reference.NOT


def segments(segmentation: Dataset, pattern: str) -> dict[str, int]:
    """Segment labels that fit the pattern, and their numbers."""
    found = {str(s.get("SegmentLabel", "")): int(s.SegmentNumber) for s in segmentation.get("SegmentSequence") or []}
    return {label: number for label, number in found.items() if re.search(pattern, label)}


def place(segmentation: Dataset, number: int, grid: Grid, path: Path) -> NDArray[np.uint8]:
    """One segment's frames, each on the slice at its position.

    Returns:
        (z, y, x), 0 or 1.

    Raises:
        ValueError: the numbers of frames and of their groups differ, or there is no fractional maximum.
        MaskInvalid: neither binary nor fractional, a value between outside and inside, or see `frames`.
        MaskElsewhere: a frame that does not coincide with a slice of the grid, to 0.1 of a voxel.
        FileUnreadable: see `frames`.
    """
    rows, columns, _ = grid.slices[0].matrix
    inside = _inside(segmentation)
    not_binary = MaskInvalid("the segmentation is not binary", where=str(path), remedy="export a binary segmentation")
    if inside is None:
        raise not_binary
    elsewhere = MaskElsewhere(
        "the segmentation does not lie on the grid of the first sequence",
        where=str(path),
        remedy="segment that series, without resampling",
    )
    if (segmentation.Rows, segmentation.Columns) != (rows, columns):
        raise elsewhere
    if int(segmentation.get("NumberOfFrames") or 1) != len(segmentation.PerFrameFunctionalGroupsSequence):
        raise ValueError("frames and their groups do not agree")
    pixels = frames(segmentation, path)
    axes = np.array(grid.direction).reshape(3, 3)
    shared = (segmentation.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    mask = np.zeros((len(grid.slices), rows, columns), dtype=np.uint8)
    for frame, own in enumerate(segmentation.PerFrameFunctionalGroupsSequence):
        identification = own.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
        if not identification or int(identification[0].ReferencedSegmentNumber) != number:
            continue
        spacing, orientation, position = frame_geometry(shared, own)
        if len(spacing) != 2 or len(orientation) != 6 or len(position) != 3:
            raise elsewhere
        index = (np.array(position) - np.array(grid.origin)) @ axes / np.array(grid.spacing)
        plane = int(np.rint(index[2]))
        aligned = (
            np.allclose(np.array(orientation).reshape(2, 3), axes.T[:2], atol=1e-3)
            and np.allclose(spacing[::-1], grid.spacing[:2], rtol=0, atol=1e-3)
            and np.abs(index - (0, 0, plane)).max() < 0.1
            and 0 <= plane < len(grid.slices)
        )
        if not aligned:
            raise elsewhere
        if not np.isin(pixels[frame], (0, inside)).all():
            raise not_binary
        mask[plane] |= pixels[frame] == inside
    return mask


def _inside(segmentation: Dataset) -> int | None:
    """The stored value of a voxel that is wholly in the segment; None for a kind that has no such value."""
    if segmentation.get("SegmentationType") == "BINARY":
        return 1
    if segmentation.get("SegmentationType") != "FRACTIONAL" or segmentation.BitsAllocated != 8:
        return None
    if not 1 <= (most := int(segmentation.MaximumFractionalValue)) <= 255:
        raise ValueError("Maximum Fractional Value is out of range")
    return most
