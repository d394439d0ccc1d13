"""CT onto MRI on a phantom whose place is known, the gate, and outlines in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from fedloupe_client.imaging.outlines import body_of_ct, body_of_mr, mismatch
from fedloupe_client.imaging.registering import register

SHAPE = (24, 60, 60)
SPACING = (2.0, 2.0, 4.0)
IDENTITY = sitk.Transform(3, sitk.sitkIdentity)
# centre (z, y, x) and radius of spheres in mm, then MR and CT value
ORGANS = [
    ((40, 50, 45), 14, 300, 60),
    ((60, 75, 80), 12, 900, -90),
    ((30, 70, 75), 10, 60, 290),
    ((65, 45, 70), 11, 500, 20),
    ((50, 72, 42), 8, 60, 290),
]


def phantom(seed: int = 0, organs: list = ORGANS) -> tuple[np.ndarray, np.ndarray]:
    """MR and CT (z, y, x) of an elliptic body with fat under its skin, and noise; both synthetic."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*[np.arange(n) * s for n, s in zip(SHAPE, SPACING[::-1], strict=True)], indexing="ij")
    tilt = 0.15 * (z - 46)  # the body is no cylinder: a shift along it shows
    skin = ((x - 59 - tilt) / 50) ** 2 + ((y - 59) / 40) ** 2
    mr, ct = np.where(skin < 1, 900.0, 0.0), np.where(skin < 1, -90.0, -1000.0)
    mr[skin < 0.75], ct[skin < 0.75] = 400, 50
    for centre, radius, bright, hounsfield in organs:
        inside = sum((a - c) ** 2 for a, c in zip((z, y, x), centre, strict=True)) < radius**2
        mr[inside], ct[inside] = bright, hounsfield
    mr, ct = np.abs(mr + rng.normal(0, 20, SHAPE)), ct + rng.normal(0, 15, SHAPE)
    return mr.astype(np.float32), ct.astype(np.float32)


def tumour() -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[7:13, 21:29, 19:27] = 1  # about the first organ
    return mask


class TestRegister:
    def test_a_known_shift_and_turn_are_found_and_believed(self, make_image):
        mr, ct = phantom()
        image = make_image(ct, SPACING)
        truth = sitk.Euler3DTransform((59.0, 59.0, 46.0), 0.03, -0.02, 0.06, (6.0, -6.0, 4.2))
        moved = sitk.Resample(image, image, truth.GetInverse(), sitk.sitkLinear, -1000.0)
        mask = make_image(tumour(), SPACING)
        found = register(make_image(mr, SPACING), moved, mask)
        assert found.accepted, found.reason
        points = [mask.TransformIndexToPhysicalPoint((x, y, z)) for z in (7, 12) for y in (21, 28) for x in (19, 26)]
        away = [np.subtract(found.transform.TransformPoint(p), truth.TransformPoint(p)) for p in points]
        assert np.linalg.norm(away, axis=1).mean() < 1.5  # less than a voxel's edge
        assert found.rotation_degrees == pytest.approx(np.degrees(np.linalg.norm([0.03, 0.02, 0.06])), abs=1.5)

    def test_the_same_images_give_the_same_transform(self, make_image):
        mr, ct = phantom()
        images = make_image(mr, SPACING), make_image(ct, SPACING), make_image(tumour(), SPACING)
        one, two = (register(*images) for _ in range(2))
        assert one.transform.GetParameters() == two.transform.GetParameters()
        assert (one.disagreement_mm, one.parts_mm, one.outline) == (two.disagreement_mm, two.parts_mm, two.outline)

    def test_other_organs_in_the_same_skin_are_refused(self, make_image):
        mr, _ = phantom()
        elsewhere = [((60, 75, 40), 14, 0, 60), ((35, 45, 80), 12, 0, -90), ((60, 45, 45), 10, 0, 290)]
        _, ct = phantom(1, elsewhere)
        found = register(make_image(mr, SPACING), make_image(ct, SPACING), make_image(tumour(), SPACING))
        assert not found.accepted
        assert "apart" in found.reason

    @pytest.mark.parametrize("value", [0.0, -1000.0])
    def test_a_ct_of_nothing_is_refused_not_a_crash(self, make_image, value):
        mr, _ = phantom()
        empty = make_image(np.full(SHAPE, value, np.float32), SPACING)
        assert not register(make_image(mr, SPACING), empty, make_image(tumour(), SPACING)).accepted

    def test_a_ct_in_other_coordinates_is_brought_to_the_centre_first(self, make_image):
        mr, ct = phantom()
        far = make_image(ct, SPACING, origin=(900.0, -700.0, 400.0))
        found = register(make_image(mr, SPACING), far, make_image(tumour(), SPACING))
        assert found.accepted, found.reason
        there = np.array(found.transform.TransformPoint((45.0, 50.0, 40.0)))
        assert np.linalg.norm(there - np.array([945.0, -650.0, 440.0])) < 1.5


def slab(value: float, rest: float, low: int, high: int) -> np.ndarray:
    array = np.full((4, 40, 40), rest, np.float32)
    array[:, 5:35, low:high] = value
    return array


class TestMismatch:
    """Within 1 %: opening rounds the corners of a slab."""

    def bodies(self, make_image, mr: tuple[int, int], ct: tuple[int, int]) -> tuple[sitk.Image, sitk.Image]:
        return body_of_mr(make_image(slab(500, 2, *mr))), body_of_ct(make_image(slab(40, -1000, *ct)))

    def test_equal_bodies_do_not_differ(self, make_image):
        assert mismatch(*self.bodies(make_image, (10, 30), (10, 30)), IDENTITY) < 0.01

    def test_a_shift_counts_what_sticks_out(self, make_image):
        bodies = self.bodies(make_image, (10, 30), (14, 34))
        assert mismatch(*bodies, IDENTITY) == pytest.approx(4 / 20, abs=0.01)
        assert mismatch(*bodies, sitk.TranslationTransform(3, (8.0, 0.0, 0.0))) < 0.01

    def test_the_larger_side_counts(self, make_image):
        assert mismatch(*self.bodies(make_image, (10, 20), (10, 30)), IDENTITY) == pytest.approx(1.0, abs=0.01)
        assert mismatch(*self.bodies(make_image, (10, 30), (10, 20)), IDENTITY) == pytest.approx(0.5, abs=0.01)

    def test_an_mri_within_the_body_has_no_outline_to_differ(self, make_image):
        inside = body_of_mr(make_image(slab(500, 2, 10, 30)))  # dark tissue at the edge looks like air
        everywhere = body_of_ct(make_image(np.full((4, 40, 40), 40, np.float32)))
        assert mismatch(inside, everywhere, IDENTITY) == 0

    def test_images_that_do_not_meet_differ_wholly(self, make_image):
        bodies = self.bodies(make_image, (10, 30), (10, 30))
        assert mismatch(*bodies, sitk.TranslationTransform(3, (500.0, 0.0, 0.0))) == 1

    def test_the_table_and_the_gas_within_are_not_the_outline(self, make_image):
        array = slab(40, -1000, 10, 30)
        array[:, 15:20, 15:20] = -1000  # bowel gas
        plain = body_of_ct(make_image(slab(40, -1000, 10, 30)))
        array[:, 38, :] = 100  # a table, one voxel thick
        np.testing.assert_array_equal(
            sitk.GetArrayFromImage(body_of_ct(make_image(array))), sitk.GetArrayFromImage(plain)
        )
