"""Calibration slope, intercept, O/E, recalibration and expected calibration error against statsmodels and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import expit

from fedloupe.metrics import (
    OneClassOnly,
    ScoresInvalid,
    calibration_in_the_large,
    calibration_slope,
    expected_calibration_error,
    log_observed_expected,
    observed_expected,
    recalibrate,
)


@pytest.fixture(params=[0, 1, 2])
def patients(request) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds that are too extreme and too low; outcomes from the true ones."""
    rng = np.random.default_rng(request.param)
    odds = rng.normal(0.3, 2.0, 150)
    return (rng.random(150) < expit(0.5 + 0.6 * odds)).astype(int), odds


class TestSlope:
    def test_it_is_the_logistic_regressions(self, patients):
        labels, odds = patients
        fit = sm.Logit(labels, sm.add_constant(odds)).fit(disp=0, tol=1e-12)
        found = calibration_slope(labels, odds)
        assert found.value == pytest.approx(fit.params[1], rel=1e-8)
        assert found.se == pytest.approx(fit.bse[1], rel=1e-6)
        assert found.value == pytest.approx(0.6, abs=3 * found.se)

    @pytest.mark.parametrize("scale", [1e-6, 1e4])
    def test_it_scales_with_the_log_odds(self, patients, scale):
        labels, odds = patients
        wide, plain = calibration_slope(labels, odds * scale), calibration_slope(labels, odds)
        assert wide.value * scale == pytest.approx(plain.value, rel=1e-8)

    @pytest.mark.parametrize(
        "odds",
        [[-2.0, -1, 1, 2], [2.0, 1, -1, -2], [-1.0, 0, 0, 1], [0.5, 0.5, 0.5, 0.5]],
        ids=["parted", "backwards", "touching", "equal"],
    )
    def test_outcomes_that_the_scores_part_have_no_finite_slope(self, odds):
        assert calibration_slope([0, 0, 1, 1], odds) is None

    def test_one_patient_on_the_other_side_gives_one(self):
        labels, odds = np.array([0] * 20 + [1] * 20), np.arange(40.0)
        labels[[19, 20]] = [1, 0]
        fit = sm.Logit(labels, sm.add_constant(odds)).fit(disp=0, maxiter=200)
        assert calibration_slope(labels, odds).value == pytest.approx(fit.params[1], rel=1e-6)

    def test_one_outcome_or_no_number_is_refused(self):
        with pytest.raises(OneClassOnly):
            calibration_slope([1, 1], [0.0, 1.0])
        with pytest.raises(ScoresInvalid):
            calibration_slope([0, 1], [0.0, np.nan])


class TestInTheLarge:
    def test_it_is_the_regression_with_the_log_odds_as_offset(self, patients):
        labels, odds = patients
        model = sm.GLM(labels, np.ones((150, 1)), family=sm.families.Binomial(), offset=odds)
        fit = model.fit(tol=1e-12)
        found = calibration_in_the_large(labels, odds)
        assert found.value == pytest.approx(fit.params[0], rel=1e-8)
        assert found.se == pytest.approx(fit.bse[0], rel=1e-6)

    def test_equal_log_odds_are_moved_to_the_event_rate(self):
        found = calibration_in_the_large([1, 0, 0, 0], [0.0] * 4)
        assert found.value == pytest.approx(np.log(1 / 3))
        assert found.se == pytest.approx((4 * 0.25 * 0.75) ** -0.5)

    def test_far_off_log_odds_are_brought_home(self):
        assert calibration_in_the_large([1, 0] * 50, [40.0] * 100).value == pytest.approx(-40.0)


class TestExpectedCalibrationError:
    def test_by_hand_in_two_groups(self):
        """Groups of ten: 0.2 predicted, 0.4 observed; 0.9 predicted, 0.8 observed."""
        labels = [1] * 4 + [0] * 6 + [1] * 8 + [0] * 2
        assert expected_calibration_error(labels, [0.2] * 10 + [0.9] * 10) == pytest.approx((0.2 + 0.1) / 2)

    def test_fewer_patients_than_a_group_needs_are_one_group(self):
        assert expected_calibration_error([1, 0, 0], [0.9, 0.5, 0.1]) == pytest.approx(0.5 - 1 / 3)

    def test_groups_are_ten_deciles_of_the_patients(self):
        rng = np.random.default_rng(3)
        scores = np.sort(rng.random(200))
        labels = (rng.random(200) < scores**2).astype(int)
        deciles = [abs(s.mean() - y.mean()) for s, y in zip(np.split(scores, 10), np.split(labels, 10), strict=True)]
        assert expected_calibration_error(labels, scores) == pytest.approx(np.mean(deciles))


class TestObservedExpected:
    def test_ratio_and_interval(self, patients):
        """A Poisson regression with the log of the probabilities as offset, its error scaled to binomial events."""
        labels, odds = patients
        scores = expit(odds)
        model = sm.GLM(labels, np.ones((150, 1)), family=sm.families.Poisson(), offset=np.log(scores))
        fit = model.fit(tol=1e-14)
        found = observed_expected(labels, scores)
        assert found.ratio == pytest.approx(np.exp(fit.params[0]), rel=1e-9)
        assert found.se == pytest.approx(fit.bse[0] * np.sqrt(1 - labels.mean()), rel=1e-9)
        assert (found.low, found.high) == pytest.approx(
            found.ratio * np.exp([-1.959964 * found.se, 1.959964 * found.se])
        )

    def test_the_error_is_that_of_the_logarithm_of_a_binomial_share(self):
        rng = np.random.default_rng(0)
        logs = np.log(rng.binomial(400, 0.3, 20_000) / 130.0)
        assert log_observed_expected(120, 130.0, 400)[1] == pytest.approx(logs.std(), rel=0.03)

    def test_without_events_the_ratio_is_nought_but_not_for_certain(self):
        found = observed_expected([0] * 20, [0.1] * 20)
        assert (found.ratio, found.low) == (0.0, 0.0)
        assert found.high == pytest.approx(0.5 / 2.5 * np.exp(1.959964 * np.sqrt(2 - 1 / 21)))

    def test_with_events_in_everybody_the_interval_holds_the_ratio(self):
        found = observed_expected([1] * 10, [0.4] * 10)
        assert found.ratio == pytest.approx(2.5)
        assert found.low < 2.5 <= found.high

    def test_a_model_that_expects_nothing_is_refused(self):
        with pytest.raises(ScoresInvalid):
            observed_expected([0, 1], [0.0, 0.0])


class TestRecalibration:
    def test_the_line_is_the_logistic_regressions(self, patients):
        labels, odds = patients
        fit = sm.GLM(labels, sm.add_constant(odds), family=sm.families.Binomial()).fit(tol=1e-14)
        assert recalibrate(labels, odds, "line") == pytest.approx(tuple(fit.params), abs=1e-8)

    def test_the_intercept_leaves_the_slope(self, patients):
        labels, odds = patients
        fit = sm.GLM(labels, np.ones((150, 1)), family=sm.families.Binomial(), offset=odds).fit(tol=1e-14)
        assert recalibrate(labels, odds) == pytest.approx((fit.params[0], 1.0), abs=1e-8)

    def test_recalibrated_patients_are_calibrated(self, patients):
        labels, odds = patients
        a, b = recalibrate(labels, odds, "line")
        assert calibration_slope(labels, a + b * odds).value == pytest.approx(1.0)
        assert calibration_in_the_large(labels, a + b * odds).value == pytest.approx(0.0, abs=1e-8)
        assert observed_expected(labels, expit(a + b * odds)).ratio == pytest.approx(1.0)

    def test_outcomes_that_the_scores_part_have_no_line_but_an_intercept(self):
        assert recalibrate([0, 0, 1, 1], [-2.0, -1, 1, 2], "line") is None
        assert recalibrate([0, 0, 1, 1], [-2.0, -1, 1, 2]) == pytest.approx((0.0, 1.0))
