"""Filter responses, computed for the tumour's bounding box only.

    responses = dict(filter_responses(image, region.box, 2.0, settings))      # name -> (z, y, x) of the box

With a 2D or 2.5D aggregation every filter works within the slice: a Laplacian of two second derivatives, four
sub-bands, rings in the plane, kernels of two letters.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import pywt

from fedloupe.features import FeatureSettings
from fedloupe_client.radiomics.kernel import Floats, Ints
from fedloupe_client.radiomics.laws import laws_energies
from fedloupe_client.radiomics.separable import Box, correlate, make_taps, trim
from fedloupe_client.radiomics.simoncelli import simoncelli_maps


def filter_responses(
    image: Floats, box: Box, spacing_mm: float, settings: FeatureSettings
) -> Iterator[tuple[str, Floats]]:
    """Each filter's name and response, in the order of `settings.filters` after the original.

    Args:
        image: float64 (z, y, x), the crop with its margin.
        box: where the response is wanted.
        spacing_mm: voxel size, isotropic, or in the plane where `settings.planar`.
        settings: which filters.

    Yields:
        Name and float64 response of the box's shape. Units: LoG per squared voxel, as `scipy.ndimage`.
    """
    planar = settings.planar
    if planar:
        image, box = image[box[0]], (slice(0, box[0].stop - box[0].start), *box[1:])
    names = iter(settings.filters[1:])
    for sigma_mm in settings.log_sigmas_mm:
        sigma = sigma_mm / spacing_mm
        yield next(names), laplacian_of_gaussian(image, box, sigma, settings.log_truncate, planar=planar)
    if settings.wavelet is not None:
        for response in wavelet_bands(image, box, settings.wavelet, settings.wavelet_mirrored, planar=planar):
            yield next(names), response
    for response in simoncelli_maps(image, box, settings.simoncelli_levels, planar=planar):
        yield next(names), response
    for response in laws_energies(image, box, settings.laws, round(settings.laws_energy_mm / spacing_mm)):
        yield next(names), response


def laplacian_of_gaussian(image: Floats, box: Box, sigma: float, truncate: float, *, planar: bool = False) -> Floats:
    """Equals `scipy.ndimage.gaussian_laplace(image, sigma, mode="reflect", truncate=truncate)[box]` (IBSI-2, L6PA).

    Args:
        image: (z, y, x).
        box: where the response is wanted.
        sigma: in voxels.
        truncate: kernel radius in sigmas.
        planar: slice by slice, for a box that holds all slices.
    """
    radius = int(truncate * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    smooth = np.exp(-0.5 * (offsets / sigma) ** 2)
    smooth /= smooth.sum()
    second = (offsets**2 / sigma**4 - 1 / sigma**2) * smooth
    taps = [
        [] if planar and axis == 0 else [make_taps(weights, offsets, size, where) for weights in (smooth, second)]
        for axis, (size, where) in enumerate(zip(image.shape, box, strict=True))
    ]
    image, (along_z, (gy, dy), (gx, dx)) = trim(image, taps)
    low = image if planar else correlate(image, along_z[0], 0)
    plane = correlate(low, dy, 1)
    if not planar:
        plane += correlate(correlate(image, along_z[1], 0), gy, 1)
    return correlate(plane, gx, 2) + correlate(correlate(low, gy, 1), dx, 2)


def wavelet_bands(image: Floats, box: Box, name: str, mirrored: bool, *, planar: bool = False) -> Iterator[Floats]:
    """The eight undecimated sub-bands of one level, LLL to HHH by (x, y, z), the last letter fastest (IBSI-2, 25BO).

    Args:
        image: (z, y, x).
        box: where the responses are wanted.
        name: an orthogonal wavelet of `pywt`.
        mirrored: False: `pywt.swtn(image, name, level=1)` away from the boundary, which here is reflected. Such
            kernels are not symmetric: features then tell an image from its mirror image. True: each kernel,
            centred on its largest tap, is averaged with its own mirror image, which for a separable filter is the
            average over all eight mirrored transforms.
        planar: slice by slice, four sub-bands LL to HH by (x, y), for a box that holds all slices.

    Yields:
        Eight (planar: four) arrays of the box's shape.
    """
    wavelet = pywt.Wavelet(name)
    banks = [_taps(np.asarray(bank), mirrored) for bank in (wavelet.dec_lo, wavelet.dec_hi)]
    image, taps = trim(
        image,
        [
            [] if planar and axis == 0 else [make_taps(weights, offsets, size, where) for weights, offsets in banks]
            for axis, (size, where) in enumerate(zip(image.shape, box, strict=True))
        ],
    )
    by_z = [image] if planar else [correlate(image, one, 0) for one in taps[0]]
    by_zy = [[correlate(response, one, 1) for one in taps[1]] for response in by_z]
    for x, y, z in product((0, 1), (0, 1), range(len(by_z))):
        yield correlate(by_zy[z][y], taps[2][x], 2)


def _taps(bank: Floats, mirrored: bool) -> tuple[Floats, Ints]:
    """Weights and the offsets at which they read."""
    places = np.arange(len(bank))
    if not mirrored:
        # pywt's stationary transform: out[i] = sum_j bank[j] * image[i + len/2 - j]
        return bank, len(bank) // 2 - places
    offsets = int(np.argmax(np.abs(bank))) - places
    return np.concatenate([bank, bank]) / 2, np.concatenate([offsets, -offsets])
