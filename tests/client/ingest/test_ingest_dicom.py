"""DICOM to the case store: series choice, geometry, structure sets, segmentations, and no identifier left."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from fedloupe_client.ingest import ingest, load_store
from fedloupe_client.ingest.files import telling_apart
from fedloupe_client.ingest.problems import ConfigMismatch, FileMissing

IDENTIFIERS = ("DOE", "JANE", "19610203", "Elsewhere", "ACC-778899", "P-0001", "P-0002", "Dr Who")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def spoiled(site, study, home, by_local, **config):
    """The record of P-0001, after P-0002 was seen to be ready; a validating site needs no second class."""
    records = by_local(ingest(site.config(**config).model_copy(update={"site": "island"}), study, home))
    assert records["P-0002"].status == "ready"
    return records["P-0001"]


class TestVolumes:
    def test_slices_are_sorted_by_position_and_rescaled(self, dicom_site, study, home, by_local):
        dicom_site.two_patients()
        adc = dicom_site.series("P-0001", "adc", slope=2.5)
        records = by_local(ingest(dicom_site.config(), study, home))
        store, record = load_store(home), records["P-0001"]
        assert record.sequences == ("t2w", "adc")
        image = store.volume(record.case, "adc")
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), adc * 2.5)
        assert image.GetOrigin() == (-5.0, 7.0, 11.0)
        assert image.GetSpacing() == (1.0, 1.0, 3.0)

    def test_a_square_contour_fills_the_sixteen_centres_inside_it(self, dicom_site, study, home, by_local):
        dicom_site.two_patients()
        records = by_local(ingest(dicom_site.config(), study, home))
        mask = sitk.GetArrayFromImage(load_store(home).mask(records["P-0001"].case))
        expected = np.zeros((6, 12, 14), np.uint8)
        expected[2:4, 4:8, 5:9] = 1
        np.testing.assert_array_equal(mask, expected)

    def test_a_segmentation_gives_the_frames_of_its_segment(self, dicom_site, study, home, by_local):
        dicom_site.two_patients()
        (dicom_site.root / "images" / "P-0001" / "rs-t2w.dcm").unlink()
        dicom_site.segmentation(labels=("Rectum", "Tumour"))
        records = by_local(ingest(dicom_site.config(), study, home))
        mask = sitk.GetArrayFromImage(load_store(home).mask(records["P-0001"].case))
        expected = np.zeros((6, 12, 14), np.uint8)
        expected[3:5, 4:8, 5:9] = 1
        np.testing.assert_array_equal(mask, expected)

    def test_files_copied_twice_count_once(self, dicom_site, study, home, by_local):
        dicom_site.two_patients()
        for path in sorted((dicom_site.root / "images" / "P-0001" / "t2w").iterdir()):
            (path.parent / f"copy-{path.name}").write_bytes(path.read_bytes())
        assert spoiled(dicom_site, study, home, by_local).status == "ready"

    def test_no_identifier_of_any_header_is_in_the_store(self, dicom_site, study, home):
        dicom_site.two_patients()
        dicom_site.segmentation("P-0002")
        (dicom_site.root / "images" / "P-0002" / "rs-t2w.dcm").unlink()
        ingest(dicom_site.config(), study, home)
        files = [path for path in (home / "store").rglob("*") if path.is_file()]
        assert len(files) == 5
        for path in files:
            blob = path.read_bytes()
            content = gzip.decompress(blob) if path.suffix == ".gz" else blob
            # gzip's own header can carry a file name and a time
            assert path.suffix != ".gz" or blob[3:8] == bytes(5)
            for text in IDENTIFIERS:
                assert text.encode() not in content, (path.name, text)
                assert text not in str(path.relative_to(home))


class TestRefusedSeries:
    def test_fewer_than_three_slices(self, dicom_site, study, home, by_local):
        dicom_site.table("P-0001,good,61,T2", "P-0002,poor,55,T3")
        dicom_site.series("P-0002")
        dicom_site.structures("P-0002")
        dicom_site.series(positions=[(0, 0, 0), (0, 0, 3)])
        assert spoiled(dicom_site, study, home, by_local).code == "FL-221"

    @pytest.mark.parametrize(
        ("positions", "code"),
        [
            ([(0, 0, 0), (0, 0, 3), (0, 0, 9), (0, 0, 12)], "FL-222"),
            ([(0, 0, 0), (0, 0, 3), (0, 0, 3), (0, 0, 6)], "FL-224"),
            ([(0, 0.8 * k, 3.0 * k) for k in range(4)], "FL-225"),
        ],
    )
    def test_a_missing_slice_a_repeated_one_and_a_tilt_differ(self, dicom_site, study, home, by_local, positions, code):
        dicom_site.table("P-0001,good,61,T2", "P-0002,poor,55,T3")
        dicom_site.series("P-0002")
        dicom_site.structures("P-0002")
        dicom_site.series(positions=positions)
        assert spoiled(dicom_site, study, home, by_local).code == code

    def test_mixed_orientations(self, dicom_site, study, home, by_local):
        dicom_site.table("P-0001,good,61,T2", "P-0002,poor,55,T3")
        dicom_site.series("P-0002")
        dicom_site.structures("P-0002")
        upright = [1, 0, 0, 0, 0, -1]
        dicom_site.series(
            positions=[(0, 0, 3.0 * k) for k in range(4)], orientations=[[1, 0, 0, 0, 1, 0]] * 3 + [upright]
        )
        assert spoiled(dicom_site, study, home, by_local).code == "FL-223"

    def test_slices_without_a_position(self, dicom_site, study, home, by_local):
        dicom_site.two_patients()
        import pydicom

        for path in (dicom_site.root / "images" / "P-0001" / "t2w").iterdir():
            one = pydicom.dcmread(path)
            del one.ImagePositionPatient
            one.save_as(path)
        assert spoiled(dicom_site, study, home, by_local).code == "FL-220"

    def test_pixels_that_are_cut_off(self, dicom_site, study, home, by_local):
        dicom_site.two_patients()
        path = dicom_site.root / "images" / "P-0001" / "t2w" / "003.dcm"
        path.write_bytes(path.read_bytes()[:-100])
        assert spoiled(dicom_site, study, home, by_local).code == "FL-204"

    def test_a_file_named_dicom_that_is_not(self, dicom_site, study, home, by_local):
        dicom_site.two_patients()
        (dicom_site.root / "images" / "P-0001" / "t2w" / "003.dcm").write_bytes(b"")
        assert spoiled(dicom_site, study, home, by_local).code == "FL-204"

    def test_a_file_that_may_not_be_read(self, dicom_site, study, home, by_local, refuse_reading):
        dicom_site.two_patients()
        refuse_reading(dicom_site.root / "images" / "P-0001" / "t2w" / "003.dcm")
        record = spoiled(dicom_site, study, home, by_local)
        assert record.code == "FL-203"
        assert "do not delete" in record.remedy


class TestChoice:
    def test_the_site_s_expression_goes_before_names_and_tags(self, dicom_site, study, home, by_local):
        dicom_site.two_patients()
        chosen = dicom_site.series("P-0001", "spare", description="T2 TSE oblique")
        dicom_site.structures("P-0001", refers_to="spare", names=("GTV",))
        (dicom_site.root / "images" / "P-0001" / "rs-t2w.dcm").unlink()
        record = spoiled(dicom_site, study, home, by_local, series={"t2w": "(?i)t2( tse oblique|w)"})
        assert record.code == "FL-217"  # both fit, on one grid, taken at one time
        record = spoiled(dicom_site, study, home, by_local, series={"t2w": "(?i)oblique|^t2w$"})
        assert record.code == "FL-217"
        folder = dicom_site.root / "images" / "P-0001" / "t2w"
        for path in folder.iterdir():
            path.unlink()
        record = spoiled(dicom_site, study, home, by_local, series={"t2w": "(?i)oblique|^t2w$"})
        assert record.status == "ready"
        np.testing.assert_array_equal(sitk.GetArrayFromImage(load_store(home).volume(record.case, "t2w")), chosen)

    def test_a_repeat_on_one_grid_is_settled_by_time_and_noted(self, dicom_site, study, home, by_local):
        dicom_site.two_patients()
        later = dicom_site.series("P-0001", "t2w-again", description="T2W", time="104500")
        record = spoiled(dicom_site, study, home, by_local)
        assert record.status == "ready"
        assert "acquired 2 times" in record.notes[0]
        np.testing.assert_array_equal(sitk.GetArrayFromImage(load_store(home).volume(record.case, "t2w")), later)

    def test_two_series_on_two_grids_are_ambiguous(self, dicom_site, study, home, by_local):
        dicom_site.two_patients()
        dicom_site.series(
            "P-0001", "other", description="t2w", time="104500", positions=[(0, 0, 4.0 * k) for k in range(6)]
        )
        record = spoiled(dicom_site, study, home, by_local)
        assert (record.code, record.status) == ("FL-217", "broken")

    def test_tags_find_t2_and_adc_behind_foreign_names(self, dicom_site, study, home, by_local):
        dicom_site.table("P-0001,good,61,T2", "P-0002,poor,55,T3")
        for patient in ("P-0001", "P-0002"):
            dicom_site.series(patient, "a", description="ax 1", ScanningSequence="SE", EchoTime=95.0)
            dicom_site.series(
                patient, "b", description="ax 2", ImageType=["DERIVED", "PRIMARY", "ADC"], EchoTime=70.0, slope=4.0
            )
            dicom_site.series(patient, "c", description="ax 3", ScanningSequence="GR", EchoTime=2.0)
            dicom_site.structures(patient, refers_to="a")
        assert spoiled(dicom_site, study, home, by_local).sequences == ("t2w", "adc")

    def test_a_case_without_the_required_sequence_is_excluded(self, dicom_site, study, home, by_local):
        dicom_site.two_patients()
        for path in (dicom_site.root / "images" / "P-0001" / "t2w").iterdir():
            path.unlink()
        record = spoiled(dicom_site, study, home, by_local)
        assert (record.code, record.status) == ("FL-216", "excluded")

    def test_a_folder_names_the_case_before_the_patient_id_does(self, dicom_site, study, home, by_local):
        dicom_site.two_patients()
        dicom_site.table("first,good,61,T2", "P-0002,poor,55,T3")
        (dicom_site.root / "images" / "P-0001").rename(dicom_site.root / "images" / "first")
        assert by_local(ingest(dicom_site.config(), study, home))["first"].status == "ready"


class TestMasks:
    @pytest.fixture(autouse=True)
    def _two(self, dicom_site):
        dicom_site.two_patients()
        self.drawn = dicom_site.root / "images" / "P-0001" / "rs-t2w.dcm"
        self.drawn.unlink()

    def test_no_drawing_at_all(self, dicom_site, study, home, by_local):
        assert spoiled(dicom_site, study, home, by_local).code == "FL-230"

    def test_no_name_that_fits(self, dicom_site, study, home, by_local):
        dicom_site.structures(names=("Bladder",))
        assert spoiled(dicom_site, study, home, by_local).code == "FL-230"

    def test_two_names_that_fit(self, dicom_site, study, home, by_local):
        dicom_site.structures(names=("GTV_mass", "GTV_edema"))
        record = spoiled(dicom_site, study, home, by_local)
        assert record.code == "FL-233"
        assert "GTV_edema" not in record.reason

    def test_the_expression_can_decide_between_them(self, dicom_site, study, home, by_local):
        dicom_site.structures(names=("GTV_mass", "GTV_edema"))
        assert spoiled(dicom_site, study, home, by_local, roi="(?i)mass|tumour").status == "ready"

    def test_a_structure_without_contours_is_empty(self, dicom_site, study, home, by_local):
        dicom_site.structures(contours=[])
        assert spoiled(dicom_site, study, home, by_local).code == "FL-231"

    def test_contours_between_slices_are_elsewhere(self, dicom_site, study, home, by_local):
        dicom_site.structures(contours=[[(0, 8, 12.5), (4, 8, 12.5), (4, 12, 12.5)]])
        assert spoiled(dicom_site, study, home, by_local).code == "FL-232"

    def test_a_structure_set_of_another_series_and_frame_is_elsewhere(self, dicom_site, study, home, by_local):
        dicom_site.structures(refers_to="ct", frame="another frame")
        assert spoiled(dicom_site, study, home, by_local).code == "FL-232"

    def test_a_segmentation_half_a_voxel_off_is_elsewhere(self, dicom_site, study, home, by_local):
        dicom_site.segmentation(offset=0.5)
        assert spoiled(dicom_site, study, home, by_local).code == "FL-232"

    def test_a_fractional_segmentation_is_not_a_mask(self, dicom_site, study, home, by_local):
        dicom_site.segmentation(kind="FRACTIONAL")
        assert spoiled(dicom_site, study, home, by_local).code == "FL-234"


class TestPatients:
    def test_two_patients_in_one_folder(self, dicom_site, study, home, by_local):
        dicom_site.two_patients()
        dicom_site.series("P-0001", "adc", header="SOMEBODY-ELSE")
        assert spoiled(dicom_site, study, home, by_local).code == "FL-227"

    def test_a_file_of_another_case_s_patient_harms_the_folder_that_holds_it_alone(
        self, dicom_site, study, home, by_local
    ):
        dicom_site.two_patients()
        dicom_site.series("P-0001", "adc", header="P-0002")
        assert spoiled(dicom_site, study, home, by_local).code == "FL-227"

    def test_two_folders_of_one_patient(self, dicom_site, study, home, by_local):
        dicom_site.two_patients()
        dicom_site.table("A,good,61,T2", "B,poor,55,T3", "P-0002,good,1,T2")
        for folder in ("A", "B"):
            dicom_site.series(folder, header="SAME")
        records = by_local(ingest(dicom_site.config().model_copy(update={"site": "island"}), study, home))
        assert [records[local].code for local in ("A", "B", "P-0002")] == ["FL-212", "FL-212", None]

    def test_series_of_strangers_are_counted_not_named(self, dicom_site, study, home):
        dicom_site.two_patients()
        dicom_site.series("NOT-IN-THE-TABLE")
        report = ingest(dicom_site.config(), study, home)
        assert "1 series belong to no case of the clinical table" in report.notes
        assert "NOT-IN-THE-TABLE" not in repr(report.notes)


class TestConfiguration:
    def test_a_broken_regular_expression_is_said_before_anything_is_read(self, dicom_site, study, home):
        dicom_site.two_patients()
        with pytest.raises(ConfigMismatch, match="`t2w` is no regular expression"):
            ingest(dicom_site.config(series={"t2w": "t2("}), study, home)
        assert not home.exists()

    def test_an_absent_image_folder(self, dicom_site, study, home):
        dicom_site.two_patients()
        with pytest.raises(FileMissing):
            ingest(dicom_site.config(images="nowhere"), study, home)
        assert not home.exists()

    def test_a_pipe_among_the_images_is_passed_over(self, dicom_site, study, home, by_local):
        dicom_site.two_patients()
        os.mkfifo(dicom_site.root / "images" / "P-0001" / "pipe.dcm")
        records = by_local(ingest(dicom_site.config(), study, home))
        assert records["P-0001"].status == "ready"

    def test_a_case_whose_name_no_file_can_have_lacks_its_files(self, tmp_path):
        with pytest.raises(FileMissing, match="too long"), telling_apart(tmp_path), open(tmp_path / ("P" * 302)):
            pass
