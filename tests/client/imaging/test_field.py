"""The field of a drawing study: centred on the image and not on the tumour, with the first sequence's direction."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from fedloupe.study import Imaging, Sequence
from fedloupe_client.imaging import field_images, field_mask, field_region
from fedloupe_client.imaging.problems import ImageFlat, TumourOutside

PLAIN = Imaging(spacing_mm=2.0, bias_correction="none")
OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


def image(array: np.ndarray, spacing=(1.0, 1.0, 3.0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1)) -> sitk.Image:
    made = sitk.GetImageFromArray(array)
    made.SetSpacing(spacing)
    made.SetOrigin((-5.0, 7.0, 11.0))
    made.SetDirection(direction)
    return made


def middle(made: sitk.Image) -> np.ndarray:
    return np.array(made.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in made.GetSize()]))


class TestRegion:
    @pytest.mark.parametrize("edge", [8, 9, 40])
    def test_shares_centre_and_direction_with_the_reference_whatever_its_size(self, edge):
        reference = image(np.zeros((10, 20, 31), np.float32), direction=OBLIQUE)
        region = field_region(reference, spacing_mm=2.0, edge=edge)
        assert region.GetSize() == (edge,) * 3 and region.GetSpacing() == (2.0,) * 3
        assert region.GetDirection() == reference.GetDirection()
        np.testing.assert_allclose(middle(region), middle(reference), atol=1e-9)

    def test_stands_upright_however_the_file_orders_its_axes(self):
        reference = image(np.zeros((10, 20, 31), np.float32), direction=OBLIQUE)
        stored = sitk.DICOMOrient(reference, "SAR")
        region = field_region(stored, spacing_mm=2.0, edge=8)
        np.testing.assert_allclose(region.GetDirection(), OBLIQUE, atol=1e-12)
        np.testing.assert_allclose(middle(region), middle(reference), atol=1e-9)


class TestImages:
    def test_are_scaled_within_the_body_and_zero_beyond_the_field_of_view(self):
        rng = np.random.default_rng(0)
        made = image((500 + 50 * rng.standard_normal((10, 20, 20))).astype(np.float32), (2.0, 2.0, 2.0))
        region = field_region(made, spacing_mm=2.0, edge=24)
        found = field_images({"t2w": made}, (Sequence(name="t2w"),), PLAIN, region, "c")
        assert found.shape == (1, 24, 24, 24) and found.dtype == np.float32
        inside = np.zeros((24, 24, 24), bool)
        inside[7:17, 2:22, 2:22] = True
        assert (found[0][~inside] == 0).all()
        assert abs(found[0][inside].mean()) < 0.05 and found[0][inside].std() == pytest.approx(1, abs=0.05)

    def test_keep_their_order_and_their_units(self):
        rng = np.random.default_rng(0)
        both = {
            "adc": image(np.full((8, 8, 8), 1500, np.float32), (2.0, 2.0, 2.0)),
            "t2w": image(rng.standard_normal((8, 8, 8)).astype(np.float32) + 9, (2.0, 2.0, 2.0)),
        }
        sequences = (Sequence(name="t2w"), Sequence(name="adc", intensity="physical"))
        found = field_images(both, sequences, PLAIN, field_region(both["t2w"], spacing_mm=2.0, edge=8), "c")
        assert (found[1] == 1.0).all()  # (1500 - 1000) / 500
        assert found[0].std() > 0.5

    def test_without_contrast_are_refused(self):
        flat = image(np.full((8, 8, 8), 7, np.float32))
        with pytest.raises(ImageFlat):
            field_images({"t2w": flat}, (Sequence(name="t2w"),), PLAIN, field_region(flat, spacing_mm=2.0, edge=8), "c")


class TestMask:
    def test_lies_where_the_image_has_it(self):
        array = np.zeros((16, 16, 16), np.uint8)
        array[3:7, 8:12, 5:9] = 1
        mask = image(array, (2.0, 2.0, 2.0), OBLIQUE)
        found = field_mask(field_region(mask, spacing_mm=2.0, edge=16), mask, "c")
        assert (found == (array > 0)).all()

    def test_of_a_tumour_beyond_the_field_is_refused_and_a_rim_is_not(self):
        array = np.zeros((40, 40, 40), np.uint8)
        array[20:22, 20:22, 11:31] = 1  # twenty voxels long
        mask = image(array, (2.0, 2.0, 2.0))
        assert field_mask(field_region(mask, spacing_mm=2.0, edge=20), mask, "c").any()
        with pytest.raises(TumourOutside, match="80%"):
            field_mask(field_region(mask, spacing_mm=2.0, edge=16), mask, "c")
