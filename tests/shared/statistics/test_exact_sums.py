"""Exact sums: against rational arithmetic, and unchanged by the order of cases, split sites and empty sites."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pandas
import pytest

from fedloupe.statistics import Moments, Products, correlation, ring
from fedloupe.statistics.sketch import (
    ACCURACY,
    BUCKETS,
    CENTRE,
    FARTHEST,
    bucket_counts,
    merge_small,
    quantiles,
    representatives,
)

SEEDS = range(12)


def table(seed: int, n: int = 41, p: int = 7) -> np.ndarray:
    """Features of unlike size, shift and tail, with values missing."""
    rng = np.random.default_rng(seed)
    size = 10.0 ** rng.integers(-9, 13, p)
    shift = rng.choice([0.0, 1.0, 1e3, 1e8], p)
    values = size * (rng.standard_t(2, (n, p)) + shift)
    values[rng.random((n, p)) < rng.choice([0.0, 0.1, 0.5])] = np.nan
    return values


def parts(values: np.ndarray, seed: int) -> list[np.ndarray]:
    """The patients in another order, in a random number of sites, one of them empty."""
    rng = np.random.default_rng([seed, 1])
    shuffled = values[rng.permutation(len(values))]
    cuts = np.sort(rng.integers(0, len(values) + 1, rng.integers(1, 6)))
    return [*np.split(shuffled, cuts), values[:0]]


class TestRing:
    @pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -1.0, 0.1, 2.0**-12, -(2.0**-12) * 1.1, 1e9 + 0.1, 5e33])
    def test_a_value_of_common_size_is_held_exactly(self, value):
        assert ring.decode(ring.encode(np.array([value])))[0] == value

    @pytest.mark.parametrize("seed", SEEDS)
    def test_a_small_value_is_held_to_half_a_unit(self, seed):
        values = np.random.default_rng(seed).standard_normal(50) * 10.0 ** -np.arange(50.0)
        for value, whole in zip(values, ring.integers(values), strict=True):
            assert abs(Fraction(value) - Fraction(int(whole), 2**64)) <= Fraction(1, 2**65)

    def test_ties_go_to_the_even_integer(self):
        halves = np.ldexp(np.array([0.5, 1.5, 2.5, -0.5, -1.5]), -64)
        assert ring.integers(halves).tolist() == [0, 2, 2, 0, -2]

    @pytest.mark.parametrize("seed", SEEDS)
    def test_words_add_as_integers_do_whatever_the_order(self, seed):
        rng = np.random.default_rng(seed)
        whole = [int.from_bytes(rng.bytes(46), "little", signed=True) for _ in range(8)]
        words = [ring.pack(np.array([w], dtype=object)) for w in whole]
        total = ring.add(*words)
        assert ring.unpack(total).tolist() == [sum(whole)]
        assert np.array_equal(total, ring.add(ring.add(*words[5:]), ring.add(*words[:5][::-1])))

    def test_addition_wraps_round_so_that_masks_cancel(self):
        rng = np.random.default_rng(0)
        mask = ring.pack(np.array([int.from_bytes(rng.bytes(48), "little")], dtype=object))
        against = ring.pack(np.array([-int(ring.unpack(mask)[0])], dtype=object))
        values = [ring.encode(np.array([v])) for v in (3.25, -1e12)]
        masked = [ring.add(values[0], mask), ring.add(values[1], against)]
        assert ring.decode(masked[0])[0] != 3.25
        assert ring.decode(ring.add(*masked))[0] == 3.25 - 1e12

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2.0**112, -1e40])
    def test_what_the_ring_cannot_hold_is_refused(self, value):
        with pytest.raises(ValueError, match="finite"):
            ring.encode(np.array([1.0, value]))

    def test_arrays_that_are_no_elements_are_refused(self):
        for wrong in (np.zeros((3, 5), np.int64), np.zeros((3, 6)), np.int64(3)):
            with pytest.raises(ValueError, match="ring"):
                ring.unpack(np.asarray(wrong))


class TestMoments:
    @pytest.mark.parametrize("seed", SEEDS)
    def test_order_of_cases_split_sites_and_empty_sites_change_no_bit(self, seed):
        values = table(seed)
        whole, pooled = Moments.of(values), Moments.sum([Moments.of(part) for part in parts(values, seed)])
        for name in ("count", "total", "square", "mean", "variance"):
            assert getattr(whole, name).tobytes() == getattr(pooled, name).tobytes()

    @pytest.mark.parametrize("seed", SEEDS)
    def test_mean_and_variance_are_the_rational_ones_rounded_once(self, seed):
        values = table(seed)
        found = Moments.of(values)
        for column, mean, variance in zip(values.T, found.mean, found.variance, strict=True):
            held = [Fraction(int(q), 2**64) for q in ring.integers(column[~np.isnan(column)])]
            centre = sum(held) / len(held)
            assert mean == float(centre)
            assert variance == float(sum((h - centre) ** 2 for h in held) / (len(held) - 1))

    def test_a_small_spread_on_a_huge_mean_does_not_cancel(self):
        found = Moments.of(1e9 + np.array([[0.0], [0.25], [0.5], [0.75]]))
        assert found.variance.tolist() == [pytest.approx(5 / 48, rel=1e-15)]

    def test_missing_values_and_features_of_nobody_count_nowhere(self):
        found = Moments.of(np.array([[1.0, np.nan, 5.0], [3.0, np.nan, np.nan]]))
        assert found.count.tolist() == [2, 0, 1]
        assert (found.mean.tolist(), found.variance.tolist()) == ([2.0, 0.0, 5.0], [2.0, 0.0, 0.0])

    def test_a_table_wider_than_a_block_is_worked_out_whole(self):
        values = np.random.default_rng(3).standard_normal((5, 600))
        np.testing.assert_allclose(Moments.of(values).mean, values.mean(axis=0), rtol=1e-12)
        assert Moments.of(values[:, :0]).total.shape == (0, 6)


class TestProducts:
    @pytest.mark.parametrize("seed", SEEDS)
    def test_order_of_cases_split_sites_and_empty_sites_change_no_bit(self, seed):
        values = table(seed)
        whole, pooled = Products.of(values), Products.sum([Products.of(part) for part in parts(values, seed)])
        for name in ("count", "total", "square", "product", "covariance", "correlation"):
            assert getattr(whole, name).tobytes() == getattr(pooled, name).tobytes()

    @pytest.mark.parametrize("seed", SEEDS)
    def test_covariance_and_correlation_are_those_of_complete_pairs(self, seed):
        rng = np.random.default_rng(seed)
        values = rng.standard_normal((30, 4)) @ rng.standard_normal((4, 4)) + rng.choice([0, 1e3], 4)
        values[rng.random(values.shape) < 0.2] = np.nan
        found, frame = Products.of(values), pandas.DataFrame(values)
        np.testing.assert_allclose(found.covariance, frame.cov().to_numpy(), rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(found.correlation, frame.corr().to_numpy(), rtol=1e-7, atol=1e-9)

    def test_a_column_without_spread_has_no_correlation(self):
        found = Products.of(np.array([[1.0, 0.0], [1.0, 2.0], [1.0, 4.0]]))
        assert np.isnan(found.correlation[0, 1])
        assert found.correlation[1, 1] == 1.0
        assert np.isnan(correlation(1, (1, 1), (1, 1), 1))


class TestSketch:
    @pytest.mark.parametrize("seed", SEEDS)
    def test_order_of_cases_split_sites_and_empty_sites_change_no_bit(self, seed):
        values = table(seed)
        pooled = Moments.of(values)
        whole = bucket_counts(values, pooled.mean, pooled.sd)
        split = sum(bucket_counts(part, pooled.mean, pooled.sd) for part in parts(values, seed))
        assert np.array_equal(whole, split)
        assert whole.sum(axis=1).tolist() == pooled.count.tolist()

    @pytest.mark.parametrize("seed", SEEDS)
    def test_a_quantile_is_within_the_stated_error_of_the_value_of_its_rank(self, seed):
        values = table(seed, n=200)
        wanted = (0.05, 0.25, 0.5, 0.75, 0.95)
        pooled = Moments.of(values)
        found = quantiles(bucket_counts(values, pooled.mean, pooled.sd), pooled.mean, pooled.sd, wanted)
        for feature, column in enumerate(values.T):
            known = np.sort(column[~np.isnan(column)])
            exact = known[[int(q * (len(known) - 1)) for q in wanted]]
            distance = np.abs(exact - pooled.mean[feature])
            allowed = np.maximum(ACCURACY * distance, CENTRE * pooled.sd[feature]) * (1 + 1e-9)
            assert (np.abs(found[feature] - exact) <= allowed).all()

    def test_buckets_reach_as_far_as_a_million_patients_can_lie(self):
        assert np.sqrt(2**20 - 1) <= FARTHEST
        assert representatives()[-1] >= FARTHEST * (1 - ACCURACY)
        assert (np.diff(representatives()) > 0).all()

    def test_a_feature_of_nobody_has_no_quantile(self):
        zero = np.zeros(1)
        assert np.isnan(quantiles(np.zeros((1, BUCKETS), np.int64), zero, zero, (0.5,))).all()

    @pytest.mark.parametrize("seed", SEEDS)
    def test_small_buckets_are_merged_and_ranks_move_by_less_than_two_cells(self, seed):
        cell = 5
        values = np.random.default_rng(seed).standard_t(3, (60, 1))
        pooled = Moments.of(values)
        counts = bucket_counts(values, pooled.mean, pooled.sd)[0]
        merged = merge_small(counts, cell)
        assert merged.sum() == 60
        assert set(merged[merged > 0] >= cell) == {True}
        assert np.abs(np.cumsum(merged) - np.cumsum(counts)).max() < 2 * cell

    def test_fewer_patients_than_a_cell_are_not_shown(self):
        counts = np.zeros(BUCKETS, np.int64)
        counts[[3, 9]] = 1
        assert not merge_small(counts, 3).any()
        assert merge_small(counts, 2).sum() == 2
