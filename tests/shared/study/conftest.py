"""A study that says everything, as the mapping that a YAML file holds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

_CONTENT: dict[str, Any] = {
    "study": "rectal-test",
    "title": "Synthetic study of these tests",
    "synthetic": True,
    "endpoint": {"name": "response", "column": "trg", "positive": ["TRG1", "TRG2"], "negative": ["TRG3"]},
    "sequences": [
        {"name": "t2w"},
        {"name": "adc", "intensity": "physical", "required": False},
        {"name": "ct", "modality": "CT", "intensity": "hounsfield", "required": False},
    ],
    "clinical": [
        {"name": "age", "column": "age_years", "centre": 60, "scale": 10},
        {"name": "stage", "column": "ct", "levels": {"T2": -1, "T3": 0}},
    ],
    "sites": [
        {"name": "north", "role": "train"},
        {"name": "south", "role": "train"},
        {"name": "east", "role": "train"},
        {"name": "coast", "role": "validate"},
    ],
    "radiomics": {"source": "computed", "settings": {"version": 1, "log_sigmas_mm": [2, 3]}},
    "quorum": {"minimum": 2, "must": ["north"]},
}


@pytest.fixture
def content() -> dict[str, Any]:
    return copy.deepcopy(_CONTENT)


@pytest.fixture
def refused(content: dict[str, Any]) -> Callable[..., str]:
    """The refusal's words when these top-level keys take the place of the study's."""
    from fedloupe.study import StudyInvalid, parse_study

    def refuse(**changes: Any) -> str:
        with pytest.raises(StudyInvalid) as caught:
            parse_study({**content, **changes}, "study.yaml")
        return str(caught.value)

    return refuse
