"""First-order and histogram features against numpy and scipy, and discretisation against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fedloupe.features import FEATURES, BinNumber, BinSize
from fedloupe_client.radiomics.discretise import discretise
from fedloupe_client.radiomics.intensity import firstorder_features, histogram_features

VALUES = np.random.default_rng(3).gamma(2.0, 3.0, 501)


def _named(family: str, values: np.ndarray) -> dict[str, float]:
    return dict(zip((feature.name for feature in FEATURES[family]), values.tolist(), strict=True))


class TestFirstOrder:
    def test_equals_numpy_and_scipy(self):
        p10, p25, p75, p90 = np.percentile(VALUES, [10, 25, 75, 90])
        inner = VALUES[(p10 <= VALUES) & (p90 >= VALUES)]
        expected = {
            "mean": VALUES.mean(),
            "variance": VALUES.var(),
            "skewness": stats.skew(VALUES),
            "excess_kurtosis": stats.kurtosis(VALUES),
            "median": np.median(VALUES),
            "minimum": VALUES.min(),
            "percentile_10": p10,
            "percentile_90": p90,
            "maximum": VALUES.max(),
            "interquartile_range": p75 - p25,
            "range": np.ptp(VALUES),
            "mean_absolute_deviation": np.abs(VALUES - VALUES.mean()).mean(),
            "robust_mean_absolute_deviation": np.abs(inner - inner.mean()).mean(),
            "median_absolute_deviation": np.abs(VALUES - np.median(VALUES)).mean(),
            "coefficient_of_variation": VALUES.std() / VALUES.mean(),
            "quartile_coefficient_of_dispersion": (p75 - p25) / (p75 + p25),
            "energy": (VALUES**2).sum(),
            "root_mean_square": np.sqrt((VALUES**2).mean()),
        }
        assert _named("firstorder", firstorder_features(VALUES)) == pytest.approx(expected, rel=1e-12)


class TestHistogram:
    def test_entropy_and_uniformity_of_two_even_levels_are_one_bit_and_a_half(self):
        features = _named("histogram", histogram_features(np.array([1, 2, 1, 2]), 2))
        assert (features["entropy"], features["uniformity"]) == (1.0, 0.5)

    def test_of_two_modes_the_one_nearer_the_mean_counts(self):
        levels = np.array([1, 1, 4, 4, 5])  # mean 3: level 4 is nearer than level 1
        assert _named("histogram", histogram_features(levels, 5))["mode"] == 4

    def test_gradients_are_central_inside_and_one_sided_at_the_ends(self):
        counts = np.array([2, 5, 1, 9])
        features = _named("histogram", histogram_features(np.repeat([1, 2, 3, 4], counts), 4))
        expected = np.gradient(counts.astype(float))
        assert features["maximum_gradient"] == expected.max()
        assert features["maximum_gradient_level"] == expected.argmax() + 1
        assert features["minimum_gradient"] == expected.min()
        assert features["minimum_gradient_level"] == expected.argmin() + 1


class TestDiscretise:
    def test_a_bin_number_puts_the_minimum_first_and_the_maximum_last(self):
        levels = discretise(np.array([-1.0, -0.51, -0.5, 0.99, 1.0]), BinNumber(bins=4))
        assert levels.tolist() == [1, 1, 2, 4, 4]

    def test_a_bin_number_does_not_change_with_the_unit(self):
        assert np.array_equal(discretise(VALUES, BinNumber()), discretise(4 * VALUES - 8, BinNumber()))

    def test_a_bin_size_clips_to_its_first_and_last_bin(self):
        rule = BinSize(origin=-200, width=25, limit=20)
        levels = discretise(np.array([-900.0, -200.0, -175.1, -175.0, 299.9, 300.0, 2000.0]), rule)
        assert levels.tolist() == [1, 1, 1, 2, 20, 20, 20]
