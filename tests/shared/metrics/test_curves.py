"""The smooth calibration curve against statsmodels on an independent basis of the same spline."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.interpolate import CubicSpline
from scipy.special import expit

from fedloupe.metrics import OneClassOnly, ScoresInvalid, smooth_calibration


def patients(seed: int, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    odds = rng.normal(-0.4, 1.3, n)
    return (rng.random(n) < expit(0.2 + 0.6 * odds + 0.15 * odds**2)).astype(int), odds


def natural_basis(x: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """(n, 3) cardinal natural cubic splines, continued as straight lines beyond the outer knots."""
    columns = []
    for unit in np.eye(len(knots)):
        spline = CubicSpline(knots, unit, bc_type="natural")
        inside = np.clip(x, knots[0], knots[-1])
        columns.append(spline(inside) + (x - inside) * spline(inside, 1))
    return np.column_stack(columns)


class TestAgainstStatsmodels:
    @pytest.mark.parametrize("seed", range(3))
    def test_curve_and_band(self, seed: int) -> None:
        labels, odds = patients(seed)
        knots = odds.mean() + odds.std() * np.array([-1.28, 0, 1.28])
        at = odds.mean() + odds.std() * np.linspace(-1.64, 1.64, 21)
        model = sm.GLM(labels, natural_basis(odds, knots), family=sm.families.Binomial()).fit(tol=1e-14)
        linear = model.get_prediction(natural_basis(at, knots), which="linear").summary_frame(alpha=0.05)
        found = smooth_calibration(labels, odds)
        assert found.predicted == pytest.approx(expit(at), abs=1e-12)
        assert found.observed == pytest.approx(expit(linear["predicted"]), abs=1e-8)
        assert found.low == pytest.approx(expit(linear["ci_lower"]), abs=1e-6)
        assert found.high == pytest.approx(expit(linear["ci_upper"]), abs=1e-6)

    def test_it_finds_the_true_curve(self) -> None:
        labels, odds = patients(9, 5000)
        found = smooth_calibration(labels, odds, points=7)
        x = np.log(found.predicted) - np.log1p(-np.array(found.predicted))
        truth = expit(0.2 + 0.6 * x + 0.15 * x**2)
        assert np.abs(np.array(found.observed) - truth).max() < 0.04

    def test_the_unit_of_the_log_odds_does_not_matter(self) -> None:
        labels, odds = patients(4)
        assert smooth_calibration(labels, 1e-3 * odds).observed == pytest.approx(
            smooth_calibration(labels, odds).observed, abs=1e-8
        )

    def test_the_number_of_points_is_free(self) -> None:
        assert len(smooth_calibration(*patients(5), points=5).low) == 5


class TestNotIdentified:
    @pytest.mark.parametrize("kind", ["parted", "touching", "inside", "constant", "two values", "few events"])
    def test_there_is_no_curve(self, kind: str) -> None:
        odds = np.linspace(-3, 3, 61)
        labels = (odds > 0).astype(int)
        if kind == "touching":
            labels, odds = np.append(labels, 1), np.append(odds, 0.0)
        if kind == "inside":  # events between two bounds: a straight line does not part them, a bent one does
            labels = (np.abs(odds) < 1).astype(int)
        if kind == "constant":
            odds = np.full(61, 0.4)
        if kind == "two values":
            odds, labels = np.where(np.arange(61) % 2, 1.0, -1.0), (np.arange(61) % 3 == 0).astype(int)
        if kind == "few events":
            labels = np.isin(np.arange(61), np.arange(0, 54, 6)).astype(int)
            assert labels.sum() == 9
        assert smooth_calibration(labels, odds) is None

    def test_one_patient_on_the_other_side_gives_one(self) -> None:
        odds = np.linspace(-3, 3, 61)
        labels = (odds > 0).astype(int)
        labels[[10, 50]] = [1, 0]
        assert smooth_calibration(labels, odds) is not None

    def test_refusals(self) -> None:
        with pytest.raises(OneClassOnly):
            smooth_calibration([1, 1], [0.0, 1.0])
        with pytest.raises(ScoresInvalid):
            smooth_calibration([1, 0], [0.0, np.nan])


class TestNoPatientShows:
    def test_points_stand_by_mean_and_deviation_whoever_is_largest(self) -> None:
        """Two cohorts of one mean and SD, and other patients at every rank, have their points at the same places."""
        labels, odds = patients(6)
        other = np.random.default_rng(8).uniform(-1, 1, odds.size)
        other = (other - other.mean()) / other.std() * odds.std() + odds.mean()
        places = expit(odds.mean() + odds.std() * np.linspace(-1.64, 1.64, 21))
        for cohort_odds in (odds, other):
            np.testing.assert_allclose(smooth_calibration(labels, cohort_odds).predicted, places, atol=1e-12)
