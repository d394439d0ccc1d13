"""The calibration line from sums, and the training range where numbers do not vary."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq, minimize
from scipy.special import expit
from sklearn.covariance import oas

from fedloupe.messages import CalibrateReply, EmbedReply
from fedloupe.study import LinePrior, Prediction
from fedloupe_client.training.predicting import line_terms
from fedloupe_server.federation.predicting import FLATTEST, fit_line
from fedloupe_server.statistics.prediction import shrunk, training_range
from summed import added

HEADER = {"version": "0", "fingerprint": "0" * 64, "run": "test", "site": "north"}
TARGETS = (0.05, 0.96)


def sites(slope: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Labels and log-odds of tuning patients at three sites."""
    rng = np.random.default_rng(8)
    found = []
    for size in (12, 30, 21):
        odds = rng.normal(0.5, 1.5, size)
        found.append(((rng.random(size) < expit(slope * odds - 0.4)).astype(np.int64), odds))
    return found


def fitted(
    patients: list[tuple[np.ndarray, np.ndarray]], calibration: str, spread: float | None = None, **rules: object
) -> np.ndarray:
    def terms(step: int, line: np.ndarray) -> list[CalibrateReply]:
        replies = []
        for labels, odds in patients:
            gradient, hessian = line_terms(labels, odds, line, TARGETS, spread)
            counts = {"patients": len(labels), "positives": int(labels.sum())}
            replies.append(CalibrateReply(**HEADER, **counts, gradient=gradient, hessian=hessian))
        return replies

    return fit_line(terms, Prediction.model_validate({"calibration": calibration, **rules}))


def whole(patients: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    labels, odds = (np.concatenate(parts) for parts in zip(*patients, strict=True))
    return np.where(labels == 1, TARGETS[1], TARGETS[0]), odds


class TestLine:
    def test_it_is_the_pooled_optimum(self):
        patients = sites(0.7)
        target, odds = whole(patients)

        def loss(line: np.ndarray) -> float:
            return float((np.logaddexp(0, line[0] + line[1] * odds) - target * (line[0] + line[1] * odds)).sum())

        best = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13}).x
        np.testing.assert_allclose(fitted(patients, "platt"), best, atol=1e-6)

    def test_a_temperature_moves_no_intercept(self):
        patients = sites(0.7)
        target, odds = whole(patients)
        slope = brentq(lambda b: float((odds * (target - expit(b * odds))).sum()), -10, 10, xtol=1e-12)
        np.testing.assert_allclose(fitted(patients, "temperature"), [0, slope], atol=1e-8)

    def test_outcomes_that_the_scores_part_give_a_finite_line(self):
        odds = np.array([-2.0, -1, 1, 2])
        line = fitted([(np.array([0, 0, 1, 1]), odds)], "platt")
        assert np.isfinite(line).all() and 1 < line[1] < 10

    def test_a_model_that_ranks_backwards_is_held_flat_at_the_event_rate(self):
        patients = sites(-0.7)
        target, odds = whole(patients)
        line = fitted(patients, "platt")
        assert line[1] == FLATTEST
        assert expit(line[0] + FLATTEST * odds).mean() == pytest.approx(target.mean(), abs=1e-9)
        np.testing.assert_array_equal(fitted(patients, "temperature"), [0, FLATTEST])


class TestPrior:
    PRIOR = {"intercept_sd": 0.25, "slope_sd": 0.4}  # noqa: RUF012

    def test_the_line_maximises_likelihood_and_prior(self):
        """Normal about 1 for the slope, about 0 for the change at the mean log-odds."""
        patients = sites(1.9)
        target, odds = whole(patients)

        def loss(line: np.ndarray) -> float:
            z = line[0] + line[1] * odds
            fit = float((np.logaddexp(0, z) - target * z).sum())
            moved = line[0] + (line[1] - 1) * odds.mean()
            return fit + moved**2 / (2 * 0.25**2) + (line[1] - 1) ** 2 / (2 * 0.4**2)

        best = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13}).x
        found = fitted(patients, "platt", prior=self.PRIOR)
        np.testing.assert_allclose(found, best, atol=1e-6)
        alone = fitted(patients, "platt")
        assert 1 < found[1] < alone[1]

    def test_a_temperature_has_the_slopes_alone(self):
        patients = sites(1.9)
        target, odds = whole(patients)

        def pull(b: float) -> float:
            return float((odds * (target - expit(b * odds))).sum() - (b - 1) / 0.4**2)

        found = fitted(patients, "temperature", prior=self.PRIOR)
        np.testing.assert_allclose(found, [0, brentq(pull, -10, 10, xtol=1e-12)], atol=1e-8)

    def test_a_narrow_one_leaves_the_identity_and_a_wide_one_the_patients_own_line(self):
        patients = sites(0.7)
        narrow = fitted(patients, "platt", prior={"intercept_sd": 0.01, "slope_sd": 0.01})
        np.testing.assert_allclose(narrow, [0, 1], atol=0.01)
        wide = fitted(patients, "platt", prior={"intercept_sd": 10, "slope_sd": 10})
        np.testing.assert_allclose(wide, fitted(patients, "platt"), atol=0.01)

    def test_a_study_without_one_keeps_its_canonical_form(self):
        assert "prior" not in Prediction().model_dump() and "prior" in Prediction(prior=LinePrior()).model_dump()


class TestOwnIntercepts:
    def test_sites_that_differ_in_height_alone_share_a_slope(self):
        """Each site's own intercept is taken out: the joint optimum over line and three intercepts."""
        patients = [(labels, odds + shift) for (labels, odds), shift in zip(sites(0.7), (-2, 0, 3), strict=True)]

        def loss(values: np.ndarray) -> float:
            total = float((values[2:] ** 2).sum()) / (2 * 1.5**2)
            for (labels, odds), own in zip(patients, values[2:], strict=True):
                z = values[0] + values[1] * odds + own
                total += float((np.logaddexp(0, z) - np.where(labels == 1, TARGETS[1], TARGETS[0]) * z).sum())
            return total

        best = minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-8}).x
        np.testing.assert_allclose(fitted(patients, "platt", spread=1.5), best[:2], atol=1e-5)


def embedded(*sites: np.ndarray) -> EmbedReply:
    """The sum over these sites' patients."""
    replies = []
    for places in sites:
        there = (places != 0).astype(np.int64)
        sums = {"count": there.T @ there, "total": places.sum(axis=0), "product": places.T @ places}
        replies.append(EmbedReply(**HEADER, patients=len(places), **sums))
    return added(replies)


class TestRange:
    @pytest.mark.parametrize("patients", [6, 40, 400])
    def test_shrinkage_is_scikit_learns(self, patients):
        rng = np.random.default_rng(patients)
        places = rng.standard_normal((patients, 10)) @ rng.standard_normal((10, 10))
        places -= places.mean(axis=0)
        np.testing.assert_allclose(shrunk(places.T @ places / patients, patients), oas(places)[0], rtol=1e-10)

    def test_it_is_blind_to_how_patients_are_spread_over_sites(self):
        places = np.random.default_rng(1).normal(5, 2, (60, 4))
        one, two = training_range(embedded(places)), training_range(embedded(places[:13], places[13:]))
        for together, apart in zip(one, two, strict=True):
            np.testing.assert_allclose(apart, together, rtol=1e-9)

    def test_a_number_that_never_varies_has_no_part(self):
        places = np.random.default_rng(2).normal(0, 1, (50, 3))
        wide = np.column_stack([places, np.full(50, 7.3), np.zeros(50)])
        centre, precision = training_range(embedded(wide))
        assert not precision[3:].any() and not precision[:, 3:].any()
        np.testing.assert_allclose(precision[:3, :3], training_range(embedded(places))[1], rtol=1e-9)
        assert centre[3] == pytest.approx(7.3)

    def test_with_fewer_patients_than_numbers_it_is_still_positive(self):
        _, precision = training_range(embedded(np.random.default_rng(3).normal(0, 1, (8, 30))))
        assert np.linalg.eigvalsh(precision).min() > 0
