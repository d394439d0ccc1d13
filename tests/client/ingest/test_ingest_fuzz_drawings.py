"""Damaged structure sets and segmentations, each with what it must come to.

The hospitals are synthetic. Run with `-s` for the table of families in docs/ingest.md; see `damages`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from damages import ANYTHING, Damage, Variant, add_to, check, flip, general_to, rewrite
from dicom_damages import DRAWN, INNER, SEGMENTED, cut_at, edit, flip_header, pixels_at, put, without

VARIANTS: list[Variant] = []
add = partial(add_to, VARIANTS)
general = partial(general_to, VARIANTS)

general("structures", DRAWN, 12)
add("structures", "cut off between elements", "corruption", {
    f"{DRAWN} {keyword}": cut_at(DRAWN, keyword) for keyword in (
        "Modality", "PatientID", "FrameOfReferenceUID", "ReferencedFrameOfReferenceSequence", "StructureSetROISequence",
        "ROIContourSequence")
})  # fmt: skip
add("structures", "bits of the drawing", ANYTHING, {f"{n}": flip(DRAWN, n, 132) for n in range(12)})


def contour(change: Callable[[Dataset], object]) -> Damage:
    """Change the first contour of the tumour."""
    return edit(DRAWN, lambda dataset: change(dataset.ROIContourSequence[0].ContourSequence[0]))


def points(change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    def new(one: Dataset) -> None:
        old = np.array(one.ContourData, float).reshape(-1, 3)
        one.ContourData = [f"{v:g}" for v in change(old).ravel()]

    return contour(new)


def all_points(change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    def new(dataset: Dataset) -> None:
        for one in dataset.ROIContourSequence[0].ContourSequence:
            old = np.array(one.ContourData, float).reshape(-1, 3)
            one.ContourData = [f"{v:g}" for v in change(old).ravel()]

    return edit(DRAWN, new)


def roi_again(dataset: Dataset) -> None:
    again = Dataset()
    again.ROINumber, again.ROIName = 2, "GTV"
    dataset.StructureSetROISequence.append(again)


def second_file(root: Path) -> None:
    dataset = pydicom.dcmread(root / DRAWN)
    dataset.SOPInstanceUID = dataset.SOPInstanceUID[:-3] + "777"
    dataset.save_as(root / "images/P-0001/rs-again.dcm")


def other_reference(dataset: Dataset) -> None:
    frame = dataset.ReferencedFrameOfReferenceSequence[0]
    frame.FrameOfReferenceUID = "1.2.3"
    frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.4"


def _set(sequence: str, keyword: str, value: object) -> Callable[[Dataset], object]:
    return lambda dataset: setattr(dataset[sequence].value[0], keyword, value)


add("structures", "contour not closed", "degenerate", {
    kind or "none": contour(lambda one, kind=kind: setattr(one, "ContourGeometricType", kind))
    for kind in ("OPEN_PLANAR", "OPEN_NONPLANAR", "")
})  # fmt: skip
add(
    "structures",
    "contour outside",
    "mislabelled",
    {
        "above": points(lambda p: p + np.array([0, 0, 90])),
        "below": points(lambda p: p - np.array([0, 0, 90])),
        "aside x": points(lambda p: p + np.array([500, 0, 0])),
        "aside y": points(lambda p: p - np.array([0, 500, 0])),
        "all aside": all_points(lambda p: p + np.array([500, 0, 0])),
        "all aside y": all_points(lambda p: p + np.array([0, 500, 0])),
        "all below": all_points(lambda p: p - np.array([0, 0, 500])),
        "far": points(lambda p: p * 1e30),
        "between slices": points(lambda p: p + np.array([0, 0, 1.5])),
        "turned": points(lambda p: p[:, [2, 1, 0]] + np.array([0, 0, 20])),
    },
)
add("structures", "contour partly outside", "mislabelled ready", {"x": all_points(lambda p: p + np.array([7, 0, 0]))})
add("structures", "contour without points", "corruption degenerate ready", {
    "none": contour(lambda one: setattr(one, "ContourData", None)), "one": points(lambda p: p[:1]),
    "two": points(lambda p: p[:2]), "line": points(lambda p: p[[0, 1, 0]]),
})  # fmt: skip
add("structures", "contour not numbers", "corruption degenerate", {
    "nan": contour(put("ContourData", "DS", ["nan"] * 12)), "words": contour(put("ContourData", "DS", ["a"] * 12)),
    "inf": contour(put("ContourData", "DS", ["inf"] * 12)), "odd": contour(put("ContourData", "DS", ["1"] * 11)),
})  # fmt: skip
add("structures", "contour crosses itself", "ready", {"bow": points(lambda p: p[[0, 2, 1, 3]])})
add("structures", "no tumour drawn", "absence degenerate", {
    "no ROI": edit(DRAWN, lambda d: setattr(d, "StructureSetROISequence", [])),
    "no contours": edit(DRAWN, lambda d: delattr(d.ROIContourSequence[0], "ContourSequence")),
    "no contour item": edit(DRAWN, lambda d: setattr(d, "ROIContourSequence", [])),
    "other name": edit(DRAWN, _set("StructureSetROISequence", "ROIName", "Bladder")),
    "no name": edit(DRAWN, _set("StructureSetROISequence", "ROIName", "")),
})  # fmt: skip
add("structures", "two tumours drawn", "configuration", {"two ROIs": edit(DRAWN, roi_again), "two files": second_file})
add("structures", "drawing refers elsewhere", "mislabelled corruption degenerate", {
    "series and frame": edit(DRAWN, other_reference),
    "no reference": edit(DRAWN, without("ReferencedFrameOfReferenceSequence")),
    "number": edit(DRAWN, _set("ROIContourSequence", "ReferencedROINumber", 9)),
    "no number": edit(DRAWN, lambda d: delattr(d.ROIContourSequence[0], "ReferencedROINumber")),
})  # fmt: skip

general("segments", SEGMENTED, 10)
add("segments", "cut off between elements", "corruption", {
    f"{SEGMENTED} {keyword}": cut_at(SEGMENTED, keyword) for keyword in (
        "Modality", "PatientID", "FrameOfReferenceUID", "Rows", "SegmentSequence", "PerFrameFunctionalGroupsSequence",
        "PixelData")
})  # fmt: skip
add("segments", "bits of the segmentation", ANYTHING, {f"{n}": flip_header(SEGMENTED, n) for n in range(12)})


def group(number: int, sequence: str, keyword: str, value: object) -> Damage:
    """One frame's functional group."""

    def new(dataset: Dataset) -> None:
        setattr(dataset.PerFrameFunctionalGroupsSequence[number][sequence].value[0], keyword, value)

    return edit(SEGMENTED, new)


def shared(sequence: str, keyword: str, value: object) -> Damage:
    def new(dataset: Dataset) -> None:
        item = dataset.SharedFunctionalGroupsSequence[0][sequence].value[0]
        put(keyword, "DS", value)(item)

    return edit(SEGMENTED, new)


def segment_again(dataset: Dataset) -> None:
    again = Dataset()
    again.SegmentNumber, again.SegmentLabel = 2, "GTV"
    dataset.SegmentSequence.append(again)


add("segments", "frames elsewhere", "mislabelled", {
    "half a voxel": group(0, "PlanePositionSequence", "ImagePositionPatient", [-4.5, 7, 17]),
    "between": group(0, "PlanePositionSequence", "ImagePositionPatient", [-5, 7, 15.5]),
    "above": group(0, "PlanePositionSequence", "ImagePositionPatient", [-5, 7, 110]),
    "below": group(1, "PlanePositionSequence", "ImagePositionPatient", [-5, 7, 8]),
    "spacing": shared("PixelMeasuresSequence", "PixelSpacing", ["2", "2"]),
    "turned": shared("PlaneOrientationSequence", "ImageOrientationPatient", ["0", "1", "0", "1", "0", "0"]),
    "rows": edit(SEGMENTED, lambda d: (setattr(d, "Rows", 14), setattr(d, "Columns", 12))),
    "another frame": edit(SEGMENTED, put("FrameOfReferenceUID", "UI", "1.2.3")),
})  # fmt: skip
add("segments", "frames without a place", "mislabelled corruption", {
    "nan": shared("PlaneOrientationSequence", "ImageOrientationPatient", ["nan"] * 6),
    "zero spacing": shared("PixelMeasuresSequence", "PixelSpacing", ["0", "0"]),
    "words": shared("PixelMeasuresSequence", "PixelSpacing", ["a", "b"]),
    "no shared groups": edit(SEGMENTED, without("SharedFunctionalGroupsSequence")),
    "no position": edit(SEGMENTED, lambda d: delattr(d.PerFrameFunctionalGroupsSequence[0], "PlanePositionSequence")),
    "position nan": edit(SEGMENTED, lambda d: put("ImagePositionPatient", "DS", ["nan"] * 3)(
        d.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0])),
})  # fmt: skip
add(
    "segments",
    "wrong number of frames",
    "corruption",
    {
        **{f"{n}": edit(SEGMENTED, put("NumberOfFrames", "IS", n)) for n in ("1", "3", "1000000", "99999", "-2")},
        "no groups": edit(SEGMENTED, without("PerFrameFunctionalGroupsSequence")),
        "a group too many": edit(
            SEGMENTED, lambda d: d.PerFrameFunctionalGroupsSequence.append(d.PerFrameFunctionalGroupsSequence[0])
        ),
        "a group too few": edit(SEGMENTED, lambda d: d.PerFrameFunctionalGroupsSequence.pop()),
        "bits allocated": edit(SEGMENTED, put("BitsAllocated", "US", 8)),
    },
)
add("segments", "no tumour segmented", "absence degenerate", {
    "other label": edit(SEGMENTED, _set("SegmentSequence", "SegmentLabel", "Bladder")),
    "no segments": edit(SEGMENTED, lambda d: setattr(d, "SegmentSequence", [])),
    "blank frames": edit(SEGMENTED, lambda d: setattr(d, "PixelData", b"\0" * len(d.PixelData))),
    "fractional": edit(SEGMENTED, lambda d: setattr(d, "SegmentationType", "FRACTIONAL")),
    "no type": edit(SEGMENTED, without("SegmentationType")),
})  # fmt: skip
add("segments", "two tumours segmented", "configuration", {"two labels": edit(SEGMENTED, segment_again)})
add("segments", "segment numbers", "corruption degenerate", {
    "unknown": edit(SEGMENTED, _set("SegmentSequence", "SegmentNumber", 7)),
    "none": edit(SEGMENTED, lambda d: delattr(d.SegmentSequence[0], "SegmentNumber")),
})  # fmt: skip

for _name in (INNER, SEGMENTED):
    add(
        "structures" if _name == INNER else "segments",
        "cut off within an element's header",
        "corruption",
        {
            f"{_name} {n}": rewrite(_name, lambda content, n=n: content[: pixels_at(content) + n])
            for n in (1, 4, 7, 8, 11, 12)
        },
    )


@pytest.mark.usefixtures("no_wait_for_the_disk")
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: f"{v.hospital}, {v.family}: {v.name}"[:90])
def test_damage_ends_in_the_right_finding(variant, hospital_of, outcomes, refuse_reading, monkeypatch):
    check(variant, hospital_of(variant.hospital), outcomes, refuse_reading, monkeypatch)


def test_there_are_enough_variants_and_none_is_there_twice():
    assert len(VARIANTS) >= 150
    assert len({(v.hospital, v.family, v.name) for v in VARIANTS}) == len(VARIANTS)
