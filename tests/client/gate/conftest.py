"""A site, a study that it approved, and one good request of each kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import fedloupe
from fedloupe.messages import (
    BucketsRequest,
    CovarianceRequest,
    CrossProductsRequest,
    DescribeRequest,
    EvaluateReply,
    EvaluateRequest,
    HarmoniseRequest,
    HelloRequest,
    MidpointRequest,
    NewtonRequest,
    PrepareRequest,
    PriorRequest,
    Request,
    ResidualsRequest,
    SketchRequest,
    SummaryRequest,
    TrainReply,
    TrainRequest,
)
from fedloupe.study import Study
from fedloupe_client.gate import Gate, approve


@pytest.fixture
def make_study() -> Callable[..., Study]:
    def make(**changes: Any) -> Study:
        content: dict[str, Any] = {
            "study": "gate-test",
            "title": "Synthetic study of the gate's tests",
            "synthetic": True,
            "endpoint": {"name": "response", "column": "response", "positive": ["1"], "negative": ["0"]},
            "aggregation": "plain",
            "sites": [
                {"name": "north", "role": "train"},
                {"name": "south", "role": "train"},
                {"name": "coast", "role": "validate"},
            ],
            "radiomics": {"source": "table"},
            "model": {"image": False},
            "training": {"rounds": 4},
            "evaluation": {"leave_one_site_out": True, "local_models": "everywhere"},
        }
        return Study.model_validate({**content, **changes})

    return make


@pytest.fixture
def private_study(make_study) -> Study:
    return make_study(
        training={"rounds": 4, "preparation": "public", "start": "random"},
        privacy={"mode": "dp-sgd", "epsilon": 8.0, "clip": 1.0},
    )


@pytest.fixture
def study(make_study) -> Study:
    return make_study()


@pytest.fixture
def home(tmp_path, study, private_study) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    approve(folder, study, by="officer")
    approve(folder, private_study, by="officer")
    return folder


@pytest.fixture
def gate(home) -> Gate:
    return Gate(home, "north")


@pytest.fixture
def set_policy(home) -> Callable[..., None]:
    def write(**limits: Any) -> None:
        (home / "policy.yaml").write_text(yaml.safe_dump(limits), encoding="utf-8")

    return write


SCALES = {"centre": np.zeros(3), "scale": np.ones(3)}
LEVELS = {**SCALES, "beta": np.zeros((3, 1)), "level": np.zeros(3), "spread": np.ones(3)}
BODIES: dict[str, tuple[type, dict[str, Any]]] = {
    "hello": (HelloRequest, {}),
    "describe": (DescribeRequest, {}),
    "summary": (SummaryRequest, {}),
    "buckets": (BucketsRequest, SCALES),
    "covariance": (CovarianceRequest, {"columns": np.arange(3)}),
    "crossproducts": (CrossProductsRequest, SCALES),
    "residuals": (ResidualsRequest, {**SCALES, "beta": np.zeros((3, 1))}),
    "prior": (PriorRequest, LEVELS),
    "harmonise": (HarmoniseRequest, {**LEVELS, "prior": np.zeros(4), "scope": "train"}),
    "sketch": (
        SketchRequest,
        {"mean": np.zeros(3), "scale": np.ones(3), "probe": np.ones((3, 2), np.float32), "iteration": 0},
    ),
    "prepare": (
        PrepareRequest,
        {"mean": np.zeros(3), "scale": np.ones(3), "projection": np.ones((3, 2), np.float32), "origin": "federated"},
    ),
    "newton": (NewtonRequest, {"step": 0, "beta": np.zeros(3)}),
    "train": (TrainRequest, {"round": 1, "scope": "federated", "weights": np.zeros(5, np.float32)}),
    "midpoint": (MidpointRequest, {"weights": np.zeros(5, np.float32)}),
    "evaluate": (
        EvaluateRequest,
        {
            "label": "federated",
            "architecture": "transformer",
            "split": "test",
            "threshold": 0.5,
            "weights": np.zeros(5, np.float32),
        },
    ),
}


@pytest.fixture
def ask(study) -> Callable[..., Request]:
    """`ask("train", round=2)`: a request that the gate of `north` admits, but for the changes."""

    def make(kind: str, of: Study = study, **changes: Any) -> Request:
        record, body = BODIES[kind]
        header = {"version": fedloupe.__version__, "fingerprint": of.fingerprint, "run": "run-1", "site": "north"}
        return record(**{**header, **body, **changes})

    return make


def _header(request: Request) -> dict[str, Any]:
    return {name: getattr(request, name) for name in ("version", "fingerprint", "run", "site")}


@pytest.fixture
def trained() -> Callable[..., TrainReply]:
    def make(request: TrainRequest, **changes: Any) -> TrainReply:
        body = {"round": request.round, "weights": request.weights + 1, "patients": 40, "loss": 0.6, "epsilon": None}
        return TrainReply(**{**_header(request), **body, **changes})

    return make


@pytest.fixture
def scored() -> Callable[..., EvaluateReply]:
    def make(request: EvaluateRequest, **changes: Any) -> EvaluateReply:
        positives, negatives = np.zeros(20, np.int64), np.zeros(20, np.int64)
        positives[[10, 15]], negatives[[2, 5]] = (4, 6), (10, 20)
        body: dict[str, Any] = {
            **{"label": request.label, "split": request.split, "patients": 40, "positives": 10},
            **{"auc": 0.8, "auc_se": 0.05, "auc_low": 0.7, "auc_high": 0.88, "brier": 0.15, "accuracy": 0.8},
            **{"sensitivity": 0.7, "specificity": 0.8, "reference_auc": None},
            "calibration": ((0.2, 0.2, 30), (0.6, 0.4, 10)),
            **{"positives_by_score": positives, "negatives_by_score": negatives},
        }
        return EvaluateReply(**{**_header(request), **body, **changes})

    return make
