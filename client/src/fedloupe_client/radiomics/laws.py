"""Laws kernels: rotation-invariant texture energy (IBSI-2, JTXT, O1AQ, 41LN, PQSD).

    laws_energies(image, box, ["L5E5E5"], radius=7)

A name gives one kernel an axis. The response is the largest over all right-angle rotations of the kernel, the energy
its mean magnitude over a box of 2 radius + 1 voxels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations, product

import numpy as np

from fedloupe_client.radiomics.kernel import Floats
from fedloupe_client.radiomics.separable import Box, Taps, correlate, make_taps, trim

# Correlation weights (IBSI-2, table 6), each of unit length.
KERNELS = {
    "L3": np.array([1, 2, 1]) / np.sqrt(6),
    "E3": np.array([-1, 0, 1]) / np.sqrt(2),
    "S3": np.array([-1, 2, -1]) / np.sqrt(6),
    "L5": np.array([1, 4, 6, 4, 1]) / np.sqrt(70),
    "E5": np.array([-1, -2, 0, 2, 1]) / np.sqrt(10),
    "S5": np.array([-1, 0, 2, 0, -1]) / np.sqrt(6),
    "W5": np.array([-1, 2, 0, -2, 1]) / np.sqrt(10),
    "R5": np.array([1, -4, 6, -4, 1]) / np.sqrt(70),
}
ODD = ("E3", "E5", "W5")


def laws_energies(image: Floats, box: Box, names: Sequence[str], radius: int) -> Iterator[Floats]:
    """The energy of each named kernel.

    Args:
        image: (z, y, x); edges are reflected, of the image and of the response.
        box: where the energies are wanted; it holds all slices where names have two kernels, which then work along
            y and x slice by slice.
        names: as `L5E5E5`, or `L5E5` in the plane.
        radius: of the energy's mean, in voxels.

    Yields:
        An array of the box's shape for each name.
    """
    for name in names:
        kernels = tuple(name[i : i + 2] for i in range(0, len(name), 2))
        axes = range(3 - len(kernels), 3)
        wide = [
            slice(max(0, where.start - radius), min(size, where.stop + radius)) if axis in axes else where
            for axis, (size, where) in enumerate(zip(image.shape, box, strict=True))
        ]
        energy = np.abs(strongest(image, (wide[0], wide[1], wide[2]), kernels))
        offsets = np.arange(-radius, radius + 1)
        even = np.full(len(offsets), 1 / len(offsets))
        for axis in axes:
            # Reflection at the image's edge never reads beyond the widened box.
            mean = make_taps(even, offsets, image.shape[axis], box[axis], wide[axis].start)
            energy = correlate(energy, mean, axis)
        yield energy


def strongest(image: Floats, box: Box, kernels: tuple[str, ...]) -> Floats:
    """The largest response over all right-angle rotations.

    A rotation permutes the kernels and turns some round; turning an odd kernel round changes the response's sign. So
    each order of kernels is applied once, and counts with the signs that its rotations bring.
    """
    axes = range(3 - len(kernels), 3)
    best: Floats | None = None
    for order, signs in rotations(kernels).items():
        taps: list[list[Taps]] = [[], [], []]
        for axis, name in zip(axes, order, strict=True):
            half = len(KERNELS[name]) // 2
            offsets = np.arange(-half, half + 1)
            taps[axis] = [make_taps(KERNELS[name], offsets, image.shape[axis], box[axis])]
        response, taps = trim(image, taps)
        for axis in axes:
            response = correlate(response, taps[axis][0], axis)
        for sign in signs:
            best = sign * response if best is None else np.maximum(best, sign * response)
    if best is None:
        raise ValueError("a Laws filter needs kernels")
    return best


def rotations(kernels: tuple[str, ...]) -> dict[tuple[str, ...], set[int]]:
    """Distinct orders of the kernels under right-angle rotations, each with the signs of its response."""
    found: dict[tuple[str, ...], set[int]] = {}
    for places in permutations(range(len(kernels))):
        parity = np.linalg.det(np.eye(len(kernels))[list(places)])
        order = tuple(kernels[place] for place in places)
        for flips in product((1, -1), repeat=len(kernels)):
            if parity * np.prod(flips) > 0:
                odd = [flip for flip, name in zip(flips, order, strict=True) if name in ODD]
                found.setdefault(order, set()).add(int(np.prod(odd)))
    return found
