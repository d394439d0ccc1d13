"""Every architecture that a study can name trains at a site: one federated round, one round under DP-SGD."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest

from fedloupe.models import Schema, build_model, flatten
from fedloupe.privacy import SeededNoise, Spend
from fedloupe.study import Model, Study
from fedloupe_client.dataset import Cohort
from fedloupe_client.training.local import train_round
from fedloupe_client.training.private import train_round_privately

EDGE = 12  # eight places


@pytest.fixture(params=get_args(Model.model_fields["architecture"].annotation))
def make_imaged(request, make_study) -> Callable[..., Study]:
    """Studies with MR and CT crops."""

    def make(**changes: Any) -> Study:
        return make_study(
            sequences=[{"name": "t2w"}, {"name": "ct", "modality": "CT", "required": False}],
            imaging={"spacing_mm": 2.0, "crop_mm": 2.0 * EDGE},
            radiomics={"settings": {"version": 1}},
            model={
                "architecture": request.param,
                "image": request.param != "logistic",
                "components": 2,
                "width": 8,
                "depth": 1,
                "heads": 2,
            },
            **changes,
        )

    return make


@pytest.fixture
def with_images(cohort) -> Cohort:
    """Every other patient lacks the CT."""
    size = len(cohort.cases)
    volumes = np.random.default_rng(0).standard_normal((2, size, 1, EDGE, EDGE, EDGE)).astype(np.float32)
    there = (np.arange(size) % 2).astype(np.float32)[:, None]
    ct = volumes[1] * there[:, :, None, None, None]
    return replace(cohort, mr=volumes[0], mr_present=np.ones((size, 1), np.float32), ct=ct, ct_present=there)


def test_a_federated_round_lowers_the_loss_and_repeats(make_imaged, with_images, preparation):
    short, long = (
        make_imaged(training={"rounds": 1, "local_epochs": n, "batch_size": 8, "learning_rate": 0.01}) for n in (1, 6)
    )
    begin = flatten(build_model(long, Schema.of(long, with_images.feature_groups)))
    first, again = (train_round(short, "north", with_images, preparation, begin, number=1) for _ in range(2))
    trained = train_round(long, "north", with_images, preparation, begin, number=1)
    assert np.array_equal(first.weights, again.weights)
    assert np.isfinite(trained.weights).all() and trained.weights.shape == begin.shape
    assert trained.loss < 0.9 * first.loss


def test_a_private_round_bounds_each_patient_also_where_nobody_was_drawn(make_imaged, with_images, preparation):
    study = make_imaged(
        privacy={"mode": "dp-sgd", "epsilon": 8, "clip": 0.1, "learning_rate": 1.0},
        training={"preparation": "public", "start": "random"},
    )
    begin = flatten(build_model(study, Schema.of(study, with_images.feature_groups)))

    def moved(drawn: list[int]) -> float:
        source = SeededNoise(1)
        draws = iter([drawn, []])  # two steps, nobody in the second
        source.poisson = lambda patients, rate: np.array(next(draws), dtype=np.int64)
        weights = train_round_privately(
            study, "north", with_images, preparation, begin, number=1,
            privacy=study.privacy, spend=Spend(1e-12, 0.25, 2), source=source,
        )  # fmt: skip
        return float(np.linalg.norm(weights - begin)) * 0.25 * 32

    assert moved([]) < 1e-4
    assert 0.01 < moved([4]) <= 0.1 * (1 + 1e-3)  # without CT
    assert 0.01 < moved([5]) <= 0.1 * (1 + 1e-3)
