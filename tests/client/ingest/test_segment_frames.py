"""DICOM SEG in other packings than plain bits: deflated, compressed and fractional ones give the same mask."""

from __future__ import annotations

import io
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image
from pydicom import uid
from pydicom.encaps import encapsulate

from fedloupe_client.ingest import ingest, load_store

COMPRESSED = {
    "RLE": uid.RLELossless,
    "JPEG-LS": uid.JPEGLSLossless,
    "JPEG 2000": uid.JPEG2000Lossless,
}


@pytest.fixture
def site(dicom_site):
    """P-0001 with a SEG, P-0002 sound."""
    dicom_site.two_patients()
    (dicom_site.root / "images" / "P-0001" / "rs-t2w.dcm").unlink()
    dicom_site.segmentation(labels=("Rectum", "Tumour"))
    return dicom_site


@pytest.fixture
def path(site) -> Path:
    return site.root / "images" / "P-0001" / "seg.dcm"


@pytest.fixture
def taken(site, study, tmp_path, by_local):
    """Ingest: the record of P-0001, and its mask where it has one."""

    def run():
        home = tmp_path / "home"
        records = by_local(ingest(site.config().model_copy(update={"site": "island"}), study, home))
        assert records["P-0002"].status == "ready"
        record = records["P-0001"]
        ready = record.status == "ready"
        return record, sitk.GetArrayFromImage(load_store(home).mask(record.case)) if ready else None

    return run


def expected() -> np.ndarray:
    mask = np.zeros((6, 12, 14), np.uint8)
    mask[3:5, 4:8, 5:9] = 1
    return mask


def fractional(path: Path, inside: int = 255) -> pydicom.Dataset:
    """The SEG of bits as one of bytes."""
    dataset = pydicom.dcmread(path)
    pixels = dataset.pixel_array
    dataset.SegmentationType, dataset.SegmentationFractionalType = "FRACTIONAL", "OCCUPANCY"
    dataset.MaximumFractionalValue = inside
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelData = (pixels * inside).astype(np.uint8).tobytes()
    return dataset


class TestDeflated:
    @pytest.mark.parametrize("kind", ["bits", "bytes"])
    def test_a_deflated_segmentation_gives_the_same_mask(self, path, taken, kind):
        dataset = pydicom.dcmread(path) if kind == "bits" else fractional(path)
        dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
        dataset.save_as(path)
        np.testing.assert_array_equal(taken()[1], expected())


class TestFractional:
    @pytest.mark.parametrize("inside", [1, 100, 255])
    def test_nothing_but_zero_and_the_maximum_has_an_edge(self, path, taken, inside):
        fractional(path, inside).save_as(path)
        np.testing.assert_array_equal(taken()[1], expected())

    def test_a_value_between_has_none(self, path, taken):
        dataset = fractional(path)
        spoiled = bytearray(dataset.PixelData)
        spoiled[-1] = 128  # of the tumour's last frame
        dataset.PixelData = bytes(spoiled)
        dataset.save_as(path)
        assert taken()[0].code == "FL-234"

    def test_another_segment_s_values_do_not_matter(self, path, taken):
        dataset = fractional(path)
        dataset.PixelData = b"\x80" + dataset.PixelData[1:]
        dataset.save_as(path)
        np.testing.assert_array_equal(taken()[1], expected())

    @pytest.mark.parametrize("most", [0, 256, None])
    def test_a_maximum_that_no_byte_can_hold_is_damage(self, path, taken, most):
        dataset = fractional(path)
        dataset.MaximumFractionalValue = most
        dataset.save_as(path)
        assert taken()[0].code == "FL-204"


class TestCompressed:
    @pytest.mark.parametrize("name", ["RLE", "JPEG-LS"])
    def test_a_compressed_segmentation_gives_the_same_mask(self, path, taken, name):
        dataset = fractional(path)
        dataset.compress(COMPRESSED[name], encoding_plugin="pydicom" if name == "RLE" else "pyjpegls")
        dataset.save_as(path)
        np.testing.assert_array_equal(taken()[1], expected())

    def test_so_does_jpeg_2000(self, path, taken):
        dataset = fractional(path)
        packed = []
        for frame in dataset.pixel_array:
            buffer = io.BytesIO()
            Image.fromarray(frame).save(buffer, "JPEG2000", no_jp2=True, irreversible=False, num_resolutions=1)
            packed.append(buffer.getvalue())
        dataset.PixelData = encapsulate(packed)
        dataset.file_meta.TransferSyntaxUID = uid.JPEG2000Lossless
        dataset.save_as(path)
        np.testing.assert_array_equal(taken()[1], expected())

    def test_one_frame_is_a_segmentation_too(self, path, taken):
        dataset = fractional(path)
        dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[-1:]
        dataset.NumberOfFrames = 1
        dataset.PixelData = dataset.PixelData[-12 * 14 :]
        dataset.compress(uid.RLELossless, encoding_plugin="pydicom")
        dataset.save_as(path)
        mask = expected()
        mask[3] = 0
        np.testing.assert_array_equal(taken()[1], mask)

    def test_a_value_between_is_seen_behind_the_compression(self, path, taken):
        dataset = fractional(path)
        dataset.MaximumFractionalValue = 254
        dataset.compress(uid.RLELossless, encoding_plugin="pydicom")
        dataset.save_as(path)
        assert taken()[0].code == "FL-234"

    def test_compressed_bits_are_refused(self, path, taken):
        dataset = pydicom.dcmread(path)
        dataset.PixelData = encapsulate([bytes(21)] * 4)
        dataset.file_meta.TransferSyntaxUID = COMPRESSED["JPEG 2000"]
        dataset.save_as(path)
        record, _ = taken()
        assert (record.code, record.reason) == ("FL-234", "the segmentation is compressed in a way that cannot be read")

    def test_a_video_is_refused(self, path, taken):
        dataset = fractional(path)
        dataset.PixelData = encapsulate([b"\0\0\1\xb3" + bytes(60)] * 4)
        dataset.file_meta.TransferSyntaxUID = uid.MPEG2MPML
        dataset.save_as(path)
        assert taken()[0].code == "FL-234"

    @pytest.mark.parametrize("name", COMPRESSED)
    def test_frames_that_do_not_decode_are_damage(self, path, taken, name):
        dataset = fractional(path)
        dataset.PixelData = encapsulate([b"\xff\x01" * 40] * 4)
        dataset.file_meta.TransferSyntaxUID = COMPRESSED[name]
        dataset.save_as(path)
        assert taken()[0].code == "FL-204"

    def test_too_few_compressed_frames_are_damage(self, path, taken):
        dataset = fractional(path)
        dataset.compress(uid.RLELossless, encoding_plugin="pydicom")
        dataset.NumberOfFrames = 5
        dataset.PerFrameFunctionalGroupsSequence.append(dataset.PerFrameFunctionalGroupsSequence[-1])
        dataset.save_as(path)
        assert taken()[0].code == "FL-204"


class TestAnotherWriter:
    @pytest.mark.parametrize(
        ("kind", "syntax"),
        [
            ("BINARY", uid.ExplicitVRLittleEndian),
            ("FRACTIONAL", uid.ExplicitVRLittleEndian),
            ("FRACTIONAL", uid.RLELossless),
            ("FRACTIONAL", uid.JPEGLSLossless),
        ],
    )
    def test_what_highdicom_writes_is_read(self, site, path, taken, kind, syntax):
        slices = sorted((site.root / "images" / "P-0001" / "t2w").iterdir(), reverse=True)
        sources = [pydicom.dcmread(one) for one in slices]
        for one in sources:
            one.PatientSex, one.StudyID, one.StudyDate, one.StudyTime = "", "", "", ""
            one.SeriesNumber, one.InstanceNumber, one.SliceThickness, one.Manufacturer = 1, 1, 3.0, ""
        tissue = hd.sr.CodedConcept("85756007", "SCT", "Tissue")
        segment = hd.seg.SegmentDescription(1, "Tumour", tissue, tissue, "MANUAL")
        mask = expected() if kind == "BINARY" else expected().astype(float)
        made = hd.seg.Segmentation(
            sources, mask, kind, [segment], uid.generate_uid(), 2, uid.generate_uid(), 1, "m", "m", "1", "1",
            transfer_syntax_uid=syntax,
        )  # fmt: skip
        made.save_as(path)
        np.testing.assert_array_equal(taken()[1], expected())
