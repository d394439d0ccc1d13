"""Text or graphics burned into the pictures, told by what stands still from slice to slice.

found = still_marks(array)                    # (z, y, x)
found.suspicious

Noise and anatomy change from slice to slice; a name, an id or a scale that a console drew into every picture does not.
A pixel counts that holds exactly the same value on four fifths of the slices, brighter than the background by a tenth
of the image's range, in a piece no more than ten pixels thick (padding and implants are thicker). Eight such pixels in
three pieces are called text. It sees opaque marks on every slice along z. It does not see text that differs from slice
to slice, that the body shines through (small smoothed letters), that lossy compression has blurred, or that is dark.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FEWEST_SLICES = 4
SHARE = 0.8
CONTRAST = 0.1
HALF_THICK = 5
FEWEST_PIXELS, FEWEST_PIECES = 8, 3


@dataclass(frozen=True)
class Marks:
    """What stands still: pixels in the plane, and the pieces that they form (neighbours share an edge or a corner)."""

    pixels: int
    pieces: int

    @property
    def suspicious(self) -> bool:
        """Enough for letters."""
        return self.pixels >= FEWEST_PIXELS and self.pieces >= FEWEST_PIECES


def still_marks(array: NDArray[np.generic]) -> Marks:
    """Thin bright pixels that hold one value on most slices, (z, y, x); none of fewer than `FEWEST_SLICES`."""
    count = len(array)
    if count < FEWEST_SLICES:
        return Marks(0, 0)
    flat = np.ascontiguousarray(array).reshape(count, -1)
    looked_at = (count // 4, count // 2, 3 * count // 4)
    if (flat[looked_at[0]] == flat[looked_at[1]]).all():  # a picture that is repeated
        return Marks(0, 0)
    low, high = np.percentile(flat[list(looked_at)], (1, 95))  # words are less than a twentieth of a picture
    still = np.zeros(flat.shape[1], bool)
    for one in looked_at:
        bright = np.flatnonzero((flat[one] > low + CONTRAST * (high - low)) & ~still)
        equal = (flat[:, bright] == flat[one, bright]).sum(axis=0)
        still[bright[equal >= SHARE * count]] = True
    if not still.any():
        return Marks(0, 0)
    plane = np.pad(still.reshape(array.shape[1:]), 1)
    pieces, number = ndimage.label(plane, np.ones((3, 3)))
    depth = ndimage.distance_transform_cdt(plane, "chessboard")
    numbers = np.arange(1, number + 1)
    thin = np.asarray(ndimage.maximum(depth, pieces, numbers)) <= HALF_THICK
    return Marks(int(np.asarray(ndimage.sum_labels(plane, pieces, numbers))[thin].sum()), int(thin.sum()))
