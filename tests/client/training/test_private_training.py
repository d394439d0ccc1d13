"""DP-SGD: one patient's share is bounded, noise and sampling are as entered in the ledger, nothing else leaves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fedloupe.models import Schema, build_model, flatten, unflatten
from fedloupe.privacy import SeededNoise, Spend, epsilon
from fedloupe_client.training.local import model_for
from fedloupe_client.training.private import planned_spend, train_round_privately

HARDLY = 1e-12  # a noise multiplier must be positive


class Scripted:
    """A source that draws what the test says, and remembers the noise that was asked of it."""

    private = False

    def __init__(self, *draws: list[int], noise: float = 0.0) -> None:
        self.draws, self.noise = list(draws), noise
        self.asked: list[tuple[tuple[int, ...], float]] = []
        self.rates: list[tuple[int, float]] = []

    def normal(self, shape: tuple[int, ...], std: float = 1.0) -> np.ndarray:
        self.asked.append((shape, std))
        return np.full(shape, self.noise * std)

    def poisson(self, patients: int, rate: float) -> np.ndarray:
        self.rates.append((patients, rate))
        return np.array(self.draws.pop(0), dtype=np.int64)


@pytest.fixture
def private_study(make_study):
    def make(**privacy):
        return make_study(
            privacy={"mode": "dp-sgd", "epsilon": 8, **privacy},
            training={"rounds": 4, "local_epochs": 2, "preparation": "public", "start": "random"},
        )

    return make


@pytest.fixture
def gradients(study, cohort, preparation, start):
    """Each training patient's own gradient at the start, (n, m), by autograd."""
    model = model_for(study, cohort, start)
    rows = cohort.rows("train")
    inputs = cohort.inputs(preparation, rows)
    labels = torch.from_numpy(cohort.labels[rows].astype(np.float32))
    result = []
    for i in range(len(rows)):
        model.zero_grad()
        F.binary_cross_entropy_with_logits(model(*inputs.take(torch.tensor([i])).tensors), labels[[i]]).backward()
        result.append(np.concatenate([p.grad.numpy().ravel() for p in model.parameters()]))
    return np.array(result)


def run(study, cohort, preparation, start, spend, source, number=1):
    return train_round_privately(
        study, "north", cohort, preparation, start, number=number, privacy=study.privacy, spend=spend, source=source
    )


class TestStep:
    def test_without_noise_and_clipping_it_is_full_batch_sgd(
        self, private_study, cohort, preparation, start, gradients
    ):
        study = private_study(clip=1e6, sampling_rate=1.0, learning_rate=0.5)
        weights = run(study, cohort, preparation, start, Spend(HARDLY, 1.0, 1), SeededNoise(1))
        assert weights.dtype == np.float32
        np.testing.assert_allclose(weights, start - 0.5 * gradients.mean(axis=0), atol=1e-5)
        assert np.abs(weights - start).max() > 1e-3

    def test_each_patients_gradient_is_clipped_to_the_bound(self, private_study, cohort, preparation, start, gradients):
        norms = np.linalg.norm(gradients, axis=1)
        clip = float(np.median(norms))
        study = private_study(clip=clip, sampling_rate=1.0, learning_rate=1.0)
        weights = run(study, cohort, preparation, start, Spend(HARDLY, 1.0, 1), SeededNoise(1))
        clipped = gradients * np.minimum(1, clip / norms)[:, None]
        np.testing.assert_allclose(weights, start - clipped.mean(axis=0), atol=1e-5)
        assert np.abs(clipped.mean(axis=0) - gradients.mean(axis=0)).max() > 1e-4

    def test_the_denominator_is_the_expected_batch_whoever_was_drawn(
        self, private_study, cohort, preparation, start, gradients
    ):
        study = private_study(clip=1e6, learning_rate=1.0)
        drawn = [3, 7, 8]
        weights = run(study, cohort, preparation, start, Spend(HARDLY, 0.25, 1), Scripted(drawn))
        np.testing.assert_allclose(weights, start - gradients[drawn].sum(axis=0) / (0.25 * 32), atol=1e-5)

    def test_one_patient_moves_the_sum_by_the_bound_at_most(self, private_study, cohort, preparation, start):
        study = private_study(clip=0.05, learning_rate=1.0)
        spend = Spend(HARDLY, 0.25, 1)
        everyone = list(range(20))
        whole = run(study, cohort, preparation, start, spend, Scripted(everyone))
        for left in (0, 7, 19):
            without = run(study, cohort, preparation, start, spend, Scripted([i for i in everyone if i != left]))
            assert np.linalg.norm(whole - without) * (0.25 * 32) <= 0.05 * (1 + 1e-3)

    def test_the_update_of_many_steps_is_bounded_by_their_clips(self, private_study, cohort, preparation, start):
        study = private_study(clip=0.02, sampling_rate=1.0, learning_rate=1.0)
        weights = run(study, cohort, preparation, start, Spend(HARDLY, 1.0, 3), SeededNoise(1))
        assert 0 < np.linalg.norm(weights - start) <= 3 * 0.02 * (1 + 1e-3)

    @pytest.mark.parametrize("architecture", ["transformer", "cnn", "logistic"])
    def test_it_is_the_algorithm_written_out(self, private_study, make_study, cohort, preparation, architecture):
        """Abadi 2016, algorithm 1, one patient at a time, with the noise of the same seed; the last batch is empty."""
        still = {"architecture": architecture, "image": False, "components": 2, "width": 8, "depth": 1, "heads": 2}
        still |= {"dropout": 0, "feature_dropout": 0, "feature_noise": 0}
        like = private_study(clip=0.3, learning_rate=0.5).model_dump()
        study = make_study(model=still, privacy=like["privacy"], training=like["training"])
        begin = flatten(build_model(study, Schema.of(study, cohort.feature_groups)))
        rng = np.random.default_rng(2)
        begin = begin + 0.1 * rng.standard_normal(len(begin)).astype(np.float32)
        draws, source = [[3, 7, 8, 12], [1, 2], []], SeededNoise(4)
        source.poisson = lambda patients, rate, left=iter(draws): np.array(next(left), dtype=np.int64)
        weights = run(study, cohort, preparation, begin, Spend(1.5, 0.25, 3), source)
        model, noise = model_for(study, cohort, begin), SeededNoise(4)
        rows = cohort.rows("train")
        inputs, labels = cohort.inputs(preparation, rows), torch.from_numpy(cohort.labels[rows].astype(np.float32))
        right = begin.astype(np.float64)
        clipped = 0
        for drawn in draws:
            total = np.zeros_like(right)
            for i in drawn:
                model.zero_grad()
                logit = model(*inputs.take(torch.tensor([i])).tensors)
                F.binary_cross_entropy_with_logits(logit, labels[[i]]).backward()
                own = np.concatenate([p.grad.double().numpy().ravel() for p in model.parameters()])
                total += own * min(1.0, 0.3 / np.linalg.norm(own))
                clipped += np.linalg.norm(own) > 0.3
            right -= 0.5 * (total + noise.normal(right.shape, 1.5 * 0.3)) / (0.25 * 32)
            unflatten(model, right.astype(np.float32))
        assert clipped
        np.testing.assert_allclose(weights, right, atol=1e-5)


class TestNoise:
    def test_an_empty_batch_is_noise_alone(self, private_study, cohort, preparation, start):
        study = private_study(clip=2.0, learning_rate=0.5)
        source = Scripted([], noise=1.0)
        weights = run(study, cohort, preparation, start, Spend(1.5, 0.25, 1), source)
        np.testing.assert_allclose(weights, start - 0.5 * 1.5 * 2.0 / (0.25 * 32), atol=1e-5)

    def test_every_parameter_gets_noise_of_multiplier_times_clip_in_every_step(
        self, private_study, cohort, preparation, start
    ):
        study = private_study(clip=0.7)
        source = Scripted([1, 2], [], [5])
        run(study, cohort, preparation, start, Spend(1.5, 0.25, 3), source)
        assert [std for _, std in source.asked] == pytest.approx([1.05] * len(source.asked))
        assert sum(int(np.prod(shape)) for shape, _ in source.asked) == 3 * len(start)
        assert source.rates == [(32, 0.25)] * 3

    def test_a_seeded_source_repeats_and_the_systems_does_not(self, private_study, cohort, preparation, start):
        study = private_study()
        spend = Spend(1.0, 0.25, 2)
        first, again = (run(study, cohort, preparation, start, spend, SeededNoise(5)) for _ in range(2))
        assert np.array_equal(first, again)
        fresh = [run(study, cohort, preparation, start, spend, None) for _ in range(2)]
        assert not np.array_equal(*fresh)

    def test_the_noise_has_the_spread_that_the_ledger_names(self, private_study, cohort, preparation, start):
        study = private_study(clip=3.0, learning_rate=1.0)
        moved = []
        for seed in range(6):
            source = SeededNoise(seed)
            source.poisson = lambda patients, rate: np.zeros(0, dtype=np.int64)
            moved.append(run(study, cohort, preparation, start, Spend(2.0, 0.25, 1), source) - start)
        expected = 2.0 * 3.0 / (0.25 * 32)
        values = np.concatenate(moved)
        assert np.std(values) == pytest.approx(expected, rel=5 / np.sqrt(2 * len(values)))


class TestWhatLeaves:
    def test_only_weights_leave(self, private_study, cohort, preparation, start):
        result = run(private_study(), cohort, preparation, start, Spend(1.0, 0.25, 1), SeededNoise(1))
        assert isinstance(result, np.ndarray) and result.shape == start.shape

    def test_tuning_and_test_patients_change_nothing(self, private_study, cohort, preparation, start):
        from dataclasses import replace

        features = cohort.features.copy()
        features[cohort.split != "train"] = 50.0
        spend = Spend(1.0, 0.25, 2)
        runs = [
            run(private_study(), c, preparation, start, spend, SeededNoise(5))
            for c in (cohort, replace(cohort, features=features))
        ]
        assert np.array_equal(*runs)

    def test_a_model_with_image_tokens_trains_privately(self, make_study, cohort, preparation):
        """Each patient's gradient is found in every layer, also where volumes are missing."""
        from dataclasses import replace

        still = {"components": 2, "width": 8, "depth": 1, "heads": 2, "dropout": 0.1}
        study = make_study(
            sequences=[{"name": "t2w"}, {"name": "ct", "modality": "CT", "required": False}],
            imaging={"spacing_mm": 2.0, "crop_mm": 16},
            radiomics={"settings": {"version": 1}},
            model=still,
            privacy={"mode": "dp-sgd", "epsilon": 8},
            training={"preparation": "public", "start": "random"},
        )
        volumes = np.random.default_rng(0).standard_normal((48, 1, 8, 8, 8)).astype(np.float32)
        there = np.ones((48, 1), np.float32)
        imaged = replace(cohort, mr=volumes, mr_present=there, ct=volumes * 0, ct_present=there * 0)
        begin = flatten(build_model(study, Schema.of(study, imaged.feature_groups)))
        weights = run(study, imaged, preparation, begin, Spend(1.0, 0.5, 2), SeededNoise(1))
        assert np.isfinite(weights).all() and not np.array_equal(weights, begin)


class TestPlan:
    @pytest.mark.parametrize(("target", "rate", "steps"), [(8.0, 0.25, 8), (2.0, 0.5, 4)])
    def test_all_rounds_together_stay_within_the_studys_epsilon(self, private_study, target, rate, steps):
        study = private_study(epsilon=target, sampling_rate=rate)
        spend = planned_spend(study, study.privacy)
        assert (spend.sampling_rate, spend.steps) == (rate, steps)
        total = epsilon([spend] * study.training.rounds, study.privacy.delta)
        assert 0.97 * target < total <= target
        assert epsilon([spend] * (study.training.rounds + 1), study.privacy.delta) > target
