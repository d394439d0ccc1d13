"""Federated logistic regression against the same regression of the stacked patients by other people's solvers."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe.messages import NewtonReply
from fedloupe.models import ASKS, Penalty
from fedloupe_server.statistics.logistic import NotConverged, fit_logistic

HEADER = {"version": "0", "fingerprint": "0" * 64, "run": "test", "site": "north"}
SIZES = (17, 40, 9, 64)
Sites = list[tuple[np.ndarray, np.ndarray]]


class Asked:
    """Sites that answer with their sums, and remember where they were asked."""

    def __init__(self, sites: Sites) -> None:
        self.sites, self.places = sites, []

    def __call__(self, step: int, beta: np.ndarray) -> list[NewtonReply]:
        assert step == len(self.places)
        self.places.append(beta)
        return [self.sums(design, labels, beta) for design, labels in self.sites]

    @staticmethod
    def sums(design: np.ndarray, labels: np.ndarray, beta: np.ndarray) -> NewtonReply:
        p = 1 / (1 + np.exp(-design @ beta))
        hessian = (design * (p * (1 - p))[:, None]).T @ design
        return NewtonReply(**HEADER, gradient=design.T @ (labels - p), hessian=hessian)


class Leaving(Asked):
    """The last of these sites is not there from this step on."""

    def __init__(self, sites: Sites, step: int) -> None:
        super().__init__(sites)
        self.step = step

    def __call__(self, step: int, beta: np.ndarray) -> list[NewtonReply]:
        return super().__call__(step, beta)[: len(self.there())]

    def there(self) -> tuple[str, ...]:
        """Who is in the latest sums."""
        names = tuple(f"site {number}" for number in range(len(self.sites)))
        return names if len(self.places) <= self.step else names[:-1]


def fit(sites: Sites, ridge: float, l1_ratio: float = 0.0, **more: np.ndarray) -> np.ndarray:
    return fit_logistic(Asked(sites), sites[0][0].shape[1], Penalty(ridge, l1_ratio), **more)


def objective(sites: Sites, beta: np.ndarray, ridge: float, l1_ratio: float) -> float:
    design, labels = stacked(sites)
    penalised = l1_ratio * np.abs(beta[1:]).sum() + (1 - l1_ratio) / 2 * beta[1:] @ beta[1:]
    return float(np.logaddexp(0, design @ beta).sum() - labels @ design @ beta + ridge * penalised)


def stacked(sites: Sites) -> tuple[np.ndarray, np.ndarray]:
    designs, labels = zip(*sites, strict=True)
    return np.concatenate(designs), np.concatenate(labels)


def draw(sizes: tuple[int, ...], width: int, seed: int, scale: float = 1.0) -> Sites:
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal(width + 1)
    result = []
    for size in sizes:
        design = np.column_stack([np.ones(size), scale * rng.standard_normal((size, width))])
        result.append((design, (rng.random(size) < 1 / (1 + np.exp(-design @ truth))).astype(float)))
    return result


@pytest.fixture(scope="module")
def sites() -> Sites:
    return draw(SIZES, 6, 4)


class TestRidge:
    @pytest.mark.parametrize("ridge", [0.1, 1.0, 10.0, 100.0])
    def test_it_equals_the_pooled_penalised_fit(self, sites, ridge):
        from sklearn.linear_model import LogisticRegression

        design, labels = stacked(sites)
        pooled = LogisticRegression(C=1 / ridge, tol=1e-12, max_iter=10_000, solver="newton-cholesky")
        pooled.fit(design[:, 1:], labels)
        np.testing.assert_allclose(fit(sites, ridge), [*pooled.intercept_, *pooled.coef_[0]], atol=1e-6)

    def test_without_a_penalty_it_is_maximum_likelihood(self, sites):
        import statsmodels.api as sm

        design, labels = stacked(sites)
        pooled = sm.Logit(labels, design).fit(disp=0, tol=1e-12)
        np.testing.assert_allclose(fit(sites, 0.0), pooled.params, atol=1e-6)

    @pytest.mark.parametrize("l1_ratio", [0.0, 0.5])
    def test_the_intercept_is_not_penalised(self, sites, l1_ratio):
        """Under a huge penalty the intercept is the logit of the prevalence."""
        _, labels = stacked(sites)
        beta = fit(sites, 1e9, l1_ratio)
        assert beta[0] == pytest.approx(np.log(labels.mean() / (1 - labels.mean())), abs=1e-6)
        assert np.abs(beta[1:]).max() < 1e-6

    def test_the_order_of_sites_does_not_matter(self, sites):
        np.testing.assert_allclose(fit(sites, 1.0), fit(sites[::-1], 1.0), atol=1e-12)

    @pytest.mark.parametrize("ridge", [1e-3, 1e-2, 0.1])
    def test_separable_patients_still_have_the_penalised_optimum(self, ridge):
        """A study may choose any positive ridge; radiomics with p near n separate easily."""
        from scipy.optimize import minimize

        rng = np.random.default_rng(8)
        design = np.column_stack([np.ones(20), 2 * rng.standard_normal((20, 12))])
        apart = [(design, (design[:, 1] > 0.8).astype(float))]
        options = {"gtol": 1e-9, "maxiter": 5000}
        best = minimize(lambda b: objective(apart, b, ridge, 0.0), np.zeros(13), method="BFGS", options=options).fun
        assert objective(apart, fit(apart, ridge), ridge, 0.0) == pytest.approx(best, abs=1e-6)


class TestElasticNet:
    @pytest.mark.parametrize("ridge", [0.5, 4.0, 12.0])
    @pytest.mark.parametrize("l1_ratio", [0.2, 0.7, 1.0])
    def test_it_equals_the_pooled_fit_of_scikit_learn(self, sites, ridge, l1_ratio):
        from sklearn.linear_model import LogisticRegression

        design, labels = stacked(sites)
        pooled = LogisticRegression(C=1 / ridge, l1_ratio=l1_ratio, solver="saga", tol=1e-12, max_iter=200_000)
        pooled.fit(design[:, 1:], labels)
        np.testing.assert_allclose(fit(sites, ridge, l1_ratio), [*pooled.intercept_, *pooled.coef_[0]], atol=1e-6)

    def test_it_equals_a_pooled_convex_solver_where_features_outnumber_patients(self):
        """b = u - v with u, v >= 0 makes the penalty smooth: bounded quasi-Newton, then the same objective."""
        from scipy.optimize import minimize

        wide, ridge, ratio = draw((11, 14), 40, 5), 0.8, 0.9
        design, labels = stacked(wide)

        def halves(x: np.ndarray) -> tuple[float, np.ndarray]:
            beta = np.concatenate([x[:1], x[1:41] - x[41:]])
            slope = design.T @ (1 / (1 + np.exp(-design @ beta)) - labels)
            smooth = np.logaddexp(0, design @ beta).sum() - labels @ design @ beta
            value = smooth + ridge * (ratio * x[1:].sum() + (1 - ratio) / 2 * beta[1:] @ beta[1:])
            both = slope[1:] + ridge * (1 - ratio) * beta[1:]
            return value, np.concatenate([slope[:1], both + ridge * ratio, ridge * ratio - both])

        bounds = [(None, None)] + [(0, None)] * 80
        options = {"ftol": 1e-16, "gtol": 1e-11, "maxiter": 20_000, "maxfun": 100_000}
        best = minimize(halves, np.zeros(81), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        beta = fit(wide, ridge, ratio)
        assert objective(wide, beta, ridge, ratio) <= best.fun + 1e-9
        np.testing.assert_allclose(beta, np.concatenate([best.x[:1], best.x[1:41] - best.x[41:]]), atol=1e-5)

    @pytest.mark.parametrize("l1_ratio", [0.3, 1.0])
    def test_every_kkt_condition_holds_within_1e_8(self, sites, l1_ratio):
        ridge, beta = 6.0, fit(sites, 6.0, l1_ratio)
        design, labels = stacked(sites)
        gradient = design.T @ (labels - 1 / (1 + np.exp(-design @ beta)))
        assert abs(gradient[0]) < 1e-8
        zero = beta[1:] == 0
        assert 0 < zero.sum() < 6
        assert (np.abs(gradient[1:][zero]) <= ridge * l1_ratio).all()
        held = ridge * (l1_ratio * np.sign(beta[1:]) + (1 - l1_ratio) * beta[1:])
        np.testing.assert_allclose(gradient[1:][~zero], held[~zero], atol=1e-8)

    def test_the_violation_is_seen_at_each_kind_of_coefficient(self):
        penalty = Penalty(2.0, 0.5)  # 1 |b| + 1/2 b^2
        at = np.array([0.3, 0.0, 2.0, -2.0])
        assert penalty.violation(at, np.array([0.0, -1.0, 3.0, -3.0])) == 0
        for place, change in ((0, 0.25), (1, -0.25), (2, 0.25), (3, -0.25)):
            off = np.array([0.0, -1.0, 3.0, -3.0])
            off[place] += change
            assert penalty.violation(at, off) == pytest.approx(0.25)

    def test_a_constant_column_gets_no_weight(self, sites):
        flat = [(np.column_stack([design, np.zeros(len(design))]), labels) for design, labels in sites]
        beta = fit(flat, 1.0, 0.5)
        assert beta[-1] == 0
        np.testing.assert_allclose(beta[:-1], fit(sites, 1.0, 0.5), atol=1e-8)

    def test_splitting_a_site_and_adding_an_empty_one_changes_nothing(self, sites):
        (design, labels), *rest = sites
        other = [(design[:5], labels[:5]), (design[5:], labels[5:]), *rest, (design[:0], labels[:0])]
        np.testing.assert_allclose(fit(sites, 3.0, 0.5), fit(other, 3.0, 0.5), atol=1e-9)


class TestSomeColumns:
    def test_the_model_without_the_other_columns_comes_from_the_same_messages(self, sites):
        kept = np.array([0, 2, 5])
        beta = fit(sites, 2.0, 0.5, kept=kept)
        alone = fit([(design[:, kept], labels) for design, labels in sites], 2.0, 0.5)
        np.testing.assert_allclose(beta[kept], alone, atol=1e-9)
        assert np.flatnonzero(beta).tolist() == [0, 2, 5]


class TestDescent:
    """Seven patients, far apart and hardly penalised: plain Newton steps from zero overshoot and never come back."""

    DESIGN = np.array(
        [[23, 0, 1], [0, 0, 1], [0, 0, 0], [1, 0, 0], [31, 100, -3], [-48, 34, 0], [1, 3, 0]], dtype=np.float64
    )

    @pytest.fixture
    def steep(self) -> Sites:
        return [(np.column_stack([np.ones(7), self.DESIGN]), np.array([0.0, 0, 1, 1, 0, 0, 0]))]

    @pytest.mark.parametrize(("ridge", "l1_ratio"), [(0.1, 0.0), (0.001, 0.0), (0.001, 0.5)])
    def test_it_converges_where_newton_steps_alone_do_not(self, steep, ridge, l1_ratio):
        from scipy.optimize import minimize

        penalty, newton, asked = Penalty(ridge, l1_ratio), np.zeros(4), Asked(steep)
        with np.errstate(over="ignore"):
            for step in range(50):
                (reply,) = asked(step, newton)
                newton = penalty.minimise(newton, reply.gradient, reply.hessian)
            beta = fit(steep, ridge, l1_ratio)
            (first,), (last,) = Asked(steep)(0, newton), Asked(steep)(0, beta)
        assert penalty.violation(newton, first.gradient) > 1
        assert penalty.violation(beta, last.gradient) <= 1e-8
        options = {"xatol": 1e-10, "fatol": 1e-14, "maxiter": 100_000, "maxfev": 100_000}
        for start in (np.zeros(4), beta):  # a search without derivatives finds nothing lower, from either end
            other = minimize(
                lambda b: objective(steep, b, ridge, l1_ratio), start, method="Nelder-Mead", options=options
            )
            assert objective(steep, beta, ridge, l1_ratio) <= other.fun + 1e-9

    def test_a_usual_fit_asks_rarely(self, sites):
        for ratio in (0.0, 0.5, 1.0):
            asked = Asked(sites)
            fit_logistic(asked, 7, Penalty(3.0, ratio))
            assert len(asked.places) <= 8

    @pytest.mark.parametrize("l1_ratio", [0.0, 0.5])
    @pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
    def test_where_a_site_leaves_it_goes_on_to_the_optimum_of_the_others(self, sites, step, l1_ratio):
        leaving = Leaving(sites, step)
        beta = fit_logistic(leaving, 7, Penalty(3.0, l1_ratio), over=leaving.there)
        np.testing.assert_allclose(beta, fit(sites[:-1], 3.0, l1_ratio), atol=1e-7)
        assert len(leaving.places) <= step + 8

    def test_not_told_that_a_site_left_it_may_look_for_a_step_that_is_not_there(self, sites):
        with pytest.raises(NotConverged):
            fit_logistic(Leaving(sites, 3), 7, Penalty(3.0, 0.5))

    def test_sums_that_fit_no_likelihood_are_not_followed_for_ever(self):
        def lying(step: int, beta: np.ndarray) -> list[NewtonReply]:
            return [NewtonReply(**HEADER, gradient=np.ones(3), hessian=np.eye(3))]

        with pytest.raises(NotConverged, match=rf"within {ASKS} steps \(demo, clinical\)"):
            fit_logistic(lying, 3, Penalty(1.0), where="demo, clinical")
