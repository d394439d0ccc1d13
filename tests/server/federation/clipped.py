"""A study under client-level privacy, sites that clip as real ones do, and a source to see what is under the noise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedloupe.messages import Message, TrainReply
from fedloupe.models import Preparation
from fedloupe.privacy import clipped_weights
from fedloupe.study import Study
from fedloupe_server.federation.journal import read_tensors

COLUMNS = ("shape", "shape", "t2w", "t2w", "t2w", "t2w")
TRAINING = {"preparation": "public", "start": "random", "weighting": "equal"}


class Silence:
    """A source whose noise is zero."""

    private = False

    def normal(self, shape: tuple[int, ...], std: float = 1.0) -> np.ndarray:
        return np.zeros(shape)

    def poisson(self, patients: int, rate: float) -> np.ndarray:
        raise AssertionError("nobody is sampled")


def private(make_study: Any, clip: float = 0.5, changes: Mapping[str, Any] | None = None, **training: Any) -> Study:
    privacy = {"mode": "client-dp", "epsilon": 8, "delta": 1e-5, "clip": clip}
    study: Study = make_study(training={**TRAINING, **training}, privacy=privacy, **(changes or {}))
    return study


def public(run_dir: Path) -> None:
    """Put a public preparation there."""
    projection = np.random.default_rng(0).standard_normal((6, 2)).astype(np.float32)
    run_dir.mkdir(parents=True, exist_ok=True)
    blob = Preparation(np.zeros(6), np.ones(6), projection, "public").to_bytes()
    (run_dir / "public-preparation.safetensors").write_bytes(blob)


def after(run_dir: Path, number: int) -> np.ndarray:
    """(m) the round's weights."""
    found = read_tensors(run_dir / "rounds" / f"{number:04d}.safetensors")
    assert found is not None
    return found[0]["weights"]


def at_length(rng: np.random.Generator, size: int, length: float) -> np.ndarray:
    """(size) in a direction at random."""
    direction = rng.standard_normal(size)
    return length * direction / np.linalg.norm(direction)


def clipping(hospitals: Any, clip: float, instead: Mapping[str, Any] | None = None) -> Any:
    """The same hospitals, their updates clipped as their sites do.

    Args:
        hospitals: whose rule they train by.
        clip: the study's bound.
        instead: (m) or one number, the update that a site sends in place of its own, unclipped.
    """
    ordinary = hospitals.answer

    def answer(request: Any) -> Message:
        reply: Message = ordinary(request)
        if not isinstance(reply, TrainReply):
            return reply
        sent = clipped_weights(reply.weights, request.weights, clip)
        if instead and request.site in instead:
            sent = (request.weights + instead[request.site]).astype(np.float32)
        return reply.model_copy(update={"weights": sent, "loss": None})

    hospitals.answer = answer
    return hospitals
