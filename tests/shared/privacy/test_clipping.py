"""What is sent or added up lies within the bound, after rounding, and is otherwise the hospital's update."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedloupe.privacy import clipped_update, clipped_weights, update_norm


def exact_norm(weights: np.ndarray, start: np.ndarray) -> float:
    """By a sum without rounding, and not by the code under test."""
    return math.sqrt(math.fsum((float(a) - float(b)) ** 2 for a, b in zip(weights, start, strict=True)))


def vectors(seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Weights, start and bound of any size: large weights with a tiny bound are where rounding breaks a bound."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 2000))
    start = (rng.standard_normal(size) * 10 ** rng.uniform(-6, 6)).astype(np.float32)
    weights = (start + rng.standard_normal(size) * 10 ** rng.uniform(-6, 6)).astype(np.float32)
    return weights, start, 10 ** float(rng.uniform(-8, 6))


class TestWeights:
    @pytest.mark.parametrize("seed", range(150))
    def test_what_leaves_is_within_the_bound_after_rounding(self, seed):
        weights, start, bound = vectors(seed)
        sent = clipped_weights(weights, start, bound)
        assert sent.dtype == np.float32
        assert exact_norm(sent, start) <= bound

    def test_rounding_to_the_nearest_would_break_it(self):
        """The reason for rounding towards the start: without it every third of these vectors is too long."""
        longer = 0
        for seed in range(150):
            weights, start, bound = vectors(seed)
            nearest = (start.astype(float) + clipped_update(weights, start, bound)).astype(np.float32)
            longer += exact_norm(nearest, start) > bound
        assert longer > 20

    def test_an_update_within_the_bound_is_sent_as_it_is(self):
        weights, start, _ = vectors(1)
        assert np.array_equal(clipped_weights(weights, start, 1.01 * exact_norm(weights, start)), weights)

    def test_a_long_update_keeps_its_direction_and_nearly_all_of_the_bound(self):
        rng = np.random.default_rng(3)
        start = np.zeros(500, np.float32)
        weights = (100 * rng.standard_normal(500)).astype(np.float32)
        sent = clipped_weights(weights, start, 2.0)
        assert exact_norm(sent, start) == pytest.approx(2.0, rel=1e-6)
        cosine = float(sent.astype(float) @ weights) / (exact_norm(sent, start) * exact_norm(weights, start))
        assert cosine == pytest.approx(1.0, abs=1e-9)


class TestUpdate:
    @pytest.mark.parametrize("length", [1e-30, 1.0, 1e38])
    def test_any_finite_update_is_shortened(self, length):
        weights = np.full(7, length, np.float32)
        update = clipped_update(weights, np.zeros(7, np.float32), 0.5)
        assert update_norm(update, np.zeros(7)) == pytest.approx(min(0.5, math.sqrt(7) * length))
        assert exact_norm(update, np.zeros(7)) <= 0.5

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_what_is_no_number_has_no_direction(self, value):
        with pytest.raises(ValueError, match="finite"):
            clipped_update(np.array([0.1, value], np.float32), np.zeros(2, np.float32), 1.0)
