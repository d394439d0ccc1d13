"""Synthetic hospitals in memory: they answer encoded messages by a linear rule and remember what they were asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.federation.wire import SITES, SIZES, Wire

from fedloupe.freezing import Seal
from fedloupe.messages import (
    DescribeReply,
    DescribeRequest,
    EvaluateReply,
    EvaluateRequest,
    Failure,
    GrowReply,
    GrowRequest,
    HelloReply,
    HelloRequest,
    Message,
    MidpointReply,
    MidpointRequest,
    NewtonReply,
    NewtonRequest,
    OpenReply,
    OpenRequest,
    PrepareReply,
    PrepareRequest,
    SketchReply,
    SketchRequest,
    TrainReply,
    TrainRequest,
    decode,
    encode,
)
from fedloupe.statistics import Moments
from fedloupe.study import Study
from fedloupe_server.federation.conversation import Conversation
from fedloupe_server.federation.exchange import Arrival, Outbox

NAMES = tuple(f"feature-{i}" for i in range(6))
COLUMNS = ("shape", "shape", "t2w", "t2w", "t2w", "t2w")
PATIENTS = {"north": 30, "south": 10, "east": 20, "coast": 25}
SHRINK = 0.5
"""A site's training: w to SHRINK * w + its own constant."""


class Stopped(Exception):
    """The coordinator is killed."""


class Hospitals:
    """An exchange with a memory.

    Attributes:
        log: every request that arrived, in order.
        hook: called with each request before it is answered; may raise, or give a reply, `None` for silence, or
            `...` for the ordinary answer.
    """

    def __init__(self, patients: Mapping[str, int] = PATIENTS) -> None:
        self.patients = {**PATIENTS, **patients}
        self.log: list[Message] = []
        self.hook: Callable[[Any], Any] = lambda request: ...
        self.calls = 0

    def __call__(self, outbox: Outbox, timeout_s: float) -> Iterator[Arrival | None]:
        self.calls += 1
        while asked := list(outbox):
            for site, blob in reversed(asked):  # answers arrive in any order
                request = decode(blob)
                assert request.site == site
                self.log.append(request)
                reply = self.hook(request)
                if reply is ...:
                    reply = self.answer(request)
                if reply is not None:
                    yield Arrival(site, reply if isinstance(reply, bytes) else encode(reply))

    def asked(self, kind: str, **fields: Any) -> list[Any]:
        """The requests of a kind that arrived, with these values."""
        return [m for m in self.log if m.kind == kind and all(getattr(m, k) == v for k, v in fields.items())]

    def shift(self, site: str) -> float:
        """The constant of a site's linear rule."""
        return 0.01 * self.patients[site]

    def table(self, site: str) -> np.ndarray:
        """(n, 6) features of the site's training patients."""
        size = self.patients[site]
        return np.random.default_rng(size).standard_normal((size, 6)) * np.arange(1, 7) + 2

    @staticmethod
    def bytes_of(message: Message) -> bytes:
        """A message as it crosses the wire."""
        return encode(message)

    def answer(self, request: Message) -> Message:
        """The ordinary answer."""
        site = request.site
        header = {k: getattr(request, k) for k in ("version", "fingerprint", "run", "site")}
        table, size = self.table(site), self.patients[site]
        match request:
            case HelloRequest():
                parts = {"train": size, "tune": 6, "test": 8, "positives": size // 2, "excluded": {"FL-231": 1}}
                return HelloReply(**header, **parts, features=NAMES, groups=COLUMNS, data_digest="ab" * 32)
            case DescribeRequest():
                return DescribeReply(**header, **vars(Moments.of(table)))
            case SketchRequest():
                scores = (table - request.mean) / request.scale
                same = np.array([[a == b for b in COLUMNS] for a in COLUMNS])
                return SketchReply(**header, sketch=(scores.T @ scores * same) @ request.probe.astype(float))
            case PrepareRequest():
                return PrepareReply(**header, preparation="cd" * 32)
            case NewtonRequest():
                rng = np.random.default_rng(size)
                design = np.column_stack([np.ones(size), rng.standard_normal((size, len(request.beta) - 1))])
                p = 1 / (1 + np.exp(-design @ request.beta))
                hessian = (design * (p * (1 - p))[:, None]).T @ design
                return NewtonReply(**header, gradient=design.T @ (rng.random(size).round() - p), hessian=hessian)
            case TrainRequest():
                weights = (SHRINK * request.weights + self.shift(site)).astype(np.float32)
                loss = float(np.abs(weights).mean())
                return TrainReply(
                    **header, round=request.round, weights=weights, patients=size, loss=loss, epsilon=None
                )
            case GrowRequest():
                return GrowReply(**header, round=request.round, trees=self.stump(request), patients=size)
            case MidpointRequest():
                odds = np.array([5 * -0.7, 3 * (0.5 + self.shift(site) / 10)])
                return MidpointReply(**header, patients=8, positives=3, odds=odds)
            case OpenRequest():
                return OpenReply(**header, seal=Seal.parse(request.seal).digest)
            case EvaluateRequest():
                return self.scores(request)
        raise AssertionError(request)

    def stump(self, request: GrowRequest) -> np.ndarray:
        """One split whose leaves tell the site, the round and how many nodes came."""
        leaf = 0.1 * request.round + self.shift(request.site) + 0.001 * len(request.trees)
        return np.array([[0, 1, 0.5, 1, 2], [0, -1, -leaf, -1, -1], [0, -1, leaf, -1, -1]])

    def scores(self, request: EvaluateRequest) -> EvaluateReply:
        """Scores that depend on the site and on the weights, deterministically."""
        auc = 0.6 + 0.3 * float(np.tanh(np.abs(request.weights.astype(float)).mean())) + self.shift(request.site) / 10
        positives, negatives = np.zeros(20, np.int64), np.zeros(20, np.int64)
        positives[[8, 12, 17]] = 1
        negatives[[2, 5, 9]] = 1
        return EvaluateReply(
            **{k: getattr(request, k) for k in ("version", "fingerprint", "run", "site", "label", "split")},
            patients=8,
            positives=3,
            auc=auc,
            auc_se=0.05,
            auc_low=auc - 0.1,
            auc_high=min(1.0, auc + 0.1),
            brier=0.2,
            accuracy=0.75,
            sensitivity=0.7,
            specificity=0.8,
            calibration=((0.3, 0.25, 8),),
            reference_auc=None,
            positives_by_score=positives,
            negatives_by_score=negatives,
        )

    @staticmethod
    def failure(request: Message, code: str = "FL-515", title: str = "privacy budget would be exceeded") -> Failure:
        """A refusal."""
        header = {k: getattr(request, k) for k in ("version", "fingerprint", "run", "site")}
        return Failure(**header, code=code, title=title)


@pytest.fixture
def hospitals() -> Hospitals:
    return Hospitals()


@pytest.fixture
def new_hospitals() -> type[Hospitals]:
    return Hospitals


@pytest.fixture
def stopped() -> type[Stopped]:
    return Stopped


@pytest.fixture
def make_study() -> Callable[..., Study]:
    def make(**changes: Any) -> Study:
        content: dict[str, Any] = {
            "study": "federation-test",
            "title": "Synthetic study of the federation's tests",
            "synthetic": True,
            "endpoint": {"name": "r", "column": "r", "positive": ["1"], "negative": ["0"]},
            "aggregation": "plain",
            "sites": [{"name": n, "role": "train"} for n in ("north", "south", "east")]
            + [{"name": "coast", "role": "validate"}],
            "radiomics": {"source": "table"},
            "model": {"components": 2, "width": 4, "depth": 1, "heads": 1, "image": False},
            "training": {"rounds": 3, "start": "random", **changes.pop("training", {})},
            "quorum": {"minimum": 2, "must": ["north"], "attempts": 2, "retry_after_s": 0},
            "evaluation": {"local_models": "everywhere", **changes.pop("evaluation", {})},
        }
        return Study.model_validate({**content, **changes})

    return make


@pytest.fixture
def study(make_study) -> Study:
    return make_study()


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return tmp_path / "trial"


@pytest.fixture
def secure(make_study) -> Study:
    roles = [{"name": name, "role": "train"} for name in SITES] + [{"name": "coast", "role": "validate"}]
    quorum = {"minimum": 2, "attempts": 2, "retry_after_s": 0}
    study: Study = make_study(aggregation="secure", sites=roles, quorum=quorum, evaluation={"local_models": "home"})
    return study


@pytest.fixture
def wire(new_hospitals, tmp_path, secure) -> Wire:
    return Wire(new_hospitals(SIZES), tmp_path / "homes", secure)


@pytest.fixture
def talk(secure, wire) -> Conversation:
    return Conversation(secure, wire, "trial")
