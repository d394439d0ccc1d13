"""The conformal quantile from bins against that of the raw scores, and what coarse bins cost."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe.metrics.conformal import (
    DISTANCE_EDGES,
    MISFIT_EDGES,
    distance_counts,
    misfit_counts,
    quantile,
    rank,
    share_se,
)


def patients(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probability = rng.beta(0.8, 1.2, size)
    return (rng.random(size) < probability).astype(int), probability


def exact(labels: np.ndarray, probability: np.ndarray, share: float) -> float:
    misfit = np.sort(np.where(labels == 1, 1 - probability, probability))
    return float(misfit[rank(len(misfit), share) - 1])


class TestRank:
    @pytest.mark.parametrize(
        ("patients", "share", "wanted"), [(99, 0.9, 90), (100, 0.9, 91), (9, 0.9, 9), (8, 0.9, 9), (109, 0.7, 77)]
    )
    def test_it_is_that_of_split_conformal_prediction(self, patients, share, wanted):
        assert rank(patients, share) == wanted


class TestCounts:
    def test_a_misfit_is_the_distance_from_what_happened(self):
        counts = misfit_counts([1, 0, 1, 0], [0.995, 0.995, 0.0, 0.31])
        assert {int(k): int(counts[k]) for k in np.flatnonzero(counts)} == {0: 1, 15: 1, 49: 2}

    def test_the_last_bin_of_distances_is_open(self):
        counts = distance_counts(np.array([0.0, 0.049, 0.05, 9.999, 10.0, 1e9]))
        assert {int(k): int(counts[k]) for k in np.flatnonzero(counts)} == {0: 2, 1: 1, 199: 3}


class TestQuantile:
    def test_it_is_linear_within_a_bin(self):
        edges = np.array([0.0, 1.0, 2.0, 4.0])
        counts = np.array([2, 0, 4])
        assert [quantile(counts, edges, k) for k in (1, 2, 3, 6)] == pytest.approx([0.5, 1.0, 2.5, 4.0])

    def test_beyond_the_last_patient_it_is_the_edge_of_his_bin(self):
        assert quantile(distance_counts(np.array([0.5, 1.21])), DISTANCE_EDGES, 7) == pytest.approx(1.25)

    @pytest.mark.parametrize("size", [20, 60, 200, 1000])
    @pytest.mark.parametrize("seed", range(5))
    def test_it_is_within_one_bin_of_that_of_the_raw_scores(self, size, seed):
        labels, probability = patients(size, seed)
        found = quantile(misfit_counts(labels, probability), MISFIT_EDGES, rank(size, 0.9))
        assert abs(found - exact(labels, probability, 0.9)) <= MISFIT_EDGES[1]

    def test_sets_cover_what_they_promise(self):
        """New patients of the same kind, coverage over 400 draws of 80 tuning patients: (n + 1) 0.9 / n at most."""
        labels, probability = patients(20_000, 99)
        misfit = np.where(labels == 1, 1 - probability, probability)
        found = [
            (misfit <= quantile(misfit_counts(*patients(80, seed)), MISFIT_EDGES, rank(80, 0.9))).mean()
            for seed in range(400)
        ]
        assert np.mean(found) == pytest.approx(0.9, abs=0.012)


def test_a_share_of_all_patients_is_not_certain():
    assert share_se(1.0, 30) == pytest.approx(np.sqrt(32 / 34 * 2 / 34 / 34))
    assert share_se(0.5, 10_000) == pytest.approx(0.005, rel=1e-3)
