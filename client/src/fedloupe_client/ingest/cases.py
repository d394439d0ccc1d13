"""One case from its files: every sequence, the mask on the first one's grid, or the reason why not.

case = from_nifti(source, study, local)       # raises this room's errors; writes nothing
case.save(folder)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pydicom
import SimpleITK as sitk
from pydicom.config import disable_value_validation

from fedloupe.study import Study
from fedloupe_client.config import DicomSource, NiftiSource
from fedloupe_client.ingest.dicom import contours, segments
from fedloupe_client.ingest.dicom.choices import Choices, read_choices
from fedloupe_client.ingest.dicom.choose import Chosen, Reference, by_series, choose
from fedloupe_client.ingest.dicom.damage import damage
from fedloupe_client.ingest.dicom.headers import IMAGES, OBJECTS, Slice
from fedloupe_client.ingest.dicom.rules import Rules, load_rules
from fedloupe_client.ingest.dicom.scanner import scanner_of
from fedloupe_client.ingest.dicom.series import on_grid
from fedloupe_client.ingest.dicom.taking import adc_image, take_all
from fedloupe_client.ingest.drawer import Drawer
from fedloupe_client.ingest.files import telling_apart
from fedloupe_client.ingest.formats.bounds import check_deflated
from fedloupe_client.ingest.formats.volumes import check_mask, read_image, write_clean
from fedloupe_client.ingest.problems import (
    FileMissing,
    FileUnreadable,
    FramesDiffer,
    MaskAmbiguous,
    MaskElsewhere,
    MaskEmpty,
    MaskMissing,
    PatientsMixed,
    SequenceMissing,
)
from fedloupe_client.ingest.tables.exams import pick_study
from fedloupe_client.ingest.tables.subgroups import asks_scanner


@dataclass(frozen=True)
class Case:
    """A case that passed every check: volumes on their native grids, the mask on the first one's.

    `drawn_by` is the digest of the model that drew the mask, None where it is the site's own. `scanner` says of the
    first sequence's what `scanner_of` does, where the study asks.
    """

    volumes: dict[str, sitk.Image]
    mask: sitk.Image
    notes: tuple[str, ...] = ()
    drawn_by: str | None = None
    scanner: dict[str, str] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write `<sequence>.nii.gz` and `mask.nii.gz` into a new folder."""
        folder.mkdir(parents=True)
        for name, image in {**self.volumes, "mask": self.mask}.items():
            write_clean(image, folder / f"{name}.nii.gz")


def at(source: NiftiSource | DicomSource, pattern: str, local: str) -> Path:
    """The file that a pattern names for a case."""
    return source.root / pattern.replace("{case}", local)


_DRAWING = "a structure set or segmentation"
_NEEDED = {  # PS3.3 C.8.8.5, C.8.8.6, C.8.20.2, C.7.6.16, C.7.6.3
    "RTSTRUCT": ("StructureSetROISequence", "ROIContourSequence"),
    "SEG": ("SegmentSequence", "PerFrameFunctionalGroupsSequence", "PixelData"),
}


def _absent(name: str, where: str) -> SequenceMissing:
    return SequenceMissing(
        f"required sequence `{name}` is missing", where=where, remedy="add its images, if there are any"
    )


def from_nifti(source: NiftiSource, study: Study, local: str, drawer: Drawer | None = None) -> Case:
    """A case whose files are named by pattern; `drawer` is given where there is no mask file, to draw one.

    Raises:
        SequenceMissing, MaskMissing: no such file.
        DrawingEmpty, DrawingUnreadable, ImageFlat: see `Drawer.draw`.
        PermissionRefused, FileUnreadable, ImageInvalid: an image or the mask.
        AdcUnit: an ADC map in a unit that its magnitude does not tell.
        MaskElsewhere, MaskEmpty, MaskInvalid: see `check_mask`.
    """
    volumes: dict[str, sitk.Image] = {}
    notes = []
    rules = load_rules(None)
    for sequence in study.sequences:
        if sequence.name not in source.files:
            continue  # checked before: only optional ones
        path = at(source, source.files[sequence.name], local)
        try:
            image = read_image(path)
        except FileMissing:
            if sequence.required:
                raise _absent(sequence.name, str(path)) from None
            continue
        rule = rules.rule(sequence.name, sequence.modality)
        if sequence.intensity == "physical" and rule is not None and rule.quantity == "diffusivity":
            image, note = adc_image(image, str(path))
            notes.append(f"`{sequence.name}`: {note}")
        volumes[sequence.name] = image
    if drawer is not None:
        return Case(volumes, drawer.draw(volumes, local), tuple(notes), drawer.model)
    mask = _mask_file(at(source, source.mask, local), volumes[study.sequences[0].name])
    return Case(volumes, mask, tuple(notes))


def _mask_file(path: Path, reference: sitk.Image) -> sitk.Image:
    try:
        mask = read_image(path)
    except FileMissing:
        raise MaskMissing(
            "there is no mask file", where=str(path), remedy="draw the tumour, or check the `mask` pattern"
        ) from None
    return check_mask(mask, reference, str(path))


def from_dicom(
    source: DicomSource, study: Study, local: str, slices: tuple[Slice, ...], drawer: Drawer | None = None
) -> Case:
    """A case from the headers of its DICOM files; `drawer` is given where there is no drawing of its own, to make one.

    Raises:
        PatientsMixed: more than one PatientID.
        StudyUnreadable, RulesInvalid, ChoicesInvalid: the site's own rules or choices.
        StudiesSeveral, ExamUndecided, DateInvalid: images of several examinations, see `pick_study`.
        SequenceMissing, SequenceAmbiguous, ChoiceUnknown, SeriesRefused: see `choose`.
        FramesDiffer: sequences in several frames of reference, where the rules refuse that.
        PermissionRefused, FileUnreadable: pixels, structure set or segmentation.
        AdcUnit, BValues, DynamicTimes, DynamicTooShort, NoEnhancement: see `take_all`.
        MaskMissing, MaskAmbiguous, MaskElsewhere, MaskEmpty, MaskInvalid: the tumour.
        DrawingEmpty, DrawingUnreadable, ImageFlat: see `Drawer.draw`.
    """
    if len(patients := {s.patient for s in slices}) > 1:
        raise PatientsMixed(
            f"the files of this case are of {len(patients)} patients", where=local, remedy="keep one patient a folder"
        )
    rules = load_rules(None if source.rules is None else source.root / source.rules)
    choices = {} if source.choices is None else read_choices(source.root / source.choices)
    chosen, examined = _choose_all(source, study, local, slices, rules, choices)
    framed = _frames_of_reference(chosen, study, rules, local)
    first = study.sequences[0].name
    volumes, notes = take_all(chosen)
    said = (*notes, *examined, *framed)
    scanner = scanner_of(chosen[first].grid.slices[0].path) if asks_scanner(study) else {}
    if drawer is not None:
        return Case(volumes, drawer.draw(volumes, local), said, drawer.model, scanner)
    if source.mask is None:
        mask = _drawn_mask([s.path for s in slices if s.modality in OBJECTS], chosen[first], source.roi, local)
    else:
        mask = _mask_file(at(source, source.mask, local), volumes[first])
    return Case(volumes, mask, said, scanner=scanner)


def _choose_all(
    source: DicomSource, study: Study, local: str, slices: tuple[Slice, ...], rules: Rules, choices: Choices
) -> tuple[dict[str, Chosen], tuple[str, ...]]:
    images, notes = _examined([s for s in slices if s.modality in IMAGES], source, local)
    series = by_series(images)
    chosen: dict[str, Chosen] = {}
    for sequence in study.sequences:
        name = sequence.name
        found = choose(sequence, series, rules, source.series.get(name), choices.get((local, name)))
        if found is not None:
            chosen[name] = found
        elif sequence.required:
            there = sorted({s[0].description for s in series.values()})
            raise _absent(name, f"{local}: {len(series)} series, {there}")
    return chosen, notes


def _examined(images: list[Slice], source: DicomSource, local: str) -> tuple[list[Slice], tuple[str, ...]]:
    """The images of the examination that counts; each modality has its own, as a planning CT is another study."""
    kept: list[Slice] = []
    notes = []
    for modality in IMAGES:
        some = [s for s in images if s.modality == modality]
        if some:
            picked = pick_study(((s.study, s.study_date) for s in some), source.exam, local)
            kept += [s for s in some if s.study == picked.key]
            notes += [picked.note] if picked.note else []
    return kept, tuple(notes)


def _frames_of_reference(chosen: dict[str, Chosen], study: Study, rules: Rules, local: str) -> tuple[str, ...]:
    """Notes on MR sequences that lie in another frame of reference than the first one (PS3.3 C.7.4.1).

    CT is left out: it comes from another machine, and is registered.

    Raises:
        FramesDiffer: where the rules refuse it.
    """
    magnetic = [s.name for s in study.sequences if s.modality == "MR" and s.name in chosen]
    known = [name for name in magnetic if chosen[name].frame_of_reference]
    others = [n for n in known[1:] if chosen[n].frame_of_reference != chosen[known[0]].frame_of_reference]
    if others and rules.frame_of_reference == "refuse":
        raise FramesDiffer(
            f"{others} lie in another frame of reference than `{known[0]}`",
            where=local,
            remedy="choose series of one session, or set `frame_of_reference: note` in the series rules",
        )
    return tuple(
        f"`{name}` lies in another frame of reference than `{known[0]}`: the patient may have moved between them"
        for name in others
    )


def _drawn_mask(paths: list[Path], chosen: Chosen, pattern: str, local: str) -> sitk.Image:
    """The tumour from the one structure or segment that fits.

    A file drawn on the series itself goes before one that only shares its frame of reference.
    """
    near: dict[Reference, list[tuple[Path, pydicom.Dataset]]] = {Reference.FRAME: [], Reference.SERIES: []}
    for path in paths:
        dataset = _read_object(path)
        with damage(path, _DRAWING):
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
    fitting = []
    for path, dataset in objects:
        with damage(path, _DRAWING):
            named = contours.rois if dataset.Modality == "RTSTRUCT" else segments.segments
            fitting += [(path, dataset, label, number) for label, number in named(dataset, pattern).items()]
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
    with damage(path, _DRAWING):
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
    with telling_apart(path), damage(path, _DRAWING), disable_value_validation(), open(path, "rb") as file:
        check_deflated(file)
        dataset = pydicom.dcmread(file)
    if any(name not in dataset for name in _NEEDED[dataset.Modality]):
        raise FileUnreadable(
            "a structure set or segmentation is cut off: it lacks a part that each must have",
            where=str(path),
            remedy="export it again",
        )
    return dataset
