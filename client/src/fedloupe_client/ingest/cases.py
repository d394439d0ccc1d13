"""One case from its files: every sequence, the mask on the first one's grid, or the reason why not.

case = from_nifti(source, study, local)       # raises this room's errors; writes nothing
case.save(folder)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pydicom
import SimpleITK as sitk
from pydicom.errors import InvalidDicomError

from fedloupe.study import Study
from fedloupe_client.config import DicomSource, NiftiSource
from fedloupe_client.ingest import contours, segments
from fedloupe_client.ingest.choose import Chosen, Reference, by_series, choose
from fedloupe_client.ingest.dicom import IMAGES, OBJECTS, Slice, on_grid, read_volume
from fedloupe_client.ingest.files import telling_apart
from fedloupe_client.ingest.problems import (
    FileMissing,
    FileUnreadable,
    MaskAmbiguous,
    MaskElsewhere,
    MaskEmpty,
    MaskMissing,
    PatientsMixed,
    SequenceMissing,
)
from fedloupe_client.ingest.volumes import check_mask, read_nifti, write_clean


@dataclass(frozen=True)
class Case:
    """A case that passed every check: volumes on their native grids, the mask on the first one's."""

    volumes: dict[str, sitk.Image]
    mask: sitk.Image
    notes: tuple[str, ...] = ()

    def save(self, folder: Path) -> None:
        """Write `<sequence>.nii.gz` and `mask.nii.gz` into a new folder."""
        folder.mkdir(parents=True)
        for name, image in {**self.volumes, "mask": self.mask}.items():
            write_clean(image, folder / f"{name}.nii.gz")


def at(source: NiftiSource | DicomSource, pattern: str, local: str) -> Path:
    """The file that a pattern names for a case."""
    return source.root / pattern.replace("{case}", local)


def _absent(name: str, where: str) -> SequenceMissing:
    return SequenceMissing(
        f"required sequence `{name}` is missing", where=where, remedy="add its images, if there are any"
    )


def from_nifti(source: NiftiSource, study: Study, local: str) -> Case:
    """A case whose files are named by pattern.

    Raises:
        SequenceMissing, MaskMissing: no such file.
        PermissionRefused, FileUnreadable, ImageInvalid: an image or the mask.
        MaskElsewhere, MaskEmpty, MaskInvalid: see `check_mask`.
    """
    volumes = {}
    for sequence in study.sequences:
        if sequence.name not in source.files:
            continue  # checked before: only optional ones
        path = at(source, source.files[sequence.name], local)
        try:
            volumes[sequence.name] = read_nifti(path)
        except FileMissing:
            if sequence.required:
                raise _absent(sequence.name, str(path)) from None
    return Case(volumes, _nifti_mask(at(source, source.mask, local), volumes[study.sequences[0].name]))


def _nifti_mask(path: Path, reference: sitk.Image) -> sitk.Image:
    try:
        mask = read_nifti(path)
    except FileMissing:
        raise MaskMissing(
            "there is no mask file", where=str(path), remedy="draw the tumour, or check the `mask` pattern"
        ) from None
    return check_mask(mask, reference, str(path))


def from_dicom(source: DicomSource, study: Study, local: str, slices: tuple[Slice, ...]) -> Case:
    """A case from the headers of its DICOM files.

    Raises:
        PatientsMixed: more than one PatientID.
        SequenceMissing, SequenceAmbiguous, SeriesRefused: see `choose` and `series_grid`.
        PermissionRefused, FileUnreadable: pixels, structure set or segmentation.
        MaskMissing, MaskAmbiguous, MaskElsewhere, MaskEmpty, MaskInvalid: the tumour.
    """
    if len(patients := {s.patient for s in slices}) > 1:
        raise PatientsMixed(
            f"the files of this case are of {len(patients)} patients", where=local, remedy="keep one patient a folder"
        )
    series = by_series([s for s in slices if s.modality in IMAGES])
    chosen: dict[str, Chosen] = {}
    for sequence in study.sequences:
        found = choose(sequence, series, source.series.get(sequence.name))
        if found is not None:
            chosen[sequence.name] = found
        elif sequence.required:
            there = sorted({s[0].description for s in series.values()})
            raise _absent(sequence.name, f"{local}: {len(series)} series, {there}")
    first = study.sequences[0].name
    volumes = {name: read_volume(one.grid) for name, one in chosen.items()}
    if source.mask is None:
        mask = _drawn_mask([s.path for s in slices if s.modality in OBJECTS], chosen[first], source.roi, local)
    else:
        mask = _nifti_mask(at(source, source.mask, local), volumes[first])
    return Case(volumes, mask, tuple(one.note for one in chosen.values() if one.note))


def _drawn_mask(paths: list[Path], chosen: Chosen, pattern: str, local: str) -> sitk.Image:
    """The tumour from the one structure or segment that fits.

    A file drawn on the series itself goes before one that only shares its frame of reference.
    """
    near: dict[Reference, list[tuple[Path, pydicom.Dataset]]] = {Reference.FRAME: [], Reference.SERIES: []}
    for path in paths:
        dataset = _read_object(path)
        refers_to = contours.refers_to if dataset.Modality == "RTSTRUCT" else segments.refers_to
        reference = refers_to(dataset, chosen)
        if reference is not Reference.NOT:
            near[reference].append((path, dataset))
    if not paths:
        raise MaskMissing(
            "there is no structure set or segmentation", where=local, remedy="export the tumour's drawing"
        )
    objects = near[Reference.SERIES] or near[Reference.FRAME]
    if not objects:
        raise MaskElsewhere(
            "the drawing refers to another series than the first sequence",
            where="; ".join(map(str, paths)),
            remedy="draw the tumour on that series, or name the series that was drawn on under `series` in site.yaml",
        )
    fitting = [
        (path, dataset, label, number)
        for path, dataset in objects
        for label, number in (
            contours.rois(dataset, pattern) if dataset.Modality == "RTSTRUCT" else segments.segments(dataset, pattern)
        ).items()
    ]
    if not fitting:
        raise MaskMissing(
            "no structure or segment has a name that fits",
            where="; ".join(str(path) for path, _ in objects),
            remedy="give its name as the regular expression `roi` in site.yaml",
        )
    if len(fitting) > 1:
        raise MaskAmbiguous(
            f"{len(fitting)} structures or segments have names that fit",
            where="; ".join(f"{path}: `{label}`" for path, _, label, _ in fitting),
            remedy="narrow the regular expression `roi` in site.yaml to the tumour's",
        )
    path, dataset, _, number = fitting[0]
    if dataset.Modality == "RTSTRUCT":
        array = contours.draw(contours.contours(dataset, number, path), chosen.grid, path)
    else:
        array = segments.place(dataset, number, chosen.grid, path)
    if not array.any():
        raise MaskEmpty(
            "the tumour mask holds no voxel", where=str(path), remedy="draw the tumour, or leave the case out"
        )
    return on_grid(array, chosen.grid)


def _read_object(path: Path) -> pydicom.Dataset:
    try:
        with telling_apart(path), open(path, "rb") as file:
            return pydicom.dcmread(file)
    except (InvalidDicomError, ValueError, KeyError, EOFError) as error:
        raise FileUnreadable(
            f"a structure set or segmentation is damaged ({type(error).__name__})",
            where=str(path),
            remedy="export it again",
        ) from None
