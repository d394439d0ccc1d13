"""Shape features against closed forms, and shapes that leave some of them undefined."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe.features import FEATURES
from fedloupe_client.radiomics.shape import shape_features


def _shape(inside: np.ndarray, spacing_mm: float = 1.0) -> dict[str, float]:
    return dict(zip((f.name for f in FEATURES["shape"]), shape_features(inside, spacing_mm).tolist(), strict=True))


def _ball(radius: float) -> np.ndarray:
    n = int(radius) + 1
    z, y, x = np.mgrid[-n : n + 1, -n : n + 1, -n : n + 1]
    ball = z**2 + y**2 + x**2 <= radius**2
    occupied = np.flatnonzero(ball.any(axis=(1, 2)))
    box = slice(occupied[0], occupied[-1] + 1)
    return ball[box, box, box]


class TestClosedForms:
    def test_a_single_voxel_is_an_octahedron_of_half_a_voxel(self):
        features = _shape(np.ones((1, 1, 1), dtype=bool), 2.0)
        assert features["volume_voxel"] == 8
        assert features["volume_mesh"] == pytest.approx(8 / 6)  # semi-axes of 1 mm: 4/3
        assert features["surface_area"] == pytest.approx(8 * np.sqrt(3) / 2)
        assert features["max_3d_diameter"] == pytest.approx(2)

    def test_a_ball_is_round_and_its_axes_are_its_moments(self):
        features = _shape(_ball(10.3), 2.0)
        radius = 2 * 10.3
        assert features["volume_mesh"] == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.02)
        assert 2 * radius <= features["max_3d_diameter"] <= 2 * (radius + 1)  # half a voxel on each side
        # covariance of a ball: r^2 / 5 along each axis
        assert features["major_axis_length"] == pytest.approx(4 * radius / np.sqrt(5), rel=0.01)
        assert features["elongation"] == pytest.approx(1, abs=1e-9)
        assert 0.9 < features["sphericity"] < 1  # marching cubes on a staircase overstates the surface

    def test_roundness_measures_follow_from_volume_and_surface(self):
        features = _shape(np.ones((3, 5, 4), dtype=bool))
        v, a = features["volume_mesh"], features["surface_area"]
        assert features["sphericity"] == pytest.approx((36 * np.pi * v**2) ** (1 / 3) / a)
        assert features["compactness_2"] == pytest.approx(features["sphericity"] ** 3)
        assert features["compactness_1"] == pytest.approx(v / (np.sqrt(np.pi) * a**1.5))
        assert features["asphericity"] == pytest.approx(features["spherical_disproportion"] - 1)

    def test_equal_axes_lose_no_feature(self):
        assert all(np.isfinite(list(_shape(np.ones((5, 5, 5), dtype=bool)).values())))

    def test_lengths_areas_and_volumes_scale_with_the_voxel(self):
        inside = np.random.default_rng(0).random((5, 6, 7)) < 0.8
        one, three = _shape(inside), _shape(inside, 3.0)
        powers = {"volume_mesh": 3, "surface_area": 2, "major_axis_length": 1, "flatness": 0, "volume_density_hull": 0}
        for name, power in powers.items():
            assert three[name] == pytest.approx(one[name] * 3**power, rel=1e-5)


class TestDegenerateShapes:
    def test_one_slice_lacks_only_the_density_of_a_flat_ellipsoid(self):
        features = _shape(np.ones((1, 6, 9), dtype=bool))
        assert features["least_axis_length"] == 0
        assert [name for name, value in features.items() if not np.isfinite(value)] == ["volume_density_aee"]

    def test_one_voxel_has_no_axes_but_a_surface(self):
        features = _shape(np.ones((1, 1, 1), dtype=bool))
        assert np.isnan(features["major_axis_length"])
        assert np.isfinite(features["surface_area"])
