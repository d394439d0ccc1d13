"""A site's terms of federated sums, against numpy on its training patients and on nobody else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedloupe.models import design_matrix, standardise
from fedloupe.statistics import OutOfRange, ring
from fedloupe_client.training.statistics import describe, logistic_alone, newton_terms, sketch


@pytest.fixture
def others_changed(cohort):
    """The same site with other tuning and test patients."""
    rows = cohort.split != "train"
    features, clinical, labels = cohort.features.copy(), cohort.clinical.copy(), cohort.labels.copy()
    features[rows] = 1e3
    clinical[rows] = -1e3
    labels[rows] = 1 - labels[rows]
    return replace(cohort, features=features, clinical=clinical, labels=labels)


class TestDescribe:
    def test_it_counts_and_sums_what_is_there(self, cohort):
        found = describe(cohort)
        train = cohort.features[cohort.split == "train"]
        assert np.isnan(train).sum() > 0
        assert found.count.tolist() == (~np.isnan(train)).sum(axis=0).tolist()
        np.testing.assert_allclose(ring.decode(found.total), np.nansum(train, axis=0), rtol=1e-12)
        np.testing.assert_allclose(ring.decode(found.square, 128), np.nansum(train**2, axis=0), rtol=1e-12)

    def test_only_training_patients_count(self, cohort, others_changed):
        first, second = vars(describe(cohort)), vars(describe(others_changed))
        assert all(np.array_equal(first[name], second[name]) for name in first)

    def test_what_is_not_finite_is_missing_and_what_is_too_large_is_refused_by_its_column(self, cohort):
        features = cohort.features.copy()
        row = cohort.rows("train")[0]
        features[row, 1] = np.inf
        known = int(np.isfinite(features[cohort.rows("train"), 1]).sum())
        assert describe(replace(cohort, features=features)).count[1] == known
        features[row, 3] = -1e34
        with pytest.raises(OutOfRange, match=r"1 columns.*'d'"):
            describe(replace(cohort, features=features))


class TestSketch:
    def test_it_is_the_gram_matrix_times_the_probe_group_by_group(self, cohort, preparation):
        probe = np.random.default_rng(2).standard_normal((5, 3)).astype(np.float32)
        found = sketch(cohort, preparation.mean, preparation.scale, probe)
        train = cohort.features[cohort.split == "train"]
        scores = np.nan_to_num((train - preparation.mean) / preparation.scale).clip(-4, 4)
        same = np.array([[a == b for b in cohort.columns] for a in cohort.columns])
        np.testing.assert_allclose(found, (scores.T @ scores * same) @ probe, rtol=1e-9)

    def test_only_training_patients_count(self, cohort, others_changed, preparation):
        probe = np.eye(5, dtype=np.float32)
        first, second = (sketch(c, preparation.mean, preparation.scale, probe) for c in (cohort, others_changed))
        assert np.array_equal(first, second)

    def test_a_constant_feature_adds_nothing(self, cohort, preparation):
        scale = preparation.scale.copy()
        scale[2] = 0
        found = sketch(cohort, preparation.mean, scale, np.eye(5, dtype=np.float32))
        assert not found[2].any() and not found[:, 2].any()


class TestNewtonTerms:
    def likelihood(self, cohort, preparation, beta) -> float:
        train = cohort.split == "train"
        scores = standardise(cohort.features[train], preparation.mean, preparation.scale)
        columns = np.array(cohort.columns)
        parts = [np.ones((train.sum(), 1))]
        for group in ("shape", "t2w"):
            parts.append(scores[:, columns == group] @ preparation.projection[columns == group].astype(float))
        design = (
            np.concatenate([*parts, np.nan_to_num(cohort.clinical[train])], axis=1).astype(np.float32).astype(float)
        )
        logit = design @ beta
        return float(cohort.labels[train] @ logit - np.logaddexp(0, logit).sum())

    def test_they_are_the_derivatives_of_the_log_likelihood(self, cohort, preparation):
        beta = np.random.default_rng(3).standard_normal(6) * 0.3
        gradient, hessian = newton_terms(cohort, preparation, beta)
        step = 1e-4
        unit = np.eye(6) * step
        for i in range(6):
            up, down = (self.likelihood(cohort, preparation, beta + s * unit[i]) for s in (1, -1))
            assert gradient[i] == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-6)
            above, below = (newton_terms(cohort, preparation, beta + s * unit[i])[0] for s in (1, -1))
            np.testing.assert_allclose(hessian[i], -(above - below) / (2 * step), rtol=1e-5, atol=1e-6)

    def test_only_training_patients_count(self, cohort, others_changed, preparation):
        first = newton_terms(cohort, preparation, np.full(6, 0.1))
        second = newton_terms(others_changed, preparation, np.full(6, 0.1))
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))

    def test_where_components_have_no_weight_they_hold_the_sums_of_the_clinical_values_alone(self, cohort, preparation):
        """Two groups of two components, then age: the model of intercept and age is a part of the sums."""
        rows = cohort.rows("train")
        age = np.column_stack([np.ones(len(rows)), np.nan_to_num(cohort.clinical[rows, 0])])
        p = 1 / (1 + np.exp(-age @ [0.2, -0.4]))
        gradient, hessian = newton_terms(cohort, preparation, np.array([0.2, 0, 0, 0, 0, -0.4]))
        np.testing.assert_allclose(gradient[[0, 5]], age.T @ (cohort.labels[rows] - p), atol=1e-6)
        np.testing.assert_allclose(hessian[np.ix_([0, 5], [0, 5])], (age.T * p * (1 - p)) @ age, atol=1e-6)


class TestLogisticAlone:
    @pytest.mark.parametrize("ridge", [0.5, 5.0])
    def test_it_is_ridge_logistic_regression_on_the_training_patients(self, cohort, preparation, ridge):
        from sklearn.linear_model import LogisticRegression

        rows = cohort.rows("train")
        design = design_matrix(cohort.inputs(preparation, rows))
        pooled = LogisticRegression(C=1 / ridge, tol=1e-12, max_iter=10_000, solver="newton-cholesky")
        pooled.fit(design[:, 1:], cohort.labels[rows])
        beta = logistic_alone(cohort, preparation, ridge)
        assert beta.all()
        np.testing.assert_allclose(beta, [*pooled.intercept_, *pooled.coef_[0]], atol=1e-6)

    def test_it_is_an_elastic_net_where_the_study_says_so(self, cohort, preparation):
        from sklearn.linear_model import LogisticRegression

        rows = cohort.rows("train")
        design = design_matrix(cohort.inputs(preparation, rows))
        pooled = LogisticRegression(C=1 / 2.0, l1_ratio=0.6, tol=1e-12, max_iter=200_000, solver="saga")
        pooled.fit(design[:, 1:], cohort.labels[rows])
        beta = logistic_alone(cohort, preparation, 2.0, 0.6)
        assert (beta == 0).any()
        np.testing.assert_allclose(beta, [*pooled.intercept_, *pooled.coef_[0]], atol=1e-6)


class TestCohort:
    def test_rows_of_a_split_and_of_all(self, cohort):
        assert [len(cohort.rows(s)) for s in ("train", "tune", "test", "all")] == [32, 8, 8, 48]
        assert cohort.split[cohort.rows("tune")].tolist() == ["tune"] * 8

    def test_missing_clinical_values_are_zero_and_marked(self, cohort, preparation):
        inputs = cohort.inputs(preparation, np.array([4, 5]))
        assert inputs.clinical_present.tolist() == [[1], [0]]
        assert inputs.clinical[1].item() == 0
        assert inputs.clinical[0].item() == pytest.approx(cohort.clinical[4, 0], rel=1e-6)

    def test_the_digest_is_keyed_and_sees_features_labels_and_splits(self, cohort):
        flipped, moved, split = cohort.labels.copy(), cohort.features.copy(), cohort.split.copy()
        flipped[0], moved[0, 1], split[0] = 1 - flipped[0], 9.0, "test"
        digests = {
            cohort.digest(b"secret"),
            cohort.digest(b"other"),
            replace(cohort, labels=flipped).digest(b"secret"),
            replace(cohort, features=moved).digest(b"secret"),
            replace(cohort, split=split).digest(b"secret"),
        }
        assert len(digests) == 5
        assert cohort.digest(b"secret") == replace(cohort, labels=cohort.labels.copy()).digest(b"secret")
