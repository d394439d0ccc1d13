"""Simoncelli maps against plane waves, whose response is known, and against Fourier transforms of mirrored images."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe_client.radiomics.simoncelli import ring, simoncelli_maps

IMAGE = np.random.default_rng(0).normal(size=(11, 14, 16))
BOX = (slice(3, 7), slice(0, 5), slice(9, 16))


def _by_fourier(image: np.ndarray, level: int) -> np.ndarray:
    """Mirrored along every axis, an image is periodic: the discrete Fourier transform then filters it exactly."""
    mirrored = np.pad(image, [(0, n) for n in image.shape], mode="symmetric")
    axes = np.meshgrid(*(2 * np.pi * np.fft.fftfreq(n) for n in mirrored.shape), indexing="ij")
    response = np.fft.ifftn(np.fft.fftn(mirrored) * ring(np.sqrt(sum(axis**2 for axis in axes)), level)).real
    return response[tuple(slice(0, n) for n in image.shape)]


class TestRing:
    @pytest.mark.parametrize("level", [1, 2, 3])
    def test_the_middle_passes_whole_the_limits_not_at_all(self, level):
        middle = np.pi / 2**level
        frequency = np.array([middle / 2, middle / np.sqrt(2), middle, middle * np.sqrt(2), middle * 2, 0])
        assert np.allclose(ring(frequency, level), [0, np.sqrt(0.5), 1, np.sqrt(0.5), 0, 0], atol=1e-12)

    def test_two_neighbouring_levels_share_the_power_of_every_wave_between_them(self):
        frequency = np.linspace(np.pi / 8, np.pi / 2, 50)
        power = sum(ring(frequency, level) ** 2 for level in (1, 2, 3))
        assert np.allclose(power, 1, atol=1e-12)


class TestMaps:
    @pytest.mark.parametrize("level", [1, 2, 3])
    def test_equals_the_fourier_transform_of_the_mirrored_image(self, level):
        (found,) = simoncelli_maps(IMAGE, BOX, (level,))
        assert np.allclose(found, _by_fourier(IMAGE, level)[BOX], rtol=0, atol=1e-12)

    def test_a_plane_wave_comes_back_by_the_share_of_its_ring(self):
        waves = [np.cos(np.pi * k * (np.arange(n) + 0.5) / n) for k, n in zip((2, 3, 5), IMAGE.shape, strict=True)]
        image = np.einsum("i,j,k->ijk", *waves)
        frequency = np.linalg.norm([np.pi * k / n for k, n in zip((2, 3, 5), IMAGE.shape, strict=True)])
        for level, found in zip((1, 2), simoncelli_maps(image, BOX, (1, 2)), strict=True):
            assert 0.1 < ring(frequency, level) < 1
            assert np.allclose(found, ring(frequency, level) * image[BOX], rtol=0, atol=1e-12)

    def test_a_constant_has_no_response(self):
        (found,) = simoncelli_maps(np.full((9, 8, 7), 5.0), (slice(2, 6),) * 3, (1,))
        assert np.abs(found).max() < 1e-13

    def test_within_the_slice_equals_each_slice_alone(self):
        box = (slice(0, 11), *BOX[1:])
        (found,) = simoncelli_maps(IMAGE, box, (2,), planar=True)
        for plane, response in zip(IMAGE, found, strict=True):
            tiled = np.broadcast_to(plane, (4, *plane.shape))  # what does not change along z has no frequency there
            assert np.allclose(response, _by_fourier(tiled, 2)[1][box[1:]], rtol=0, atol=1e-12)
