"""DICOM headers and volumes: read each file's header once, check a series' geometry, read its pixels.

    headers = read_headers(path)                # one a frame; [] for DICOM without pixels that concern us
    grid = series_grid(slices)                  # or the reason why these slices are no volume
    image = read_volume(grid)                   # float32, rescaled (PS3.3 C.11.1), on the slices' own grid

Positions and orientations are Image Position and Image Orientation (Patient), PS3.3 C.7.6.2.1.1, in mm (LPS).
"""

# mypy: disable-error-code="no-untyped-call"
# (SimpleITK ships wrappers without types)

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from fedloupe_client.ingest.files import openable, telling_apart
from fedloupe_client.ingest.problems import (
    FileUnreadable,
    GantryTilt,
    MixedOrientation,
    RepeatedPosition,
    SeriesRefused,
    TooFewSlices,
    UnevenSlices,
)
from fedloupe_client.ingest.volumes import build

IMAGES = ("MR", "CT")
OBJECTS = ("RTSTRUCT", "SEG")
_TAGS = [
    "PatientID", "Modality", "SeriesInstanceUID", "SeriesDescription", "SOPInstanceUID", "FrameOfReferenceUID",
    "ImageType", "ScanningSequence", "EchoTime", "AcquisitionTime", "Rows", "Columns", "SamplesPerPixel",
    "NumberOfFrames", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Slice:
    """One frame's header. `frame` is None in a single-frame file; geometry is () where the file has none."""

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


@dataclass(frozen=True)
class Grid:
    """Slices in order along their normal, and the grid they span."""

    slices: tuple[Slice, ...]
    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    direction: tuple[float, ...]

    def close_to(self, other: Grid) -> bool:
        """The same volume in space, within 1e-3."""
        return bool(
            len(self.slices) == len(other.slices)
            and self.slices[0].matrix == other.slices[0].matrix
            and np.allclose(self.origin, other.origin, rtol=0, atol=1e-3)
            and np.allclose(self.spacing, other.spacing, rtol=0, atol=1e-3)
            and np.allclose(self.direction, other.direction, rtol=0, atol=1e-3)
        )


def read_headers(path: Path) -> list[Slice]:
    """The header of each frame of an MR or CT file; one entry for a structure set or a segmentation.

    Returns:
        [] for other DICOM (reports, presentation states, DICOMDIR) and for files that do not claim to be DICOM.

    Raises:
        PermissionRefused: the system refuses.
        FileUnreadable: named `.dcm` or marked as DICOM, but damaged.
    """
    try:
        with telling_apart(path), open(path, "rb") as file:
            head = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
            return _slices(path, head)
    except InvalidDicomError:
        if path.suffix.lower() in (".dcm", ".ima"):
            raise FileUnreadable(
                "a file named as DICOM is not DICOM", where=str(path), remedy="export the series again"
            ) from None
        return []
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, NotImplementedError) as error:
        raise FileUnreadable(
            f"a DICOM header is damaged ({type(error).__name__})",
            where=f"{path}: {error}",
            remedy="export the series again",
        ) from None


def _texts(value: str | Iterable[object] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(str(item) for item in value)


def _floats(value: Iterable[str | float] | None) -> tuple[float, ...]:
    return () if value is None else tuple(float(item) for item in value)


def _slices(path: Path, head: Dataset) -> list[Slice]:
    modality = str(head.get("Modality", ""))
    if modality not in (*IMAGES, *OBJECTS):
        return []

    def entry(frame: int | None, geometry: tuple[tuple[float, ...], ...]) -> Slice:
        echo = head.get("EchoTime")
        return Slice(
            path=path,
            frame=frame,
            patient=str(head.get("PatientID", "")).strip(),
            modality=modality,
            series=str(head.get("SeriesInstanceUID", "")),
            description=str(head.get("SeriesDescription", "") or ""),
            instance=str(head.get("SOPInstanceUID", "")),
            frame_of_reference=str(head.get("FrameOfReferenceUID", "") or ""),
            image_type=_texts(head.get("ImageType")),
            scanning=_texts(head.get("ScanningSequence")),
            echo_time=None if echo is None else float(echo),
            time=str(head.get("AcquisitionTime", "") or ""),
            matrix=(int(head.get("Rows") or 0), int(head.get("Columns") or 0), int(head.get("SamplesPerPixel") or 1)),
            spacing=geometry[0],
            orientation=geometry[1],
            position=geometry[2],
        )

    own = tuple(_floats(head.get(tag)) for tag in ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient"))
    frames = int(head.get("NumberOfFrames") or 1)
    if modality in OBJECTS or (frames == 1 and "PerFrameFunctionalGroupsSequence" not in head):
        return [entry(None, own)]
    shared = head.get("SharedFunctionalGroupsSequence") or [Dataset()]
    groups = head.get("PerFrameFunctionalGroupsSequence") or [Dataset()] * frames
    return [entry(frame, frame_geometry(shared[0], groups[frame])) for frame in range(frames)]


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
        items = own.get(group) or shared.get(group) or [Dataset()]
        found.append(_floats(items[0].get(tag)))
    return tuple(found)


def series_grid(slices: list[Slice]) -> Grid:
    """The regular grid of one series' slices.

    Raises:
        TooFewSlices, MixedOrientation, RepeatedPosition, GantryTilt, UnevenSlices: each its own reason.
        SeriesRefused: colour, several matrix sizes, or no position in space.
    """
    where = f"{slices[0].path.parent}, series {slices[0].series}"
    if any(len(s.spacing) != 2 or len(s.orientation) != 6 or len(s.position) != 3 for s in slices):
        raise SeriesRefused("slices have no position in space", where=where, remedy="export the original series")
    orientation = np.array([s.orientation for s in slices])
    if np.abs(orientation - orientation[0]).max() > 1e-3:
        raise MixedOrientation(
            "slices have different orientations",
            where=where,
            remedy="name the right series under `series` in site.yaml",
        )
    if len({(s.matrix, s.spacing) for s in slices}) > 1 or slices[0].matrix[2] != 1:
        raise SeriesRefused(
            "slices differ in size, or hold colours", where=where, remedy="export the original series, not a screenshot"
        )
    if len(slices) < 3:
        raise TooFewSlices(f"the series has {len(slices)} slices", where=where, remedy="export the whole series")
    row, column = orientation.mean(0)[:3], orientation.mean(0)[3:]
    row = row / np.linalg.norm(row)
    if abs(np.linalg.norm(column) - 1) > 1e-2 or abs(row @ column) > 1e-2:
        raise SeriesRefused(
            "rows and columns are not at right angles", where=where, remedy="export the original series"
        )
    column = column - (row @ column) * row  # headers round: an image's axes must be orthonormal to float precision
    column = column / np.linalg.norm(column)
    normal = np.cross(row, column)
    positions = np.array([s.position for s in slices])
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    steps = np.diff(positions @ normal)
    if steps.min() < 0.01:
        raise RepeatedPosition(
            f"{len(slices)} slices lie at {1 + int((steps >= 0.01).sum())} positions",
            where=where,
            remedy="export each phase, echo or b-value as its own series",
        )
    length = steps.sum()
    shift = (positions[-1] - positions[0]) - length * normal
    if np.linalg.norm(shift) > 0.01 * length:
        raise GantryTilt(
            f"slices shift by {np.linalg.norm(shift):.1f} mm over {length:.0f} mm",
            where=where,
            remedy="export a series resampled to straight slices",
        )
    step = float(length / len(steps))
    if np.abs(steps - step).max() > max(0.05, 0.01 * step):
        raise UnevenSlices(
            f"slices lie {steps.min():.2f} to {steps.max():.2f} mm apart",
            where=where,
            remedy="a slice may be missing: export the whole series again",
        )
    down, right = slices[0].spacing
    return Grid(
        slices=tuple(slices[i] for i in order),
        origin=tuple(float(v) for v in positions[0]),
        spacing=(right, down, step),
        direction=tuple(float(v) for v in np.stack([row, column, normal], axis=1).ravel()),
    )


def read_volume(grid: Grid) -> sitk.Image:
    """The rescaled pixels of a checked series; float32.

    Raises:
        FileMissing, PermissionRefused, FileUnreadable: a file vanished, is not permitted, or does not decode.
    """
    paths = list(dict.fromkeys(s.path for s in grid.slices))
    for path in paths:
        openable(path)
    try:
        if grid.slices[0].frame is None:
            reader = sitk.ImageSeriesReader()
            reader.SetFileNames([str(path) for path in paths])
            reader.SetOutputPixelType(sitk.sitkFloat32)
            array = sitk.GetArrayFromImage(reader.Execute())
        else:
            stacks = {path: sitk.GetArrayFromImage(sitk.ReadImage(str(path), sitk.sitkFloat32)) for path in paths}
            array = np.stack([stacks[s.path][s.frame] for s in grid.slices])
    except RuntimeError as error:
        raise FileUnreadable(
            "the pixels of a series cannot be decoded",
            where=f"{paths[0].parent}: {str(error).strip().splitlines()[-1][:300]}",
            remedy="export the series again",
        ) from None
    return on_grid(array, grid)


def on_grid(array: NDArray[Any], grid: Grid) -> sitk.Image:
    """Values `(z, y, x)` as an image on a series' grid."""
    rows, columns, _ = grid.slices[0].matrix
    like = sitk.Image(columns, rows, len(grid.slices), sitk.sitkUInt8)
    like.SetOrigin(grid.origin)
    like.SetSpacing(grid.spacing)
    like.SetDirection(grid.direction)
    return build(array, like)
