"""The texture matrices as integer counts, each in one pass over the voxels and their neighbours.

    glcm, glrlm = count_pairs_and_runs(levels, voxels.neighbours, highest, longest)
    ngldm, valid, differences = count_surroundings(levels, voxels.neighbours, highest, alpha)
    grey, size, nearest = find_zones(levels, voxels.neighbours, voxels.distance)

`neighbours` is (N, 2 D): D directions, then the same against their sense, so that the caller chooses: 13 directions
in space, 4 in the slice, or one at a time. Directions are added up here before any feature is computed (IBSI "merged").
All levels start at 1; row `g - 1` of a matrix belongs to level `g`.
"""

from __future__ import annotations

import numpy as np

from fedloupe_client.radiomics.kernel import Floats, Ints, kernel


@kernel
def count_pairs_and_runs(levels: Ints, neighbours: Ints, highest: int, longest: int) -> tuple[Ints, Ints]:
    """Co-occurrence and runs.

    Args:
        levels: (N) grey levels from 1 to `highest`.
        neighbours: (N, 2 D) from `Voxels`.
        highest: number of grey levels G.
        longest: longest possible run L.

    Returns:
        GLCM (G, G), symmetric; GLRLM (G, L), column `l - 1` for length `l`.
    """
    directions = neighbours.shape[1] // 2
    forward = np.zeros((highest, highest), dtype=np.int64)
    glrlm = np.zeros((highest, longest), dtype=np.int64)
    # A voxel comes before the neighbours in front of it: the length of the run that ends in it is handed on.
    length = np.ones((levels.shape[0], directions), dtype=np.int32)
    for voxel in range(levels.shape[0]):
        grey = levels[voxel]
        for d in range(directions):
            after = neighbours[voxel, d]
            if after >= 0:
                level = levels[after]
                forward[grey - 1, level - 1] += 1
                if level == grey:
                    length[after, d] = length[voxel, d] + 1
                    continue
            glrlm[grey - 1, length[voxel, d] - 1] += 1
    return forward + forward.T, glrlm


@kernel
def count_surroundings(levels: Ints, neighbours: Ints, highest: int, alpha: int) -> tuple[Ints, Ints, Floats]:
    """Dependences and neighbourhood differences, over all neighbours at once.

    Args:
        levels: (N) grey levels from 1 to `highest`.
        neighbours: (N, 2 D) from `Voxels`.
        highest: number of grey levels G.
        alpha: largest difference of dependent grey levels.

    Returns:
        NGLDM (G, 2 D + 1), column `k - 1` for `k` dependent voxels, the centre included; NGTDM's counts (G) and sums
        of absolute differences (G), over the voxels with at least one neighbour.
    """
    around = neighbours.shape[1]
    ngldm = np.zeros((highest, around + 1), dtype=np.int64)
    valid = np.zeros(highest, dtype=np.int64)
    differences = np.zeros(highest, dtype=np.float64)
    for voxel in range(levels.shape[0]):
        grey = levels[voxel]
        count, total, dependent = 0, 0, 0
        for d in range(around):
            other = neighbours[voxel, d]
            if other < 0:
                continue
            level = levels[other]
            count += 1
            total += level
            if abs(level - grey) <= alpha:
                dependent += 1
        ngldm[grey - 1, dependent] += 1
        if count > 0:
            valid[grey - 1] += 1
            differences[grey - 1] += abs(grey - total / count)
    return ngldm, valid, differences


@kernel
def find_zones(levels: Ints, neighbours: Ints, distance: Ints) -> tuple[Ints, Ints, Ints]:
    """Zones: connected voxels of one grey level (26 or, in the slice, 8 neighbours), by union-find.

    Args:
        levels: (N) grey levels.
        neighbours: (N, 2 D) from `Voxels`.
        distance: (N) distance to the border.

    Returns:
        Grey level, size in voxels, and smallest distance of each zone (Z), ordered by first voxel.
    """
    voxels = levels.shape[0]
    parent = np.arange(voxels)
    for voxel in range(voxels):
        for d in range(neighbours.shape[1] // 2, neighbours.shape[1]):
            other = neighbours[voxel, d]
            if other < 0 or levels[other] != levels[voxel]:
                continue
            a, b = other, voxel
            while parent[a] != a:
                parent[a] = parent[parent[a]]
                a = parent[a]
            while parent[b] != b:
                parent[b] = parent[parent[b]]
                b = parent[b]
            if a < b:
                parent[b] = a
            elif b < a:
                parent[a] = b
    zone = np.empty(voxels, dtype=np.int64)
    grey = np.empty(voxels, dtype=np.int64)
    size = np.empty(voxels, dtype=np.int64)
    nearest = np.empty(voxels, dtype=np.int64)
    zones = 0
    for voxel in range(voxels):
        root = voxel
        while parent[root] != root:
            root = parent[root]
        if root == voxel:
            zone[voxel] = zones
            grey[zones], size[zones], nearest[zones] = levels[voxel], 0, distance[voxel]
            zones += 1
        z = zone[root]
        size[z] += 1
        nearest[z] = min(nearest[z], distance[voxel])
    return grey[:zones].copy(), size[:zones].copy(), nearest[:zones].copy()


@kernel
def tabulate(grey: Ints, values: Ints, highest: int) -> tuple[Ints, Ints]:
    """Counts (G, D) of zones by grey level and by each of the D distinct values, and those values, ascending.

    Zone sizes reach N but have at most sqrt(2 N) distinct values: the matrix stays small.
    """
    ordered = np.sort(values)
    distinct = np.empty_like(ordered)
    found = 0
    for i in range(ordered.shape[0]):
        if i == 0 or ordered[i] != ordered[i - 1]:
            distinct[found] = ordered[i]
            found += 1
    distinct = distinct[:found].copy()
    counts = np.zeros((highest, found), dtype=np.int64)
    for i in range(values.shape[0]):
        counts[grey[i] - 1, np.searchsorted(distinct, values[i])] += 1
    return counts, distinct
