"""The table of trees: read by hand, refused where it is not one, joined as FedAvg joins weights."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe.models import Limits, Preparation, TreesInvalid, check_trees, join, leaves, logits, no_trees, on_grid

LIMITS = Limits(features=3, depth=2, grid=8, trees=2)
STUMP = np.array([[0, 2, 0.5, 1, 2], [0, -1, -1.0, -1, -1], [0, -1, 2.0, -1, -1]])
DEEP = np.array([
    [0, 0, 0.0, 1, 2], [0, -1, -0.25, -1, -1], [0, 1, -0.0625, 3, 4], [0, -1, 0.5, -1, -1], [0, -1, 4.0, -1, -1],
])  # fmt: skip
BOTH = np.concatenate([STUMP, DEEP + np.eye(1, 5)])


def changed(row: int, column: int, value: float, of: np.ndarray = BOTH) -> np.ndarray:
    table = of.copy()
    table[row, column] = value
    return table


class TestReading:
    def test_log_odds_are_the_sum_of_the_leaves_left_is_smaller(self):
        values = np.array([[-1.0, 0, 0], [1.0, -1, 0.5], [1.0, 0, 0.4]])
        assert logits(BOTH, values).tolist() == [-1.25, 2.5, 3.0]
        assert leaves(BOTH, values).tolist() == [[1, 4], [2, 6], [1, 7]]

    def test_before_the_first_tree_log_odds_are_zero(self):
        assert logits(no_trees(), np.ones((3, 2))).tolist() == [0, 0, 0]

    def test_a_tree_may_be_a_leaf(self):
        leaf = np.array([[0, -1, 0.75, -1, -1]])
        check_trees(leaf, LIMITS)
        assert logits(leaf, np.ones((2, 3))).tolist() == [0.75, 0.75]


class TestChecking:
    @pytest.mark.parametrize("good", [no_trees(), STUMP, DEEP, BOTH])
    def test_tables_within_the_limits_pass(self, good):
        check_trees(good, LIMITS)
        check_trees(good, Limits(features=None, depth=2, grid=8, trees=2))

    @pytest.mark.parametrize(
        ("bad", "says"),
        [
            (BOTH.astype(np.float32), "float64"),
            (BOTH[:, :4], "five columns"),
            (BOTH.ravel(), "five columns"),
            (changed(0, 2, np.inf), "finite"),
            (changed(0, 2, np.nan), "finite"),
            (changed(0, 1, 0.5), "whole number"),
            (changed(0, 3, 1.5), "whole number"),
            (changed(0, 3, 1e300), "huge"),
            (changed(0, 0, 1), "numbered"),
            (changed(3, 0, 2), "numbered"),
            (BOTH[::-1].copy(), "numbered"),
            (np.concatenate([BOTH, STUMP + 2 * np.eye(1, 5)]), "more than 2"),
            (np.tile(STUMP, (5, 1)), "nodes"),
            (changed(0, 1, 3), "beyond the 3"),
            (changed(1, 1, -2), "feature below"),
            (changed(1, 3, 1), "leaf has a child"),
            (changed(1, 2, 101.0), "log-odds"),
            (changed(0, 2, 0.51), "grid"),
            (changed(0, 2, 64.0), "grid"),
            (changed(0, 3, 0), "above its parent"),
            (changed(0, 4, 1), "two parents"),
            (changed(0, 4, 7), "beyond its tree"),
            (changed(0, 3, -1), "above its parent"),
            (changed(2, 3, 1, DEEP), "above its parent|two parents"),
            (np.concatenate([STUMP, [[0, -1, 0.0, -1, -1]]]), "no parent"),
            (
                np.array([
                    [0, 0, 0.0, 1, 2], [0, -1, 0, -1, -1], [0, 0, 0, 3, 4], [0, -1, 0, -1, -1], [0, 0, 0, 5, 6],
                    [0, -1, 0, -1, -1], [0, -1, 0, -1, -1],
                ]),
                "deeper than 2",
            ),
        ],
    )  # fmt: skip
    def test_everything_else_is_refused_in_words(self, bad, says):
        with pytest.raises(TreesInvalid, match=says):
            check_trees(bad, LIMITS)

    def test_noise_never_passes_and_never_hangs(self):
        rng = np.random.default_rng(0)
        for _ in range(300):
            table = BOTH.copy()
            for _ in range(rng.integers(1, 4)):
                row, column = rng.integers(len(table)), rng.choice([0, 1, 3, 4])
                table[row, column] += rng.choice([-3, -1, 1, 2, 1e9, 1e300])
            try:
                check_trees(table, LIMITS)
            except TreesInvalid:
                continue
            assert np.isfinite(logits(table, rng.standard_normal((5, 3)))).all()


class TestJoining:
    def test_a_round_is_the_mean_of_the_sites_steps(self):
        values = np.random.default_rng(1).standard_normal((20, 3))
        joined = join(STUMP, [(STUMP, 0.25), (DEEP, 0.75)])
        expected = logits(STUMP, values) + 0.25 * logits(STUMP, values) + 0.75 * logits(DEEP, values)
        np.testing.assert_allclose(logits(joined, values), expected, atol=1e-12)
        check_trees(joined, Limits(features=3, depth=2, grid=8, trees=3))
        assert STUMP[2, 2] == 2.0  # what was joined stays as it was


class TestGrid:
    def test_values_are_standardised_clipped_and_rounded_and_missing_ones_are_the_mean(self):
        mean, scale = np.array([10.0, 0.0]), np.array([2.0, 0.0])
        preparation = Preparation(mean, scale, np.zeros((2, 1), np.float32), "federated")
        features = np.array([[11.0, 5.0], [100.0, 5.0], [np.nan, 5.0], [10.2, 5.0]])
        clinical = np.array([[0.3], [-9.0], [np.nan], [0.0]])
        found = on_grid(features, clinical, preparation, 4)
        assert found.tolist() == [[0.5, 0, 0.25], [4, 0, -4], [0, 0, 0], [0, 0, 0]]
