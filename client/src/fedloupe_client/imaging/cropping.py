"""The cube about the tumour that the network sees.

cube = crop(grid, edge_mm=64.0)
cube.images.shape                             # (C, D, H, W), all edges alike
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedloupe_client.imaging.grid import GridCase, Intensity

LIMIT = 4.0


@dataclass(frozen=True)
class Crop:
    """A case as a network's input.

    Attributes:
        images: (C, D, H, W) float32 in [-4, 4], C in the study's order of sequences; zeros where missing or beyond the
            field of view.
        present: (C) whether the sequence is there.
    """

    images: NDArray[np.float32]
    present: NDArray[np.bool_]


def crop(grid: GridCase, edge_mm: float) -> Crop:
    """Cut a cube centred on the mask's centroid, to the nearest voxel, and scale it.

    `zscore` is kept, `physical` becomes (x - 1000) / 500 (ADC in 1e-6 mm2/s), `hounsfield` x / 100; all are clipped to
    [-4, 4].

    Args:
        grid: from `to_grid`.
        edge_mm: edge of the cube; it holds round(edge / spacing) voxels, at least one.
    """
    n = max(1, round(edge_mm / grid.spacing_mm))
    shape = np.array(grid.mask.shape)
    start = np.rint(np.argwhere(grid.mask).mean(0) - (n - 1) / 2).astype(int)
    low, high = np.maximum(start, 0), np.minimum(start + n, shape)
    source = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    target = tuple(slice(int(a), int(b)) for a, b in zip(low - start, high - start, strict=True))
    images = np.zeros((len(grid.images), n, n, n), np.float32)
    for channel, (name, image) in enumerate(grid.images.items()):
        if image is not None:
            images[channel][target] = scaled(image[source], grid.intensities[name])
    return Crop(images, np.array([image is not None for image in grid.images.values()]))


def scaled(values: NDArray[np.float32], intensity: Intensity) -> NDArray[np.float32]:
    """Values of one kind of intensity as a network sees them, in [-4, 4]; see `crop`."""
    centre, unit = {"zscore": (0.0, 1.0), "physical": (1000.0, 500.0), "hounsfield": (0.0, 100.0)}[intensity]
    clipped: NDArray[np.float32] = np.clip((values - centre) / unit, -LIMIT, LIMIT).astype(np.float32)
    return clipped
