"""Simoncelli's non-separable wavelet: rings of spatial frequency, the same in every direction (IBSI-2, PRT7).

simoncelli_maps(image, box, levels=(1, 2, 3))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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


def simoncelli_maps(image: Floats, box: Box, levels: Sequence[int], *, planar: bool = False) -> Iterator[Floats]:
    """Undecimated band-pass maps.

    Edges are reflected: a filter even along each axis is then diagonal in the cosine transform (DCT-II), and no period
    is imposed on the image.

    Args:
        image: (z, y, x).
        box: where the responses are wanted.
        levels: from 1, the finest.
        planar: slice by slice, for a box that holds all slices.

    Yields:
        An array of the box's shape for each level.
    """
    if not levels:
        return
    axes = (1, 2) if planar else (0, 1, 2)
    spectrum = fft.dctn(image, axes=axes, norm="ortho")
    squared = np.zeros((1, 1, 1))
    for axis in axes:
        along = (np.pi * np.arange(image.shape[axis]) / image.shape[axis]) ** 2
        squared = squared + along.reshape([-1 if a == axis else 1 for a in range(3)])
    frequency = np.sqrt(squared)
    for level in levels:
        yield fft.idctn(spectrum * ring(frequency, level), axes=axes, norm="ortho")[box]
