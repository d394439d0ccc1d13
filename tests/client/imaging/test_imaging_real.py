"""Real MR, and CT beside it (soft-tissue sarcoma, TCIA)."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from fedloupe_client.imaging import crop, to_grid
from fedloupe_client.imaging.registering import register
from fedloupe_client.ingest.formats.volumes import check_mask, read_nifti

pytestmark = pytest.mark.data


def pair(folder, mr: str, ct: str) -> tuple[sitk.Image, sitk.Image, sitk.Image]:
    reference = read_nifti(folder / f"STS_{mr}" / "MR_T1_image.nii.gz")
    mask = check_mask(read_nifti(folder / f"STS_{mr}" / "MR_T1_mask.nii.gz"), reference, mr)
    other = read_nifti(folder / f"STS_{ct}" / "CT_image.nii.gz")
    return sitk.Cast(reference, sitk.sitkFloat32), sitk.Cast(other, sitk.sitkFloat32), mask


class TestRegistration:
    @pytest.mark.parametrize(
        ("case", "offset"),
        [
            ("010", (6.0, -6.0, 4.2)),
            ("018", (6.0, -6.0, 4.2)),
            ("018", (-5.5, 5.5, -5.5)),
            ("035", (6.0, -6.0, 4.2)),
            ("041", (6.0, -6.0, 4.2)),
        ],
    )
    def test_a_known_shift_of_a_real_ct_is_found_again(self, real_data, case, offset):
        """The CT is moved by 9.5 mm; the tumour contour that was carried to it says where it belongs."""
        reference, ct, mask = pair(real_data / "images" / "sts_ct_mr", case, case)
        moved = sitk.Image(ct)
        moved.SetOrigin((np.array(ct.GetOrigin()) + np.array(offset)).tolist())
        found = register(reference, moved, mask)
        assert found.accepted, found.reason
        inside = np.argwhere(sitk.GetArrayFromImage(mask) > 0)[::100, ::-1].tolist()
        points = np.array([mask.TransformIndexToPhysicalPoint([int(v) for v in index]) for index in inside])
        there = np.array([found.transform.TransformPoint(point) for point in points.tolist()])
        # measured 1.5, 3.3, 3.3, 0.6 and 1.5 mm: the carried contour is itself a registration's, on slices of 3.3 mm
        assert np.linalg.norm(there - (points + offset), axis=1).mean() <= 4.0

    def test_an_mri_that_is_blank_where_the_ct_shows_body_is_refused(self, real_data):
        """15 ends 2 mm from its place, but the corner of its oblique field of view holds nothing to say so."""
        found = register(*pair(real_data / "images" / "sts_ct_mr", "015", "015"))
        assert found.reason.startswith("CT does not register onto the MRI: outlines that differ by 13%")

    @pytest.mark.parametrize(("mr", "ct"), [("010", "015"), ("018", "010")])
    def test_the_ct_of_another_patient_is_refused(self, real_data, mr, ct):
        found = register(*pair(real_data / "images" / "sts_ct_mr", mr, ct))
        assert not found.accepted
        assert "does not register" in found.reason


class TestSarcoma:
    @pytest.mark.parametrize("case", ["STS_001", "STS_002", "STS_005"])
    def test_a_crop_without_air_becomes_a_normalised_grid(self, real_data, make_store, make_study, case):
        folder = real_data / "images" / "sts_mr_crops"
        image = read_nifti(folder / f"{case}_T1.nii.gz")
        mask = check_mask(read_nifti(folder / f"{case}_gtv.nii.gz"), image, case)
        study = make_study([{"name": "t1"}], spacing_mm=2.0, crop_mm=64)
        grid = to_grid(*make_store(mask, t1=image), study)
        native = sitk.GetArrayFromImage(mask).sum() * np.prod(mask.GetSpacing())
        assert grid.mask.sum() * 8 == pytest.approx(native, rel=0.03)
        values = grid.images["t1"]
        assert np.isfinite(values).all()
        assert abs(np.median(values[grid.mask])) < 2
        cube = crop(grid, study.imaging.crop_mm)
        assert cube.images.shape == (1, 32, 32, 32)
        assert np.abs(cube.images).max() <= 4 and cube.images.std() > 0
