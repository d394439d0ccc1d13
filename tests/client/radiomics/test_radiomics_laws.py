"""Laws energies against rotated images and scipy, and against what an impulse must give."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import ndimage

from fedloupe_client.radiomics.laws import KERNELS, laws_energies, rotations

IMAGE = np.random.default_rng(0).normal(size=(15, 17, 16))
BOX = (slice(4, 9), slice(0, 6), slice(11, 16))  # touches two edges
WHOLE = tuple(slice(0, n) for n in IMAGE.shape)


def right_angle_rotations(image: np.ndarray):
    """The 24 turned images, each with the function that turns back."""
    for axes in product(range(4), repeat=3):
        planes = ((0, 1), (1, 2), (0, 2))

        def there(a, axes=axes):
            for k, plane in zip(axes, planes, strict=True):
                a = np.rot90(a, k, plane)
            return a

        def back(a, axes=axes):
            for k, plane in reversed(list(zip(axes, planes, strict=True))):
                a = np.rot90(a, -k, plane)
            return a

        yield there(image), back


def strongest(image: np.ndarray, kernels: list[str]) -> np.ndarray:
    """IBSI-2's word: the response of the image turned in every way, turned back, and the largest of all."""
    best = np.full(image.shape, -np.inf)
    for turned, back in right_angle_rotations(image):
        response = turned
        for axis, name in enumerate(kernels):
            response = ndimage.correlate1d(response, KERNELS[name], axis=axis, mode="reflect")
        best = np.maximum(best, back(response))
    return best


class TestAgainstRotatedImages:
    @pytest.mark.parametrize("name", ["L5E5E5", "E5L5S5", "E3W5R5", "E5E5E5", "L5L5S5", "E5W5E3"])
    @pytest.mark.parametrize("box", [BOX, WHOLE], ids=["box", "whole"])
    def test_energy_is_the_mean_magnitude_of_the_strongest_response(self, name, box):
        kernels = [name[i : i + 2] for i in (0, 2, 4)]
        response = np.abs(strongest(IMAGE, kernels))
        expected = ndimage.uniform_filter(response, size=7, mode="reflect")[box]
        (energy,) = laws_energies(IMAGE, box, [name], 3)
        assert np.allclose(energy, expected, rtol=0, atol=1e-12)

    def test_within_the_slice_the_four_turns_of_the_slice_count(self):
        box = (slice(0, 15), *BOX[1:])
        expected = []
        for plane in IMAGE:
            best = np.full(plane.shape, -np.inf)
            for k in range(4):
                turned = ndimage.correlate1d(np.rot90(plane, k), KERNELS["L5"], axis=0, mode="reflect")
                turned = ndimage.correlate1d(turned, KERNELS["E5"], axis=1, mode="reflect")
                best = np.maximum(best, np.rot90(turned, -k))
            expected.append(ndimage.uniform_filter(np.abs(best), size=5, mode="reflect"))
        (energy,) = laws_energies(IMAGE, box, ["L5E5"], 2)
        assert np.allclose(energy, np.stack(expected)[box], rtol=0, atol=1e-12)


class TestClosedForms:
    @pytest.mark.parametrize("name", KERNELS)
    def test_kernels_have_unit_length_and_all_but_level_kernels_ignore_a_constant(self, name):
        assert (KERNELS[name] ** 2).sum() == pytest.approx(1)
        assert (abs(KERNELS[name].sum()) < 1e-15) == (name[0] != "L")

    def test_an_impulse_gives_the_kernels_strongest_weights(self):
        impulse = np.zeros((9, 9, 9))
        impulse[4, 4, 4] = 255
        (energy,) = laws_energies(impulse, (slice(0, 9),) * 3, ["L5S5S5"], 0)
        weights = {name: KERNELS[name] for name in ("L5", "S5")}
        orders = [("L5", "S5", "S5"), ("S5", "L5", "S5"), ("S5", "S5", "L5")]
        cubes = [np.einsum("i,j,k->ijk", *(weights[name] for name in order)) for order in orders]
        assert np.allclose(energy[2:7, 2:7, 2:7], np.abs(255 * np.max(cubes, axis=0)), atol=1e-12)
        assert energy[0].max() == energy[:, :, 7].max() == 0

    def test_rotations_change_the_sign_of_odd_kernels_only(self):
        assert rotations(("L5", "S5", "S5"))[("L5", "S5", "S5")] == {1}
        assert rotations(("L5", "L5", "E5")) == {
            order: {1, -1} for order in [("L5", "L5", "E5"), ("L5", "E5", "L5"), ("E5", "L5", "L5")]
        }
        assert rotations(("L5", "E5"))[("E5", "L5")] == {1, -1}
        # No mirror image among them: three odd kernels keep their sign, or lose it with an odd change of places.
        assert rotations(("E5", "W5"))[("E5", "W5")] == {1}
        assert rotations(("E5", "W5"))[("W5", "E5")] == {-1}
