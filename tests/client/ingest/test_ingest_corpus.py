"""The table in docs/ingest.md, row by row: every real series is the volume it should be, or refused for its reason."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from fedloupe.study import Sequence
from fedloupe_client.ingest.cases import from_dicom
from fedloupe_client.ingest.dicom import contours, segments
from fedloupe_client.ingest.dicom.choose import by_series, choose
from fedloupe_client.ingest.dicom.rules import load_rules
from fedloupe_client.ingest.dicom.series import read_headers, read_volume, series_grid
from fedloupe_client.ingest.dicom.stacks import split
from fedloupe_client.ingest.dicom.taking import take_all
from fedloupe_client.ingest.formats.volumes import check_mask, read_image
from fedloupe_client.ingest.problems import (
    DataProblem,
    GantryTilt,
    MaskEmpty,
    MixedOrientation,
    RepeatedPosition,
    TooFewSlices,
    UnevenSlices,
)

pytestmark = pytest.mark.data

DOCS = Path(__file__).parents[3] / "docs" / "ingest.md"
GENERIC = ("compressed", "compressed_j2k", "compressed_jpeg", "compressed_jpegls", "compressed_rle")
WHOLE = ("ge/anatomical", "siemens/anatomical", "philips/anatomical", "philips_enhanced/anatomical",
         "hitachi/anatomical", *(f"generic/{name}" for name in GENERIC))  # fmt: skip
REFUSED: dict[str, type[DataProblem]] = {
    "gantrytilting": GantryTilt,
    "notavolume": RepeatedPosition,
    "slicecount": TooFewSlices,
    "sliceincrement": UnevenSlices,
    "sliceorientation": MixedOrientation,
}


def headers(folder: Path) -> list:
    return [item for path in sorted(folder.rglob("*")) if path.is_file() for item in read_headers(path)]


def row(name: str) -> str:
    """The row of the table for a series."""
    found = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {name} |")]
    assert len(found) == 1, name
    return found[0]


@pytest.fixture(scope="module")
def unpacked(real_data, tmp_path_factory):
    """Folder of an archive of the real images, unpacked once."""
    done: dict[str, Path] = {}

    def unpack(archive: str) -> Path:
        if archive not in done:
            done[archive] = tmp_path_factory.mktemp("real")
            with tarfile.open(real_data / "images" / f"{archive}.tar.xz") as tar:
                tar.extractall(done[archive], filter="data")
        return done[archive]

    return unpack


def affine(image: sitk.Image) -> np.ndarray:
    """Voxel index (x, y, z) to mm (LPS), 4 x 4; of a volume with a single time point, that of the volume."""
    n = image.GetDimension()
    made = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(n, n)[:3, :3]
    made[:3, :3] = direction * np.array(image.GetSpacing()[:3])
    made[:3, 3] = image.GetOrigin()[:3]
    return made


def chosen(folder: Path, name: str, modality: str = "MR"):
    series = by_series([s for s in headers(folder) if s.modality in ("MR", "CT")])
    return choose(Sequence(name=name, modality=modality), series, load_rules(None))


class TestCorpus:
    @pytest.fixture
    def corpus(self, unpacked) -> Path:
        return unpacked("dicom_corpus/dicom2nifti_tests_subset") / "data"

    @pytest.mark.parametrize("name", WHOLE)
    def test_every_voxel_is_the_published_one_at_its_place_in_the_patient(self, corpus, name):
        folder = corpus / name
        stacks = split(headers(folder / "001"))
        assert len(stacks) == 1
        ours = read_volume(stacks[0].grid)
        truth = sitk.ReadImage(str(folder / "001_ground_truth.nii.gz"))
        values, published = sitk.GetArrayFromImage(ours), np.squeeze(sitk.GetArrayFromImage(truth))
        index = np.stack(np.meshgrid(*map(np.arange, ours.GetSize()), [1], indexing="ij")).reshape(4, -1)
        there = (np.linalg.inv(affine(truth)) @ affine(ours) @ index)[:3]
        nearest = np.rint(there).astype(int)
        assert np.abs(there - nearest).max() < 2e-3  # voxels: the same grid, axes in another order or turned
        assert values.size == published.size == len({tuple(voxel) for voxel in nearest.T})
        np.testing.assert_allclose(
            values[index[2], index[1], index[0]], published[nearest[2], nearest[1], nearest[0]], rtol=1e-6
        )
        assert "equal" in row(name)

    @pytest.mark.parametrize("name", REFUSED)
    def test_what_is_no_volume_is_refused_for_its_own_reason(self, corpus, name):
        with pytest.raises(REFUSED[name]) as caught:
            split(headers(corpus / "failing" / name / "001"))
        assert f"refused, {caught.value.code}" in row(f"failing/{name}")

    def test_hyperfine_has_no_published_volume_but_its_frames_are_pydicom_s(self, corpus):
        grid = split(headers(corpus / "hyperfine/anatomical/001"))[0].grid
        frames = pydicom.dcmread(grid.slices[0].path).pixel_array
        np.testing.assert_array_equal(sitk.GetArrayFromImage(read_volume(grid)), frames)
        assert grid.spacing == (1.59, 1.61, 5.0)
        assert "frames equal" in row("hyperfine/anatomical")


class TestPelvis:
    @pytest.mark.parametrize(("case", "t2w", "adc", "dwi"), [("0000", 4, 7, 6), ("0001", 10, 8, 7)])
    def test_prostatex(self, unpacked, case, t2w, adc, dwi):
        folder = unpacked(f"prostatex/ProstateX-{case}_mpMRI")
        found = {name: chosen(folder, name) for name in ("t2w", "adc", "dwi")}
        assert [one.grid.slices[0].number for one in found.values()] == [t2w, adc, dwi]
        assert [stack.b_value for stack in found["dwi"].stacks] == [50, 400, 800]  # in a private tag alone
        assert chosen(folder, "t1w") is None  # the proton-density reference is none
        assert f"series {t2w}" in row(f"ProstateX-{case} t2w")

    def test_an_adc_computed_from_prostatex_is_the_scanner_s(self, unpacked):
        folder = unpacked("prostatex/ProstateX-0000_mpMRI")
        series = by_series(headers(folder))
        without = {uid: s for uid, s in series.items() if s[0].number not in (7,)}
        computed = choose(Sequence(name="adc"), without, load_rules(None))
        volumes, notes = take_all({"given": chosen(folder, "adc"), "computed": computed})
        ours, scanner = (sitk.GetArrayFromImage(volumes[name]) for name in ("computed", "given"))
        inside = (ours > 300) & (scanner > 300) & (scanner < 3000)
        assert inside.sum() > 10_000
        assert np.corrcoef(ours[inside], scanner[inside])[0, 1] > 0.95
        assert np.median(ours[inside] / scanner[inside]) == pytest.approx(1, abs=0.05)
        assert any("b-values 50, 400, 800" in note for note in notes)

    def test_a_colorectal_patient_whose_adc_has_no_description(self, unpacked):
        folder = unpacked("cmb_crc/visit1_SCAN_002_19591209")
        volumes, notes = take_all({name: chosen(folder, name) for name in ("t2w", "adc")})
        assert [v.GetSize() for v in volumes.values()] == [(536, 512, 37), (256, 288, 45)]
        assert notes == ("`adc`: ADC unit by magnitude: 1e-6 mm2/s",)
        assert "series 602" in row("CMB-CRC adc")

    def test_a_ge_adc_found_by_its_description_with_its_segmentation(self, unpacked):
        folder = unpacked("prostate_misc/autoradiomics_prostate_test_data") / "DICOM" / "QIN-PROSTATE-001"
        one = chosen(folder, "adc")
        volumes, notes = take_all({"adc": one})
        path = folder / "seg" / "1-1.dcm"
        dataset = pydicom.dcmread(path)
        values = sitk.GetArrayFromImage(volumes["adc"])
        medians = {}
        for label, number in segments.segments(dataset, "Lesion|Normal").items():
            medians[label] = float(np.median(values[segments.place(dataset, number, one.grid, path) > 0]))
        assert medians["Lesion"] == 569 and medians["Normal"] == 1209  # 1e-6 mm2/s, restricted and free
        assert "found by its description" in notes[0]
        assert "569" in row("QIN-PROSTATE-001 lesion (SEG)")

    def test_a_3d_t2_and_a_lone_slice(self, unpacked):
        folder = unpacked("prostate_misc/autoradiomics_prostate_test_data") / "DICOM"
        t2w = chosen(folder / "Prostate-MRI-US-Biopsy-001", "t2w")
        assert read_volume(t2w.grid).GetSize() == (256, 256, 60)
        with pytest.raises(TooFewSlices):
            split(headers(folder / "DWI"))
        assert "refused, FL-221" in row("Philips DWI slice")


class TestMasks:
    @pytest.mark.parametrize("modality", ["CT", "MR_T1"])
    def test_every_structure_of_sts_fills_as_the_reference(self, real_data, unpacked, modality):
        folder = unpacked("sts_rtstruct/STS_008_CT_MR_RTSTRUCT") / "STS_008" / modality
        grid = series_grid(headers(folder / "image"))
        path = folder / "mask" / "RS.dcm"
        structures = pydicom.dcmread(path)
        rois = contours.rois(structures, "")
        truth = real_data / "images" / "sts_rtstruct" / "reference_masks" / f"{modality}_mask.nii.gz"
        expected = sitk.GetArrayFromImage(sitk.ReadImage(str(truth))) > 0
        for number in rois.values():
            mask = contours.draw(contours.contours(structures, number, path), grid, path) > 0
            dice = 2 * (mask & expected).sum() / (mask.sum() + expected.sum())
            assert dice >= 0.99
            assert f"{dice:.4f}" in row(f"STS_008 {modality} ({len(rois)} ROI)")

    def test_an_sts_case_from_end_to_end(self, unpacked, make_study):
        from fedloupe_client.config import DicomSource

        folder = unpacked("sts_rtstruct/STS_008_CT_MR_RTSTRUCT") / "STS_008" / "MR_T1"
        source = DicomSource.model_validate(
            {"format": "dicom", "root": str(folder), "clinical": {"file": "c.csv"}, "roi": "(?i)gtv"}
        )
        case = from_dicom(source, make_study(sequences=[{"name": "t1w"}]), "STS_008", tuple(headers(folder)))
        assert case.volumes["t1w"].GetSize() == (77, 79, 28)
        assert sitk.GetArrayFromImage(case.mask).any()

    @pytest.mark.parametrize(
        ("name", "outcome"),
        [("seg_one_label.nii.gz", None), ("seg_two_labels.nii.gz", None), ("seg_single_slice.nii.gz", None),
         ("seg_empty.nii.gz", MaskEmpty), ("seg_multilabel.nrrd", None)],
    )  # fmt: skip
    def test_masks_of_prostate_misc(self, unpacked, name, outcome):
        folder = unpacked("prostate_misc/autoradiomics_prostate_test_data") / "nifti" / "prostate"
        mask = read_image(folder / name)
        if outcome is None:
            assert sitk.GetArrayFromImage(check_mask(mask, mask, name)).max() == 1
            assert "read" in row(name)
        else:
            with pytest.raises(outcome):
                check_mask(mask, mask, name)
            assert f"refused, {outcome.code}" in row(name)
