"""Headers read by their likeness to a neighbour are what parsing each of them gives, and never less is refused."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from fedloupe_client.ingest.dicom.alike import MISSES, Neighbours
from fedloupe_client.ingest.dicom.folders import read_chunk
from fedloupe_client.ingest.dicom.headers import read_headers
from fedloupe_client.ingest.identity.attributes import READ, identity_of

ARCHIVES = {  # and the least share of files that is like a neighbour
    "prostatex/ProstateX-0000_mpMRI": 0.9,
    "prostatex/ProstateX-0001_mpMRI": 0.9,
    "cmb_crc/visit1_SCAN_002_19591209": 0.9,
    "sts_rtstruct/STS_008_CT_MR_RTSTRUCT": 0.5,
    "prostate_misc/autoradiomics_prostate_test_data": 0.5,
    "dicom_corpus/dicom2nifti_tests_subset": 0.5,
    "ibsi/ibsi_1_ct_radiomics_phantom_dicom": 0.0,
}


@pytest.fixture
def series(dicom_site) -> list[Path]:
    """Six slices with values that differ, and one that nobody asks for."""
    dicom_site.series()
    files = sorted((dicom_site.root / "images" / "P-0001" / "t2w").iterdir())
    for number, path in enumerate(files):
        change(path, InstanceNumber=number * 37, ContentTime=f"1015{number:02d}.5", SliceLocation=-3.25 * number)
    return files


def change(path: Path, **values: object) -> None:
    dataset = pydicom.dcmread(path)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


def parsed(path: Path):
    named = []
    (slice_,) = read_headers(path, READ, lambda head: named.append(identity_of(head)))
    return slice_, named[0]


def taught(path: Path) -> Neighbours:
    slice_, identity = parsed(path)
    near = Neighbours()
    near.learn(path, (slice_,), identity)
    return near


class TestAlike:
    def test_a_slice_is_as_parsing_gives_it(self, series):
        near = taught(series[0])
        for path in series[1:]:
            slice_, identity = parsed(path)
            found = near.read(path)
            assert found is not None
            assert found[0] == slice_
            assert found[1].identifiers == identity.identifiers | parsed(series[0])[1].identifiers
            assert (found[1].attributes, found[1].burned_in) == (identity.attributes, identity.burned_in)

    @pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
    def test_in_every_way_of_writing(self, series, syntax):
        for path in series:
            dataset = pydicom.dcmread(path)
            dataset.PixelData = bytes(len(dataset.PixelData))
            meta = dataset.file_meta
            meta.TransferSyntaxUID = syntax
            fresh = pydicom.Dataset()
            fresh.file_meta, fresh.preamble = meta, b"\0" * 128
            for element in dataset:
                fresh.add_new(element.tag, element.VR, element.value)
            fresh.save_as(path, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
        found = taught(series[0]).read(series[1])
        assert found is not None
        assert found[0] == parsed(series[1])[0]

    def test_values_that_nobody_asks_for_may_differ_in_length(self, series):
        for path, text in zip(series[:2], ("short", "a much longer comment on this picture"), strict=True):
            change(path, ImageComments=text)
        found = taught(series[0]).read(series[1])
        assert found is not None
        assert found[0] == parsed(series[1])[0]

    def test_series_may_alternate(self, dicom_site, series):
        dicom_site.series(name="adc")
        other = sorted((dicom_site.root / "images" / "P-0001" / "adc").iterdir())
        near = taught(series[0])
        near.learn(other[0], (parsed(other[0])[0],), parsed(other[0])[1])
        for path in (series[1], other[1], series[2], other[2]):
            assert near.read(path)[0] == parsed(path)[0]


class TestNotAlike:
    @pytest.mark.parametrize(
        ("keyword", "value"),
        [
            ("PatientID", "P-0002"),
            ("PatientName", "ROE^RICHARD"),
            ("OperatorsName", "NURSE^JOY"),
            ("RescaleSlope", 2.0),
            ("Rows", 6),
            ("ImageOrientationPatient", [0, 1, 0, 1, 0, 0]),
            ("SeriesDescription", "t2w again"),
            ("DiffusionBValue", 800.0),
            ("BurnedInAnnotation", "YES"),
            ("SpecificCharacterSet", "ISO_IR 192"),
            ("ImageComments", "an element that the neighbour lacks"),
            ("ImagePositionPatient", None),
        ],
    )
    def test_any_other_difference_is_for_the_parser(self, series, keyword, value):
        change(series[1], **{keyword: value})
        assert taught(series[0]).read(series[1]) is None

    @pytest.mark.parametrize("lost", [1, 2, 200, 12 * 14 * 2, 12 * 14 * 2 + 1, 12 * 14 * 2 + 12, 700])
    def test_a_lost_end_is_for_the_parser(self, series, lost):
        series[1].write_bytes(series[1].read_bytes()[:-lost])
        assert taught(series[0]).read(series[1]) is None
        assert [one.trouble is None for one in read_chunk(series[:3])] == [True, False, True]

    @pytest.mark.parametrize("lost", [0, 1, 8, 70])
    def test_fragments_are_counted(self, series, lost):
        for path in series[:2]:
            dataset = pydicom.dcmread(path)
            dataset.file_meta.TransferSyntaxUID = RLELossless
            dataset.PixelData = encapsulate([bytes(100)])
            dataset.save_as(path)
        near = taught(series[0])
        content = series[1].read_bytes()
        series[1].write_bytes(content[: len(content) - lost])
        assert (near.read(series[1]) is not None) == (lost == 0)

    def test_a_length_beyond_the_file_is_for_the_parser(self, series):
        content = series[1].read_bytes()
        at = content.index(b"\x20\x00\x13\x00IS") + 6  # Instance Number
        series[1].write_bytes(content[:at] + b"\xff\x7f" + content[at + 2 :])
        assert taught(series[0]).read(series[1]) is None

    def test_a_position_that_is_no_number_is_for_the_parser(self, series):
        content = series[1].read_bytes()
        at = content.index(b"\x20\x00\x32\x00DS") + 8
        series[1].write_bytes(content[:at] + b"x" + content[at + 1 :])
        assert taught(series[0]).read(series[1]) is None

    def test_an_absent_file_is_for_the_parser(self, series, tmp_path):
        assert taught(series[0]).read(tmp_path / "no.dcm") is None

    def test_a_folder_without_likeness_is_not_learnt_for_ever(self, series):
        near = Neighbours()
        slice_, identity = parsed(series[0])
        for _ in range(MISSES):
            near.learn(series[1], (), identity)
        near.learn(series[0], (slice_,), identity)
        assert near.read(series[1]) is None


@pytest.mark.data
@pytest.mark.parametrize("archive", ARCHIVES)
def test_real_files_read_the_same(real_data, tmp_path, monkeypatch, archive):
    with tarfile.open(real_data / "images" / f"{archive}.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    read, alike = Neighbours.read, []
    monkeypatch.setattr(Neighbours, "read", lambda self, path: alike.append(read(self, path)) or alike[-1])
    fast = read_chunk(files)
    monkeypatch.setattr(Neighbours, "read", lambda self, path: None)
    slow = read_chunk(files)
    assert sum(one is not None for one in alike) >= ARCHIVES[archive] * len(files)
    for quick, full in zip(fast, slow, strict=True):
        assert (quick.slices, quick.trouble) == (full.slices, full.trouble)
        assert (quick.identity.attributes, quick.identity.burned_in) == (
            full.identity.attributes,
            full.identity.burned_in,
        )
        assert full.identity.identifiers <= quick.identity.identifiers
