"""Hospitals' own intercepts: the penalised optimum, and sums whose optimum is that of all patients together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from fedloupe.models import Descent, Penalty, logistic_terms, own_intercept

SPREAD = 0.8
RIDGE = 2.0


def hospitals(seed: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    """Design matrices and outcomes of four hospitals whose event rates differ."""
    rng = np.random.default_rng(seed)
    found = []
    for size, shift in ((40, -1.0), (25, 0.5), (60, 1.5), (12, 0.0)):
        design = np.column_stack([np.ones(size), rng.standard_normal((size, 3))])
        found.append((design, (rng.random(size) < expit(design @ [0.2, 0.8, -0.5, 0.0] + shift)).astype(float)))
    return found


def fitted(patients: list[tuple[np.ndarray, np.ndarray]], spread: float | None, ridge: float = RIDGE) -> np.ndarray:
    descent = Descent(patients[0][0].shape[1], Penalty(ridge))
    for _ in range(100):
        terms = [logistic_terms(design, outcome, descent.beta, spread) for design, outcome in patients]
        if descent.take(sum(t[0] for t in terms), sum(t[1] for t in terms)):
            return descent.beta
    raise AssertionError("no optimum")


class TestOwnIntercept:
    @pytest.mark.parametrize("spread", [0.1, 1.0, 10.0])
    def test_it_maximises_the_penalised_likelihood(self, spread):
        rng = np.random.default_rng(1)
        odds, outcome = rng.normal(0, 2, 30), (rng.random(30) < 0.7).astype(float)

        def loss(u: np.ndarray) -> float:
            return float((np.logaddexp(0, odds + u) - outcome * (odds + u)).sum() + u[0] ** 2 / (2 * spread**2))

        best = minimize(loss, [0.0], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-14}).x[0]
        assert own_intercept(odds, outcome, spread) == pytest.approx(best, abs=1e-6)

    def test_one_outcome_alone_gives_a_finite_one(self):
        """u solves n (1 - expit(u)) = u / spread^2."""
        u = own_intercept(np.zeros(20), np.ones(20), 2.0)
        assert 20 * (1 - expit(u)) == pytest.approx(u / 4, abs=1e-9) and 0 < u < 10

    def test_a_narrow_spread_leaves_none_and_a_wide_one_meets_the_event_rate(self):
        outcome = np.array([1.0] * 9 + [0.0] * 3)
        assert abs(own_intercept(np.zeros(12), outcome, 1e-4)) < 1e-6
        assert own_intercept(np.zeros(12), outcome, 1e4) == pytest.approx(np.log(3), abs=1e-6)


class TestTerms:
    def test_they_are_the_derivatives_of_the_profile_likelihood(self):
        design, outcome = hospitals()[0]
        beta = np.array([0.1, 0.5, -0.3, 0.2])

        def likelihood(at: np.ndarray) -> float:
            odds = design @ at
            u = own_intercept(odds, outcome, SPREAD)
            return float((outcome * (odds + u) - np.logaddexp(0, odds + u)).sum() - u**2 / (2 * SPREAD**2))

        gradient, hessian = logistic_terms(design, outcome, beta, SPREAD)
        step = 1e-4
        for i, unit in enumerate(np.eye(4) * step):
            assert gradient[i] == pytest.approx(
                (likelihood(beta + unit) - likelihood(beta - unit)) / (2 * step), abs=1e-6
            )
            above, below = (logistic_terms(design, outcome, beta + s * unit, SPREAD)[0] for s in (1, -1))
            np.testing.assert_allclose(hessian[i], -(above - below) / (2 * step), atol=1e-6)

    def test_their_sums_lead_to_the_joint_optimum_over_all_intercepts(self):
        patients = hospitals()

        def loss(values: np.ndarray) -> float:
            beta, own = values[:4], values[4:]
            fit = sum(
                float((np.logaddexp(0, x @ beta + u) - y * (x @ beta + u)).sum())
                for (x, y), u in zip(patients, own, strict=True)
            )
            return fit + RIDGE / 2 * float(beta[1:] @ beta[1:]) + float(own @ own) / (2 * SPREAD**2)

        best = minimize(loss, np.zeros(8), method="BFGS", options={"gtol": 1e-7, "maxiter": 5000})
        np.testing.assert_allclose(fitted(patients, SPREAD), best.x[:4], atol=1e-5)
        own = [own_intercept(x @ best.x[:4], y, SPREAD) for x, y in patients]
        np.testing.assert_allclose(own, best.x[4:], atol=1e-5)
        assert abs(sum(own)) < 1e-4  # the common intercept is their mean: what is beyond it adds up to nothing

    def test_without_a_spread_they_are_the_plain_ones(self):
        design, outcome = hospitals()[1]
        p = expit(design @ np.full(4, 0.1))
        gradient, hessian = logistic_terms(design, outcome, np.full(4, 0.1))
        np.testing.assert_allclose(gradient, design.T @ (outcome - p))
        np.testing.assert_allclose(hessian, design.T @ np.diag(p * (1 - p)) @ design)

    def test_a_scanner_that_goes_with_the_event_rate_is_not_learned(self):
        """A value of the scanner alone, higher where responders are frequent: within a hospital it tells nothing."""
        rng = np.random.default_rng(3)
        patients = []
        for shift in (-1.5, -0.5, 0.5, 1.5):
            design = np.column_stack([np.ones(3000), shift + rng.standard_normal(3000)])
            patients.append((design, (rng.random(3000) < expit(np.full(3000, shift))).astype(float)))
        assert fitted(patients, None, ridge=0.0)[1] > 0.4
        # standard error 1 / sqrt(sum of p (1 - p)) = 0.02
        assert abs(fitted(patients, 10.0, ridge=0.0)[1]) < 0.06
