"""Every kind of message: there and back, the same bytes, each field with its disclosure class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedloupe.messages import KINDS, Disclosure, EvaluateReply, Message, TrainRequest, decode, encode

HEADER = {"version": "0.1.0", "fingerprint": "0123456789abcdef" * 4, "run": "demo/without-north", "site": "north"}
FIELDS: dict[str, dict[str, Any]] = {
    "hello-reply": {
        "train": 20, "tune": 4, "test": 9, "positives": 12, "excluded": {"FL-231": 2},
        "features": ("a", "b"), "groups": ("shape", "t2w"), "data_digest": "ab" * 32,
    },
    "stability-reply": {"patients": 20},
    "redundancy-reply": {"patients": 20},
    "describe": {"harmonised": True},
    "summary-reply": {"patients": 30, "events": 12},
    "harmonise": {"scope": "unseen"},
    "sealed": {
        "coordinator": "ab" * 32, "nonce": "cd" * 16, "issued": 1_764_300_000, "expires": 1_764_303_600,
        "signature": "ef" * 64,
    },
    "harmonise-reply": {"harmoniser": "ab" * 32, "batches": 3, "small": 1},
    "sketch": {"iteration": 2},
    "prepare": {"origin": "public"},
    "prepare-reply": {"preparation": "ab" * 32},
    "newton": {"step": 3},
    "train": {"round": 7, "scope": "federated"},
    "train-reply": {"round": 7, "patients": 20, "loss": 0.625, "epsilon": None},
    "grow": {"round": 3},
    "grow-reply": {"round": 3, "patients": 20},
    "calibrate": {"step": 3, "targets": (0.1, 0.9)},
    "calibrate-reply": {"patients": 12, "positives": 5},
    "embed": {"size": 5},
    "embed-reply": {"patients": 30},
    "conform": {"line": (0.1, 0.8)},
    "conform-reply": {"patients": 12, "positives": 5},
    "release": {"threshold": 0.4, "admitted": 0.7, "limit": 1.5, "patients": 90},
    "release-reply": {"release": "ab" * 32},
    "evaluate": {
        "label": "local-north", "architecture": "logistic", "split": "all", "threshold": 0.4, "shift": "none",
        "line": (0.1, 0.8), "admitted": 0.7, "limit": 1.5,
    },
    "evaluate-reply": {
        "label": "federated", "split": "test", "patients": 9, "positives": 4, "auc": 0.75, "auc_se": 0.1,
        "auc_low": 0.5, "auc_high": 0.9, "brier": 0.2, "accuracy": 0.7, "sensitivity": 0.5, "specificity": 1.0,
        "calibration": ((0.25, 0.2, 5), (0.75, 1.0, 4)), "reference_auc": None,
    },
    "open": {"seal": "{}"},
    "open-reply": {"seal": "ab" * 32},
    "cohort-reply": {
        "candidates": 80, "patients": 70, "shared": 0, "splits": "ab" * 32, "withheld": ("stage",),
        "lines": (
            {"variable": "age", "part": "development", "patients": 50, "missing": 3, "mean": 61.5, "sd": 9.25},
            {"variable": "sex", "part": "evaluation", "level": "women", "patients": 17, "missing": 0, "count": 9},
        ),
    },
    "scores": {"label": "federated", "scored": "ab" * 32, "bins": 256},
    "scores-reply": {"patients": 17, "positives": 7},
    "assess": {
        "label": "federated", "scored": "ab" * 32, "split": "all", "threshold": 0.4, "against": ("logistic",),
    },
    "assess-reply": {
        "label": "federated", "split": "all", "patients": 100, "positives": 35, "low": 0.7, "high": 0.9,
        "expected": 0.4, "centre": -0.5, "spread": 1.25, "slope": 0.875, "slope_se": 0.25,
        "paired": ({"against": "logistic", "difference": 0.0625, "se": 0.03125, "p": 0.5},),
    },
    "overlap": {"label": "federated", "split": "all"},
    "overlap-reply": {"label": "federated", "split": "all", "patients": 9, "mean": 0.7, "sd": 0.1},
    "midpoint-reply": {"patients": 12, "positives": 5},
    "keys": {"setup": "ab" * 16},
    "keys-reply": {"setup": "ab" * 16, "certificate": "PEM", "signature": "ef" * 64},
    "shares": {
        "setup": "ab" * 16, "members": ("east", "north", "south"),
        "certificates": ("PEM",) * 3, "signatures": ("ef" * 64,) * 3,
    },
    "shares-reply": {"setup": "ab" * 16},
    "sum": {"setup": "ab" * 16, "session": 3},
    "sum-reply": {"setup": "ab" * 16, "session": 3, "of": "train-reply", "layout": {"weights": (5,), "patients": ()}},
    "unmask": {"setup": "ab" * 16, "session": 3, "contributors": ("east", "north", "south")},
    "unmask-reply": {"setup": "ab" * 16, "session": 3},
    "working": {"stage": "training", "fraction": 0.43, "seconds": 812.5},
    "failure": {"code": "FL-515", "title": "privacy budget would be exceeded"},
}  # fmt: skip
SHAPES = {
    "probe": (3, 2),
    "projection": (3, 2),
    "sketch": (3, 2),
    "hessian": (3, 3),
    "product": (3, 2),
    "pairs": (3, 2),
    "precision": (5, 5),
}
OWN_SHAPES = {("calibrate", "line"): (2,), ("release", "line"): (2,)}
TYPES = {
    "probe": "f4", "projection": "f4", "weights": "f4", "positives_by_score": "i8", "negatives_by_score": "i8",
    "earlier": "i8", "block": "i8",
}  # fmt: skip


def sample(kind: str) -> Message:
    rng = np.random.default_rng(0)
    record = KINDS[kind]
    tensors = {
        name: np.abs(100 * rng.standard_normal(shape)).astype("u1" if name in record.octets else TYPES.get(name, "f8"))
        for name in record.tensors
        for shape in [OWN_SHAPES.get((kind, name), SHAPES.get(name, (5,)))]
    }
    return record(**HEADER, **FIELDS.get(kind, {}), **tensors)


class TestRoundTrip:
    @pytest.mark.parametrize("kind", sorted(KINDS))
    def test_what_arrives_is_what_was_sent(self, kind):
        message = sample(kind)
        arrived = decode(encode(message))
        assert type(arrived) is type(message)
        for name in type(message).model_fields:
            sent, got = getattr(message, name), getattr(arrived, name)
            if name in message.tensors:
                assert got.dtype == sent.dtype and got.shape == sent.shape
                assert got.tobytes() == sent.tobytes()
            else:
                assert got == sent

    @pytest.mark.parametrize("kind", sorted(KINDS))
    def test_the_same_message_gives_the_same_bytes_again(self, kind):
        message = sample(kind)
        assert encode(message) == encode(message) == encode(decode(encode(message)))

    def test_an_array_that_is_not_contiguous_travels_in_its_own_order(self):
        matrix = np.arange(6.0).reshape(2, 3).T
        message = KINDS["newton-reply"](**HEADER, gradient=np.zeros(3), hessian=matrix)
        assert np.array_equal(decode(encode(message)).hessian, matrix)

    def test_an_empty_array_travels(self):
        message = KINDS["describe-reply"](**HEADER, count=np.zeros(0), total=np.zeros((0, 6)), square=np.zeros((0, 6)))
        assert decode(encode(message)).count.shape == (0,)

    def test_every_kind_is_named_by_its_own_word(self):
        assert all(record.model_fields["kind"].default == kind for kind, record in KINDS.items())
        assert len(set(KINDS.values())) == len(KINDS) == 65


class TestDisclosure:
    @pytest.mark.parametrize("kind", sorted(KINDS))
    def test_every_field_says_what_it_means_and_what_it_can_tell(self, kind):
        classes = {item.value for item in Disclosure}
        for name, field in KINDS[kind].model_fields.items():
            if name == "kind":
                continue
            assert field.description, name
            assert isinstance(field.json_schema_extra, dict), name
            assert field.json_schema_extra["disclosure"] in classes, name

    @pytest.mark.parametrize("kind", sorted(KINDS))
    def test_every_array_is_a_declared_field(self, kind):
        assert set(KINDS[kind].tensors) <= set(KINDS[kind].model_fields)

    def test_weights_are_model_and_scores_are_aggregates(self):
        def disclosed(record: type[Message], field: str) -> object:
            return record.model_fields[field].json_schema_extra["disclosure"]

        assert disclosed(TrainRequest, "weights") == "model"
        assert disclosed(EvaluateReply, "auc") == disclosed(EvaluateReply, "positives_by_score") == "aggregate"
        assert disclosed(EvaluateReply, "patients") == "count"
        assert disclosed(EvaluateReply, "site") == "protocol"
