"""Statistics from sums over sites against the same statistics of the stacked patients."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe.messages import DescribeReply
from fedloupe.models import Preparation, standardise
from fedloupe.statistics import Moments
from fedloupe_server.statistics.projection import OVERSAMPLING, PASSES, first_probe, next_probe, principal_projection
from fedloupe_server.statistics.scaling import pooled_moments, scaling
from summed import added

HEADER = {"version": "0", "fingerprint": "0" * 64, "run": "test", "site": "north"}
SIZES = (17, 40, 9, 64)


def described(table: np.ndarray) -> DescribeReply:
    """A site's exact sums."""
    return DescribeReply(**HEADER, **vars(Moments.of(table)))


def pooled_scaling(replies: list[DescribeReply]) -> tuple[np.ndarray, np.ndarray]:
    """What the coordinator makes of them."""
    return scaling(pooled_moments(added(replies), len(replies[0].count)))


@pytest.fixture(scope="module")
def tables() -> list[np.ndarray]:
    """Four synthetic sites of unlike scanners: 40 features of rank 6 plus noise, some missing."""
    rng = np.random.default_rng(0)
    loadings = rng.standard_normal((6, 40)) * np.array([8, 5, 3, 2, 1.5, 1])[:, None]
    result = []
    for number, size in enumerate(SIZES):
        table = rng.standard_normal((size, 6)) @ loadings + 0.3 * rng.standard_normal((size, 40))
        table = table * rng.uniform(0.8, 1.2) + number  # a gain and a shift by site
        table[rng.random(table.shape) < 0.03] = np.nan
        result.append(table)
    return result


class TestScaling:
    def test_it_equals_the_pooled_one(self, tables):
        stacked = np.concatenate(tables)
        mean, scale = pooled_scaling([described(t) for t in tables])
        np.testing.assert_allclose(mean, np.nanmean(stacked, axis=0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(scale, np.nanstd(stacked, axis=0, ddof=1), rtol=1e-12)

    def test_order_of_sites_split_sites_and_empty_sites_change_no_bit(self, tables):
        others = [*tables[::-1], tables[0][:0]]
        others[1:2] = [tables[2][:4], tables[2][4:]]
        one, other = pooled_scaling([described(t) for t in tables]), pooled_scaling([described(t) for t in others])
        assert [a.tobytes() for a in one] == [a.tobytes() for a in other]

    def test_a_feature_that_one_site_lacks_comes_from_the_others(self, tables):
        changed = [t.copy() for t in tables]
        changed[1][:, 3] = np.nan
        mean, scale = pooled_scaling([described(t) for t in changed])
        stacked = np.concatenate(changed)
        assert mean[3] == pytest.approx(np.nanmean(stacked[:, 3]), rel=1e-9)
        assert scale[3] == pytest.approx(np.nanstd(stacked[:, 3], ddof=1), rel=1e-9)

    @pytest.mark.parametrize("values", [[np.nan] * 4, [5.0, np.nan, np.nan, np.nan], [5.0] * 4, [1e9 + 0.1] * 4])
    def test_a_feature_without_spread_has_scale_zero(self, values):
        _, scale = pooled_scaling([described(np.array(values)[:, None])])
        assert scale.tolist() == [0.0]

    def test_a_small_spread_on_a_large_mean_is_found(self):
        values = 1e6 + np.array([0.0, 0.25, 0.5, 0.75])
        mean, scale = scaling(Moments.of(values[:, None]))
        assert mean[0] == 1e6 + 0.375
        assert scale[0] == pytest.approx(np.sqrt(5 / 48), rel=1e-15)


class TestPrincipalComponents:
    COMPONENTS = 4
    COLUMNS = ("t2w",) * 25 + ("adc",) * 12 + ("shape",) * 3

    def fit(self, tables: list[np.ndarray], seed: int = 1) -> tuple[Preparation, np.ndarray]:
        """The federation's passes on these sites, and the standardised patients."""
        mean, scale = pooled_scaling([described(t) for t in tables])
        scores = [standardise(t, mean, scale) for t in tables]
        groups = np.array(self.COLUMNS)
        probe = first_probe(self.COLUMNS, self.COMPONENTS, seed)
        for number in range(PASSES):
            if number:
                probe = next_probe(sketch, self.COLUMNS)  # noqa: F821 - from the pass before
            sketch = np.zeros(probe.shape)
            for block in scores:
                for group in ("t2w", "adc", "shape"):
                    rows = groups == group
                    sketch[rows] += block[:, rows].T @ block[:, rows] @ probe[rows].astype(float)
        projection = principal_projection(probe, sketch, self.COLUMNS, self.COMPONENTS, sum(SIZES))
        return Preparation(mean, scale, projection, "federated"), np.concatenate(scores)

    def test_it_spans_the_pooled_principal_components(self, tables):
        """Explained variance within 1e-3 of the exact one; variances as the eigenvalues', the first one's being 1."""
        preparation, scores = self.fit(tables)
        groups = np.array(self.COLUMNS)
        for group, kept in (("t2w", 4), ("adc", 4), ("shape", 3)):
            rows = groups == group
            covariance = scores[:, rows].T @ scores[:, rows] / (len(scores) - 1)
            values, vectors = np.linalg.eigh(covariance)
            exact = values[::-1][:kept]
            loadings = preparation.projection[rows].astype(float)
            assert np.count_nonzero(np.abs(loadings).sum(axis=0)) == kept
            loadings = loadings[:, :kept]
            basis, _ = np.linalg.qr(loadings)
            explained = np.trace(basis.T @ covariance @ basis)
            assert explained == pytest.approx(exact.sum(), rel=1e-3)
            np.testing.assert_allclose(loadings.T @ covariance @ loadings, np.diag(exact / exact[0]), atol=2e-3)
            np.testing.assert_allclose(1 / np.linalg.norm(loadings, axis=0) ** 2, exact[0], rtol=1e-3)
            cosine = np.abs(np.sum(vectors[:, ::-1][:, 0] * loadings[:, 0])) * np.sqrt(exact[0])
            assert cosine == pytest.approx(1, abs=1e-3)

    def test_components_of_the_training_patients_are_uncorrelated_and_the_first_has_unit_variance(self, tables):
        preparation, _ = self.fit(tables)
        components, _ = preparation.apply(np.concatenate(tables), self.COLUMNS)
        for place, kept in enumerate((4, 4, 3)):
            block = components[:, place, :kept]
            covariance = np.cov(block, rowvar=False)
            assert covariance[0, 0] == pytest.approx(1, abs=0.02)
            assert (np.diff(np.diag(covariance)) < 0).all()
            assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 0.02
            assert not components[:, place, kept:].any()

    def test_another_seed_or_order_of_sites_gives_the_same_components(self, tables):
        first, _ = self.fit(tables)
        for other, _ in (self.fit(tables, seed=77), self.fit(tables[::-1])):
            np.testing.assert_allclose(first.projection[:, 0], other.projection[:, 0], atol=2e-3)
        np.testing.assert_allclose(first.projection, self.fit(tables[::-1])[0].projection, atol=1e-5)

    def test_the_sites_own_sums_are_those_of_the_stacked_patients(self, tables):
        one, _ = self.fit([np.concatenate(tables)])
        four, _ = self.fit(tables)
        np.testing.assert_allclose(one.projection, four.projection, atol=1e-5)

    def test_a_group_of_constants_has_no_component(self):
        columns = ("flat", "flat", "live")
        sketch = np.zeros((3, 1 + OVERSAMPLING))
        probe = next_probe(np.random.default_rng(0).standard_normal(sketch.shape), columns)
        sketch[2] = probe[2] * 9.0
        projection = principal_projection(probe, sketch, columns, 1, 10)
        assert not projection[:2].any()
        assert projection[2, 0] == pytest.approx(1.0)

    def test_probes_are_orthonormal_in_each_group(self):
        probe = first_probe(self.COLUMNS, self.COMPONENTS, 3)
        assert probe.shape == (40, self.COMPONENTS + OVERSAMPLING)
        for group, size in (("t2w", 12), ("adc", 12), ("shape", 3)):
            block = probe[np.array(self.COLUMNS) == group].astype(float)
            gram = np.zeros((12, 12))
            gram[:size, :size] = np.eye(size)
            np.testing.assert_allclose(block.T @ block, gram, atol=1e-6)
