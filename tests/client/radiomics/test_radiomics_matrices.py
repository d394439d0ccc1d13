"""The compiled matrices against plain Python that follows IBSI's definitions word by word."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
from scipy import ndimage

from fedloupe_client.radiomics.aggregate import Textures
from fedloupe_client.radiomics.counts import count_pairs_and_runs, count_surroundings, find_zones, tabulate
from fedloupe_client.radiomics.region import make_region
from fedloupe_client.radiomics.texture import glcm_features

STEPS = [step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]


def _random_case(seed: int, shape=(5, 6, 7), grey=4, fill=0.7):
    generator = np.random.default_rng(seed)
    mask = generator.random(shape) < fill
    mask[0, 0, 0] = mask[-1, -1, -1] = True  # the box is the whole array
    return generator.integers(1, grey + 1, shape), mask


def _voxels(volume, mask):
    """Position to level, for the voxels of the mask."""
    return {tuple(int(c) for c in p): int(volume[tuple(p)]) for p in np.argwhere(mask)}


def _move(p, step, times=1):
    return tuple(c + times * s for c, s in zip(p, step, strict=True))


def _kernel_counts(volume, mask, alpha=0):
    region = make_region(mask, 1.0)
    levels = volume[mask].astype(np.int64)
    directed = count_pairs_and_runs(levels, region.neighbours, 4, max(mask.shape))
    return region, (*directed, *count_surroundings(levels, region.neighbours, 4, alpha))


@pytest.mark.parametrize("seed", range(4))
class TestAgainstPlainPython:
    def test_co_occurrence_counts_every_pair_in_both_senses(self, seed):
        volume, mask = _random_case(seed)
        voxels = _voxels(volume, mask)
        expected = np.zeros((4, 4), dtype=int)
        for p, level in voxels.items():
            for step in STEPS:
                if (other := voxels.get(_move(p, step))) is not None:
                    expected[level - 1, other - 1] += 1
                    expected[other - 1, level - 1] += 1
        _, (glcm, *_) = _kernel_counts(volume, mask)
        assert np.array_equal(glcm, expected)

    def test_runs_are_maximal_in_each_of_thirteen_directions(self, seed):
        volume, mask = _random_case(seed, grey=2)
        voxels = _voxels(volume, mask)
        expected = np.zeros((4, 7), dtype=int)
        for step in STEPS:
            left = set(voxels)
            while left:
                start = left.pop()
                run = {start}
                for sense in (1, -1):
                    p = _move(start, step, sense)
                    while voxels.get(p) == voxels[start]:
                        run.add(p)
                        p = _move(p, step, sense)
                left -= run
                expected[voxels[start] - 1, len(run) - 1] += 1
        _, (_, glrlm, *_) = _kernel_counts(volume, mask)
        assert np.array_equal(glrlm, expected)

    @pytest.mark.parametrize("alpha", [0, 1])
    def test_dependence_counts_the_centre_and_its_alike_neighbours(self, seed, alpha):
        volume, mask = _random_case(seed)
        voxels = _voxels(volume, mask)
        expected = np.zeros((4, 27), dtype=int)
        for p, level in voxels.items():
            around = [voxels.get(_move(p, step, sense)) for step in STEPS for sense in (1, -1)]
            expected[level - 1, sum(other is not None and abs(other - level) <= alpha for other in around)] += 1
        _, (_, _, ngldm, *_) = _kernel_counts(volume, mask, alpha)
        assert np.array_equal(ngldm, expected)

    def test_neighbourhood_differences_skip_voxels_without_neighbours(self, seed):
        volume, mask = _random_case(seed, fill=0.08)
        voxels = _voxels(volume, mask)
        valid, differences = np.zeros(4, dtype=int), np.zeros(4)
        for p, level in voxels.items():
            around = [voxels[q] for step in STEPS for sense in (1, -1) if (q := _move(p, step, sense)) in voxels]
            if around:
                valid[level - 1] += 1
                differences[level - 1] += abs(level - np.mean(around))
        _, (_, _, _, kernel_valid, kernel_differences) = _kernel_counts(volume, mask)
        assert valid.sum() < len(voxels)
        assert np.array_equal(kernel_valid, valid)
        assert np.allclose(kernel_differences, differences, rtol=1e-13)

    def test_zones_are_the_connected_components_of_each_level(self, seed):
        volume, mask = _random_case(seed)
        distance = ndimage.distance_transform_cdt(np.pad(mask, 1), metric="taxicab")[1:-1, 1:-1, 1:-1]
        expected: Counter[tuple[int, int, int]] = Counter()
        for level in range(1, 5):
            labels, found = ndimage.label((volume == level) & mask, structure=np.ones((3, 3, 3)))
            for zone in range(1, found + 1):
                expected[level, int((labels == zone).sum()), int(distance[labels == zone].min())] += 1
        region = make_region(mask, 1.0)
        grey, size, nearest = find_zones(volume[mask].astype(np.int64), region.neighbours, region.distance)
        assert Counter(zip(grey.tolist(), size.tolist(), nearest.tolist(), strict=True)) == expected


class TestRegion:
    def test_distance_is_the_city_block_way_to_the_nearest_voxel_outside(self):
        mask = np.random.default_rng(1).random((5, 6, 7)) < 0.9
        mask[0, 0, 0] = mask[-1, -1, -1] = True
        padded = np.pad(mask, 1)
        outside = np.argwhere(~padded)
        expected = [np.abs(outside - p).sum(axis=1).min() for p in np.argwhere(padded)]
        assert make_region(mask, 1.0).distance.tolist() == expected
        assert max(expected) > 1

    def test_a_neighbour_sees_its_neighbour_in_the_opposite_direction(self):
        neighbours = make_region(np.random.default_rng(2).random((4, 4, 4)) < 0.6, 1.0).neighbours
        for voxel, d in product(range(len(neighbours)), range(13)):
            if neighbours[voxel, d] >= 0:
                assert neighbours[neighbours[voxel, d], d + 13] == voxel


class TestWithinTheSlice:
    def test_neighbours_are_the_eight_of_the_slice(self):
        mask = np.random.default_rng(3).random((4, 5, 6)) < 0.7
        places = np.argwhere(mask)
        region = make_region(mask, 1.0, planar=True)
        for voxel, row in enumerate(region.neighbours):
            near = [i for i, p in enumerate(places) if p[0] == places[voxel][0] and i != voxel]
            near = [i for i in near if np.abs(places[i] - places[voxel]).max() == 1]
            assert sorted(row[row >= 0].tolist()) == near

    def test_distance_is_the_way_out_within_the_slice(self):
        mask = np.random.default_rng(1).random((3, 6, 7)) < 0.9
        expected = []
        for plane in mask:
            padded = np.pad(plane, 1)
            outside = np.argwhere(~padded)
            expected += [np.abs(outside - p).sum(axis=1).min() for p in np.argwhere(padded)]
        assert make_region(mask, 1.0, planar=True).distance.tolist() == expected

    def test_each_slice_keeps_its_own_voxels_and_skips_empty_ones(self):
        mask = np.random.default_rng(4).random((4, 5, 6)) < 0.6
        mask[1] = False
        region = make_region(mask, 1.0, planar=True)
        parts = list(region.by_slice())
        assert [len(part) for part in parts] == [int(plane.sum()) for plane in mask if plane.any()]
        for part, plane in zip(parts, mask[[0, 2, 3]], strict=True):
            alone = make_region(np.pad(plane, 1)[None], 1.0, planar=True)
            assert np.array_equal(part.neighbours, alone.neighbours)
            assert np.array_equal(part.distance, alone.distance)


class TestAggregation:
    """Against matrices put together by hand from single slices and directions."""

    LEVELS, MASK = _random_case(7, shape=(3, 5, 6))
    LEVELS[0][MASK[0]] = 2  # a slice of one level: it has no correlation

    def _block(self, aggregation, family):
        planar = not aggregation.endswith("_3d")
        region = make_region(self.MASK, 1.0, planar=planar)
        return Textures(self.LEVELS[self.MASK].astype(np.int64), region, aggregation, 0).block(family)

    def _directed(self, planar):
        """GLCM and its slice of every single direction and slice."""
        found = {}
        steps = [s for s in STEPS if s[0] == 0] if planar else STEPS
        voxels = _voxels(self.LEVELS, self.MASK)
        for step in steps:
            for p, level in voxels.items():
                if (other := voxels.get(_move(p, step))) is not None:
                    glcm = found.setdefault((step, p[0]), np.zeros((4, 4), dtype=np.int64))
                    glcm[level - 1, other - 1] += 1
                    glcm[other - 1, level - 1] += 1
        return found

    @pytest.mark.parametrize(
        ("aggregation", "key"),
        [
            ("averaged_2d", lambda step, z: (step, z)),
            ("slice_merged_2d", lambda step, z: z),
            ("direction_merged_25d", lambda step, z: step),
            ("merged_25d", lambda step, z: 0),
            ("averaged_3d", lambda step, z: step),
            ("merged_3d", lambda step, z: 0),
        ],
    )
    def test_matrices_are_summed_within_and_features_averaged_over_groups(self, aggregation, key):
        groups = {}
        for (step, z), glcm in self._directed(not aggregation.endswith("_3d")).items():
            groups[key(step, z)] = groups.get(key(step, z), 0) + glcm
        with np.errstate(invalid="ignore"):
            rows = np.array([glcm_features(glcm) for glcm in groups.values()])
        expected = np.nanmean(rows, axis=0)
        assert np.allclose(self._block(aggregation, "glcm").values, expected, rtol=1e-12, atol=1e-15)
        assert np.isnan(rows).any() == (aggregation in ("averaged_2d", "slice_merged_2d"))

    def test_zones_of_a_slice_do_not_reach_into_the_next(self):
        labels = sum(
            ndimage.label((plane == level) & inside, structure=np.ones((3, 3)))[1]
            for plane, inside in zip(self.LEVELS, self.MASK, strict=True)
            for level in range(1, 5)
        )
        percentage = self._block("merged_25d", "glszm").values[12]
        assert percentage == pytest.approx(labels / self.MASK.sum())


class TestTabulate:
    def test_columns_are_the_distinct_values_in_order(self):
        counts, distinct = tabulate(np.array([1, 2, 2, 1]), np.array([40, 3, 3, 3]), 2)
        assert distinct.tolist() == [3, 40]
        assert counts.tolist() == [[1, 1], [2, 0]]
