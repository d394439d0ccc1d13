"""The same work on a GPU: what a hospital with one gets agrees with what the others get. Run with `-m cuda`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedloupe.models import Schema, build_model, flatten, group_order
from fedloupe.privacy import SeededNoise
from fedloupe_client.dataset import Cohort
from fedloupe_client.training.evaluation import probabilities
from fedloupe_client.training.local import device, train_round
from fedloupe_client.training.private import planned_spend, train_round_privately

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device, or not run with `-m cuda`"),
]
EDGE = 16


@contextmanager
def cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "is_available", lambda: False)
        assert device().type == "cpu"
        yield


@pytest.fixture
def imaged(make_study):
    """A study with image tokens."""
    return make_study(
        sequences=[{"name": "t2w"}],
        imaging={"spacing_mm": 2.0, "crop_mm": 2.0 * EDGE},
        radiomics={"source": "computed", "settings": {}},
        model={"components": 2, "width": 8, "depth": 1, "heads": 2, "dropout": 0, "feature_dropout": 0}
        | {"feature_noise": 0},
    )


@pytest.fixture
def with_images(cohort) -> Cohort:
    n = len(cohort.cases)
    images = np.random.default_rng(2).standard_normal((n, 1, EDGE, EDGE, EDGE)).astype(np.float32)
    return replace(cohort, mr=images, mr_present=np.ones((n, 1), np.float32), ct=np.zeros_like(images[:, :0]))


def test_a_round_on_tables_ends_where_it_ends_on_the_cpu(study, cohort, preparation, start, monkeypatch):
    """Without images and dropout the two differ by float32 rounding, which AdamW may blow up where a gradient is 0."""
    there = train_round(study, "north", cohort, preparation, start, number=1)
    with cpu(monkeypatch):
        here = train_round(study, "north", cohort, preparation, start, number=1)
    assert abs(there.loss - here.loss) < 1e-5
    moved = np.abs(here.weights - start)
    assert moved.max() > 1e-3
    assert np.quantile(np.abs(there.weights - here.weights), 0.99) < 1e-3 * moved.max()


def test_a_model_gives_the_same_probabilities_as_on_the_cpu(imaged, with_images, preparation, monkeypatch):
    """Convolutions on CUDA round their factors to TF32: 10 bits, a relative 1e-3."""
    weights = flatten(build_model(imaged, Schema.of(imaged, group_order(with_images.columns))))
    rows = with_images.rows("all")
    there = probabilities(imaged, with_images, preparation, "transformer", weights, rows)
    with cpu(monkeypatch):
        here = probabilities(imaged, with_images, preparation, "transformer", weights, rows)
    assert np.ptp(here) > 1e-3
    assert np.abs(there - here).max() < 1e-3


def test_images_train_on_the_gpu(imaged, with_images, preparation):
    weights = flatten(build_model(imaged, Schema.of(imaged, group_order(with_images.columns))))
    torch.cuda.reset_peak_memory_stats()
    trained = train_round(imaged, "north", with_images, preparation, weights, number=1)
    assert torch.cuda.max_memory_allocated() > with_images.mr[with_images.rows("train")].nbytes
    assert np.isfinite(trained.weights).all() and np.isfinite(trained.loss)
    assert np.abs(trained.weights - weights).max() > 1e-3


def test_a_private_round_takes_the_same_steps_as_on_the_cpu(make_study, cohort, preparation, start, monkeypatch):
    """Plain SGD, and noise drawn outside torch: only rounding differs."""
    study = make_study(
        privacy={"mode": "dp-sgd", "epsilon": 8},
        training={"rounds": 4, "local_epochs": 2, "preparation": "public", "start": "random"},
    )
    spend = planned_spend(study, study.privacy)

    def run() -> np.ndarray:
        return train_round_privately(
            study, "north", cohort, preparation, start, number=1, privacy=study.privacy, spend=spend,
            source=SeededNoise(3),
        )  # fmt: skip

    there = run()
    with cpu(monkeypatch):
        here = run()
    assert np.abs(here - start).max() > 1e-2
    assert np.abs(there - here).max() < 1e-4 * np.abs(here - start).max()
