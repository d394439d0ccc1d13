"""Separable filters that read a whole crop but answer in a small box.

    operator = banded(weights, offsets, size, where)        # along one axis
    response = along_z(operator, image)

Along each axis such a filter is a small banded matrix with the boundary rule written in: three matrix products, the
first of which already drops the margin.
"""

from __future__ import annotations

import numpy as np

from fedloupe_client.radiomics.kernel import Floats, Ints

Box = tuple[slice, slice, slice]


def along_z(operator: Floats, image: Floats) -> Floats:
    """`operator` (outputs, depth) applied to the first axis of `image` (depth, height, width)."""
    depth, height, width = image.shape
    return (operator @ image.reshape(depth, height * width)).reshape(-1, height, width)


def banded(weights: Floats, offsets: Ints, size: int, where: slice) -> Floats:
    """The matrix (outputs, size) that correlates along one axis with edges reflected (d c b a | a b c d | d c b a)."""
    rows = np.arange(where.start, where.stop)
    columns = np.mod(rows[:, None] + offsets[None, :], 2 * size)
    columns = np.where(columns < size, columns, 2 * size - 1 - columns)
    matrix = np.zeros((len(rows), size))
    np.add.at(matrix, (np.arange(len(rows))[:, None], columns), weights[None, :])
    return matrix
