# mypy: disable-error-code="no-untyped-call"
# (SimpleITK ships wrappers without types)
"""Whatever image a case that ingest left out still has, to look at on the page; nothing of it is kept.

slices = dicom_of(home, config.source, frozenset({"P-0007"}))
found = leftover(config.source, study, "P-0007", slices.get("P-0007", ()))       # Leftover(image, mask) or None
"""

from __future__ import annotations

import math
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from fedloupe.errors import FedLoupeError
from fedloupe.study import Study
from fedloupe_client.config import DicomSource, NiftiSource, TableSource
from fedloupe_client.ingest.cases import at
from fedloupe_client.ingest.dicom.folders import SLICE_FIELDS, recall_all, sort_out
from fedloupe_client.ingest.dicom.series import IMAGES, Slice, read_volume, series_grid
from fedloupe_client.ingest.files import openable, walk
from fedloupe_client.ingest.store.lock import locked, work_folder
from fedloupe_client.ingest.store.memory import FileMemory
from fedloupe_client.ingest.work import VERSIONS

MOST_FILES = 2000
"""Files whose headers are read where ingest does not remember them."""
MOST_VOXELS = 2**27
"""Of an image that is read: half a gibibyte as float32."""
TRIES = 3
"""Series of a case that are read until one can be."""


@dataclass(frozen=True)
class Leftover:
    """An image on its own grid, and a mask of the same size where one could be read."""

    image: sitk.Image
    mask: sitk.Image | None


def dicom_of(home: Path, source: DicomSource, cases: frozenset[str]) -> dict[str, tuple[Slice, ...]]:
    """Headers of the DICOM files of these cases, whether a folder or PatientID names them, as ingest remembers them.

    Args:
        home: the site's home, ingested.
        source: where its files are.
        cases: local ids.

    Returns:
        By local id; nothing while an ingest runs, or where the files cannot be listed.
    """
    folder = source.root / source.images
    try:
        paths, _ = walk(folder)
        with (
            locked(home),
            FileMemory(work_folder(home) / "files.sqlite", str((VERSIONS, SLICE_FIELDS))) as memory,
        ):
            headers = recall_all(paths, memory, MOST_FILES)
    except (FedLoupeError, OSError, sqlite3.Error):
        return {}
    return sort_out(folder, cases, headers, []).slices


def leftover(
    source: DicomSource | NiftiSource | TableSource, study: Study, local: str, slices: tuple[Slice, ...] = ()
) -> Leftover | None:
    """A readable image of a case, or None.

    Of DICOM (`slices`, from `dicom_of`), the largest series that is a volume; else the first image in the study's order
    of sequences.
    """
    if isinstance(source, TableSource):
        return None
    if isinstance(source, DicomSource):
        image = _largest_series(slices)
    else:
        paths = [at(source, source.files[s.name], local) for s in study.sequences if s.name in source.files]
        image = next((found for path in paths if (found := _read(path)) is not None), None)
    if image is None:
        return None
    mask = None if source.mask is None else _read(at(source, source.mask, local))
    if mask is not None and mask.GetSize() != image.GetSize():
        mask = None
    return Leftover(image, mask)


def _read(path: Path) -> sitk.Image | None:
    """A three-dimensional image of numbers, or None: why it is None, ingest has said already."""
    try:
        openable(path)
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        if math.prod(reader.GetSize()) > MOST_VOXELS:  # a damaged header must not fill the memory
            return None
        image: sitk.Image = reader.Execute()
    except (FedLoupeError, RuntimeError):
        return None
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        return None
    return image


def _largest_series(slices: tuple[Slice, ...]) -> sitk.Image | None:
    """The series with most voxels that is a volume and can be read; one in memory at a time."""
    series: dict[str, list[Slice]] = {}
    for one in slices:
        if one.modality in IMAGES:
            series.setdefault(one.series, []).append(one)
    tries = 0
    for members in sorted(series.values(), key=_voxels, reverse=True):
        try:
            grid = series_grid(members)
            if _voxels(members) > MOST_VOXELS or tries == TRIES:
                continue
            tries += 1
            return read_volume(grid)
        except (FedLoupeError, RuntimeError, OSError):
            continue
    return None


def _voxels(slices: list[Slice]) -> int:
    return sum(one.matrix[0] * one.matrix[1] for one in slices)
