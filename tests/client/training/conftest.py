"""A synthetic cohort in memory: two feature groups, one clinical value, outcomes that the first feature explains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fedloupe.models import Preparation, Schema, build_model, flatten, group_order
from fedloupe.study import Study
from fedloupe_client.dataset import Cohort

COLUMNS = ("shape", "t2w", "t2w", "shape", "t2w")
STILL = {"components": 2, "width": 8, "depth": 1, "heads": 2, "image": False}
STILL |= {"dropout": 0, "feature_dropout": 0, "feature_noise": 0}


@pytest.fixture
def make_study() -> Callable[..., Study]:
    def make(**changes: Any) -> Study:
        content: dict[str, Any] = {
            "study": "training-test",
            "title": "Synthetic study of the training tests",
            "synthetic": True,
            "endpoint": {"name": "r", "column": "r", "positive": ["1"], "negative": ["0"]},
            "clinical": [{"name": "age", "column": "age"}],
            "aggregation": "plain",
            "sites": [{"name": n, "role": "train"} for n in ("north", "south")],
            "radiomics": {"source": "table"},
            "model": STILL,
            "training": {"rounds": 3, "local_epochs": 2, "batch_size": 8},
        }
        return Study.model_validate({**content, **changes})

    return make


@pytest.fixture
def study(make_study) -> Study:
    return make_study()


@pytest.fixture
def cohort() -> Cohort:
    rng = np.random.default_rng(0)
    size = 48
    labels = np.tile([0, 1], size // 2)
    features = 3 + rng.standard_normal((size, 5)) * np.array([1, 2, 4, 0.5, 1])
    features[:, 0] += 3 * labels
    features[rng.random(features.shape) < 0.05] = np.nan
    clinical = rng.standard_normal((size, 1))
    clinical[5] = np.nan
    split = np.array((["train"] * 8 + ["tune"] * 2 + ["test"] * 2) * 4)
    none = np.zeros((size, 0), np.float32)
    empty = np.zeros((size, 0, 0, 0, 0), np.float32)
    return Cohort(
        cases=tuple(f"c{i:02d}" for i in range(size)),
        labels=labels.astype(np.int64),
        split=split,
        names=tuple("abcde"),
        columns=COLUMNS,
        features=features,
        clinical=clinical,
        mr=empty,
        mr_present=none,
        ct=empty,
        ct_present=none,
        reference=None,
    )


@pytest.fixture
def preparation(cohort) -> Preparation:
    projection = np.random.default_rng(1).standard_normal((5, 2)).astype(np.float32)
    scale = np.nanstd(cohort.features, axis=0)
    return Preparation(np.nanmean(cohort.features, axis=0), scale, projection, "federated")


@pytest.fixture
def start(study) -> np.ndarray:
    return flatten(build_model(study, Schema.of(study, group_order(COLUMNS))))
