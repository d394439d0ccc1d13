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

    def test_of_a_curved_field_a_tenth_is_left_at_most(self, make_image):
        """The bar of the quick setting: N4's defaults leave 0.01 of this field's spread."""
        clean = body()
        z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in clean.shape], indexing="ij")
        field = 0.25 * x - 0.15 * y + 0.1 * z + 0.1 * (x * x - y * y)
        inside = clean > 150
        found = shading({"t2w": make_image((clean * np.exp(field)).astype(np.float32), (4.0, 4.0, 5.0))})["t2w"]
        assert (found - field)[inside].std() <= 0.1 * field[inside].std()
        assert np.corrcoef(found[inside], field[inside])[0, 1] >= 0.99

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


def tumour_value(array: np.ndarray, where: np.ndarray) -> float:
    centre, spread = intensity_scale(array)
    return float((array[where].mean() - centre) / spread)


class TestUnseenSite:
    """The normalised mean of a tumour (a fifth brighter than its surroundings) on a synthetic body, in body SDs."""

    def scene(self) -> tuple[np.ndarray, np.ndarray]:
        array = body((20, 80, 80))
        where = np.zeros(array.shape, bool)
        where[8:12, 36:44, 36:44] = True
        array[where] *= 1.2
        return array, where

    @pytest.mark.parametrize("gain", [0.01, 0.5, 40.0])
    def test_gain_does_not_move_it(self, gain):
        array, where = self.scene()
        assert tumour_value(array * np.float32(gain), where) == pytest.approx(tumour_value(array, where), abs=0.01)

    @pytest.mark.parametrize("offset", [5.0, 20.0, 60.0])
    def test_a_small_offset_moves_it_by_a_twentieth_at_most(self, offset):
        """Up to a fifth of the darker tissue."""
        array, where = self.scene()
        assert tumour_value(array + np.float32(offset), where) == pytest.approx(tumour_value(array, where), abs=0.05)

    @pytest.mark.parametrize("margin", [20, 60, 120])
    def test_more_air_does_not_move_it(self, margin):
        array, where = self.scene()
        wide = [(0, 0), (margin, margin), (margin, margin)]
        noise = np.abs(np.random.default_rng(1).normal(0, 8, np.pad(array, wide).shape)).astype(np.float32)
        padded = np.pad(array, wide)
        padded = np.where(padded > 0, padded, noise)
        assert tumour_value(padded, np.pad(where, wide)) == pytest.approx(tumour_value(array, where), abs=0.05)

    def test_fewer_slices_do_not_move_it(self):
        array, where = self.scene()
        assert tumour_value(array[5:15], where[5:15]) == pytest.approx(tumour_value(array, where), abs=0.05)

    @pytest.mark.parametrize("value", [3_000.0, 30_000.0])
    def test_a_bright_outlier_does_not_move_it(self, value):
        """A vessel or an artefact of 0.4 % of the body, five to fifty times as bright."""
        array, where = self.scene()
        bright = array.copy()
        bright[4:6, 20:34, 50:62] = value
        assert tumour_value(bright, where) == pytest.approx(tumour_value(array, where), abs=0.1)
