"""A site's trees against XGBoost and against Flower's own way of bagging, on the same synthetic patients."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from fedloupe.models import TreesInvalid, join, leaves, logits, no_trees, on_grid
from fedloupe.study import TreePlan
from fedloupe_client.training.evaluation import probabilities
from fedloupe_client.training.trees import from_xgboost, grow

PLAN = TreePlan(rounds=3, depth=2, eta=0.5, ridge=1.0, columns=1.0, minimum_weight=0.5, grid=8)


@pytest.fixture
def study(make_study):
    return make_study(evaluation={"trees": PLAN.model_dump()})


@pytest.fixture
def sites(cohort):
    """Two hospitals of as many training patients, with different outcomes of the second feature."""
    rng = np.random.default_rng(7)
    other = replace(cohort, features=cohort.features + rng.standard_normal(cohort.features.shape))
    return {"north": cohort, "south": other}


@pytest.fixture
def one(make_study, preparation):
    def make(cohort, trees, number=1, site="north", cell=1, plan=PLAN):
        study = make_study(evaluation={"trees": plan.model_dump()})
        return grow(study, site, cohort, preparation, trees, number=number, cell=cell)

    return make


def table(cohort, preparation, split="train"):
    rows = cohort.rows(split)
    return on_grid(cohort.features[rows], cohort.clinical[rows], preparation, PLAN.grid), cohort.labels[rows]


SETTINGS = {
    "objective": "binary:logistic", "base_score": 0.5, "tree_method": "exact", "max_depth": 2, "lambda": 1.0,
    "min_child_weight": 0.5, "nthread": 1, "verbosity": 0,
}  # fmt: skip


class TestAgainstFlower:
    def test_rounds_of_two_sites_are_those_of_flowers_bagging(self, sites, one, preparation):
        """As in Flower's example: load the global model, boost one round, send the new tree, `aggregate_bagging`."""
        import xgboost
        from flwr.serverapp.strategy.strategy_utils import aggregate_bagging

        tables = {site: table(cohort, preparation) for site, cohort in sites.items()}
        globally = b""
        for _ in range(PLAN.rounds):
            sent = []
            for values, labels in tables.values():
                patients = xgboost.DMatrix(values.astype(np.float32), label=labels, nthread=1)
                settings = {**SETTINGS, "eta": PLAN.eta / 2}
                if not globally:
                    booster = xgboost.train(settings, patients, num_boost_round=1)
                else:
                    booster = xgboost.Booster(settings)
                    booster.load_model(bytearray(globally))
                    booster.update(patients, booster.num_boosted_rounds())
                    booster = booster[booster.num_boosted_rounds() - 1 : booster.num_boosted_rounds()]
                sent.append(bytes(booster.save_raw("json")))
            for blob in sent:
                globally = aggregate_bagging(globally, blob)

        trees = no_trees()
        for number in range(1, PLAN.rounds + 1):
            grown = [one(cohort, trees, number, site)[0] for site, cohort in sites.items()]
            trees = join(trees, [(tree, 0.5) for tree in grown])
        theirs = from_xgboost(json.loads(globally))
        assert len(trees) > 6 * 3
        np.testing.assert_array_equal(trees[:, [0, 1, 3, 4]], theirs[:, [0, 1, 3, 4]])
        np.testing.assert_allclose(trees, theirs, atol=1e-6)
        final = xgboost.Booster({"nthread": 1})
        final.load_model(bytearray(globally))
        for values, _ in tables.values():
            margin = final.predict(xgboost.DMatrix(values.astype(np.float32), nthread=1), output_margin=True)
            np.testing.assert_allclose(logits(trees, values), margin, atol=1e-5)


class TestGrowing:
    def test_it_lowers_the_loss_of_its_own_patients(self, cohort, one, preparation):
        values, labels = table(cohort, preparation)
        trees, losses = no_trees(), []
        for number in range(1, 4):
            score = logits(trees, values)
            losses.append(np.mean(np.logaddexp(0, score) - labels * score))
            trees = join(trees, [(one(cohort, trees, number)[0], 1.0)])
        assert losses[0] == pytest.approx(np.log(2))
        assert losses[2] < losses[1] < losses[0] - 0.1

    def test_only_training_patients_count(self, cohort, one):
        others = cohort.split != "train"
        features, labels = cohort.features.copy(), cohort.labels.copy()
        features[others], labels[others] = 1e3, 1 - labels[others]
        assert np.array_equal(
            one(cohort, no_trees())[0], one(replace(cohort, features=features, labels=labels), no_trees())[0]
        )

    def test_the_same_round_gives_the_same_tree_and_another_seed_another(self, cohort, one):
        few = PLAN.model_copy(update={"columns": 0.4})
        first, again = (one(cohort, no_trees(), plan=few)[0] for _ in range(2))
        assert np.array_equal(first, again)
        asked = {tuple(one(cohort, no_trees(), number, plan=few)[0][:, 1]) for number in range(1, 9)}
        assert len(asked) > 1

    @pytest.mark.parametrize("cell", [1, 5, 9])
    def test_no_leaf_holds_fewer_patients_than_the_sites_smallest_cell(self, cohort, one, preparation, cell):
        """Without any bound of the study's own."""
        loose = PLAN.model_copy(update={"minimum_weight": 0.0, "depth": 4})
        tree, smallest = one(cohort, no_trees(), cell=cell, plan=loose)
        values, _ = table(cohort, preparation)
        sizes = np.unique(leaves(tree, values), return_counts=True)[1]
        assert len(sizes) > 1
        assert smallest == sizes.min() >= cell

    def test_thresholds_are_no_patients_values(self, cohort, one, preparation):
        tree, _ = one(cohort, no_trees())
        asked = tree[tree[:, 1] >= 0]
        values, _ = table(cohort, preparation)
        for _, feature, threshold, *_ in asked:
            assert threshold not in values[:, int(feature)]
            assert (threshold * 2 * PLAN.grid) % 1 == 0

    @pytest.mark.parametrize("grid", [3, 10, 49])
    def test_thresholds_lie_on_any_grid(self, cohort, one, preparation, grid):
        """A tenth is no float32, and 7 / 98 times 98 need not be 7."""
        plan = PLAN.model_copy(update={"grid": grid, "depth": 4})
        tree, smallest = one(cohort, no_trees(), plan=plan)
        rows = cohort.rows("train")
        values = on_grid(cohort.features[rows], cohort.clinical[rows], preparation, grid)
        asked = tree[tree[:, 1] >= 0]
        assert len(asked) > 1
        assert all(abs(threshold * 2 * grid - round(threshold * 2 * grid)) < 1e-9 for threshold in asked[:, 2])
        assert smallest == np.unique(leaves(tree, values), return_counts=True)[1].min()

    def test_a_small_change_of_a_value_changes_nothing(self, cohort, one, preparation):
        """Values are on the grid before a tree sees them."""
        centre = preparation.mean + preparation.scale * 2 / PLAN.grid
        features = cohort.features.copy()
        features[0] = centre
        moved = features.copy()
        moved[0] = centre + 0.3 * preparation.scale / PLAN.grid
        first, second = (one(replace(cohort, features=f), no_trees())[0] for f in (features, moved))
        assert np.array_equal(first, second)

    def test_trees_beyond_the_study_are_refused(self, cohort, one):
        deep = np.array([[0, 0, 0.0, 1, 2], [0, -1, 500.0, -1, -1], [0, -1, 0.0, -1, -1]])
        with pytest.raises(TreesInvalid):
            one(cohort, deep)


class TestScoring:
    def test_probabilities_are_xgboosts(self, study, cohort, preparation):
        import xgboost

        values, labels = table(cohort, preparation)
        patients = xgboost.DMatrix(values.astype(np.float32), label=labels, nthread=1)
        booster = xgboost.train({**SETTINGS, "eta": 0.5}, patients, num_boost_round=6)
        trees = from_xgboost(json.loads(bytes(booster.save_raw("json"))))
        assert int(trees[-1, 0]) == 5
        rows = cohort.rows("all")
        theirs = booster.predict(xgboost.DMatrix(table(cohort, preparation, "all")[0].astype(np.float32), nthread=1))
        ours = probabilities(study, cohort, preparation, "trees", trees, rows)
        np.testing.assert_allclose(ours, theirs, atol=1e-6)

    def test_a_study_without_trees_scores_none(self, make_study, cohort, preparation):
        with pytest.raises(TreesInvalid, match="grows no trees"):
            probabilities(make_study(), cohort, preparation, "trees", no_trees(), cohort.rows("all"))

    def test_trees_beyond_the_study_are_not_scored(self, study, cohort, preparation):
        alien = np.array([[0, 99, 0.0, 1, 2], [0, -1, 1.0, -1, -1], [0, -1, -1.0, -1, -1]])
        with pytest.raises(TreesInvalid, match="beyond the 6"):
            probabilities(study, cohort, preparation, "trees", alien, cohort.rows("all"))
