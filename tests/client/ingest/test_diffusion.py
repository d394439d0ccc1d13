"""ADC from b-values and its units, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe_client.ingest.dicom.diffusion import adc_map, in_micro
from fedloupe_client.ingest.problems import AdcUnit, BValues, ImageInvalid

TRUE = np.array([300.0, 700.0, 1200.0, 3000.0]).reshape(1, 2, 2)  # 1e-6 mm2/s


def signals(b_values: list[float], adc: np.ndarray = TRUE, s0: float = 900.0) -> np.ndarray:
    return np.stack([s0 * np.exp(-b * adc * 1e-6) for b in b_values]).astype(np.float32)


class TestAdcMap:
    @pytest.mark.parametrize("b", [[0, 800], [50, 400, 800], [800, 0, 400], [0, 500, 500, 1000, 1000, 1000]])
    def test_a_true_decay_gives_its_constant(self, b):
        found = adc_map(signals(b), b)
        assert found.dtype == np.float32 and found.shape == TRUE.shape
        np.testing.assert_allclose(found, TRUE, rtol=1e-4)

    def test_it_is_the_least_squares_line_with_every_average_counted(self):
        b = [0.0, 100.0, 100.0, 800.0]
        frames = np.random.default_rng(0).gamma(50, 10, (4, 2, 3, 3)).astype(np.float32) * np.array(
            [1.0, 0.9, 0.9, 0.4], np.float32
        ).reshape(4, 1, 1, 1)
        lines = np.polyfit(b, np.log(frames.astype(float)).reshape(4, -1), 1)[0].reshape(2, 3, 3)
        np.testing.assert_allclose(adc_map(frames, b), -lines * 1e6, rtol=1e-5)

    def test_a_signal_of_zero_is_left_out_of_its_voxel_alone(self):
        b = [0, 400, 800]
        frames = signals(b)
        frames[2, 0, 0, 0] = 0
        frames[1, 0, 1, 1] = -3
        np.testing.assert_allclose(adc_map(frames, b), TRUE, rtol=1e-4)

    def test_where_one_b_value_is_left_the_map_is_zero(self):
        frames = signals([0, 800, 800])
        frames[1:, 0, 0, 0] = 0
        frames[0, 0, 0, 1] = 0  # two frames are left, of one b-value
        found = adc_map(frames, [0, 800, 800])[0]
        assert found[0].tolist() == [0, 0]
        np.testing.assert_allclose(found[1], TRUE[0, 1], rtol=1e-4)

    def test_a_signal_that_grows_with_b_has_no_diffusion(self):
        assert adc_map(signals([800, 0]), [0, 800]).max() == 0

    @pytest.mark.parametrize("b", [[800, 800], [0], [0, -50], [0, float("nan")], [0, 400, 800]])
    def test_b_values_must_differ_and_fit_the_frames(self, b):
        with pytest.raises(BValues):
            adc_map(signals([0, 800]), b)

    def test_values_that_are_not_finite_are_refused(self):
        frames = signals([0, 800])
        frames[0, 0, 0, 0] = np.nan
        with pytest.raises(ImageInvalid):
            adc_map(frames, [0, 800])


class TestInMicro:
    @pytest.mark.parametrize(
        ("unit", "factor"),
        [
            ("mm2/s", 1e6),
            ("mm^2/s", 1e6),
            ("mm²/sec", 1e6),
            ("um2/s", 1.0),
            ("µm²/s", 1.0),
            ("10-6mm2/s", 1.0),
            ("10*-6.mm2/s", 1.0),
            ("x10^-6 mm^2/s", 1.0),
            ("1e-6 mm2/s", 1.0),
            ("10-3 mm2/s", 1e3),
            ("1E-03 mm2/s", 1e3),
            ("10*-5.mm2/s", 10.0),
            ("m2/s", 1e12),
            ("10*-9.m2/s", 1e3),
        ],
    )
    def test_the_header_s_unit_decides(self, unit, factor):
        found, note = in_micro((TRUE / factor).astype(np.float32), unit)
        np.testing.assert_allclose(found, TRUE, rtol=1e-5)
        assert note == "ADC unit from the header"

    @pytest.mark.parametrize("unit", [None, "", "US", "no units", "1"])
    @pytest.mark.parametrize(("factor", "name"), [(1.0, "1e-6 mm2/s"), (1e3, "1e-3 mm2/s"), (1e6, "mm2/s")])
    def test_without_one_the_magnitude_decides(self, unit, factor, name):
        values = np.zeros((1, 4, 4), np.float32)  # air is no tissue
        values[0, 0] = TRUE.ravel() / factor
        found, note = in_micro(values, unit)
        np.testing.assert_allclose(found[0, 0], TRUE.ravel(), rtol=1e-5)
        assert note == f"ADC unit by magnitude: {name}"
        assert found.dtype == np.float32

    @pytest.mark.parametrize("median", [0.0, 20.0, 90.0, 20_000.0])
    def test_a_magnitude_that_is_no_tissue_in_any_unit_is_refused(self, median):
        with pytest.raises(AdcUnit, match="neither"):
            in_micro(np.full((1, 2, 2), median, np.float32), None)

    def test_a_unit_that_the_values_contradict_is_refused(self):
        with pytest.raises(AdcUnit, match="in the unit that its header states"):
            in_micro(TRUE.astype(np.float32), "mm2/s")
