"""What image a DICOM case still has that ingest left out, wherever its files lie."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import yaml
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from fedloupe.study import Study, parse_study
from fedloupe_client.config import load_site
from fedloupe_client.ingest import ingest
from fedloupe_client.ingest.problems import NoneReady
from fedloupe_client.ingest.store.lock import locked
from fedloupe_client.preflight import leftover as room
from fedloupe_client.preflight.leftover import dicom_of, leftover
from fedloupe_client.preflight.local import local_names
from fedloupe_client.preflight.looks import look_at_all

MR = "1.2.840.10008.5.1.4.1.1.4"
SIZE = 24


@pytest.fixture
def study() -> Study:
    return parse_study(
        {
            "study": "tiny",
            "title": "Synthetic noise",
            "synthetic": True,
            "endpoint": {"name": "response", "column": "response", "positive": ["yes"], "negative": ["no"]},
            "sequences": [{"name": "t2w"}],
            "aggregation": "plain",
            "sites": [{"name": "alpha", "role": "train"}],
            "radiomics": {"source": "none"},
            "quorum": {"minimum": 1},
        }
    )


def write_series(folder: Path, patient: str, slices: int, step: float = 3.0, value: int = 0) -> np.ndarray:
    """A synthetic series of noise; its files are named by nothing that tells a patient."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(slices).integers(0, 500, (slices, SIZE, SIZE)).astype(np.uint16) + value
    series, frame = generate_uid(), generate_uid()
    for number in range(slices):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MR, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        one.SOPClassUID, one.SOPInstanceUID = MR, meta.MediaStorageSOPInstanceUID
        one.PatientID, one.Modality, one.SeriesInstanceUID = patient, "MR", series
        one.StudyInstanceUID, one.FrameOfReferenceUID, one.SeriesDescription = frame, frame, "t2w"
        one.Rows = one.Columns = SIZE
        one.PixelSpacing, one.ImageOrientationPatient = [2.0, 2.0], [1, 0, 0, 0, 1, 0]
        one.ImagePositionPatient = [0.0, 0.0, step * number]
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
        one.RescaleSlope, one.RescaleIntercept = 1, 0
        one.PixelData = pixels[number].tobytes()
        one.save_as(folder / f"{series[-12:]}{number:03d}.dcm", enforce_file_format=True)
    return pixels


@pytest.fixture
def home(tmp_path, study) -> Path:
    """Two cases without a mask; files of both lie in one folder that no case names."""
    write_series(tmp_path / "images" / "export", "PAT-77001", 6)
    write_series(tmp_path / "images" / "export", "PAT-77001", 9)
    write_series(tmp_path / "images" / "other", "PAT-77002", 5)
    (tmp_path / "clinical.csv").write_text("case,response\nPAT-77001,yes\nPAT-77002,no\n")
    source = {"format": "dicom", "root": ".", "images": "images", "clinical": {"file": "clinical.csv"}}
    (tmp_path / "site.yaml").write_text(yaml.safe_dump({"site": "alpha", "source": source}))
    with pytest.raises(NoneReady):
        ingest(load_site(tmp_path), study, tmp_path)
    return tmp_path


def found(home: Path, study: Study, local: str = "PAT-77001") -> room.Leftover | None:
    source = load_site(home).source
    return leftover(source, study, local, dicom_of(home, source, frozenset({"PAT-77001", "PAT-77002"})).get(local, ()))


class TestACaseKnownByItsPatientId:
    def test_shows_its_largest_series_without_a_mask(self, home, study):
        one = found(home, study)
        assert one is not None and one.mask is None
        assert one.image.GetSize() == (SIZE, SIZE, 9)
        assert np.array_equal(
            sitk.GetArrayFromImage(one.image), np.random.default_rng(9).integers(0, 500, (9, SIZE, SIZE))
        )

    def test_is_pictured_among_all_cases(self, home, study):
        from fedloupe_client.preflight.failed import failed_ingest

        looks = look_at_all(home, load_site(home), study, unstored=failed_ingest(home).records)
        assert [len(look.planes) for look in looks] == [3, 3]
        names = local_names(home)
        for look in looks:
            slices = 9 if names[look.case].local == "PAT-77001" else 5
            coronal = Image.open(io.BytesIO(look.planes[2].png))
            assert coronal.height / coronal.width == pytest.approx(slices * 3 / (SIZE * 2), abs=0.02)

    def test_is_found_from_memory_without_reading_a_header_again(self, home, study, monkeypatch):
        import os
        import time

        for path in (home / "images").rglob("*.dcm"):
            os.utime(path, (time.time() - 60,) * 2)  # settled: ingest remembers no file of this very moment
        with pytest.raises(NoneReady):
            ingest(load_site(home), study, home)
        monkeypatch.setattr(room, "MOST_FILES", 0)
        assert found(home, study) is not None


class TestAFailureToRead:
    def test_of_the_largest_series_shows_the_next(self, home, study):
        for path in (home / "images" / "export").iterdir():
            one = pydicom.dcmread(path)
            if one.ImagePositionPatient[2] == 12.0 and len(list(path.parent.glob(f"{path.name[:12]}*"))) == 9:
                path.write_bytes(path.read_bytes()[:-200])
        one = found(home, study)  # a gap is left in the middle of the larger one
        assert one is not None and one.image.GetSize() == (SIZE, SIZE, 6)

    def test_of_every_series_is_no_picture(self, home, study):
        for path in (home / "images" / "export").iterdir():
            path.write_bytes(path.read_bytes()[:-200])
        assert found(home, study) is None

    def test_of_geometry_is_no_picture(self, tmp_path, home, study):
        for path in (home / "images" / "other").iterdir():
            one = pydicom.dcmread(path)
            one.ImagePositionPatient = [0.0, 0.0, 0.0]
            one.save_as(path)
        assert found(home, study, "PAT-77002") is None

    def test_of_a_series_beyond_the_bound_is_not_tried(self, home, study, monkeypatch):
        monkeypatch.setattr(room, "MOST_VOXELS", 8 * SIZE * SIZE)
        one = found(home, study)
        assert one is not None and one.image.GetSize() == (SIZE, SIZE, 6)

    def test_is_given_up_after_some_series(self, home, study, monkeypatch):
        monkeypatch.setattr(room, "TRIES", 0)
        assert found(home, study) is None

    def test_while_an_ingest_runs_is_no_picture(self, home, study):
        with locked(home):
            assert found(home, study) is None
