# mypy: disable-error-code="no-untyped-call"
# (SimpleITK ships wrappers without types)
"""Whatever image a case that ingest left out still has, to look at on the page; nothing of it is kept.

found = leftover(config.source, study, "P-0007")       # Leftover(image, mask or None) or None
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from fedloupe.errors import FedLoupeError
from fedloupe.study import Study
from fedloupe_client.config import DicomSource, NiftiSource, TableSource
from fedloupe_client.ingest.bounds import MOST_BYTES
from fedloupe_client.ingest.cases import at
from fedloupe_client.ingest.dicom import IMAGES, Slice, read_headers, read_volume, series_grid
from fedloupe_client.ingest.files import openable, walk

MOST_FILES = 2000
"""Files of a case's folder that are looked at."""


@dataclass(frozen=True)
class Leftover:
    """An image on its own grid, and a mask of the same size where one could be read."""

    image: sitk.Image
    mask: sitk.Image | None


def leftover(source: DicomSource | NiftiSource | TableSource, study: Study, local: str) -> Leftover | None:
    """The first readable image of a case, in the study's order of sequences, or None."""
    if isinstance(source, TableSource):
        return None
    if isinstance(source, DicomSource):
        image = _largest_series(source.root / source.images / local)
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
        if math.prod(reader.GetSize()) > MOST_BYTES:  # a damaged header must not fill the memory
            return None
        image: sitk.Image = reader.Execute()
    except (FedLoupeError, RuntimeError):
        return None
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        return None
    return image


def _largest_series(folder: Path) -> sitk.Image | None:
    """The series with most slices of a case's own folder that is a volume."""
    try:
        paths = walk(folder)[0][:MOST_FILES]
    except FedLoupeError:
        return None
    series: dict[str, list[Slice]] = {}
    for path in paths:
        try:
            for one in read_headers(path):
                if one.modality in IMAGES:
                    series.setdefault(one.series, []).append(one)
        except FedLoupeError:
            continue
    for slices in sorted(series.values(), key=len, reverse=True):
        try:
            return read_volume(series_grid(slices))
        except FedLoupeError:
            continue
    return None
