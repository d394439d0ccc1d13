"""Small hospitals made in the test: NIfTI and DICOM files of a few voxels."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from damages import CASES, FEATURES, HEADER, LINES, ROWS, TABLE, Hospital, features, text
from dicom_damages import merge
from fedloupe.study import Study, parse_study
from fedloupe_client.config import SiteConfig

SHAPE = (6, 12, 14)  # z, y, x
MR, RTSTRUCT, SEG = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.5.1.4.1.1.66.4"


def uid(text: str) -> str:
    return generate_uid(entropy_srcs=[text])


def _study(**changes: Any) -> Study:
    content: dict[str, Any] = {
        "study": "tiny",
        "title": "Tiny",
        "endpoint": {"name": "response", "column": "trg", "positive": ["good"], "negative": ["poor"]},
        "sequences": [{"name": "t2w"}, {"name": "adc", "intensity": "physical", "required": False}],
        "clinical": [
            {"name": "age", "column": "age", "centre": 60},
            {"name": "stage", "column": "ct", "levels": {"T2": -1, "T3": 0}},
        ],
        "aggregation": "plain",
        "sites": [{"name": "north", "role": "train"}, {"name": "island", "role": "validate"}],
        "quorum": {"minimum": 1},
        "radiomics": {"source": "none"},
    }
    return parse_study({**content, **changes})


@pytest.fixture
def make_study() -> Callable[..., Study]:
    return _study


@pytest.fixture
def study() -> Study:
    return _study()


def image(array: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 3.0)) -> sitk.Image:
    made = sitk.GetImageFromArray(array)
    made.SetSpacing(spacing)
    made.SetOrigin((-5.0, 7.0, 11.0))
    return made


class NiftiSite:
    """Four cases, two of each class; a test then spoils one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "data").mkdir(parents=True)
        rng = np.random.default_rng(0)
        for number in range(1, 5):
            self.write(f"P-000{number}_t2w", rng.integers(0, 500, SHAPE).astype(np.int16))
            self.write(f"P-000{number}_adc", rng.integers(0, 2000, SHAPE).astype(np.int16))
            mask = np.zeros(SHAPE, np.uint8)
            mask[2:4, 4:8, 5:9] = 1
            self.write(f"P-000{number}_mask", mask)
        self.table("P-0001,good,61,T2", "P-0002,poor,55,T3", "P-0003,good,,", "P-0004,poor,70,T3")

    def path(self, name: str) -> Path:
        return self.root / "data" / f"{name}.nii.gz"

    def write(self, name: str, array: np.ndarray, **kwargs: Any) -> None:
        sitk.WriteImage(image(array, **kwargs), str(self.path(name)))

    def table(self, *rows: str, header: str = "case,trg,age,ct") -> None:
        (self.root / "clinical.csv").write_text("\n".join([header, *rows]) + "\n")

    def config(self, site: str = "north", **changes: Any) -> SiteConfig:
        source = {
            "format": "nifti",
            "root": str(self.root),
            "clinical": {"file": "clinical.csv"},
            "files": {"t2w": "data/{case}_t2w.nii.gz", "adc": "data/{case}_adc.nii.gz"},
            "mask": "data/{case}_mask.nii.gz",
        }
        return SiteConfig.model_validate({"site": site, "source": {**source, **changes}})


@pytest.fixture
def nifti_site(tmp_path: Path) -> NiftiSite:
    return NiftiSite(tmp_path / "hospital")


class DicomSite:
    """Writes DICOM series, structure sets and segmentations with identifiers in their headers."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "images").mkdir(parents=True)

    def table(self, *rows: str, header: str = "case,trg,age,ct") -> None:
        (self.root / "clinical.csv").write_text("\n".join([header, *rows]) + "\n")

    def config(self, **changes: Any) -> SiteConfig:
        source = {
            "format": "dicom",
            "root": str(self.root),
            "clinical": {"file": "clinical.csv"},
            "images": "images",
        }
        return SiteConfig.model_validate({"site": "north", "source": {**source, **changes}})

    def dataset(self, sop_class: str, instance: str, patient: str) -> FileDataset:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, instance
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        made.SOPClassUID, made.SOPInstanceUID = sop_class, instance
        made.PatientID, made.PatientName, made.PatientBirthDate = patient, "DOE^JANE", "19610203"
        made.InstitutionName, made.AccessionNumber = "St Elsewhere", "ACC-778899"
        made.ReferringPhysicianName = "Dr Who"
        made.StudyInstanceUID = uid(f"study {patient}")
        made.FrameOfReferenceUID = uid(f"frame {patient}")
        return made

    def series(
        self,
        patient: str = "P-0001",
        name: str = "t2w",
        *,
        description: str | None = None,
        positions: list[tuple[float, float, float]] | None = None,
        orientations: list[list[float]] | None = None,
        time: str = "101500",
        slope: float = 1.0,
        header: str | None = None,
        **tags: Any,
    ) -> np.ndarray:
        """Write a series of random pixels into images/<patient>/<name>; the pixels as stored."""
        positions = positions or [(-5.0, 7.0, 11.0 + 3.0 * k) for k in range(SHAPE[0])]
        rng = np.random.default_rng(len(name))
        pixels = rng.integers(0, 500, (len(positions), *SHAPE[1:])).astype(np.uint16)
        folder = self.root / "images" / patient / name
        folder.mkdir(parents=True)
        for k, position in enumerate(positions):
            one = self.dataset(MR, uid(f"{patient} {name} {k}"), header or patient)
            one.Modality, one.SeriesInstanceUID = "MR", uid(f"series {patient} {name}")
            one.SeriesDescription = name if description is None else description
            one.AcquisitionTime = time
            one.Rows, one.Columns = pixels.shape[1:]
            one.PixelSpacing = [1.0, 1.0]
            one.ImageOrientationPatient = orientations[k] if orientations else [1, 0, 0, 0, 1, 0]
            one.ImagePositionPatient = list(position)
            one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
            one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
            one.RescaleSlope, one.RescaleIntercept = slope, 0
            for tag, value in tags.items():
                setattr(one, tag, value)
            one.PixelData = pixels[k].tobytes()
            # file names in the opposite order of positions: only geometry may sort them
            one.save_as(folder / f"{len(positions) - k:03d}.dcm", enforce_file_format=True)
        return pixels

    def structures(
        self,
        patient: str = "P-0001",
        contours: list[list[tuple[float, float, float]]] | None = None,
        names: tuple[str, ...] = ("Tumour",),
        refers_to: str = "t2w",
        frame: str | None = None,
    ) -> None:
        """An RTSTRUCT; by default a square round the centres of x 5..8, y 4..7 on slices 2 and 3."""
        if contours is None:
            x, y = -5.0 + 4.5, 7.0 + 3.5
            contours = [
                [(x, y, z), (x + 4, y, z), (x + 4, y + 4, z), (x, y + 4, z)] for z in (11.0 + 3 * 2, 11.0 + 3 * 3)
            ]
        made = self.dataset(RTSTRUCT, uid(f"rs {patient} {names}"), patient)
        made.Modality, made.SeriesInstanceUID = "RTSTRUCT", uid(f"rs series {patient}")
        series, study_, reference = Dataset(), Dataset(), Dataset()
        series.SeriesInstanceUID = uid(f"series {patient} {refers_to}")
        study_.RTReferencedSeriesSequence = [series]
        reference.FrameOfReferenceUID = uid(frame or f"frame {patient}")
        reference.RTReferencedStudySequence = [study_]
        made.ReferencedFrameOfReferenceSequence = [reference]
        made.StructureSetROISequence, made.ROIContourSequence = [], []
        for number, name in enumerate(names, start=1):
            roi, drawn = Dataset(), Dataset()
            roi.ROINumber, roi.ROIName = number, name
            drawn.ReferencedROINumber, drawn.ContourSequence = number, []
            for points in contours:
                contour = Dataset()
                contour.ContourGeometricType = "CLOSED_PLANAR"
                contour.NumberOfContourPoints = len(points)
                contour.ContourData = [float(v) for point in points for v in point]
                drawn.ContourSequence.append(contour)
            made.StructureSetROISequence.append(roi)
            made.ROIContourSequence.append(drawn)
        made.save_as(self.root / "images" / patient / f"rs-{refers_to}.dcm", enforce_file_format=True)

    def segmentation(
        self, patient: str = "P-0001", labels: tuple[str, ...] = ("Tumour",), offset: float = 0.0, kind: str = "BINARY"
    ) -> None:
        """A SEG: label n covers x 5..8, y 4..7 on slices 1+n and 2+n."""
        frames, groups, segments = [], [], []
        for number, label in enumerate(labels, start=1):
            segment = Dataset()
            segment.SegmentNumber, segment.SegmentLabel = number, label
            segments.append(segment)
            for plane in (1 + number, 2 + number):
                frame = np.zeros(SHAPE[1:], np.uint8)
                frame[4:8, 5:9] = 1
                frames.append(frame)
                group, identity, position = Dataset(), Dataset(), Dataset()
                identity.ReferencedSegmentNumber = number
                position.ImagePositionPatient = [-5.0 + offset, 7.0, 11.0 + 3.0 * plane]
                group.SegmentIdentificationSequence, group.PlanePositionSequence = [identity], [position]
                groups.append(group)
        made = self.dataset(SEG, uid(f"seg {patient}"), patient)
        made.Modality, made.SeriesInstanceUID = "SEG", uid(f"seg series {patient}")
        made.SegmentationType, made.SegmentSequence = kind, segments
        made.Rows, made.Columns = SHAPE[1:]
        made.NumberOfFrames, made.SamplesPerPixel, made.PhotometricInterpretation = len(frames), 1, "MONOCHROME2"
        made.BitsAllocated = made.BitsStored = 1
        made.HighBit = made.PixelRepresentation = 0
        shared, measures, orientation = Dataset(), Dataset(), Dataset()
        measures.PixelSpacing = [1.0, 1.0]
        orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
        made.SharedFunctionalGroupsSequence, made.PerFrameFunctionalGroupsSequence = [shared], groups
        made.PixelData = np.packbits(np.stack(frames).ravel(), bitorder="little").tobytes()
        made.save_as(self.root / "images" / patient / "seg.dcm", enforce_file_format=True)

    def two_patients(self) -> None:
        """P-0001 (good) and P-0002 (poor), T2w and RTSTRUCT each."""
        self.table("P-0001,good,61,T2", "P-0002,poor,55,T3")
        for patient in ("P-0001", "P-0002"):
            self.series(patient)
            self.structures(patient)


@pytest.fixture
def dicom_site(tmp_path: Path) -> DicomSite:
    return DicomSite(tmp_path / "hospital")


@pytest.fixture
def refuse_reading(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Make one file unreadable for permission, whoever runs the test (root may read everything)."""
    import builtins
    import io

    real = builtins.open
    refused: set[Path] = set()

    def guarded(file: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(file, int) and Path(file) in refused:
            raise PermissionError(13, "Permission denied", str(file))
        return real(file, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", guarded)
    monkeypatch.setattr(io, "open", guarded)  # the one that pathlib uses
    return refused.add


@pytest.fixture
def by_local(tmp_path: Path) -> Callable[[Any], dict[str, Any]]:
    """Records of a report by local id, through the hospital's own list."""
    import csv

    def look_up(report: Any) -> dict[str, Any]:
        with (tmp_path / "home" / "ingest-local.csv").open() as file:
            names = {row["case"]: row["local_id"] for row in csv.DictReader(file)}
        return {names[record.case]: record for record in report.records}

    return look_up


@pytest.fixture(scope="session")
def hospitals() -> tuple[type[NiftiSite], type[DicomSite], Callable[..., Study]]:
    """The makers themselves, where one hospital serves a whole module."""
    return NiftiSite, DicomSite, _study


@pytest.fixture(scope="module")
def no_wait_for_the_disk() -> Iterator[None]:
    """Power cuts are not the subject here, and a thousand stores are written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def hospital_of(tmp_path_factory, hospitals) -> Callable[[str], Hospital]:
    """Each kind of hospital, made once: four cases, two of each class, so that one may always be lost."""
    nifti, dicom, make_study = hospitals
    made: dict[str, Hospital] = {}

    def build(kind: str) -> Hospital:
        folder = tmp_path_factory.mktemp(kind)
        root, study = folder / "hospital", make_study()
        if kind == "nifti":
            return Hospital(root, folder / "home", nifti(root).config(), study)
        if kind == "nrrd":
            site = nifti(root)
            for path in sorted((root / "data").iterdir()):
                new = path.with_name(path.name.replace(".nii.gz", ".nrrd"))
                sitk.WriteImage(sitk.ReadImage(str(path)), str(new), useCompression="mask" in path.name)
                path.unlink()
            files = {name: f"data/{{case}}_{name}.nrrd" for name in ("t2w", "adc")}
            return Hospital(root, folder / "home", site.config(files=files, mask="data/{case}_mask.nrrd"), study)
        if kind == "features":
            root.mkdir()
            text(HEADER, *LINES)(root)
            features(*ROWS)(root)
            source = {"format": "table", "root": str(root), "clinical": {"file": TABLE}, "features": FEATURES}
            config = SiteConfig.model_validate({"site": "north", "source": source})
            table_study = make_study(sequences=[], clinical=[], radiomics={"source": "table"})
            return Hospital(root, folder / "home", config, table_study)
        site = dicom(root)
        site.table(*LINES, header=HEADER)
        for case in CASES:
            site.series(case)
            if kind == "enhanced":
                merge(root / "images" / case / "t2w")
            if case == CASES[0] and kind == "structures":
                site.series(case, "adc", RescaleType="mm2/s", slope=1e-5)
            (site.segmentation if kind == "segments" else site.structures)(case)
        return Hospital(root, folder / "home", site.config(), study)

    def get(kind: str) -> Hospital:
        if kind not in made:
            made[kind] = build(kind)
        return made[kind]

    return get


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[tuple[str, str], Counter[str]]]:
    """Outcomes by hospital and family; printed at the end."""
    found: dict[tuple[str, str], Counter[str]] = {}
    yield found
    print("\n| damage | hospital | variants | outcomes |\n|---|---|---|---|")
    for family in dict.fromkeys(family for _, family in found):
        there = [hospital for hospital, name in found if name == family]
        count = sum((found[hospital, family] for hospital in there), Counter[str]())
        words = ", ".join(f"{name} {number}" for name, number in count.most_common())
        print(f"| {family} | {', '.join(there)} | {count.total()} | {words} |")
