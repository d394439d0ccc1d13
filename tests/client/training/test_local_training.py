"""Local epochs: seeded, on training patients only, proximal where asked; and the site's own model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedloupe.models import flatten, own_intercept
from fedloupe.models.flat import WrongSize
from fedloupe_client.training.local import learning_rate, log_odds, model_for, seed_for, train_alone, train_round


class TestRound:
    def test_the_same_round_gives_the_same_weights_and_another_does_not(self, study, cohort, preparation, start):
        first, again, other = (
            train_round(study, "north", cohort, preparation, start, number=number) for number in (1, 1, 2)
        )
        assert np.array_equal(first.weights, again.weights) and first.loss == again.loss
        assert not np.array_equal(first.weights, other.weights)
        assert first.weights.dtype == np.float32 and first.weights.shape == start.shape

    def test_the_global_random_state_is_neither_read_nor_moved(self, study, cohort, preparation, start):
        torch.manual_seed(3)
        before = torch.get_rng_state()
        first = train_round(study, "north", cohort, preparation, start, number=1)
        assert torch.equal(before, torch.get_rng_state())
        torch.manual_seed(4)
        again = train_round(study, "north", cohort, preparation, start, number=1)
        assert np.array_equal(first.weights, again.weights)

    def test_sites_rounds_scopes_and_studies_have_seeds_of_their_own(self, study, make_study):
        seeds = {
            seed_for(study, "north", "federated", 1),
            seed_for(study, "south", "federated", 1),
            seed_for(study, "north", "federated", 2),
            seed_for(study, "north", "local", 1),
            seed_for(make_study(seed=2), "north", "federated", 1),
        }
        assert len(seeds) == 5

    def test_tuning_and_test_patients_change_nothing(self, study, cohort, preparation, start):
        features, labels = cohort.features.copy(), cohort.labels.copy()
        rows = cohort.split != "train"
        features[rows], labels[rows] = 50.0, 0
        other = replace(cohort, features=features, labels=labels)
        first, second = (train_round(study, "north", c, preparation, start, number=1) for c in (cohort, other))
        assert np.array_equal(first.weights, second.weights) and first.loss == second.loss

    def test_it_begins_at_the_sites_own_intercept_where_the_study_says_so(self, make_study, cohort, preparation, start):
        """At a rate of nothing the model comes back with another intercept and is else what came."""
        training = {"rounds": 1, "local_epochs": 1, "learning_rate": 1e-12, "random_intercept": 2.0}
        study = make_study(training=training)
        labels = np.where(np.arange(len(cohort.labels)) % 3 == 0, 0, 1)
        other = replace(cohort, labels=labels.astype(np.int64))
        rows = other.rows("train")
        odds = log_odds(model_for(study, other, start), other.inputs(preparation, rows))
        expected = own_intercept(odds, labels[rows], 2.0)
        found = train_round(study, "north", other, preparation, start, number=1).weights
        model = model_for(study, other, start)
        with torch.no_grad():
            model.wide.bias.add_(expected)
        assert abs(expected) > 0.1
        np.testing.assert_allclose(found, flatten(model), atol=1e-6)

    def test_hospitals_trained_together_keep_their_own(self, make_study, cohort, preparation, start):
        """Two hospitals of a thousand-fold odds apart, at a rate of nothing: the loss is that of both their rates."""
        training = {"rounds": 1, "local_epochs": 1, "learning_rate": 1e-12, "random_intercept": 9.0, "start": "random"}
        study, rows = make_study(training=training), cohort.rows("train")
        centres = np.arange(len(rows)) % 2
        labels = cohort.labels.copy()
        labels[rows] = centres
        labels[rows[:2]] = 1 - centres[:2]  # each has one of the other outcome
        together = replace(cohort, labels=labels)
        one = train_round(study, "pooled", together, preparation, start, number=1)
        two = train_round(study, "pooled", together, preparation, start, number=1, centres=centres)
        assert one.loss > 0.6 and two.loss < 0.35

    def test_the_loss_falls_where_the_outcome_can_be_learned(self, make_study, cohort, preparation, start):
        losses = []
        for epochs in (1, 30):
            study = make_study(training={"rounds": 1, "local_epochs": epochs, "batch_size": 8, "learning_rate": 0.01})
            losses.append(train_round(study, "north", cohort, preparation, start, number=1).loss)
        assert losses[0] > 0.3
        assert losses[1] < 0.5 * losses[0]

    def test_one_step_is_adamw_by_hand(self, make_study, cohort, preparation, start):
        """The first AdamW step is w (1 - lr wd) - lr g / (|g| + eps), Loshchilov & Hutter 2019, alg. 2."""
        rate, decay = 0.01, 0.1
        study = make_study(
            training={"rounds": 1, "local_epochs": 1, "batch_size": 999, "learning_rate": rate, "weight_decay": decay}
        )
        model = model_for(study, cohort, start)
        rows = cohort.rows("train")
        labels = torch.from_numpy(cohort.labels[rows].astype(np.float32))
        logits = model(*cohort.inputs(preparation, rows).tensors)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
        loss.backward()
        gradient = np.concatenate([p.grad.numpy().ravel() for p in model.parameters()])
        result = train_round(study, "north", cohort, preparation, start, number=1)
        expected = start * (1 - rate * decay) - rate * gradient / (np.abs(gradient) + 1e-8)
        clear = np.abs(gradient) > 1e-5
        assert clear.mean() > 0.5
        np.testing.assert_allclose(result.weights[clear], expected[clear], atol=1e-5)
        assert result.loss == pytest.approx(float(loss), rel=1e-5)

    def test_weights_of_another_model_are_refused(self, study, cohort, preparation, start):
        with pytest.raises(WrongSize):
            train_round(study, "north", cohort, preparation, start[:-1], number=1)


class TestSchedule:
    def test_the_rate_falls_by_a_cosine_to_a_twentieth(self, make_study):
        study = make_study(training={"rounds": 11, "learning_rate": 0.02})
        assert learning_rate(study, 1) == pytest.approx(0.02)
        assert learning_rate(study, 6) == pytest.approx(0.02 * (0.05 + 0.95 / 2))
        assert learning_rate(study, 11) == pytest.approx(0.001)

    def test_a_single_round_has_the_full_rate(self, make_study):
        assert learning_rate(make_study(training={"rounds": 1, "learning_rate": 0.02}), 1) == pytest.approx(0.02)


class TestFedProx:
    def distance(self, make_study, cohort, preparation, start, **training) -> float:
        base = {"rounds": 1, "local_epochs": 10, "batch_size": 8, "learning_rate": 0.003, "weight_decay": 0}
        result = train_round(make_study(training={**base, **training}), "north", cohort, preparation, start, number=1)
        return float(np.linalg.norm(result.weights - start))

    def test_a_huge_mu_stays_at_the_rounds_start(self, make_study, cohort, preparation, start):
        plain = self.distance(make_study, cohort, preparation, start)
        near = [
            self.distance(make_study, cohort, preparation, start, strategy="fedprox", proximal_mu=mu)
            for mu in (0.1, 1e4)
        ]
        assert near[1] < near[0] < plain
        assert near[1] < 0.2 * plain

    def test_without_mu_it_is_fedavg(self, make_study, cohort, preparation, start):
        distances = [
            self.distance(make_study, cohort, preparation, start),
            self.distance(make_study, cohort, preparation, start, strategy="fedprox", proximal_mu=0),
            # mu is FedProx's alone
            self.distance(make_study, cohort, preparation, start, strategy="fedadam", proximal_mu=1e4),
        ]
        assert len(set(distances)) == 1


class TestAlone:
    def test_it_has_the_whole_budget_and_is_reproducible(self, make_study, cohort, preparation, start):
        study = make_study(training={"rounds": 12, "local_epochs": 2, "batch_size": 8, "learning_rate": 0.01})
        first, again = (train_alone(study, "north", cohort, preparation, start) for _ in range(2))
        one = train_round(study, "north", cohort, preparation, start, number=1)
        assert np.array_equal(first.weights, again.weights)
        assert first.loss < 0.6 * one.loss

    def test_it_starts_at_the_sites_own_logistic_baseline(self, make_study, cohort, preparation, start):
        """With a rate of nearly nothing the model stays where it began."""
        from fedloupe.models import logistic_probability
        from fedloupe_client.training.evaluation import probabilities
        from fedloupe_client.training.statistics import logistic_alone

        training = {"rounds": 1, "learning_rate": 1e-9, "weight_decay": 0}
        study = make_study(training=training, evaluation={"ridge": 3.0})
        rows = cohort.rows("all")
        alone = train_alone(study, "north", cohort, preparation, start)
        beta = logistic_alone(cohort, preparation, 3.0)
        expected = logistic_probability(cohort.inputs(preparation, rows), beta)
        found = probabilities(study, cohort, preparation, "transformer", alone.weights, rows)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        unguided = train_alone(
            make_study(training={**training, "start": "random"}), "north", cohort, preparation, start
        )
        np.testing.assert_allclose(unguided.weights, start, atol=1e-6)

    def test_it_is_never_proximal(self, make_study, cohort, preparation, start):
        runs = [
            train_alone(make_study(training={"rounds": 2, **t}), "north", cohort, preparation, start).weights
            for t in ({}, {"strategy": "fedprox", "proximal_mu": 1e4})
        ]
        assert np.array_equal(*runs)
