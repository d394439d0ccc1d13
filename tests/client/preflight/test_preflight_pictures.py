"""Pictures of three planes: the outline against a closed form, directions, proportions, window and size."""

from __future__ import annotations

import io

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from fedloupe_client.preflight.pictures import COLOUR, GREYS, middle, outline, three_planes


def volume(array: np.ndarray, spacing=(1.0, 1.0, 1.0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1)) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    return image


def pixels(plane) -> np.ndarray:
    """(height, width, 3) of a picture."""
    return np.asarray(Image.open(io.BytesIO(plane.png)).convert("RGB"))


def coloured(plane) -> np.ndarray:
    return (pixels(plane) == COLOUR).all(axis=-1)


class TestTheOutline:
    def test_of_a_square_is_its_rim(self):
        region = np.zeros((20, 20), bool)
        region[5:15, 4:14] = True
        expected = region.copy()
        expected[6:14, 5:13] = False
        assert np.array_equal(outline(region), expected)
        assert outline(region).sum() == 4 * 10 - 4

    def test_of_a_ring_has_two_sides(self):
        region = np.zeros((15, 15), bool)
        region[2:13, 2:13] = True
        region[5:10, 5:10] = False
        assert outline(region).sum() == (4 * 11 - 4) + 4 * 5  # outer rim; the hole's edge neighbours

    def test_at_the_picture_s_rim_is_closed(self):
        assert outline(np.ones((4, 6), bool)).sum() == 2 * 4 + 2 * 6 - 4

    def test_in_the_picture_is_that_of_the_mask(self):
        array, mask = np.random.default_rng(0).random((200, 200, 200), np.float32), np.zeros((200, 200, 200), np.uint8)
        mask[90:110, 80:120, 70:130] = 1  # 1 mm voxels in a view of 200 mm and 200 pixels: one pixel a voxel
        for plane, (height, width) in zip(
            three_planes(volume(array), volume(mask)), ((40, 60), (20, 40), (20, 60)), strict=True
        ):
            rows, columns = np.nonzero(coloured(plane))
            assert np.ptp(rows) + 1 == height and np.ptp(columns) + 1 == width
            assert len(rows) == 2 * height + 2 * width - 4

    def test_is_absent_without_a_mask(self):
        array = np.random.default_rng(0).random((20, 30, 30), np.float32)
        assert not any(coloured(plane).any() for plane in three_planes(volume(array), None))


class TestThePlanes:
    def test_are_square_millimetres_whatever_the_spacing(self):
        mask = np.zeros((10, 40, 40), np.uint8)
        mask[4:6, 18:22, 18:22] = 1
        image = volume(np.random.default_rng(0).random(mask.shape, np.float32), spacing=(1.0, 1.0, 5.0))
        shapes = [(plane.width, plane.height) for plane in three_planes(image, volume(mask, spacing=(1.0, 1.0, 5.0)))]
        assert shapes == [(160, 160), (160, 200), (160, 200)]  # 40 x 40 x 50 mm

    @pytest.mark.parametrize("flip", [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1)])
    def test_show_the_patient_s_left_on_the_right_and_the_head_on_top(self, flip):
        array = np.zeros((20, 20, 20), np.float32)
        array[10, 10, 2], array[10, 2, 10], array[17, 10, 10] = 1, 2, 3  # R, A, H in a straight scan
        array = array[:: flip[2], :: flip[1], :: flip[0]].copy()
        mask = np.zeros((20, 20, 20), np.uint8)
        mask[10 if flip[2] > 0 else 9, 10 if flip[1] > 0 else 9, 10 if flip[0] > 0 else 9] = 1
        direction = (flip[0], 0, 0, 0, flip[1], 0, 0, 0, flip[2])
        transverse, sagittal, coronal = three_planes(
            volume(array, direction=direction), volume(mask, direction=direction)
        )
        assert [p.letters for p in (transverse, sagittal, coronal)] == [
            ("A", "P", "R", "L"),
            ("H", "F", "A", "P"),
            ("H", "F", "R", "L"),
        ]

        def bright(plane) -> set[tuple[int, int]]:
            grey = np.where(coloured(plane), 0, pixels(plane)[..., 2])
            return {(int(r) // 10, int(c) // 10) for r, c in np.argwhere(grey > 60)}

        assert {(10, 2), (2, 10)} <= bright(transverse)  # right at the left; anterior on top
        assert (2, 10) in bright(sagittal)  # head on top
        assert (2, 10) in bright(coronal)

    def test_cross_the_tumour_even_where_its_centroid_lies_outside(self):
        mask = np.zeros((5, 21, 21), bool)
        mask[2, 3:18, 3:18] = True
        mask[2, 5:16, 5:18] = False  # a horseshoe
        assert mask[tuple(middle(mask))]

    def test_use_the_whole_grey_scale_despite_one_bright_voxel(self):
        array = np.random.default_rng(0).uniform(100, 200, (40, 40, 40)).astype(np.float32)
        array[0, 0, 0] = 1e6
        grey = pixels(three_planes(volume(array), None)[0])
        assert grey.min() == 0 and grey.max() == 255
        assert len(np.unique(grey)) == GREYS

    def test_of_an_image_without_contrast_are_black_not_an_error(self):
        assert pixels(three_planes(volume(np.full((9, 9, 9), 5, np.float32)), None)[0]).max() == 0


class TestTheSize:
    def test_of_a_hundred_cases_of_pure_noise_stays_under_fifteen_megabytes(self):
        array = np.random.default_rng(0).random((120, 220, 220), np.float32)  # noise packs worst
        planes = three_planes(volume(array, spacing=(0.9, 0.9, 1.7)), None)
        assert 100 * sum(len(plane.png) for plane in planes) * 4 / 3 < 15e6
