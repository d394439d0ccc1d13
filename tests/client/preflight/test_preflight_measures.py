"""Measures of a case and the rule for outliers, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from fedloupe_client.preflight.measures import measure, measure_tumour, noise_sigma
from fedloupe_client.preflight.outliers import robust_scores, standing_apart
from fedloupe_client.preflight.unusual import duplicates


def volume(array: np.ndarray, spacing=(1.0, 2.0, 4.0)) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    return image


class TestAnImage:
    def test_has_its_geometry_in_millimetres(self):
        look = measure(volume(np.ones((5, 6, 7), np.float32)))
        assert (look.size, look.spacing_mm, look.fov_mm) == ((7, 6, 5), (1, 2, 4), (7, 12, 20))

    def test_says_where_its_axes_point(self):
        image = volume(np.ones((5, 6, 7), np.float32))
        assert measure(image).orientation == "LPS"
        image.SetDirection((0, 0, 1, 1, 0, 0, 0, 1, 0))  # x to the back, y to the head, z to the left: sagittal
        assert measure(image).orientation == "PSL"

    @pytest.mark.parametrize("sigma", [5.0, 20.0])
    def test_of_known_noise_has_the_known_snr(self, sigma):
        array = 400 + sigma * np.random.default_rng(0).standard_normal((9, 96, 96))
        look = measure(volume(array))
        assert look.snr == pytest.approx(400 / sigma, rel=0.03)

    def test_of_changing_brightness_is_not_taken_for_noise(self):
        ramp = np.add.outer(np.arange(40.0), 3 * np.arange(50.0))[None].repeat(3, axis=0)
        assert noise_sigma(ramp) == pytest.approx(0, abs=1e-9)
        assert measure(volume(ramp)).snr is None

    def test_has_the_percentiles_of_the_body_not_of_the_air(self):
        array = np.zeros((4, 20, 20))
        array[:, 5:15, 5:15] = 100
        assert measure(volume(array)).percentiles == (100, 100, 100)

    def test_has_one_digest_whatever_its_storage_and_header(self):
        array = np.random.default_rng(0).integers(0, 900, (4, 5, 6))
        one = measure(volume(array.astype(np.int16)))
        other = measure(volume(array.astype(np.float64), spacing=(3.0, 3.0, 3.0)))
        assert one.digest == other.digest
        array[2, 2, 2] += 1
        assert measure(volume(array.astype(np.int16))).digest != one.digest


class TestAMask:
    def test_has_volume_pieces_place_and_extent(self):
        mask = np.zeros((10, 20, 30), np.uint8)
        mask[2:4, 5:10, 10:16] = 1
        mask[8, 18, 20] = 1
        look = measure_tumour(volume(mask))
        assert look.volume_ml == pytest.approx((2 * 5 * 6 + 1) * 8 / 1000)
        assert look.components == 2
        assert look.extent_mm == (11, 28, 28)
        assert not look.at_edge

    def test_in_the_middle_has_its_centroid_there(self):
        mask = np.zeros((8, 8, 8), np.uint8)
        mask[3:5, 3:5, 3:5] = 1
        assert measure_tumour(volume(mask)).position == (0.5, 0.5, 0.5)

    def test_whose_voxels_share_a_corner_is_one_piece(self):
        mask = np.zeros((5, 5, 5), np.uint8)
        mask[1, 1, 1] = mask[2, 2, 2] = 1
        assert measure_tumour(volume(mask)).components == 1

    @pytest.mark.parametrize("place", [(0, 2, 2), (4, 2, 2), (2, 0, 2), (2, 2, 4)])
    def test_at_the_rim_is_marked(self, place):
        mask = np.zeros((5, 5, 5), np.uint8)
        mask[place] = 1
        assert measure_tumour(volume(mask)).at_edge


class TestTheRule:
    def test_is_the_modified_z_score(self):
        # median 3, absolute deviations 2 1 0 1 97: MAD 1
        assert robust_scores([1, 2, 3, 4, 100]) == pytest.approx([-1.349, -0.6745, 0, 0.6745, 65.4265])

    def test_takes_the_mean_deviation_where_most_values_are_equal(self):
        # mean absolute deviation 5 / 10; 5 / (sqrt(pi / 2) / 2)
        scores = robust_scores([3.0] * 9 + [8.0])
        assert scores == pytest.approx([0] * 9 + [5 / (np.sqrt(np.pi / 2) * 0.5)])
        assert standing_apart([3.0] * 9 + [8.0], log=True).tolist() == [False] * 9 + [True]

    def test_is_not_deceived_by_several_odd_ones(self):
        values = [10.0, 10.5, 9.8, 10.2, 9.9, 10.1, 10.3, 40.0, 42.0, 41.0]
        assert standing_apart(values, log=True).tolist() == [False] * 7 + [True] * 3

    def test_calls_nothing_unusual_that_is_within_a_tenth(self):
        assert not standing_apart([1.0] * 20 + [1.09], log=True).any()
        assert standing_apart([1.0] * 20 + [1.12], log=True).sum() == 1

    def test_compares_ratios_so_that_half_is_as_odd_as_double(self):
        values = [10.0, 10.5, 9.5, 10.2, 9.8, 20.0, 5.0]
        assert standing_apart(values, log=True).tolist() == [False] * 5 + [True] * 2

    @pytest.mark.parametrize("values", [[], [1.0], [1.0, 1.0, 1.0, 9.0]])
    def test_says_nothing_of_fewer_than_five(self, values):
        assert not standing_apart(values, log=True).any()


class TestDuplicates:
    def test_are_groups_that_share_a_digest(self):
        digests = {"b": ["1", "2"], "a": ["2"], "c": ["3"], "d": ["4"], "e": ["4"]}
        assert duplicates(digests) == (("a", "b"), ("d", "e"))

    def test_of_two_equal_sequences_within_one_case_do_not_count(self):
        assert duplicates({"a": ["1", "1"], "b": ["2"]}) == ()
