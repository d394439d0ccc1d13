"""Filter responses against scipy and PyWavelets on the whole image."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import pywt
from scipy import ndimage

from fedloupe.features import FeatureSettings
from fedloupe_client.radiomics.filters import filter_responses, laplacian_of_gaussian, wavelet_bands

IMAGE = np.random.default_rng(0).normal(size=(22, 24, 26))
BOX = (slice(7, 15), slice(8, 12), slice(9, 18))
WHOLE = tuple(slice(0, n) for n in IMAGE.shape)


class TestLaplacianOfGaussian:
    @pytest.mark.parametrize("sigma", [1.0, 1.15, 2.5])
    @pytest.mark.parametrize("box", [BOX, WHOLE], ids=["box", "whole"])
    def test_equals_scipy_with_reflected_edges(self, sigma, box):
        expected = ndimage.gaussian_laplace(IMAGE, sigma, mode="reflect", truncate=4.0)[box]
        assert np.allclose(laplacian_of_gaussian(IMAGE, box, sigma, 4.0), expected, rtol=0, atol=1e-13)

    def test_a_kernel_larger_than_the_image_reflects_again_and_again(self):
        small = IMAGE[:5, :6, :7]
        box = (slice(1, 4), slice(0, 6), slice(2, 3))
        expected = ndimage.gaussian_laplace(small, 4.0, mode="reflect", truncate=4.0)[box]
        assert np.allclose(laplacian_of_gaussian(small, box, 4.0, 4.0), expected, rtol=0, atol=1e-13)

    def test_a_quadratic_gives_its_laplacian(self):
        z, y, x = np.mgrid[:41, :41, :41] - 20.0
        centre = (slice(20, 21),) * 3
        response = laplacian_of_gaussian(3 * x**2 - y**2 + 0.5 * z**2 + x + 7, centre, 2.0, 6.0)
        assert response.item() == pytest.approx(2 * (3 - 1 + 0.5), rel=1e-5)


class TestWavelet:
    @pytest.mark.parametrize("name", ["coif1", "db2", "db3", "haar"])
    def test_equals_the_stationary_transform_away_from_the_edges(self, name):
        reference = pywt.swtn(IMAGE, name, level=1)[0]
        bands = dict(zip(product("LH", repeat=3), wavelet_bands(IMAGE, BOX, name, mirrored=False), strict=True))
        for (x, y, z), band in bands.items():
            key = "".join("a" if letter == "L" else "d" for letter in (z, y, x))  # pywt's letters are by array axis
            assert np.allclose(band, reference[key][BOX], rtol=0, atol=1e-13)

    def test_edges_are_reflected_as_in_scipy(self):
        low = np.asarray(pywt.Wavelet("coif1").dec_lo)
        expected = IMAGE
        for axis in range(3):
            expected = ndimage.convolve1d(expected, low, axis=axis, mode="reflect", origin=0)
        assert np.allclose(next(wavelet_bands(IMAGE, WHOLE, "coif1", mirrored=False)), expected, rtol=0, atol=1e-13)

    @pytest.mark.parametrize("name", ["coif1", "db3"])
    def test_mirrored_is_the_mean_over_the_eight_mirrored_images(self, name):
        wavelet = pywt.Wavelet(name)
        bands = list(wavelet_bands(IMAGE, WHOLE, name, mirrored=True))
        for band, (x, y, z) in zip(bands, product("LH", repeat=3), strict=True):
            total = np.zeros_like(IMAGE)
            for axes in product((False, True), repeat=3):
                flips = [axis for axis in range(3) if axes[axis]]
                response = np.flip(IMAGE, flips)
                for axis, letter in enumerate((z, y, x)):
                    bank = np.asarray(wavelet.dec_lo if letter == "L" else wavelet.dec_hi)
                    origin = int(np.argmax(np.abs(bank))) - len(bank) // 2
                    response = ndimage.convolve1d(response, bank, axis=axis, mode="reflect", origin=origin)
                total += np.flip(response, flips)
            assert np.allclose(band, total / 8, rtol=0, atol=1e-13)

    def test_letters_stand_for_x_y_z(self):
        ramp = np.zeros((16, 16, 16))
        ramp[:, :, ::2] = 1.0  # alternates along x only
        settings = FeatureSettings(log_sigmas_mm=())
        energy = {
            name: float(np.abs(band).sum()) for name, band in filter_responses(ramp, (slice(6, 10),) * 3, 1.0, settings)
        }
        assert energy["wavelet_HLL"] > 1
        assert all(value < 1e-9 for name, value in energy.items() if "H" in name and name != "wavelet_HLL")


class TestWithinTheSlice:
    BOX = (slice(0, 22), *BOX[1:])

    def test_the_laplacian_equals_scipy_slice_by_slice(self):
        expected = [ndimage.gaussian_laplace(plane, 2.5, mode="reflect", truncate=4.0) for plane in IMAGE]
        found = laplacian_of_gaussian(IMAGE, self.BOX, 2.5, 4.0, planar=True)
        assert np.allclose(found, np.stack(expected)[self.BOX], rtol=0, atol=1e-13)

    def test_wavelets_equal_the_stationary_transform_of_each_slice(self):
        bands = list(wavelet_bands(IMAGE, self.BOX, "db2", mirrored=False, planar=True))
        for z, plane in enumerate(IMAGE):
            ((low, details),) = pywt.swt2(plane, "db2", level=1)
            # pywt: high-pass along axis 0 (our y), axis 1 (our x), both; ours: LL, LH, HL, HH by x, y
            for band, expected in zip(bands, (low, details[0], details[1], details[2]), strict=True):
                assert np.allclose(band[z], expected[self.BOX[1:]], rtol=0, atol=1e-13)

    def test_only_the_slices_of_the_box_are_read(self):
        settings = FeatureSettings(aggregation="merged_25d", simoncelli_levels=(1,), laws=("L5E5",))
        image = IMAGE.copy()
        straight = dict(filter_responses(image, BOX, 1.0, settings))
        image[: BOX[0].start] = image[BOX[0].stop :] = 1e6
        for name, response in filter_responses(image, BOX, 1.0, settings):
            assert response.shape == tuple(where.stop - where.start for where in BOX)
            assert np.array_equal(response, straight[name])
