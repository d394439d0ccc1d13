"""Real scanners' files: ProstateX, the dicom2nifti corpus, RTSTRUCT and SEG of TCIA."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from fedloupe_client.config import SiteConfig
from fedloupe_client.imaging import to_grid
from fedloupe_client.ingest import ingest, load_store
from fedloupe_client.ingest.dicom import contours, segments
from fedloupe_client.ingest.dicom.choose import Chosen, Reference
from fedloupe_client.ingest.dicom.series import read_headers, read_volume, series_grid
from fedloupe_client.ingest.problems import (
    GantryTilt,
    MixedOrientation,
    RepeatedPosition,
    TooFewSlices,
    UnevenSlices,
)

pytestmark = pytest.mark.data


def unpack(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder


def headers(folder: Path) -> list:
    return [item for path in sorted(folder.rglob("*")) if path.is_file() for item in read_headers(path)]


@pytest.fixture(scope="module")
def corpus(real_data, tmp_path_factory) -> Path:
    archive = real_data / "images" / "dicom_corpus" / "dicom2nifti_tests_subset.tar.xz"
    return unpack(archive, tmp_path_factory.mktemp("corpus")) / "data"


class TestCorpus:
    @pytest.mark.parametrize(
        ("name", "error"),
        [
            ("gantrytilting", GantryTilt),
            ("notavolume", RepeatedPosition),
            ("slicecount", TooFewSlices),
            ("sliceincrement", UnevenSlices),
            ("sliceorientation", MixedOrientation),
        ],
    )
    def test_what_is_no_volume_is_refused_for_its_own_reason(self, corpus, name, error):
        with pytest.raises(error):
            series_grid(headers(corpus / "failing" / name / "001"))

    @pytest.mark.parametrize(
        "name",
        ["ge/anatomical", "siemens/anatomical", "philips/anatomical", "philips_enhanced/anatomical",
         "hitachi/anatomical", "generic/compressed", "generic/compressed_jpeg", "generic/compressed_jpegls",
         "generic/compressed_j2k", "generic/compressed_rle"],
    )  # fmt: skip
    def test_vendors_and_encodings_agree_with_the_published_volume(self, corpus, name):
        folder = corpus / name
        image = read_volume(series_grid(headers(folder / "001")))
        truth = sitk.ReadImage(str(folder / "001_ground_truth.nii.gz"), sitk.sitkFloat32)
        there = sitk.Resample(truth, image, sitk.Transform(), sitk.sitkNearestNeighbor, -1.0)
        np.testing.assert_allclose(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(there), atol=1e-3)


class TestStructures:
    @pytest.mark.parametrize("modality", ["CT", "MR_T1"])
    def test_a_structure_set_fills_as_the_reference_mask(self, real_data, tmp_path, modality):
        source = real_data / "images" / "sts_rtstruct"
        for archive in source.rglob("*.tar.xz"):
            unpack(archive, tmp_path)
        folder = tmp_path / "STS_008" / modality
        grid = series_grid(headers(folder / "image"))
        path = folder / "mask" / "RS.dcm"
        structures = pydicom.dcmread(path)
        chosen = Chosen(grid.slices[0].series, grid.slices[0].frame_of_reference, grid)
        assert contours.refers_to(structures, chosen) is not Reference.NOT
        (number,) = contours.rois(structures, "(?i)gtv").values()
        mask = contours.draw(contours.contours(structures, number, path), grid, path).astype(bool)
        truth = next(p for p in source.rglob("*.nii.gz") if modality in str(p) and "mask" in p.name)
        expected = sitk.GetArrayFromImage(sitk.ReadImage(str(truth))) > 0
        dice = 2 * (mask & expected).sum() / (mask.sum() + expected.sum())
        assert dice >= 0.99

    def test_a_segmentation_lies_on_its_adc_series(self, real_data, tmp_path):
        archive = real_data / "images" / "prostate_misc" / "autoradiomics_prostate_test_data.tar.xz"
        folder = unpack(archive, tmp_path) / "DICOM" / "QIN-PROSTATE-001"
        grid = series_grid(headers(folder / "ADC"))
        path = folder / "seg" / "1-1.dcm"
        dataset = pydicom.dcmread(path)
        chosen = Chosen(grid.slices[0].series, grid.slices[0].frame_of_reference, grid)
        assert segments.refers_to(dataset, chosen) is Reference.SERIES
        for number in segments.segments(dataset, "").values():
            mask = segments.place(dataset, number, grid, path)
            frames = dataset.pixel_array[
                [
                    int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber) == number
                    for group in dataset.PerFrameFunctionalGroupsSequence
                ]
            ]
            assert mask.sum() == frames.sum() > 0


class TestProstateX:
    def test_two_patients_become_cases_on_one_grid(self, real_data, tmp_path, make_study, by_local):
        images = real_data / "images" / "prostatex"
        root, home = tmp_path / "hospital", tmp_path / "home"
        gland = images / "picai_labels" / "whole_gland_Bosma22b"
        for case, label in (("ProstateX-0000", "11373_1001396"), ("ProstateX-0001", "10795_1000811")):
            unpack(images / f"{case}_mpMRI.tar.xz", root / "images")
            shutil.copy(gland / f"{label}.nii.gz", root / f"{case}.nii.gz")
        (root / "clinical.csv").write_text("case,trg\nProstateX-0000,good\nProstateX-0001,poor\n")
        study = make_study(
            sequences=[{"name": "t2w"}, {"name": "adc", "intensity": "physical"}],
            clinical=[],
            imaging={"spacing_mm": 1.0, "crop_mm": 64},
        )
        source = {
            "format": "dicom",
            "root": str(root),
            "clinical": {"file": "clinical.csv"},
            "images": "images",
            "mask": "{case}.nii.gz",
        }
        records = by_local(ingest(SiteConfig.model_validate({"site": "north", "source": source}), study, home))
        assert [records[c].sequences for c in sorted(records)] == [("t2w", "adc")] * 2
        tags = "series fit by image type, scanning sequence, echo time, b-values, time points"
        unit = "`adc`: ADC unit by magnitude: 1e-6 mm2/s"
        assert records["ProstateX-0000"].notes == (f"`t2w`: 3 {tags}; 1 of them transverse", unit)
        repeat = "`t2w` was acquired 2 times on one grid: the latest acquisition was taken"
        among = f"3 {tags}; 2 of them transverse"
        assert records["ProstateX-0001"].notes == (f"{repeat}; {among}", unit)
        store = load_store(home)
        for record in store.ready:
            assert store.volume(record.case, "t2w").GetSize() == (384, 384, 19)
            assert store.volume(record.case, "adc").GetSize() == (84, 128, 19)
            grid = to_grid(store, record, study)
            native = store.mask(record.case)
            volume = sitk.GetArrayFromImage(native).sum() * np.prod(native.GetSpacing())
            assert grid.mask.sum() == pytest.approx(volume, rel=0.02)
            for image in grid.images.values():
                assert image.shape == grid.mask.shape
            # restricted diffusion of prostate tissue, 1e-6 mm2/s: literature 1000 to 1800
            assert 1000 < np.median(grid.images["adc"][grid.mask]) < 1800

    def test_a_case_without_a_lesion_has_an_empty_mask(self, real_data):
        from fedloupe_client.ingest.formats.volumes import check_mask, read_nifti
        from fedloupe_client.ingest.problems import MaskEmpty

        folder = real_data / "images" / "prostatex" / "picai_labels" / "csPCa_lesion_delineations_resampled"
        mask = read_nifti(folder / "10795_1000811.nii.gz")
        with pytest.raises(MaskEmpty):
            check_mask(mask, mask, "10795")
