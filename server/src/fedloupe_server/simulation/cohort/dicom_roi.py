"""The synthetic tumour contour as an RT Structure Set or as a DICOM Segmentation, on the T2w series.

write_rtstruct(path, mask, headers, names)
write_segmentation(path, mask, headers, names)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import RTStructureSetStorage
from skimage.measure import find_contours

from fedloupe_server.simulation.cohort.dicom import CaseNames, patient_and_study, save
from fedloupe_server.simulation.cohort.phantom import Mask

ROI_NAME = "Tumour SYNTHETIC"
DECOY_NAME = "Bladder SYNTHETIC"


def slice_contours(plane: Mask) -> list[NDArray[np.floating[Any]]]:
    """Closed outlines of a slice as (n, 2) row and column coordinates, halfway between inner and outer pixels.

    A pixel centre is inside an outline exactly where the mask holds it, so rasterising by centres gives the mask back.
    """
    padded = np.pad(plane.astype(np.float64), 1)
    return [contour[:-1] - 1 for contour in find_contours(padded, 0.5)]  # type: ignore[no-untyped-call]


def write_rtstruct(path: Path, mask: Mask, headers: list[Dataset], names: CaseNames) -> None:
    """Write CLOSED_PLANAR contours of `mask` (z, y, x), slice by slice, in patient coordinates (mm)."""
    first = headers[0]
    struct = patient_and_study(names)
    struct.SOPClassUID = RTStructureSetStorage
    struct.SOPInstanceUID = names.uid("rtstruct")
    struct.SeriesInstanceUID = names.uid("rtstruct series")
    struct.Modality = "RTSTRUCT"
    struct.SeriesNumber = "20"
    struct.InstanceNumber = "1"
    struct.SeriesDescription = "SYNTHETIC contours"
    struct.StructureSetLabel = "SYNTHETIC"
    struct.StructureSetDate, struct.StructureSetTime = struct.StudyDate, struct.StudyTime
    struct.ApprovalStatus = "UNAPPROVED"
    struct.FrameOfReferenceUID = first.FrameOfReferenceUID
    series = _item(
        SeriesInstanceUID=first.SeriesInstanceUID, ContourImageSequence=DicomSequence(_reference(h) for h in headers)
    )
    study = _item(
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",
        ReferencedSOPInstanceUID=first.StudyInstanceUID,
        RTReferencedSeriesSequence=DicomSequence([series]),
    )
    struct.ReferencedFrameOfReferenceSequence = DicomSequence(
        [_item(FrameOfReferenceUID=first.FrameOfReferenceUID, RTReferencedStudySequence=DicomSequence([study]))]
    )
    # A second, unwanted structure: the site's `roi` pattern has to choose.
    outlines = {ROI_NAME: _contours(mask, headers), DECOY_NAME: _contours(np.roll(mask, -12, axis=1), headers)}
    struct.StructureSetROISequence = DicomSequence(
        _item(
            ROINumber=str(i),
            ReferencedFrameOfReferenceUID=first.FrameOfReferenceUID,
            ROIName=name,
            ROIGenerationAlgorithm="MANUAL",
        )
        for i, name in enumerate(outlines, start=1)
    )
    struct.ROIContourSequence = DicomSequence(
        _item(ReferencedROINumber=str(i), ROIDisplayColor=["255", "0", "0"], ContourSequence=DicomSequence(contours))
        for i, contours in enumerate(outlines.values(), start=1)
    )
    struct.RTROIObservationsSequence = DicomSequence(
        _item(ObservationNumber=str(i), ReferencedROINumber=str(i), RTROIInterpretedType=kind, ROIInterpreter="")
        for i, kind in enumerate(("GTV", "ORGAN"), start=1)
    )
    save(struct, path)


def write_segmentation(path: Path, mask: Mask, headers: list[Dataset], names: CaseNames) -> None:
    """Write `mask` (z, y, x) as a binary SEG with one segment, labelled `ROI_NAME`."""
    segment = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=ROI_NAME,
        segmented_property_category=CodedConcept("49755003", "SCT", "Morphologically abnormal structure"),
        segmented_property_type=CodedConcept("108369006", "SCT", "Neoplasm"),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
    )
    seg = hd.seg.Segmentation(
        source_images=headers,
        pixel_array=mask.astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[segment],
        series_instance_uid=names.uid("seg series"),
        series_number=21,
        sop_instance_uid=names.uid("seg"),
        instance_number=1,
        manufacturer="SYNTHETIC",
        manufacturer_model_name="FedLoupe generator",
        software_versions="1",
        device_serial_number="0",
        series_description="SYNTHETIC segmentation",
    )
    _fix(seg, names)
    save(seg, path)


def _fix(seg: Dataset, names: CaseNames) -> None:
    """Replace what the library takes from the clock and from chance, so that the same seed gives the same bytes."""
    for key in ("ContentDate", "SeriesDate", "InstanceCreationDate"):
        if key in seg:
            setattr(seg, key, "20200102")
    for key in ("ContentTime", "SeriesTime", "InstanceCreationTime"):
        if key in seg:
            setattr(seg, key, "101500")
    dimension = names.uid("seg dimensions")
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimension
    if "ContributingEquipmentSequence" in seg:
        del seg.ContributingEquipmentSequence
    seg.ImageComments = "SYNTHETIC: generated, no patient"


def _contours(mask: Mask, headers: list[Dataset]) -> list[Dataset]:
    rows, columns = (float(value) for value in headers[0].PixelSpacing)
    items = []
    for header, plane in zip(headers, mask, strict=True):
        x, y, z = (float(value) for value in header.ImagePositionPatient)
        for contour in slice_contours(plane):
            points = [
                text
                for row, column in contour
                for text in (f"{x + column * columns:.3f}", f"{y + row * rows:.3f}", f"{z:.3f}")
            ]
            items.append(
                _item(
                    ContourImageSequence=DicomSequence([_reference(header)]),
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=str(len(contour)),
                    ContourData=points,
                )
            )
    return items


def _reference(header: Dataset) -> Dataset:
    return _item(ReferencedSOPClassUID=header.SOPClassUID, ReferencedSOPInstanceUID=header.SOPInstanceUID)


def _item(**values: object) -> Dataset:
    item = Dataset()
    for key, value in values.items():
        setattr(item, key, value)
    return item
