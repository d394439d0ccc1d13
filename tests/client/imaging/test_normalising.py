"""Shading correction and per-image scale."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe_client.imaging.normalising import intensity_scale, shading


def body(shape=(20, 60, 60)) -> np.ndarray:
    """Air, an elliptic body of two tissues, and a little noise."""
    _, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    noise = np.random.default_rng(0).normal(0, 8, shape)
    inside = (x / 0.9) ** 2 + (y / 0.7) ** 2 < 1
    tissue = np.where((x / 0.4) ** 2 + (y / 0.3) ** 2 < 1, 600.0, 300.0)
    return np.abs(np.where(inside, tissue, 0) + noise).astype(np.float32)


class TestShading:
    def test_a_known_field_is_mostly_removed(self, make_image):
        clean = body()
        z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in clean.shape], indexing="ij")
        field = 0.3 * x + 0.2 * y - 0.1 * z
        shaded = make_image((clean * np.exp(field)).astype(np.float32), (4.0, 4.0, 5.0))
        found = shading({"t2w": shaded})["t2w"]
        inside = clean > 150
        assert (found - field)[inside].std() < 0.5 * field[inside].std()

    def test_images_of_one_grid_share_a_field_and_keep_their_ratio(self, make_image):
        early, late = body(), body() * 2
        fields = shading(
            {
                "early": make_image(early, (4.0, 4.0, 5.0)),
                "late": make_image(late, (4.0, 4.0, 5.0)),
                "other": make_image(early, (4.0, 4.0, 5.1)),
            }
        )
        np.testing.assert_array_equal(fields["early"], fields["late"])
        assert fields["other"] is not fields["early"]

    def test_an_image_without_contrast_has_no_field(self, make_image):
        assert not shading({"t2w": make_image(np.full((8, 8, 8), 5, np.float32))})["t2w"].any()

    @pytest.mark.parametrize("shape", [(3, 20, 20), (6, 6, 6), (19, 64, 64)])
    def test_thin_and_small_images_are_no_obstacle(self, make_image, shape):
        values = np.random.default_rng(0).gamma(4, 100, shape).astype(np.float32)
        assert np.isfinite(shading({"t2w": make_image(values)})["t2w"]).all()


class TestScale:
    def test_air_and_bright_spots_do_not_count(self):
        clean = body()
        mean, deviation = intensity_scale(clean)
        inside = clean[clean > 150]
        assert mean == pytest.approx(inside.mean(), rel=0.01)
        assert deviation == pytest.approx(inside.std(), rel=0.02)
        bright = clean.copy()
        bright[10, 30:32, 30:32] = 5_000
        assert intensity_scale(bright)[0] == pytest.approx(mean, rel=0.02)

    def test_it_follows_the_scanner_s_gain(self):
        mean, deviation = intensity_scale(body())
        twice = intensity_scale(body() * 2)
        assert twice == pytest.approx((2 * mean, 2 * deviation), rel=1e-3)

    def test_a_constant_image_has_none(self):
        assert intensity_scale(np.full((4, 4, 4), 3, np.float32)) is None
