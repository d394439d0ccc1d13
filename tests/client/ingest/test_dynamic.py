"""Phases and maps of a dynamic series, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe_client.ingest.dicom.dynamic import kinetic_maps, mean_curve, phases
from fedloupe_client.ingest.problems import DynamicTimes, DynamicTooShort, ImageInvalid, NoEnhancement

TIMES = [0.0, 10.0, 20.0, 50.0, 80.0, 200.0]  # uneven
# relative enhancement of four voxels: washes out, rises to the end, never enhances, air
CURVES = np.array(
    [
        [0.0, 0.0, 0.5, 2.0, 1.4, 0.2],
        [0.0, 0.0, 0.1, 0.4, 0.7, 1.9],
        [0.0, 0.0, -0.1, -0.1, -0.2, -0.1],
        [0.0, 0.0, 3.0, 9.0, 0.0, 9.0],
    ]
)
BASELINE = np.array([200.0, 100.0, 400.0, 0.5])


def series() -> np.ndarray:
    """(6, 2, 2, 1): each curve on its baseline."""
    return (BASELINE[:, None] * (1 + CURVES)).T.reshape(6, 2, 2, 1).astype(np.float32)


class TestPhases:
    def test_pre_is_the_frame_before_the_rise_and_late_the_last(self):
        assert phases(TIMES, [100, 101, 140, 180, 170, 150]) == {"pre": 1, "peak": 3, "late": 5}

    def test_the_earliest_of_equal_peaks_counts(self):
        assert phases([0, 1, 2, 3], [100, 150, 150, 120])["peak"] == 1

    def test_a_curve_that_only_rises_has_its_peak_at_the_end(self):
        assert phases([0, 1, 2], [100, 120, 160]) == {"pre": 0, "peak": 2, "late": 2}

    def test_noise_below_a_tenth_of_the_rise_is_not_enhancement(self):
        assert phases([0, 1, 2, 3, 4], [100, 109, 96, 200, 190])["pre"] == 2

    @pytest.mark.parametrize("curve", [[100, 100, 100, 100], [100, 90, 80, 70], [100, 101, 100, 101], [0, 0, 0, 0]])
    def test_a_curve_that_never_rises_is_refused(self, curve):
        with pytest.raises(NoEnhancement):
            phases([0, 1, 2, 3], curve)

    def test_two_frames_are_too_few(self):
        with pytest.raises(DynamicTooShort, match="2 frames"):
            phases([0, 1], [100, 200])

    @pytest.mark.parametrize("times", [[0, 2, 1], [0, 1, 1], [0, float("nan"), 1], [0, 1], [0, 1, 2, 3]])
    def test_times_must_rise_one_a_frame(self, times):
        with pytest.raises(DynamicTimes):
            phases(times, [100, 150, 200])


class TestKineticMaps:
    def test_wash_in_is_the_rise_to_the_voxel_s_own_peak_per_second(self):
        found = kinetic_maps(series(), TIMES)["wash_in"].ravel()
        np.testing.assert_allclose(found, [2.0 / 40, 1.9 / 190, 0, 0], rtol=1e-5)

    def test_wash_out_is_the_fall_after_it_per_minute(self):
        found = kinetic_maps(series(), TIMES)["wash_out"].ravel()
        np.testing.assert_allclose(found, [(0.2 - 2.0) / (150 / 60), 0, 0, 0], rtol=1e-5)

    def test_time_to_peak_counts_from_the_last_frame_before_contrast(self):
        found = kinetic_maps(series(), TIMES)["time_to_peak"].ravel()
        np.testing.assert_allclose(found, [40, 190, 0, 0])

    def test_the_area_ends_at_ninety_seconds_within_a_step(self):
        # from t0 = 10: steps of 10, 30 and 30 s, then 20 of the 120 s to the last frame, a sixth of the way
        by_hand = [
            10 * 0.25 + 30 * 1.25 + 30 * 1.7 + 20 * (1.4 + (1.4 - 1.2 / 6)) / 2,
            10 * 0.05 + 30 * 0.25 + 30 * 0.55 + 20 * (0.7 + (0.7 + 1.2 / 6)) / 2,
            10 * -0.05 + 30 * -0.1 + 30 * -0.15 + 20 * (-0.2 + (-0.2 + 0.1 / 6)) / 2,
            0,
        ]
        np.testing.assert_allclose(kinetic_maps(series(), TIMES)["auc"].ravel(), by_hand, rtol=1e-5)

    def test_a_short_series_is_integrated_to_its_end(self):
        frames = np.array([100.0, 200.0, 300.0], np.float32).reshape(3, 1, 1, 1)
        assert kinetic_maps(frames, [0, 10, 30])["auc"].item() == pytest.approx(10 * 0.5 + 20 * 1.5)

    def test_the_gain_of_the_scanner_and_the_start_of_its_clock_do_not_matter(self):
        one = kinetic_maps(series(), TIMES)
        two = kinetic_maps(series() * np.float32(7.3), [t + 43_210 for t in TIMES])
        for name, values in one.items():
            assert values.dtype == np.float32 and values.shape == (2, 2, 1)
            np.testing.assert_allclose(two[name], values, rtol=1e-4, atol=1e-7)

    def test_signal_before_contrast_is_averaged_over_its_frames(self):
        frames = np.array([90.0, 110.0, 300.0, 200.0], np.float32).reshape(4, 1, 1, 1)
        assert kinetic_maps(frames, [0, 5, 10, 15])["wash_in"].item() == pytest.approx(2 / 5)

    def test_values_that_are_not_finite_are_refused(self):
        frames = series()
        frames[2, 0, 0, 0] = np.inf
        with pytest.raises(ImageInvalid):
            kinetic_maps(frames, TIMES)

    def test_times_are_checked_before_anything_else(self):
        with pytest.raises(DynamicTimes):
            kinetic_maps(series(), [0.0, *TIMES[:-1]])


class TestMeanCurve:
    def test_air_does_not_count(self):
        frames = np.zeros((3, 1, 1, 100), np.float32)
        frames[:, 0, 0, :20] = np.array([100, 200, 150], np.float32)[:, None]
        np.testing.assert_allclose(mean_curve(frames), [100, 200, 150])

    def test_a_series_of_zeros_is_flat(self):
        assert mean_curve(np.zeros((3, 1, 2, 2), np.float32)).tolist() == [0, 0, 0]
