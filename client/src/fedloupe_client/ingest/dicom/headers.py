"""DICOM headers: read each file's once, and say of each frame what choosing and placing it need.

headers = read_headers(path)                  # one a frame; [] for DICOM without pixels that concern us

A frame of a multi-frame file has its own functional groups, and shares others (PS3.3 C.7.6.16); a single-frame file
says the same in its plain attributes. No name, date of birth or other identity is read but the Patient ID.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydicom
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag

from fedloupe_client.ingest.dicom.bvalues import PRIVATE_TAGS, b_value
from fedloupe_client.ingest.dicom.damage import damage
from fedloupe_client.ingest.dicom.whole import check_whole
from fedloupe_client.ingest.files import telling_apart
from fedloupe_client.ingest.formats.bounds import check_deflated
from fedloupe_client.ingest.problems import FileUnreadable

IMAGES = ("MR", "CT")
OBJECTS = ("RTSTRUCT", "SEG")
MOST_FRAMES = 100_000  # far beyond any scan; a damaged number must not fill the memory
_TAGS = [
    "PatientID", "Modality", "StudyInstanceUID", "StudyDate", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription",
    "SOPClassUID", "SOPInstanceUID", "FrameOfReferenceUID", "ImageType", "ScanningSequence", "SequenceVariant",
    "EchoPulseSequence", "EchoPlanarPulseSequence", "InversionRecovery", "EchoTime", "RepetitionTime",
    "DiffusionBValue", "ContrastBolusAgent", "ContrastBolusAgentSequence", "TemporalPositionIdentifier",
    "AcquisitionNumber", "AcquisitionTime", "ContentTime", "TriggerTime", "RescaleSlope", "RescaleIntercept",
    "RescaleType", "Units", "RealWorldValueMappingSequence", "Rows", "Columns", "BitsAllocated", "SamplesPerPixel",
    "NumberOfFrames", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
ASKED = (*map(Tag, _TAGS), *map(Tag, PRIVATE_TAGS))


@dataclass(frozen=True, slots=True)
class Slice:
    """One frame's header. `frame` is None in a single-frame file; geometry is () where the file has none.

    Attributes:
        number: Series Number.
        scanning: Scanning Sequence; an enhanced file's Echo Pulse Sequence and the like in the same words.
        echo_time: ms. Also `repetition_time`.
        b_value: s/mm2, see `bvalues`.
        contrast: a contrast agent is named.
        temporal: Temporal Position Identifier or Index.
        acquisition: Acquisition Number.
        time: Acquisition Time, or the time of Frame Acquisition DateTime; HHMMSS.FFFFFF.
        offset_s: Temporal Position Time Offset, s.
        trigger_ms: Trigger Time, ms.
        rescale: slope and intercept that the stored values are to be put through.
        first_rescale: of the file's first frame, where the file has several.
        real_world: slope and intercept from stored values to `unit`, where a Real World Value Mapping gives them.
        unit: of the real-world or the rescaled value; empty where nothing says it.
        matrix: rows, columns, samples a pixel.
        spacing: between rows, between columns, mm.
        orientation: Image Orientation (Patient). Also `position`, mm.
    """

    path: Path
    frame: int | None
    patient: str
    modality: str
    series: str
    description: str
    instance: str
    frame_of_reference: str
    image_type: tuple[str, ...]
    scanning: tuple[str, ...]
    echo_time: float | None
    time: str
    matrix: tuple[int, int, int]
    spacing: tuple[float, ...]
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    study: str = ""
    study_date: str = ""
    number: int | None = None
    variant: tuple[str, ...] = ()
    repetition_time: float | None = None
    b_value: float | None = None
    contrast: bool = False
    temporal: int | None = None
    acquisition: int | None = None
    content_time: str = ""
    offset_s: float | None = None
    trigger_ms: float | None = None
    rescale: tuple[float, float] = (1.0, 0.0)
    first_rescale: tuple[float, float] | None = None
    real_world: tuple[float, float] | None = None
    unit: str = ""


def read_headers(path: Path, also: Sequence[str] = (), look: Callable[[Dataset], None] | None = None) -> list[Slice]:
    """The header of each frame of an MR or CT file; one entry for a structure set or a segmentation.

    Args:
        path: the file.
        also: keywords of further attributes to read.
        look: shown the header of a file that gives slices, so that nobody need read it a second time.

    Returns:
        [] for other DICOM (reports, presentation states, DICOMDIR) and for files that do not claim to be DICOM.

    Raises:
        PermissionRefused: the system refuses.
        FileUnreadable: named `.dcm` or marked as DICOM, but damaged.
    """
    # pydicom's validation would print a wrong value, and so a name or an id, to the log
    with telling_apart(path), damage(path, "a DICOM header"), disable_value_validation(), open(path, "rb") as file:
        check_deflated(file)
        try:
            head = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=[*ASKED, *map(Tag, also)])
        except InvalidDicomError:
            if path.suffix.lower() in (".dcm", ".ima") or _empty_slice(path):
                raise FileUnreadable(
                    "a file named as DICOM is not DICOM", where=str(path), remedy="export the series again"
                ) from None
            return []
        check_whole(file, head)
        slices = _slices(path, head)
        if slices and look is not None:
            look(head)
        return slices


def _empty_slice(path: Path) -> bool:
    """An empty file named as scanners name theirs: without a suffix, or with a number for one."""
    return path.stat().st_size == 0 and (not path.suffix or path.suffix[1:].isdigit())


def _slices(path: Path, head: Dataset) -> list[Slice]:
    modality = str(head.get("Modality", ""))
    if modality not in (*IMAGES, *OBJECTS):
        return []
    own = tuple(_floats(head.get(tag)) for tag in ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient"))
    frames = int(head.get("NumberOfFrames") or 1)
    if not 1 <= frames <= MOST_FRAMES:
        raise ValueError("Number of Frames is out of range")
    if modality in OBJECTS or (frames == 1 and "PerFrameFunctionalGroupsSequence" not in head):
        return [_slice(path, head, None, own, ())]
    shared = (head.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    groups = head.get("PerFrameFunctionalGroupsSequence") or [Dataset()] * frames
    if len(groups) != frames:
        raise ValueError("frames and their groups do not agree")
    found = [
        _slice(path, head, frame, frame_geometry(shared, groups[frame]), (groups[frame], shared))
        for frame in range(frames)
    ]
    return [replace(one, first_rescale=found[0].rescale) for one in found]


def _slice(
    path: Path,
    head: Dataset,
    frame: int | None,
    geometry: tuple[tuple[float, ...], ...],
    groups: tuple[Dataset, ...],
) -> Slice:
    content = next(_items(groups, "FrameContentSequence"), Dataset())
    echo = next(_items(groups, "MREchoSequence"), Dataset()).get("EffectiveEchoTime")
    timing = next(_items(groups, "MRTimingAndRelatedParametersSequence"), Dataset())
    kind = next(_items(groups, "MRImageFrameTypeSequence"), Dataset()).get("FrameType")
    position = next(_items(groups, "TemporalPositionSequence"), Dataset())
    rescale = next(_items(groups, "PixelValueTransformationSequence"), head)
    mapping = next(_items((*groups, head), "RealWorldValueMappingSequence"), Dataset())
    temporal = content.get("TemporalPositionIndex")
    real_world, unit = _real_world(mapping)
    return Slice(
        path=path,
        frame=frame,
        patient=str(head.get("PatientID", "")).strip(),
        modality=str(head.get("Modality", "")),
        series=str(head.get("SeriesInstanceUID", "")),
        description=str(head.get("SeriesDescription", "") or ""),
        instance=str(head.get("SOPInstanceUID", "")),
        frame_of_reference=str(head.get("FrameOfReferenceUID", "") or ""),
        image_type=_texts(kind) or _texts(head.get("ImageType")),
        scanning=_texts(head.get("ScanningSequence")) or _enhanced_scanning(head),
        echo_time=_float(head.get("EchoTime") if echo is None else echo),
        time=str(content.get("FrameAcquisitionDateTime", "") or "")[8:] or str(head.get("AcquisitionTime", "") or ""),
        matrix=(int(head.get("Rows") or 0), int(head.get("Columns") or 0), int(head.get("SamplesPerPixel") or 1)),
        spacing=geometry[0],
        orientation=geometry[1],
        position=geometry[2],
        study=str(head.get("StudyInstanceUID", "") or ""),
        study_date=str(head.get("StudyDate", "") or ""),
        number=_int(head.get("SeriesNumber")),
        variant=_texts(head.get("SequenceVariant")),
        repetition_time=_float(timing.get("RepetitionTime", head.get("RepetitionTime"))),
        b_value=b_value(head, groups),
        contrast=bool(str(head.get("ContrastBolusAgent", "") or "").strip() or head.get("ContrastBolusAgentSequence")),
        temporal=_int(head.get("TemporalPositionIdentifier") if temporal is None else temporal),
        acquisition=_int(head.get("AcquisitionNumber")),
        content_time=str(head.get("ContentTime", "") or ""),
        offset_s=_float(position.get("TemporalPositionTimeOffset")),
        trigger_ms=_float(head.get("TriggerTime")),
        rescale=(_one(rescale.get("RescaleSlope"), 1.0), _one(rescale.get("RescaleIntercept"), 0.0)),
        real_world=real_world,
        unit=unit or str(rescale.get("RescaleType", "") or head.get("Units", "") or ""),
    )


def frame_geometry(shared: Dataset, own: Dataset) -> tuple[tuple[float, ...], ...]:
    """Pixel spacing, orientation and position of one frame, from its own functional groups or the shared ones.

    Source: PS3.3 C.7.6.16.2.1, C.7.6.16.2.3, C.7.6.16.2.4. A value that neither has is ().
    """
    found = []
    for group, tag in (
        ("PixelMeasuresSequence", "PixelSpacing"),
        ("PlaneOrientationSequence", "ImageOrientationPatient"),
        ("PlanePositionSequence", "ImagePositionPatient"),
    ):
        found.append(_floats(next(_items((own, shared), group), Dataset()).get(tag)))
    return tuple(found)


def _items(groups: Iterable[Dataset], name: str) -> Iterator[Dataset]:
    """Items of a sequence, from the frame's own groups first."""
    for group in groups:
        yield from group.get(name) or []


def _real_world(mapping: Dataset) -> tuple[tuple[float, float] | None, str]:
    """Slope and intercept of a linear Real World Value Mapping (PS3.3 C.7.6.16.2.11), and its UCUM unit."""
    slope = _float(mapping.get("RealWorldValueSlope"))
    if slope is None:
        return None, ""
    units = (mapping.get("MeasurementUnitsCodeSequence") or [Dataset()])[0]
    return (slope, _one(mapping.get("RealWorldValueIntercept"), 0.0)), str(units.get("CodeValue", "") or "")


def _enhanced_scanning(head: Dataset) -> tuple[str, ...]:
    """The MR Pulse Sequence Module (PS3.3 C.8.13.4) in the words of Scanning Sequence."""
    words = {"SPIN": ("SE",), "GRADIENT": ("GR",), "BOTH": ("SE", "GR")}.get(str(head.get("EchoPulseSequence", "")), ())
    planar = ("EP",) if head.get("EchoPlanarPulseSequence") == "YES" else ()
    return (*words, *planar, *(("IR",) if head.get("InversionRecovery") == "YES" else ()))


def _texts(value: str | Iterable[object] | None) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    return (value,) if isinstance(value, str) else tuple(str(item) for item in value)


def _floats(value: Iterable[str | float] | None) -> tuple[float, ...]:
    return () if value is None else tuple(float(item) for item in value)


def _float(value: object) -> float | None:
    if value is None or value == "":
        return None
    found = float(str(value))
    return found if math.isfinite(found) else None


def _one(value: object, otherwise: float) -> float:
    if value is None or value == "":
        return otherwise
    found = _float(value)
    if found is None:
        raise ValueError("a slope or intercept is not finite")
    return found


def _int(value: object) -> int | None:
    return None if value is None or value == "" else int(float(str(value)))


def _text(value: object) -> str:
    return str(value or "")


OWN: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "SOPInstanceUID": ("instance", _text),
    "ImagePositionPatient": ("position", _floats),
    "AcquisitionTime": ("time", _text),
    "ContentTime": ("content_time", _text),
    "TriggerTime": ("trigger_ms", _float),
    "TemporalPositionIdentifier": ("temporal", _int),
    "AcquisitionNumber": ("acquisition", _int),
}
"""What tells single-frame slices of a series apart: the attribute, the field of `Slice`, and how it is read."""
