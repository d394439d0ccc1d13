"""ComBat over sites against ComBat on the pooled table, written here from the paper with one design matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedloupe.statistics import Moments
from fedloupe.statistics.combat import CrossProducts, Harmoniser, Residuals, level_and_spread, slopes, to_scores
from fedloupe.statistics.shifts import Prior, Shift, fit_shift, pooled_prior, prior_sums

SIZES = (23, 41, 17, 60)
FEATURES = 120
METHODS = [(True, False), (False, False), (True, True), (False, True)]
TOLERANCE = 1e-6
NOTHING = np.zeros(0)


def pooled_combat(
    data: np.ndarray,
    batch: np.ndarray,
    covariates: np.ndarray,
    *,
    eb: bool,
    mean_only: bool,
    reference: int | None = None,
    stop: float = 1e-13,
    published: bool = False,
) -> np.ndarray:
    """Johnson 2007, step by step, one feature's least squares at a time, on patients who have the feature.

    With `published` the loop stops as neuroCombat's does, and mean-only shrinks with n = 1 as it does there.
    """
    p = data.shape[1]
    levels = np.unique(batch)
    dummies = (batch[:, None] == levels).astype(float)
    design = np.column_stack([dummies, covariates])
    base, beta, variance = np.zeros(p), np.zeros((p, covariates.shape[1])), np.zeros(p)
    for f in range(p):
        there = np.isfinite(data[:, f])
        fit, *_ = np.linalg.lstsq(design[there], data[there, f], rcond=None)
        squared = (data[there, f] - design[there] @ fit) ** 2
        beta[f] = fit[len(levels) :]
        if reference is None:
            base[f] = dummies[there].sum(axis=0) @ fit[: len(levels)] / there.sum()
            variance[f] = squared.mean()
        else:
            base[f] = fit[reference]
            variance[f] = squared[batch[there] == levels[reference]].mean()
    expected = base + covariates @ beta.T
    s = (data - expected) / np.sqrt(variance)
    out = data.copy()
    for place, level in enumerate(levels):
        if place == reference:
            continue
        part = s[batch == level]
        count = np.isfinite(part).sum(axis=0)
        g_hat = np.nanmean(part, axis=0)
        d_hat = np.ones(p) if mean_only else np.nanvar(part, axis=0, ddof=1)
        g_bar, t2 = g_hat.mean(), g_hat.var(ddof=1)
        gamma, delta = g_hat, d_hat
        if eb and mean_only:
            size = 1 if published else count
            gamma = (t2 * size * g_hat + g_bar) / (t2 * size + 1)
        elif eb:
            m, s2 = d_hat.mean(), d_hat.var(ddof=1)
            a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
            change = 1.0
            while change > (1e-4 if published else stop):
                new = (t2 * count * g_hat + delta * g_bar) / (t2 * count + delta)
                wide = (0.5 * np.nansum((part - new) ** 2, axis=0) + b) / (count / 2 + a - 1)
                change = max((abs(new - gamma) / abs(gamma)).max(), (abs(wide - delta) / delta).max())
                gamma, delta = new, wide
        out[batch == level] = ((part - gamma) / np.sqrt(delta)) * np.sqrt(variance) + expected[batch == level]
    return out


def federated_combat(
    sites: list[tuple[np.ndarray, np.ndarray, np.ndarray]], *, eb: bool, mean_only: bool, reference: int | None = None
) -> tuple[list[np.ndarray], Harmoniser, list[Shift]]:
    """The federation's rounds on sites of (features, covariates, batch codes)."""
    moments = Moments.sum([Moments.of(features) for features, _, _ in sites])
    centre, scale = moments.mean, moments.sd
    scored = [(to_scores(f, centre, scale), x, b) for f, x, b in sites]
    beta = slopes([CrossProducts.of(*site) for site in scored])
    second = [Residuals.of(*site, beta) for site in scored]
    level, spread = level_and_spread(second if reference is None else [second[reference]])
    shared = Harmoniser(centre, scale, beta, level, spread, NOTHING)
    results, shifts = [], []
    for place, (features, x, batches) in enumerate(sites):
        out = features.copy()
        for batch in np.unique(batches):
            rows = batches == batch
            if place != reference:
                left = shared.standardised(features[rows], x[rows])
                shifts.append(fit_shift(left, empirical_bayes=eb, mean_only=mean_only))
                out[rows] = shared.adjust(features[rows], x[rows], shifts[-1].gamma, shifts[-1].delta)
        results.append(out)
    return results, shared, shifts


def make_sites(seed: int = 0, missing: float = 0.0, q: int = 2) -> list[tuple[np.ndarray, ...]]:
    """Four hospitals with shifts, widths and covariates of their own; every feature of another size."""
    rng = np.random.default_rng(seed)
    beta, size = rng.standard_normal((q, FEATURES)), 10.0 ** rng.uniform(-3, 4, FEATURES)
    found = []
    for n in SIZES:
        x = rng.standard_normal((n, q)) + rng.standard_normal(q)
        noise = rng.standard_normal((n, FEATURES)) * rng.uniform(0.5, 2, FEATURES)
        values = (noise + x @ beta + rng.standard_normal(FEATURES) + 0.7 * rng.standard_normal() + 5) * size
        values[rng.random(values.shape) < missing] = np.nan
        found.append((values, x, np.zeros(n, np.int64)))
    return found


def pooled(sites: list[tuple[np.ndarray, ...]], **method: Any) -> list[np.ndarray]:
    """The reference's result, cut into the sites again."""
    features, x, _ = (np.concatenate(part) for part in zip(*sites, strict=True))
    lengths = [len(s[0]) for s in sites]
    return np.split(
        pooled_combat(features, np.repeat(range(len(sites)), lengths), x, **method), np.cumsum(lengths)[:-1]
    )


def apart(found: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    """Largest difference in standard deviations of the feature; missing values must be the same ones."""
    one, two = np.concatenate(found), np.concatenate(wanted)
    assert np.array_equal(np.isnan(one), np.isnan(two))
    return float(np.nanmax(np.abs(one - two) / np.nanstd(two, axis=0)))


class TestEqualToPooled:
    @pytest.mark.parametrize("q", [0, 1, 3])
    @pytest.mark.parametrize(("eb", "mean_only"), METHODS)
    def test_all_patients_on_one_table_give_the_same(self, eb, mean_only, q):
        sites = make_sites(q=q)
        found, _, _ = federated_combat(sites, eb=eb, mean_only=mean_only)
        assert apart(found, pooled(sites, eb=eb, mean_only=mean_only)) < TOLERANCE
        assert apart(found, [s[0] for s in sites]) > 0.1

    @pytest.mark.parametrize(("eb", "mean_only"), METHODS)
    def test_also_where_values_are_missing(self, eb, mean_only):
        sites = make_sites(3, missing=0.15)
        sites[1][0][::2, 40:60] = np.nan  # a sequence that half of a hospital's patients lack
        found, _, _ = federated_combat(sites, eb=eb, mean_only=mean_only)
        assert apart(found, pooled(sites, eb=eb, mean_only=mean_only)) < TOLERANCE

    @pytest.mark.parametrize(("eb", "mean_only"), METHODS)
    def test_also_with_a_reference_site_that_stays_as_it_is(self, eb, mean_only):
        sites = make_sites(5)
        found, _, _ = federated_combat(sites, eb=eb, mean_only=mean_only, reference=1)
        assert apart(found, pooled(sites, eb=eb, mean_only=mean_only, reference=1)) < TOLERANCE
        assert np.array_equal(found[1], sites[1][0])

    def test_also_where_a_site_holds_several_batches(self):
        sites = make_sites(7)
        merged = [tuple(np.concatenate(part) for part in zip(sites[0], sites[1], strict=True)), *sites[2:]]
        merged[0] = (*merged[0][:2], np.repeat([4, 2], SIZES[:2]))
        found, _, _ = federated_combat(merged, eb=True, mean_only=False)
        wanted = pooled(sites, eb=True, mean_only=False)
        assert apart(found, [np.concatenate(wanted[:2]), *wanted[2:]]) < TOLERANCE

    def test_the_published_stopping_rule_changes_the_fourth_digit_at_most(self):
        sites = make_sites(1)
        found, _, _ = federated_combat(sites, eb=True, mean_only=False)
        assert apart(found, pooled(sites, eb=True, mean_only=False, published=True)) < 1e-4

    def test_order_of_cases_and_empty_sites_change_no_bit(self):
        sites = make_sites(9, missing=0.1)
        rng = np.random.default_rng(0)
        orders = [rng.permutation(n) for n in SIZES]
        shuffled = [tuple(part[order] for part in site) for site, order in zip(sites, orders, strict=True)]
        empty = tuple(part[:0] for part in sites[0])
        one, shared, _ = federated_combat(sites, eb=True, mean_only=False)
        two, other, _ = federated_combat([empty, *shuffled[::-1]], eb=True, mean_only=False)
        for name, array in shared.arrays.items():
            assert array.tobytes() == other.arrays[name].tobytes(), name
        for first, second, order in zip(one, two[:0:-1], orders, strict=True):
            assert first[order].tobytes() == second.tobytes()


class TestWhatStaysAsItIs:
    def test_a_constant_feature_and_one_that_nobody_has(self):
        sites = make_sites(2)
        for features, _, _ in sites:
            features[:, 3], features[:, 4] = 7.5, np.nan
        found, shared, _ = federated_combat(sites, eb=True, mean_only=False)
        assert not shared.usable[3:5].any()
        for features, (before, _, _) in zip(found, sites, strict=True):
            assert np.array_equal(features[:, 3:5], before[:, 3:5], equal_nan=True)
            assert np.isfinite(np.delete(features, 4, axis=1)).all()

    def test_a_feature_that_is_constant_in_one_batch_only_stays_finite(self):
        sites = make_sites(4, q=0)
        sites[2][0][:, 8] = 1.0
        for eb in (True, False):
            found, _, _ = federated_combat(sites, eb=eb, mean_only=False)
            assert np.isfinite(np.concatenate(found)).all()

    def test_a_feature_that_a_batch_lacks_does_not_disturb_its_others(self):
        sites = make_sites(6)
        sites[0][0][:, 5] = np.nan
        found, shared, shifts = federated_combat(sites, eb=False, mean_only=False)
        wanted = pooled([(np.delete(f, 5, axis=1), x, b) for f, x, b in sites], eb=False, mean_only=False)
        assert apart([np.delete(f, 5, axis=1) for f in found], wanted) < TOLERANCE
        assert (shifts[0].gamma[5], shifts[0].delta[5]) == (0.0, 1.0)
        assert shared.usable[5]

    def test_collinear_covariates_have_the_fit_of_one_of_them(self):
        sites = make_sites(8, q=1)
        doubled = [(f, np.column_stack([x, 2 * x]), b) for f, x, b in sites]
        one, _, _ = federated_combat(sites, eb=True, mean_only=False)
        two, _, _ = federated_combat(doubled, eb=True, mean_only=False)
        assert apart(one, two) < TOLERANCE


class TestPriorOfABatchNeverSeen:
    def test_it_is_the_mixture_of_the_batches(self):
        """Draw batches, pool their moments: the mean and variance of all features of all batches together."""
        rng = np.random.default_rng(0)
        shifts = []
        for _ in range(4):
            gamma, delta = rng.standard_normal(500) + rng.standard_normal(), rng.gamma(4, 0.3, 500)
            moments = (gamma.mean(), gamma.var(), delta.mean(), delta.var())
            shifts.append(Shift(gamma, delta, Prior(*map(float, moments))))
        found = pooled_prior([prior_sums(shifts[:1]), prior_sums(shifts[1:]), prior_sums([])])
        gammas, deltas = (np.concatenate([getattr(s, name) for s in shifts]) for name in ("gamma", "delta"))
        wanted = (gammas.mean(), gammas.var() * 5 / 3, deltas.mean(), deltas.var())
        np.testing.assert_allclose(found.array, wanted, rtol=1e-9)
        assert Prior.from_array(found.array) == found

    @pytest.mark.parametrize("batches", [2, 3, 6])
    def test_it_expects_a_new_batch_as_far_off_as_it_will_be(self, batches):
        """Many features, shifts of variance 4 about a common mean: a new batch's are, about that mean, 4 (1 + 1/B)."""
        gamma = 2.0 * np.random.default_rng(batches).standard_normal((batches, 40_000))
        gamma -= gamma.mean(axis=0)
        shifts = [Shift(g, np.ones(g.shape), Prior(g.mean(), g.var(), None, None)) for g in gamma]
        assert pooled_prior([prior_sums(shifts)]).gamma_variance == pytest.approx(4 * (1 + 1 / batches), rel=0.03)

    def test_from_fewer_than_two_batches_there_is_none(self):
        one = Shift(np.zeros(3), np.ones(3), Prior(0.0, 0.0, 1.0, 0.1))
        assert pooled_prior([prior_sums([]), prior_sums([Shift.none(3)])]) is None
        assert pooled_prior([prior_sums([one])]) is None
        assert pooled_prior([prior_sums([one]), prior_sums([one])]) is not None
        assert Prior.from_array(NOTHING) is None

    def test_few_patients_move_little_from_it_and_many_to_their_own(self):
        prior = Prior(0.0, 0.04, 1.0, 0.02)
        rng = np.random.default_rng(1)
        for n, low, high in ((3, 0.0, 0.35), (2000, 0.95, 1.05)):
            left = 2.0 * rng.standard_normal((n, 400)) + 1.0
            shift = fit_shift(left, empirical_bayes=True, mean_only=False, prior=prior)
            assert low <= shift.gamma.mean() <= high
        assert shift.delta.mean() == pytest.approx(4.0, rel=0.05)

    def test_mean_only_batches_give_a_prior_of_gamma_alone(self):
        left = np.random.default_rng(2).standard_normal((12, 30))
        shift = fit_shift(left, empirical_bayes=True, mean_only=True)
        found = pooled_prior([prior_sums([shift, shift])])
        assert found.array.shape == (2,)
        unseen = fit_shift(left, empirical_bayes=True, mean_only=False, prior=found)
        assert (unseen.delta == 1).all()
