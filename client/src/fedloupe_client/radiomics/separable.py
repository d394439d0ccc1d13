"""Separable filters that read a whole crop but answer in a small box.

    taps = make_taps(weights, offsets, size, where)        # along one axis, with the boundary rule written in
    response = correlate(image, taps, axis=0)

Axis by axis, the first already drops the margin. The sums are ours, not a library's matrix product, whose order depends
on processor and threads: a last bit can carry a voxel over the edge of a float32, or of a bin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedloupe_client.radiomics.kernel import Floats, Ints, kernel

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Taps:
    """A filter along one axis: output o is the sum of `weights[t]` times the input at `places[o, t]`.

    Attributes:
        places: int64 (outputs, T).
        weights: float64 (T).
    """

    places: Ints
    weights: Floats


def make_taps(weights: Floats, offsets: Ints, size: int, where: slice, start: int = 0) -> Taps:
    """Correlation weights at offsets, for the outputs `where` of an axis with edges reflected (c b a | a b c | c b a).

    Args:
        weights: (T).
        offsets: (T), where the weights read, relative to the output; the same offset twice adds up.
        size: of the axis.
        where: the outputs.
        start: where on the axis the array begins that will be read.
    """
    distinct, which = np.unique(offsets, return_inverse=True)
    places = np.mod(np.arange(where.start, where.stop)[:, None] + distinct[None, :], 2 * size)
    places = np.where(places < size, places, 2 * size - 1 - places) - start
    return Taps(places.astype(np.int64), np.bincount(which, weights).astype(np.float64))


def trim(image: Floats, taps: Sequence[Sequence[Taps]]) -> tuple[Floats, list[list[Taps]]]:
    """The part of an image that is read, contiguous, and the taps that read that part.

    Args:
        image: (z, y, x).
        taps: of each axis; none: the axis stays whole.
    """
    spans = [
        slice(min(int(one.places.min()) for one in along), max(int(one.places.max()) for one in along) + 1)
        if along
        else slice(0, size)
        for along, size in zip(taps, image.shape, strict=True)
    ]
    moved = [
        [Taps(one.places - span.start, one.weights) for one in along] for along, span in zip(taps, spans, strict=True)
    ]
    return np.ascontiguousarray(image[spans[0], spans[1], spans[2]]), moved


def correlate(image: Floats, taps: Taps, axis: int) -> Floats:
    """Apply taps along one axis of a C-contiguous (z, y, x); the others stay as they are."""
    if axis == 2:
        return _along_rows(image, taps.places, taps.weights)
    if axis == 0:
        depth, height, width = image.shape
        flat = image.reshape(1, depth, height * width)
        return _across_rows(flat, taps.places, taps.weights).reshape(-1, height, width)
    return _across_rows(image, taps.places, taps.weights)


@kernel
def _across_rows(image: Floats, places: Ints, weights: Floats) -> Floats:
    """Along the middle axis: whole rows are added up, in pieces that stay in the processor's first cache."""
    outputs, count = places.shape
    depth, _, width = image.shape
    piece = 512
    out = np.zeros((depth, outputs, width), dtype=np.float64)
    for z in range(depth):
        for begin in range(0, width, piece):
            end = min(begin + piece, width)
            for o in range(outputs):
                for t in range(count):
                    row, weight = places[o, t], weights[t]
                    for x in range(begin, end):
                        out[z, o, x] += weight * image[z, row, x]
    return out


@kernel
def _along_rows(image: Floats, places: Ints, weights: Floats) -> Floats:
    """Along the last axis."""
    outputs, count = places.shape
    depth, height, _ = image.shape
    out = np.empty((depth, height, outputs), dtype=np.float64)
    for z in range(depth):
        for y in range(height):
            for o in range(outputs):
                total = 0.0
                for t in range(count):
                    total += weights[t] * image[z, y, places[o, t]]
                out[z, y, o] = total
    return out
