"""The synthetic cohort as files: each hospital's format, synthetic in every one, the same bytes each time."""

from __future__ import annotations

import csv
import gzip
import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from skimage.draw import polygon2mask

from fedloupe_client.config import load_site
from fedloupe_client.ingest import ingest, load_store
from fedloupe_server.simulation.cohort import CohortSpec, draw_patient, simulate_case, write_patient, write_site_tables
from fedloupe_server.simulation.cohort.dicom_roi import DECOY_NAME, ROI_NAME
from fedloupe_server.simulation.cohort.nifti import write_nifti

SPEC = CohortSpec(seed=9)
CONFIGS = Path(__file__).parents[4] / "configs"


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """One patient of each site, with the tables."""
    root = tmp_path_factory.mktemp("cohort")
    for site in SPEC.sites:
        write_patient(root, SPEC, site, 0)
        write_site_tables(root, SPEC, site)
    return root


class TestSameBytes:
    def test_writing_again_gives_the_same_bytes_in_every_format(self, written, tmp_path):
        for site in SPEC.sites:
            write_patient(tmp_path, SPEC, site, 0)
            write_site_tables(tmp_path, SPEC, site)
        assert digests(tmp_path) == digests(written)

    def test_another_seed_gives_other_images_and_other_uids(self, written, tmp_path):
        other = replace(SPEC, seed=10)
        for name in ("north", "lakeside"):
            write_patient(tmp_path, other, other.site(name), 0)
        first = digests(written)
        assert all(first[path] != digest for path, digest in digests(tmp_path).items())


class TestDicomSite:
    @pytest.mark.parametrize(("site", "case"), [("north", "NOR-0001"), ("harbour", "HAR-0001")])
    def test_series_read_back_to_the_generated_volumes(self, written, site, case):
        truth = simulate_case(SPEC, SPEC.site(site), 0).volumes["t2w"]
        reader = sitk.ImageSeriesReader()
        folder = written / site / "data" / "dicom" / case / "1_t2w"
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        image = reader.Execute()
        assert np.array_equal(sitk.GetArrayFromImage(image), truth.array)
        assert np.allclose(image.GetSpacing(), truth.spacing[::-1])
        assert np.allclose(image.GetOrigin(), truth.origin[::-1], atol=1e-4)

    def test_headers_identify_an_invented_patient(self, written):
        case = written / "north" / "data" / "dicom" / "NOR-0001"
        for path in case.rglob("*.dcm"):
            header = pydicom.dcmread(path, stop_before_pixels=True)
            assert header.PatientID == "NOR-0001"
            assert header.PatientName == "SYNTHETIC^NORTH 0001"
            assert "SYNTHETIC" in header.SeriesDescription
            assert "SYNTHETIC" in header.ImageComments
        assert header.PatientBirthDate
        assert header.InstitutionName

    def test_no_two_objects_share_a_uid(self, written):
        paths = [p for site in ("north", "harbour") for p in (written / site / "data" / "dicom").rglob("*.dcm")]
        uids = [pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in paths]
        assert len(set(uids)) == len(uids) > 200

    def test_contours_rasterise_to_the_mask_exactly(self, written):
        case = simulate_case(SPEC, SPEC.site("north"), 0)
        grid = case.volumes["t2w"]
        struct = pydicom.dcmread(written / "north" / "data" / "dicom" / "NOR-0001" / "roi.dcm")
        assert [roi.ROIName for roi in struct.StructureSetROISequence] == [ROI_NAME, DECOY_NAME]
        found = np.zeros_like(case.mask)
        for contour in struct.ROIContourSequence[0].ContourSequence:
            points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
            indices = (points[:, ::-1] - grid.origin) / grid.spacing
            plane = round(indices[0, 0])
            assert np.allclose(indices[:, 0], plane, atol=1e-3)
            found[plane] ^= polygon2mask(case.mask.shape[1:], indices[:, 1:])
        assert np.array_equal(found, case.mask)

    def test_segmentation_holds_the_mask_on_the_series_slices(self, written):
        case = simulate_case(SPEC, SPEC.site("harbour"), 0)
        folder = written / "harbour" / "data" / "dicom" / "HAR-0001"
        seg = hd.seg.segread(folder / "roi.dcm")
        slices = [pydicom.dcmread(p, stop_before_pixels=True) for p in sorted((folder / "1_t2w").glob("*.dcm"))]
        pixels = seg.get_pixels_by_source_instance(
            [s.SOPInstanceUID for s in slices], segment_numbers=[1], assert_missing_frames_are_empty=True
        )
        assert np.array_equal(pixels[..., 0].astype(bool), case.mask)
        assert seg.SegmentSequence[0].SegmentLabel == ROI_NAME


class TestNiftiSite:
    def test_volumes_and_mask_read_back_in_the_dicom_frame(self, written):
        case = simulate_case(SPEC, SPEC.site("lakeside"), 0)
        folder = written / "lakeside" / "data" / "images" / "LAK-0001"
        image, mask = sitk.ReadImage(str(folder / "t2w.nii.gz")), sitk.ReadImage(str(folder / "tumour.nii.gz"))
        truth = case.volumes["t2w"]
        assert np.array_equal(sitk.GetArrayFromImage(image), truth.array)
        assert np.array_equal(sitk.GetArrayFromImage(mask).astype(bool), case.mask)
        assert np.allclose(image.GetOrigin(), truth.origin[::-1], atol=1e-4)
        assert np.allclose(image.GetDirection(), np.eye(3).ravel(), atol=1e-6)
        assert image.GetMetaData("descrip").startswith("SYNTHETIC")

    def test_qform_and_sform_agree(self, tmp_path):
        path = tmp_path / "a.nii.gz"
        write_nifti(path, np.zeros((2, 3, 4), np.int16), (3.0, 2.0, 1.5), (-10.0, 5.0, 7.0), "SYNTHETIC")
        header = gzip.decompress(path.read_bytes())[:352]
        quaternion = np.frombuffer(header, "<f4", 6, 256)
        sform = np.frombuffer(header, "<f4", 12, 280).reshape(3, 4)
        assert np.allclose(quaternion[:3], (0, 0, 1))
        assert np.allclose(sform, [[-1.5, 0, 0, -7], [0, -2, 0, -5], [0, 0, 3, -10]])
        assert np.allclose(quaternion[3:], sform[:, 3])

    def test_the_missing_sequence_is_absent_and_the_ct_present(self, written):
        assert not list(written.glob("hillcrest/data/images/*/dce_late.nii.gz"))
        assert list(written.glob("riverside/data/images/*/ct.nii.gz"))


class TestTables:
    def test_site_yaml_is_a_valid_site_configuration(self, written):
        for site in SPEC.sites:
            config = load_site(written / site.name)
            assert config.site == site.name
            assert config.source.root == (written / site.name / "data").resolve()

    def test_each_clinical_row_says_synthetic_and_gives_the_true_probability(self, written):
        with (written / "island" / "data" / "clinical.csv").open() as file:
            rows = list(csv.DictReader(file))
        site = SPEC.site("island")
        assert len(rows) == site.patients
        for index, row in enumerate(rows):
            patient = draw_patient(SPEC, site, index)
            assert row["case"] == patient.case
            assert row["synthetic"] == "yes"
            assert float(row["true_probability"]) == pytest.approx(patient.probability, abs=1e-6)
            assert row["response"] == patient.response
        assert "" in {row["emvi"] for row in rows}

    def test_latents_are_not_in_a_sites_folder(self, written):
        columns = (written / "island" / "data" / "clinical.csv").read_text().splitlines()[0].split(",")
        assert not {"texture", "shape", "washout", "habitat", "polarity"} & set(columns)


class TestIngest:
    """The hospital client takes each format as it is."""

    @pytest.mark.parametrize("name", ["north", "harbour", "hillcrest"])
    def test_every_case_is_ready_and_its_mask_is_the_raters(self, tmp_path, name):
        from fedloupe.study import load_study

        full = SPEC.site(name)
        labels = [draw_patient(SPEC, full, index).responds for index in range(full.patients)]
        number = max(labels.index(True), labels.index(False)) + 1  # both classes, few patients
        site = replace(full, patients=number)
        write_site_tables(tmp_path, SPEC, site)
        for index in range(number):
            write_patient(tmp_path, SPEC, site, index)
        home = tmp_path / name
        report = ingest(load_site(home), load_study(CONFIGS / "demo.yaml"), home)
        assert report.statuses == {"ready": number, "excluded": 0, "broken": 0}
        assert all(record.sequences == site.sequences for record in report.records)
        store = load_store(home)
        volumes = {int(sitk.GetArrayFromImage(store.mask(r.case)).astype(bool).sum()) for r in store.ready}
        assert volumes == {int(simulate_case(SPEC, site, index).mask.sum()) for index in range(number)}
        shutil.rmtree(home)
