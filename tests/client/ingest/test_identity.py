"""Identity at the door: who is named in headers, burned-in text, and the search for identifiers in what was written."""

from __future__ import annotations

import base64
import gzip
import json
import tarfile
import time

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom import Dataset

from fedloupe_client.config import SiteConfig
from fedloupe_client.ingest import ingest
from fedloupe_client.ingest.dicom import headers
from fedloupe_client.ingest.identity.attributes import (
    ALLOWED,
    IDENTIFYING,
    LINKING,
    burned_in,
    identity_notes,
    identity_of,
    read_identity,
)
from fedloupe_client.ingest.identity.leaks import Leak, leaks
from fedloupe_client.ingest.problems import FileUnreadable

MR, SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.7"


def head(**values) -> Dataset:
    made = Dataset()
    made.Modality, made.SOPClassUID, made.ImagePositionPatient = "MR", MR, [0, 0, 0]
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


class TestAllowList:
    def test_nothing_that_identifies_may_influence_the_store(self):
        assert not ALLOWED & set(IDENTIFYING)
        assert not ALLOWED & LINKING

    def test_every_name_is_a_dicom_keyword(self):
        for keyword in (*ALLOWED, *LINKING, *IDENTIFYING):
            assert pydicom.datadict.tag_for_keyword(keyword) is not None, keyword

    def test_the_door_reads_nothing_else(self):
        """A header attribute that ingest begins to read must be judged and put into one of the two lists."""
        assert set(headers._TAGS) - (ALLOWED | LINKING) == set()


class TestHeaders:
    def test_names_dates_numbers_and_places_are_collected(self):
        seen = identity_of(
            head(
                PatientName="Müller^Eva Maria", PatientID="4711-A", PatientBirthDate="19610203",
                InstitutionName="St Elsewhere", ReferringPhysicianName="House^Gregory", AccessionNumber="ACC-778899",
                StudyInstanceUID="1.2.3.4", OtherPatientNames=["Meier^Eva", "Schmidt^Eva"],
            )
        )  # fmt: skip
        assert seen.identifiers >= {
            "Müller^Eva Maria", "Müller Eva Maria", "Maria Eva Müller", "Müller", "Maria", "4711-A", "19610203",
            "1961-02-03", "03.02.1961", "St Elsewhere", "House", "ACC-778899", "1.2.3.4", "Meier", "Schmidt",
        }  # fmt: skip
        assert seen.attributes == {
            "PatientName", "PatientBirthDate", "InstitutionName", "ReferringPhysicianName", "OtherPatientNames",
        }  # fmt: skip
        assert "Elsewhere" not in repr(seen)

    def test_a_pseudonymous_export_is_worth_no_remark(self):
        """As TCIA writes it: the id as the name, empty and placeholder values."""
        seen = identity_of(
            head(PatientName="Case-0001", PatientID="Case-0001", PatientBirthDate="", ReferringPhysicianName="None")
        )
        assert seen.attributes == frozenset()
        assert identity_notes([seen]) == ()
        assert seen.identifiers == {"Case-0001"}

    def test_a_note_counts_files_and_holds_no_value(self):
        files = [identity_of(head(InstitutionName="St Elsewhere")) for _ in range(3)] + [identity_of(head())]
        (note,) = identity_notes(files)
        assert "InstitutionName in 3" in note
        assert "Elsewhere" not in note

    def test_damage_is_refused_and_what_is_no_dicom_names_nobody(self, tmp_path):
        (tmp_path / "a.txt").write_text("no DICOM")
        assert read_identity(tmp_path / "a.txt").identifiers == frozenset()
        (tmp_path / "b.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\0\0\0XX\xff\xff\xff\xff")
        with pytest.raises(FileUnreadable):
            read_identity(tmp_path / "b.dcm")


class TestBurnedIn:
    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            ({}, None),
            ({"BurnedInAnnotation": "YES"}, "declared"),
            ({"BurnedInAnnotation": "NO"}, None),
            ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "screen"),
            ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"], "BurnedInAnnotation": "NO"}, "screen"),
            ({"Modality": "OT"}, "capture"),
            ({"Modality": "SC"}, "capture"),
            ({"SOPClassUID": SECONDARY_CAPTURE}, "capture"),
            ({"ImageType": ["DERIVED", "SECONDARY"], "ImagePositionPatient": None}, "capture"),
            ({"ImageType": ["DERIVED", "SECONDARY", "ADC"]}, None),
            ({"ImageType": ["ORIGINAL", "PRIMARY"]}, None),
        ],
    )
    def test_each_sign_for_its_reason(self, values, reason):
        assert burned_in(head(**values)) == reason

    def test_a_warning_is_a_note(self):
        (note,) = identity_notes([identity_of(head(BurnedInAnnotation="YES"))])
        assert note.startswith("1 files") and "BurnedInAnnotation" in note


NAME = "DOE^JANE"


class TestLeaks:
    @pytest.mark.parametrize(
        "content",
        [
            b"x DOE^JANE y", b"doe^jane", NAME.encode("utf-16"), NAME.lower().encode("utf-16-be"),
            json.dumps({"who": "DOE^JANE"}).encode(), gzip.compress(b"a,DOE^JANE,b\n"),
            b"<img src='data:image/png;base64," + base64.b64encode(bytes(range(256)) * 4 + b"doe^jane") + b"'>",
            b"<img src='data:text/plain;base64," + base64.b64encode(b"see doe^jane") + b"'>",
            bytes(range(256)) * 999 + b"DOE^JANE" + bytes(range(256)),
        ],
        ids=["plain", "small", "utf-16", "utf-16-be", "json", "gzip", "picture", "embedded text", "binary"],
    )  # fmt: skip
    def test_a_name_is_found_in_any_form(self, tmp_path, content):
        (tmp_path / "deep").mkdir()
        (tmp_path / "deep" / "file").write_bytes(content)
        (tmp_path / "clean.log").write_text("nothing here")
        (found,) = leaks(tmp_path, {NAME, "P-0009"})
        assert found == Leak(found.file, NAME) and str(found.file) == "deep/file"

    @pytest.mark.parametrize("text", ["Müller", "MÜLLER", "müller", "M\\u00fcller", "O&#x27;Brien", "O'BRIEN"])
    def test_letters_beyond_ascii_and_escaped_ones_are_found(self, tmp_path, text):
        (tmp_path / "a.json").write_text(f'{{"x": "{text}"}}')
        assert [leak.identifier for leak in leaks(tmp_path, {"Müller", "O'Brien"})] in (["Müller"], ["O'Brien"])

    def test_a_name_of_a_file_or_folder_is_searched(self, tmp_path):
        (tmp_path / "P-0001").mkdir()
        (tmp_path / "P-0001" / "t2w.nii").write_bytes(b"")
        (tmp_path / "case_7.txt").write_text("")
        found = leaks(tmp_path, {"P-0001", "7"})
        assert [(leak.identifier, leak.inside) for leak in found] == [("P-0001", False), ("7", False)]

    def test_the_original_name_in_a_packed_file_is_searched(self, tmp_path):
        with open(tmp_path / "x.gz", "wb") as raw, gzip.GzipFile("P-0001_t2w.nii", "wb", fileobj=raw) as file:
            file.write(b"voxels")
        assert [leak.identifier for leak in leaks(tmp_path, {"P-0001"})] == ["P-0001"]

    @pytest.mark.parametrize(
        ("identifier", "content"),
        [
            ("1", '{"label": 1, "n": 61.0}'),
            ("61", '{"age": 61}'),
            ("P1", "type AP12 of P10"),
            ("1234", "0.1234, 1234.5, 12345, 9f1234ab"),
            ("19610203", "0.19610203412"),
            ("dead", "c0ffeedead00"),
            ("a", "a cat sat on a mat"),
            ("North", '{"site": "north"}'),
            ("None", "None"),
            ("Anonymous", "anonymous"),
        ],
    )
    def test_what_chance_or_the_site_itself_writes_is_no_alarm(self, tmp_path, identifier, content):
        (tmp_path / "index.json").write_text(content)
        assert leaks(tmp_path, {identifier}, declared={"north"}) == []

    @pytest.mark.parametrize(
        ("identifier", "content"),
        [
            ("P1", "case P1."),
            ("1234", "id 1234."),
            ("1234", '"1234"'),
            ("Li", "of Li, "),
            ("19610203", "born 19610203,"),
            ("1234567", "MRN1234567"),
        ],
    )
    def test_a_short_one_or_a_number_is_found_where_it_stands_alone(self, tmp_path, identifier, content):
        (tmp_path / "index.json").write_text(content)
        assert [leak.identifier for leak in leaks(tmp_path, {identifier})] == [identifier]

    def test_voxels_are_searched_without_chance_hits_and_the_header_as_text(self, tmp_path):
        rng = np.random.default_rng(0)
        voxels = rng.integers(40, 60, (20, 64, 64)).astype(np.int16)
        image = sitk.GetImageFromArray(voxels)
        sitk.WriteImage(image, str(tmp_path / "clean.nii.gz"))
        identifiers = {"P-0001", "11112222", "Doe", "St Elsewhere", "0000000000", "19610203"}
        assert leaks(tmp_path, identifiers) == []
        described = bytearray(gzip.decompress((tmp_path / "clean.nii.gz").read_bytes()))
        described[148:154] = b"p-0001"  # `descrip` of a NIfTI-1 header
        (tmp_path / "header.nii.gz").write_bytes(gzip.compress(bytes(described)))
        assert [(leak.file.name, leak.identifier) for leak in leaks(tmp_path, identifiers)] == [
            ("header.nii.gz", "P-0001")
        ]
        (tmp_path / "header.nii.gz").unlink()
        voxels[9, 1, :12] = np.frombuffer("st elsewhere".encode("utf-16-le"), np.int16)
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / "inside.nii.gz"))
        assert [leak.identifier for leak in leaks(tmp_path, identifiers)] == ["St Elsewhere"]

    def test_an_even_grey_is_no_number_of_equal_digits(self, tmp_path):
        """The grey value 49 is the digit 1 in UTF-16."""
        sitk.WriteImage(sitk.GetImageFromArray(np.full((9, 9, 9), 49, np.int16)), str(tmp_path / "a.nii.gz"))
        assert leaks(tmp_path, {"11111111"}) == []

    def test_letters_of_an_embedded_picture_are_no_name(self, tmp_path):
        packed = base64.b64encode(base64.b64decode(b"Wxyz") + bytes(64))
        assert packed.startswith(b"Wxyz")
        (tmp_path / "page.html").write_bytes(b"<img src='data:image/png;base64," + packed + b"'>")
        assert leaks(tmp_path, {"Wxyz"}) == []

    def test_a_file_that_cannot_be_searched_is_not_free_of_leaks(self, tmp_path):
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(b"x" * 10_000)[:-20])
        with pytest.raises(FileUnreadable):
            leaks(tmp_path, {"P-0001"})

    def test_ten_thousand_identifiers_cost_seconds_not_minutes(self, tmp_path):
        rng = np.random.default_rng(0)
        identifiers = {f"1.2.840.113619.{n}.{n * 7919}" for n in range(10_000)} | {"P-0077"}
        rows = [",".join(map(repr, row)) for row in rng.normal(size=(100, 500)).tolist()]
        (tmp_path / "features.csv").write_text("\n".join(rows) + "\nP-0077")
        start = time.process_time()
        assert [leak.identifier for leak in leaks(tmp_path, identifiers)] == ["P-0077"]
        assert time.process_time() - start < 15


class TestStore:
    def test_nothing_of_the_headers_reaches_the_store(self, dicom_site, study, tmp_path):
        dicom_site.two_patients()
        seen = [read_identity(path) for path in dicom_site.root.rglob("*.dcm")]
        identifiers = {text for one in seen for text in one.identifiers}
        assert {"DOE^JANE", "St Elsewhere", "ACC-778899", "P-0001", "19610203"} <= identifiers
        ingest(dicom_site.config(), study, tmp_path / "home")
        assert leaks(tmp_path / "home" / "store", identifiers) == []
        assert {leak.identifier for leak in leaks(tmp_path / "home" / "ingest-local.csv", identifiers)} >= {"P-0001"}


@pytest.fixture(scope="module")
def folder(real_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prostate")
    with tarfile.open(real_data / "images" / "prostate_misc" / "autoradiomics_prostate_test_data.tar.xz") as tar:
        tar.extractall(folder, filter="data")
    return folder / "DICOM"


@pytest.mark.data
class TestRealFiles:
    def test_the_institution_left_in_a_slice_is_caught_at_the_door_and_not_in_the_store(
        self, folder, tmp_path, make_study, by_local
    ):
        (path,) = (folder / "DWI").iterdir()
        seen = read_identity(path)
        name = str(pydicom.dcmread(path, stop_before_pixels=True).InstitutionName)
        assert name in seen.identifiers and "InstitutionName" in seen.attributes
        (note,) = identity_notes([seen])
        assert "InstitutionName" in note and name not in note

        root, home = tmp_path / "hospital", tmp_path / "home"
        for case in ("A-0001", "A-0002"):
            (root / "images" / case).mkdir(parents=True)
        (root / "images" / "A-0001" / "t2").symlink_to(folder / "Prostate-MRI-US-Biopsy-001" / "T2")
        for source in sorted((folder / "Prostate-MRI-US-Biopsy-001" / "T2").iterdir()):
            one = pydicom.dcmread(source)
            one.InstitutionName = name  # a whole volume with that slice's institution
            one.save_as(root / "images" / "A-0001" / source.name)
        (root / "images" / "A-0001" / "t2").unlink()
        first = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(root / "images" / "A-0001")))
        mask = sitk.Image(first.GetSize(), sitk.sitkUInt8)
        mask.CopyInformation(first)
        mask[100:120, 100:120, 20:30] = 1
        sitk.WriteImage(mask, str(root / "A-0001.nii.gz"))
        (root / "clinical.csv").write_text("case,trg\nA-0001,good\nA-0002,poor\n")
        study = make_study(sequences=[{"name": "t2w"}], clinical=[])
        source = {"format": "dicom", "root": str(root), "clinical": {"file": "clinical.csv"}, "images": "images",
                  "mask": "{case}.nii.gz"}  # fmt: skip
        report = ingest(SiteConfig.model_validate({"site": "island", "source": source}), study, home)
        assert by_local(report)["A-0001"].status == "ready"
        assert any("InstitutionName" in note for note in report.notes)
        identifiers = {text for p in (root / "images").rglob("*.dcm") for text in read_identity(p).identifiers}
        assert name in identifiers
        assert leaks(home / "store", identifiers | {"A-0001", "A-0002"}) == []

    def test_no_real_image_raises_a_false_burned_in_warning(self, folder, real_data, tmp_path):
        """Among them ADC maps and a CT that are SECONDARY and hold no text; they were looked at."""
        for archive in (real_data / "images" / "cmb_crc").glob("*.tar.xz"):
            with tarfile.open(archive) as tar:
                tar.extractall(tmp_path, filter="data")
        paths = [p for base in (folder, tmp_path) for p in base.rglob("*") if p.is_file()]
        found = [read_identity(path) for path in paths]
        assert len(found) > 100
        assert {one.burned_in for one in found} == {None}
