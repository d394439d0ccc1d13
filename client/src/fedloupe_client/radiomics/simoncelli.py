"""Simoncelli's non-separable wavelet: rings of spatial frequency, the same in every direction (IBSI-2, PRT7).

simoncelli_maps(image, box, levels=(1, 2, 3))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Literal

import numpy as np
from scipy import fft

from fedloupe_client.radiomics.kernel import Floats
from fedloupe_client.radiomics.separable import Box


def ring(frequency: Floats, level: int) -> Floats:
    """Share of a wave that level j lets pass: cos(pi/2 log2(2^j w / pi)) where pi/2^(j+1) < w < pi/2^(j-1), else 0.

    Args:
        frequency: length w of the wave's frequency in radians a voxel.
        level: j, from 1, the finest.
    """
    passed = np.zeros_like(frequency)
    inside = (frequency > np.pi / 2 ** (level + 1)) & (frequency < np.pi / 2 ** (level - 1))
    passed[inside] = np.cos(np.pi / 2 * (np.log2(frequency[inside] / np.pi) + level))
    return passed


def simoncelli_maps(
    image: Floats,
    box: Box,
    levels: Sequence[int],
    frequencies: Literal["exact", "ibsi"] = "exact",
    *,
    planar: bool = False,
) -> Iterator[Floats]:
    """Undecimated band-pass maps.

    `exact`: edges are reflected. A filter even along each axis is then diagonal in the cosine transform (DCT-II), whose
    frequencies are pi k / N, and no period is imposed on the image.

    `ibsi`: as IBSI-2's reference maps are made. The image is taken to repeat itself, and the N frequencies of an axis
    are spread evenly from -pi to pi, both ends included, the one nearest to zero taken for zero. That stretches them by
    N / (N - 1), and an even N puts them half a step off, so that responses depend on the size of the crop.

    Args:
        image: (z, y, x).
        box: where the responses are wanted.
        levels: from 1, the finest.
        frequencies: which of the two.
        planar: slice by slice, for a box that holds all slices.

    Yields:
        An array of the box's shape for each level.
    """
    if not levels:
        return
    axes = (1, 2) if planar else (0, 1, 2)
    if frequencies == "exact":
        frequency, spectrum = _lengths(image.shape, axes, _cosine), fft.dctn(image, axes=axes, norm="ortho")
        for level in levels:
            yield fft.idctn(spectrum * ring(frequency, level), axes=axes, norm="ortho")[box]
    else:
        frequency, waves = _lengths(image.shape, axes, _spread), fft.fftn(image, axes=axes)
        for level in levels:
            yield fft.ifftn(waves * ring(frequency, level), axes=axes).real[box]


def _cosine(size: int) -> Floats:
    return np.pi * np.arange(size) / size


def _spread(size: int) -> Floats:
    spread = np.fft.ifftshift(np.linspace(-np.pi, np.pi, size))
    spread[0] = 0.0
    return spread


def _lengths(shape: tuple[int, ...], axes: tuple[int, ...], along: Callable[[int], Floats]) -> Floats:
    """Length of each wave's frequency, to be broadcast over the spectrum."""
    squares = [(along(shape[axis]) ** 2).reshape([-1 if a == axis else 1 for a in range(3)]) for axis in axes]
    lengths: Floats = np.sqrt(reduce(np.add, squares))
    return lengths
