"""Identity at the door: what of a header may count, who is named in it, and whether text may stand in the pixels.

    seen = read_identity(path)                  # or `identity_of(head)` where the header is read already
    seen.identifiers                            # texts for `leaks.leaks`; in memory only
    notes = identity_notes([seen, ...])         # remarks that name attributes, never their values

Source: DICOM PS3.15 Annex E, Table E.1-1 (Basic Application Level Confidentiality Profile).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pydicom
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue

from fedloupe_client.ingest.dicom.damage import damage
from fedloupe_client.ingest.files import telling_apart
from fedloupe_client.ingest.formats.bounds import check_deflated

ALLOWED = frozenset({
    # the object
    "SOPClassUID", "Modality", "ImageType", "Manufacturer", "ManufacturerModelName", "MagneticFieldStrength",
    # which sequence it is
    "SeriesDescription", "ProtocolName", "SequenceName", "ScanningSequence", "SequenceVariant", "ScanOptions",
    "MRAcquisitionType", "PulseSequenceName", "RepetitionTime", "EchoTime", "EchoNumbers", "InversionTime",
    "FlipAngle", "DiffusionBValue", "DiffusionGradientOrientation", "DiffusionDirectionality",
    "MRDiffusionSequence", "MRImageFrameTypeSequence", "FrameType", "ContrastBolusAgent", "ComplexImageComponent",
    "EchoPulseSequence", "EchoPlanarPulseSequence", "InversionRecovery", "ContrastBolusAgentSequence",
    "AcquisitionContrast", "SeriesNumber", "AcquisitionNumber", "InstanceNumber",
    # when, within the examination
    "AcquisitionTime", "SeriesTime", "ContentTime", "AcquisitionDateTime", "TriggerTime", "TemporalPositionIdentifier",
    "NumberOfTemporalPositions", "TemporalResolution", "ContrastBolusStartTime", "FrameReferenceDateTime",
    "FrameAcquisitionDateTime", "TemporalPositionIndex", "TemporalPositionTimeOffset",
    # where in space
    "PixelSpacing", "ImagerPixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SliceThickness",
    "SpacingBetweenSlices", "SliceLocation", "GantryDetectorTilt", "PatientPosition",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PixelMeasuresSequence",
    "PlaneOrientationSequence", "PlanePositionSequence", "FrameContentSequence", "DimensionIndexValues",
    # the pixels
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "RescaleSlope",
    "RescaleIntercept", "RescaleType", "Units", "PixelValueTransformationSequence", "RealWorldValueMappingSequence",
    "RealWorldValueSlope", "RealWorldValueIntercept", "MeasurementUnitsCodeSequence", "BurnedInAnnotation",
    "LossyImageCompression", "PixelData",
    # the drawing of the tumour
    "StructureSetROISequence", "ROIContourSequence", "ROINumber", "ROIName", "ReferencedROINumber",
    "ContourSequence", "ContourGeometricType", "ContourData", "NumberOfContourPoints", "SegmentSequence",
    "SegmentNumber", "SegmentLabel", "SegmentationType", "SegmentIdentificationSequence",
    "ReferencedSegmentNumber", "MaximumFractionalValue",
})  # fmt: skip
"""Attributes that may influence the store: they choose, place and scale voxels. None is kept as text.

Everything else, private attributes included, is dropped (PS3.15 E.1.1, and Retain Safe Private Option not taken).
A private b-value is read as a number and only chooses a series.
"""

LINKING = frozenset({
    "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID", "StudyDate",
    "StudyTime", "SeriesDate", "AcquisitionDate", "ReferencedFrameOfReferenceSequence", "RTReferencedStudySequence",
    "RTReferencedSeriesSequence", "ReferencedSeriesSequence", "ReferencedFrameOfReferenceUID",
    "DerivationImageSequence", "SourceImageSequence", "ReferencedSOPInstanceUID",
})  # fmt: skip
"""Identifiers that are read to say which files belong together, and to choose between examinations; never kept."""

PERSONS = (
    "PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName", "ResponsiblePerson",
    "ReferringPhysicianName", "ConsultingPhysicianName", "PerformingPhysicianName", "NameOfPhysiciansReadingStudy",
    "PhysiciansOfRecord", "OperatorsName", "RequestingPhysician", "ReviewerName", "PersonName",
)  # fmt: skip
DATES = ("PatientBirthDate", "StudyDate")
NUMBERS = (
    "PatientID", "OtherPatientIDs", "IssuerOfPatientID", "AccessionNumber", "StudyID", "MedicalRecordLocator",
    "MilitaryRank", "PatientTelephoneNumbers", "PatientAddress", "AdmissionID", "PerformedProcedureStepID",
    "RequestedProcedureID", "ScheduledProcedureStepID", "DeviceSerialNumber", "PatientInsurancePlanCodeSequence",
)  # fmt: skip
PLACES = (
    "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName", "RequestingService",
    "ReferringPhysicianAddress", "ReferringPhysicianTelephoneNumbers", "CurrentPatientLocation",
)  # fmt: skip
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
IDENTIFYING = (*PERSONS, *DATES, *NUMBERS, *PLACES, *UIDS)
"""Attributes whose values are looked for in the store (PS3.15 Table E.1-1 removes, empties or replaces each)."""

# A pseudonymous export still holds an id and UIDs, and often repeats the id as the name: that is worth no remark.
_EXPECTED = {"PatientID", "StudyID", *UIDS, "StudyDate", "PerformedProcedureStepID", "AccessionNumber"}
READ = (*IDENTIFYING, "BurnedInAnnotation", "ImageType", "Modality", "SOPClassUID", "ImagePositionPatient")
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

BurnedIn = Literal["declared", "screen", "capture"]
_BURNED_WORDS: dict[BurnedIn, str] = {
    "declared": "say that text is burned into the picture (BurnedInAnnotation)",
    "screen": "are screen shots (ImageType)",
    "capture": "are secondary captures, which often carry burned-in text",
}


@dataclass(frozen=True)
class Identity:
    """Who is named in one file's header.

    Attributes:
        identifiers: texts to look for in what is written; hidden from `repr`.
        attributes: keywords of attributes that a pseudonymous export would not fill.
        burned_in: why text may stand in the pixels, or None.
    """

    identifiers: frozenset[str] = field(default=frozenset(), repr=False)
    attributes: frozenset[str] = frozenset()
    burned_in: BurnedIn | None = None


def read_identity(path: Path) -> Identity:
    """The identity in a file's header; an empty one where the file is not DICOM.

    Raises:
        FileMissing, PermissionRefused, FileUnreadable: the file.
    """
    # pydicom's validation would print a wrong value, and so a name or a date, to the log
    with telling_apart(path), damage(path, "a DICOM header"), disable_value_validation(), open(path, "rb") as file:
        check_deflated(file)
        try:
            head = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=[*READ])
        except InvalidDicomError:
            return Identity()
        return identity_of(head)


def identity_of(head: Dataset) -> Identity:
    """The identity in a header that holds `IDENTIFYING` and the attributes that `burned_in` reads."""
    found: set[str] = set()
    attributes: set[str] = set()
    own = {text.casefold() for text in _texts(head, "PatientID")}
    for keyword in IDENTIFYING:
        for text in _texts(head, keyword):
            if keyword in PERSONS:
                found |= name_variants(text)
            elif keyword in DATES:
                found |= date_variants(text)
            else:
                found.add(text)
            if keyword not in _EXPECTED and text.casefold() not in own | PLACEHOLDERS:
                attributes.add(keyword)
    return Identity(
        frozenset(t for t in found if t.casefold() not in PLACEHOLDERS), frozenset(attributes), burned_in(head)
    )


PLACEHOLDERS = frozenset({
    "", "-", "?", "anon", "anonymous", "anonymised", "anonymized", "anonymous^anonymous", "deidentified",
    "de-identified", "hidden", "n/a", "na", "name", "nil", "no", "no name", "no^name", "noname", "none",
    "not available", "null", "patient", "removed", "unknown", "unnamed", "xxx", "xxxx",
})  # fmt: skip
"""Values that name nobody, case folded: they are neither identifiers nor worth a remark."""


def _texts(head: Dataset, keyword: str) -> list[str]:
    value = head.get(keyword)
    if value is None or isinstance(value, (pydicom.Sequence, bytes)):
        return []
    items = value if isinstance(value, (MultiValue, list, tuple)) else [value]
    return [text for item in items if (text := " ".join(str(item).split()).strip())]


def name_variants(name: str) -> set[str]:
    """A person name (PS3.5 6.2, `family^given^middle^prefix^suffix=ideographic=phonetic`) as people write it.

    The whole, its groups, family and given in both orders, and each part of two letters or more.
    """
    found = {name}
    for group in filter(None, name.split("=")):
        parts = [part for part in re.split(r"[\^,\s]+", group) if part]
        found |= {group, " ".join(parts), " ".join(reversed(parts)), *(part for part in parts if len(part) > 1)}
    return {text for text in found if text}


def date_variants(date: str) -> set[str]:
    """A DICOM date `YYYYMMDD` (PS3.5 6.2) also as ISO and as day.month.year."""
    if not re.fullmatch(r"\d{8}", date):
        return {date}
    year, month, day = date[:4], date[4:6], date[6:]
    return {date, f"{year}-{month}-{day}", f"{day}.{month}.{year}"}


def burned_in(head: Dataset) -> BurnedIn | None:
    """Why an image may carry text in its pixels, or None.

    BurnedInAnnotation (0028,0301) YES; SCREEN SAVE among Image Type (0008,0008) values, PS3.3 C.7.6.1.1.2; modality OT
    or SC, Secondary Capture storage, or SECONDARY pixels that lie nowhere in space. SECONDARY alone is no reason:
    real ADC maps and reformatted CT are derived images that carry it and no text.
    """
    kinds = {text.upper().replace("_", " ") for text in _texts(head, "ImageType")}
    declared = str(head.get("BurnedInAnnotation") or "").strip().upper()
    if declared == "YES":
        return "declared"
    if kinds & {"SCREEN SAVE", "SCREENSAVE", "SCREENSHOT"}:
        return "screen"
    placed = head.get("ImagePositionPatient") is not None or "Enhanced" in _class_name(head)
    captured = str(head.get("Modality") or "") in ("OT", "SC")
    captured |= str(head.get("SOPClassUID") or "").startswith(_SECONDARY_CAPTURE)
    if captured or ("SECONDARY" in kinds and not placed and declared != "NO"):
        return "capture"
    return None


def _class_name(head: Dataset) -> str:
    return pydicom.uid.UID(str(head.get("SOPClassUID") or "")).name


def identity_notes(seen: Iterable[Identity]) -> tuple[str, ...]:
    """Remarks on a site's or a case's files: which identifying attributes are filled, and burned-in text.

    They name attributes and counts of files, never a value.
    """
    attributes: Counter[str] = Counter()
    burned: Counter[BurnedIn] = Counter()
    for one in seen:
        attributes.update(one.attributes)
        if one.burned_in is not None:
            burned[one.burned_in] += 1
    notes = []
    if attributes:
        names = ", ".join(f"{name} in {count}" for name, count in sorted(attributes.items()))
        notes.append(f"identifying attributes are filled ({names} of the files); nothing of them is kept")
    for kind, words in _BURNED_WORDS.items():
        if count := burned[kind]:
            notes.append(f"{count} files {words}: look at them before use")
    return tuple(notes)
