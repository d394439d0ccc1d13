"""Simoncelli's non-separable wavelet: rings of spatial frequency, the same in every direction (IBSI-2, PRT7).

simoncelli_maps(image, box, levels=(1, 2, 3))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import fft

from fedloupe_client.radiomics.kernel import Floats
from fedloupe_client.radiomics.separable import Box, along_z


def ring(frequency: Floats, level: int) -> Floats:
    """Share of a wave that level j lets pass: cos(pi/2 log2(2^j w / pi)) where pi/2^(j+1) < w < pi/2^(j-1), else 0.

    Args:
        frequency: length w of the wave's frequency in radians a voxel.
        level: j, from 1, the finest.
    """
    octave = np.log2(np.maximum(frequency, 1e-300) / np.pi) + level
    passed: Floats = np.where(np.abs(octave) < 1, np.cos(np.pi / 2 * np.clip(octave, -1, 1)), 0.0)
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
    back = [_synthesis(size, where) for size, where in zip(image.shape, box, strict=True)]
    for level in levels:
        filtered = spectrum * ring(frequency, level)
        low = filtered if planar else along_z(back[0], filtered)
        yield back[1] @ low @ back[2].T


def _synthesis(size: int, where: slice) -> Floats:
    """The rows `where` of the inverse of the orthonormal DCT-II, (outputs, size)."""
    rows: Floats = fft.idct(np.eye(size), axis=0, norm="ortho")[where]
    return rows
