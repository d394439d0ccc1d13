"""A small study with every kind of token, and batches for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fedloupe.models import Inputs, Schema
from fedloupe.study import Study

GROUPS = ("shape", "t2w", "adc")


@pytest.fixture
def architecture() -> str:
    """Of `make_study`'s studies; a file or a test for every architecture puts its parameters here."""
    return "transformer"


@pytest.fixture
def make_study(architecture) -> Callable[..., Study]:
    def make(**changes: Any) -> Study:
        content: dict[str, Any] = {
            "study": "model-test",
            "title": "Synthetic study of the models' tests",
            "synthetic": True,
            "endpoint": {"name": "response", "column": "response", "positive": ["1"], "negative": ["0"]},
            "sequences": [
                {"name": "t2w"},
                {"name": "adc", "required": False},
                {"name": "ct", "modality": "CT", "required": False},
            ],
            "clinical": [{"name": "age", "column": "age"}, {"name": "cea", "column": "cea"}],
            "aggregation": "plain",
            "sites": [{"name": "north", "role": "train"}, {"name": "south", "role": "train"}],
            "imaging": {"spacing_mm": 2.0, "crop_mm": 24},
            "radiomics": {"settings": {"version": 1}},
            "model": {"components": 3, "width": 16, "depth": 1, "heads": 2},
        }
        content |= changes
        content["model"] = {"architecture": architecture, **content["model"]}
        return Study.model_validate(content)

    return make


@pytest.fixture
def study(make_study) -> Study:
    return make_study()


@pytest.fixture
def schema(study) -> Schema:
    return Schema.of(study, GROUPS)


@pytest.fixture
def make_inputs() -> Callable[..., Inputs]:
    def make(schema: Schema, size: int = 5, seed: int = 0) -> Inputs:
        draw = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(size, *shape, generator=draw)

        edge = (schema.crop,) * 3
        groups = len(schema.groups)
        return Inputs(
            normal(groups, schema.components),
            torch.ones(size, groups),
            normal(schema.clinical),
            torch.ones(size, schema.clinical),
            normal(schema.mr, *edge),
            torch.ones(size, schema.mr),
            normal(schema.ct, *edge),
            torch.ones(size, schema.ct),
        )

    return make


def without(inputs: Inputs, *names: str) -> Inputs:
    """The same patients with these modalities missing: values and presence zero."""
    parts = {name: getattr(inputs, name) for name in Inputs.__dataclass_fields__}
    for name in names:
        parts[name] = torch.zeros_like(parts[name])
        parts[f"{name}_present"] = torch.zeros_like(parts[f"{name}_present"])
    return Inputs(**parts)


@pytest.fixture
def missing() -> Callable[..., Inputs]:
    return without
