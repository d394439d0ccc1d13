"""The grid turned and moved, the mask's border moved: against spheres, straight gradients and patterns known in closed
form."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from fedloupe_client.imaging import STILL, Pose, open_case, to_grid
from fedloupe_client.imaging.posing import grown_onto, posed
from fedloupe_client.imaging.resampling import common_region, mask_onto, onto

T2W = {"name": "t2w", "intensity": "physical"}
OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


def points(image: sitk.Image) -> np.ndarray:
    """(3, z, y, x) physical coordinates of the voxels' centres, mm."""
    z, y, x = np.indices(image.GetSize()[::-1])
    axes = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    return np.array(image.GetOrigin())[:, None, None, None] + np.einsum("ij,jzyx->izyx", axes, np.stack([x, y, z]))


def ball(make_image, radius: float, spacing=(0.8, 0.8, 1.0), direction=OBLIQUE) -> sitk.Image:
    """A ball in the middle of a field of about 60 mm."""
    image = make_image(np.zeros([round(60 / s) for s in spacing[::-1]], np.uint8), spacing, direction=direction)
    size = np.array(image.GetSize())
    centre = np.array(image.TransformContinuousIndexToPhysicalPoint(((size - 1) / 2).tolist()))
    inside = ((points(image) - centre[:, None, None, None]) ** 2).sum(axis=0) <= radius**2
    result = sitk.GetImageFromArray(inside.astype(np.uint8))
    result.CopyInformation(image)
    return result


def region_of(mask: sitk.Image, spacing: float = 1.0) -> sitk.Image:
    return common_region(mask, mask, spacing_mm=spacing, margin_mm=12, cube_mm=16)


class TestGrowing:
    @pytest.mark.parametrize("spacing", [1.0, 2.0])
    @pytest.mark.parametrize("grow", [-2.0, -1.0, 1.0, 2.0])
    def test_a_ball_gets_the_volume_of_the_larger_or_smaller_ball(self, make_image, grow, spacing):
        """Within half a native voxel in radius: between the centres of two native voxels the ball's surface may be
        anywhere. The mean over some positions of the grid, which cuts off whole voxels of its own."""
        radius, native = 12.0, 0.4
        mask = ball(make_image, radius, spacing=(native,) * 3)
        region, shifts = region_of(mask, spacing), np.random.default_rng(0).uniform(-1, 1, (4, 3))
        poses = [Pose(shift_mm=tuple(shift)) for shift in shifts.tolist()]
        volume = np.mean([grown_onto(posed(region, mask, p), mask, grow).sum() for p in poses]) * spacing**3
        assert (3 * volume / (4 * np.pi)) ** (1 / 3) == pytest.approx(radius + grow, abs=native / 2)

    def test_it_grows_and_shrinks_on_all_sides_alike(self, make_image):
        mask = ball(make_image, 10.0)
        region = region_of(mask)
        still = np.argwhere(mask_onto(region, mask)).mean(axis=0)
        for grow in (-1.0, 1.0):
            np.testing.assert_allclose(np.argwhere(grown_onto(region, mask, grow)).mean(axis=0), still, atol=0.05)

    def test_larger_holds_smaller(self, make_image):
        mask = ball(make_image, 8.0, spacing=(0.9, 0.9, 3.3))
        region = region_of(mask)
        small, large = (grown_onto(region, mask, grow) for grow in (-1.0, 1.0))
        assert (large & ~small).any() and not (small & ~large).any()

    def test_a_mask_thinner_than_what_it_loses_is_gone(self, make_image):
        mask = ball(make_image, 2.0)
        assert not grown_onto(region_of(mask), mask, -3.0).any()

    def test_a_mask_at_the_edge_of_the_field_grows_as_far_as_the_field(self, make_image):
        array = np.zeros((10, 10, 10), np.uint8)
        array[:3, :3, :3] = 1
        mask = make_image(array, (1.0, 1.0, 1.0))
        region = region_of(mask)
        grown = grown_onto(region, mask, 1.0)
        assert grown.shape == region.GetSize()[::-1]
        assert grown.any(axis=(1, 2)).tolist() == [True] * 4 + [False] * 6


class TestPosing:
    def test_the_pose_that_moves_nothing_is_the_region_itself(self, make_image):
        mask = ball(make_image, 6.0)
        region = region_of(mask)
        assert posed(region, mask, STILL) is region

    def test_the_centroid_is_the_fixed_point_of_a_turn(self, make_image):
        """A turn by a quarter carries each axis into the next about the ball's centre; the third stays."""
        mask = ball(make_image, 6.0)
        region = region_of(mask)
        turned = posed(region, mask, Pose(rotate_deg=90))
        one, two = (np.array(r.GetDirection()).reshape(3, 3) for r in (region, turned))
        np.testing.assert_allclose(two[:, 0], one[:, 1], atol=1e-12)
        np.testing.assert_allclose(two[:, 2], one[:, 2], atol=1e-12)
        size = np.array(mask.GetSize())
        centre = mask.TransformContinuousIndexToPhysicalPoint(((size - 1) / 2).tolist())
        before, after = (np.array(r.TransformPhysicalPointToContinuousIndex(centre)) for r in (region, turned))
        np.testing.assert_allclose(after, before, atol=1e-9)

    def test_a_shift_is_along_the_grids_own_axes(self, make_image):
        mask = ball(make_image, 6.0)
        region = region_of(mask, 2.0)
        moved = posed(region, mask, Pose(shift_mm=(1.0, -0.5, 0.25)))
        index = region.TransformPhysicalPointToContinuousIndex(moved.GetOrigin())
        np.testing.assert_allclose(index, (0.5, -0.25, 0.125), atol=1e-9)

    @pytest.mark.parametrize("interpolation", ["linear", "cubic"])
    def test_a_straight_gradient_keeps_its_size_and_turns_by_the_angle(self, make_image, interpolation):
        mask = ball(make_image, 6.0)
        ramp = np.tensordot([3.0, 4.0, 0.0], points(mask), axes=1)
        image = sitk.GetImageFromArray(ramp.astype(np.float32))
        image.CopyInformation(mask)
        region = region_of(mask)
        turned = posed(region, mask, Pose(rotate_deg=30, shift_mm=(0.5, 0.5, 0.5)))
        slopes = []
        for where in (region, turned):
            array = onto(where, image, interpolation=interpolation).astype(float)[8:-8, 8:-8, 8:-8]
            slopes.append(np.array([g.mean() for g in np.gradient(array)])[::-1])
        assert [np.linalg.norm(s) for s in slopes] == pytest.approx([5.0, 5.0], rel=1e-4)
        cosine = slopes[0] @ slopes[1] / 25
        assert np.rad2deg(np.arccos(cosine)) == pytest.approx(30, abs=0.05)

    def test_image_and_mask_move_together(self, make_image, make_store, make_study):
        """Bright exactly where the mask is: in every pose the tumour stays bright and what surrounds it dark."""
        mask = ball(make_image, 9.0)
        bright = sitk.Cast(mask, sitk.sitkFloat32) * 100
        study = make_study([T2W], spacing_mm=1.0, crop_mm=16, bias_correction="none")
        case = open_case(*make_store(mask, t2w=bright), study)
        still = case.grid()
        moved = case.grid(Pose(rotate_deg=20, shift_mm=(3.0, -2.0, 1.0)))
        for grid in (still, moved):
            image = grid.images["t2w"]
            middle = (image.max() + image.min()) / 2
            assert ((image >= middle) == grid.mask).mean() > 0.999
        assert (still.mask != moved.mask).any()
        assert moved.mask.sum() == pytest.approx(still.mask.sum(), rel=0.02)

    def test_the_case_as_it_lies_is_the_common_grid(self, make_image, make_store, make_study):
        rng = np.random.default_rng(0)
        mask = ball(make_image, 6.0)
        noise = sitk.GetImageFromArray(100 + rng.standard_normal(mask.GetSize()[::-1]).astype(np.float32))
        noise.CopyInformation(mask)
        study = make_study([T2W], spacing_mm=2.0, crop_mm=16, bias_correction="none")
        store = make_store(mask, t2w=noise)
        one, two = to_grid(*store, study), open_case(*store, study).grid()
        np.testing.assert_array_equal(one.images["t2w"], two.images["t2w"])
        np.testing.assert_array_equal(one.mask, two.mask)
