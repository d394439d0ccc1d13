"""Interpolators and masks that keep their volume, in closed form and on real masks."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from fedloupe_client.imaging import to_grid
from fedloupe_client.imaging.resampling import common_region, mask_onto, onto
from fedloupe_client.ingest.formats.volumes import read_nifti


def region_of(mask: sitk.Image, spacing_mm: float) -> sitk.Image:
    return common_region(mask, mask, spacing_mm=spacing_mm, margin_mm=10, cube_mm=16)


def gain(mask: sitk.Image, spacing_mm: float) -> float:
    """Volume after resampling over the volume before, minus one."""
    before = sitk.GetArrayFromImage(mask).astype(bool).sum() * np.prod(mask.GetSpacing())
    return float(mask_onto(region_of(mask, spacing_mm), mask).sum() * spacing_mm**3 / before - 1)


class TestInterpolation:
    def test_cubic_follows_a_parabola_that_linear_cuts_short(self, make_image):
        x = np.arange(60, dtype=np.float32)
        image = make_image(np.broadcast_to((x - 30) ** 2, (20, 20, 60)).copy(), (2.0, 2.0, 2.0))
        mask = make_image((np.indices((20, 20, 60))[2] == 30).astype(np.uint8), (2.0, 2.0, 2.0))
        region = common_region(image, mask, spacing_mm=1.0, margin_mm=20, cube_mm=8)
        across = [region.TransformIndexToPhysicalPoint((i, 5, 5))[0] for i in range(region.GetSize()[0])]
        true = (np.array(across) / 2 - 30) ** 2
        cubic, linear = (onto(region, image, interpolation=kind)[5, 5] for kind in ("cubic", "linear"))
        np.testing.assert_allclose(cubic, true, atol=1e-3)
        # between two samples of a parabola of curvature 2 the chord lies t (1 - t) above it, t = 1/4 or 3/4 here
        np.testing.assert_allclose(linear - true, 3 / 16, atol=1e-3)

    def test_an_edge_brings_no_value_that_the_image_has_not(self, make_image):
        image = make_image(np.where(np.indices((20, 40, 40))[2] < 20, 0, 1500).astype(np.float32))
        mask = make_image((np.indices((20, 40, 40)).sum(0) == 50).astype(np.uint8))
        found = onto(region_of(mask, 1.0), image, interpolation="cubic")
        assert found.min() == 0 and found.max() == 1500

    def test_the_study_decides_for_images_and_never_for_the_mask(self, make_image, make_store, make_study):
        noise = np.random.default_rng(0).gamma(4, 100, (20, 40, 40)).astype(np.float32)
        mask = np.zeros((20, 40, 40), np.uint8)
        mask[8:12, 16:24, 16:24] = 1
        stored = make_store(make_image(mask), t2w=make_image(noise))
        sequences = [{"name": "t2w", "intensity": "physical"}]
        default, linear, cubic = (
            to_grid(*stored, make_study(sequences, spacing_mm=1.0, crop_mm=16, bias_correction="none", **more))
            for more in ({}, {"interpolation": "linear"}, {"interpolation": "cubic"})
        )
        np.testing.assert_array_equal(default.images["t2w"], linear.images["t2w"])
        assert cubic.images["t2w"].std() > linear.images["t2w"].std()  # averaging neighbours smooths noise
        np.testing.assert_array_equal(cubic.mask, linear.mask)


class TestSmallTumours:
    @pytest.mark.parametrize("spacing_mm", [1.0, 2.0, 3.0, 5.0])
    @pytest.mark.parametrize(
        "voxels",
        [[(5, 9, 9), (5, 9, 10), (5, 10, 9)], [(4, 9, 9), (5, 9, 9), (6, 9, 9)], [(5, 9, 9), (5, 10, 10), (6, 9, 9)]],
    )
    def test_three_voxels_never_vanish_and_keep_their_volume_to_a_voxel(self, make_image, voxels, spacing_mm):
        array = np.zeros((12, 20, 20), np.uint8)
        array[tuple(np.array(voxels).T)] = 1
        mask = make_image(array, (1.3, 1.3, 3.1), origin=(0.3, -7.1, 2.2))
        inside = mask_onto(region_of(mask, spacing_mm), mask)
        wanted = max(1.0, 3 * 1.3 * 1.3 * 3.1 / spacing_mm**3)
        assert abs(inside.sum() - wanted) <= max(0.5, 0.1 * wanted)

    @pytest.mark.parametrize("spacing_mm", [1.0, 2.0, 4.0])
    def test_a_mask_of_one_slice_keeps_its_volume(self, make_image, spacing_mm):
        array = np.zeros((9, 40, 40), np.uint8)
        y, x = np.indices((40, 40))
        array[4] = (y - 20) ** 2 + (x - 19) ** 2 < 100
        assert abs(gain(make_image(array, (1.0, 1.0, 3.0)), spacing_mm)) <= 0.1

    def test_what_is_added_lies_about_the_tumour(self, make_image):
        array = np.zeros((12, 20, 20), np.uint8)
        array[5, 9:11, 9:11] = 1
        mask = make_image(array, (1.0, 1.0, 3.0))
        region = region_of(mask, 2.0)
        found = np.argwhere(mask_onto(region, mask))[:, ::-1].mean(0)
        there = region.TransformContinuousIndexToPhysicalPoint(found.tolist())
        assert np.abs(np.array(there) - [9.5, 9.5, 15]).max() <= 1.5


@pytest.mark.data
class TestRealMasks:
    @pytest.mark.parametrize("spacing_mm", [1.0, 2.0])
    def test_lesions_and_glands_keep_their_volume(self, real_data, spacing_mm):
        paths = sorted((real_data / "images" / "picai_masks").glob("*/*.nii.gz"))[::14]
        masks = [read_nifti(path) for path in paths]
        gains = [gain(sitk.Cast(mask > 0, sitk.sitkUInt8), spacing_mm) for mask in masks if self.voxels(mask)]
        assert len(gains) >= 7
        assert np.abs(gains).max() <= 0.1

    @pytest.mark.parametrize("spacing_mm", [1.0, 2.0])
    def test_sarcomas_keep_their_volume(self, real_data, spacing_mm):
        paths = sorted((real_data / "images" / "sts_mr_crops").glob("*_gtv.nii.gz"))[::4]
        gains = [gain(read_nifti(path), spacing_mm) for path in paths]
        assert np.abs(gains).max() <= 0.03

    @staticmethod
    def voxels(mask: sitk.Image) -> int:
        return int((sitk.GetArrayViewFromImage(mask) > 0).sum())
