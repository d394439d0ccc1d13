"""`model.inputs`: what a model sees of what its study has."""

from __future__ import annotations

from typing import Any

import pytest

from fedloupe.models import Schema, build_model
from fedloupe.study import Study, StudyInvalid, clinical_inputs, input_kinds, parse_study, sees, sees_group

CONTENT: dict[str, Any] = {
    "study": "inputs-test",
    "title": "Synthetic study of these tests",
    "endpoint": {"name": "response", "column": "response", "positive": ["1"], "negative": ["0"]},
    "sequences": [
        {"name": "t2w"},
        {"name": "adc"},
        {"name": "ct", "modality": "CT", "intensity": "hounsfield", "required": False},
    ],
    "clinical": [{"name": "age", "column": "age"}],
    "aggregation": "plain",
    "sites": [{"name": "north", "role": "train"}, {"name": "south", "role": "train"}],
    "imaging": {"spacing_mm": 2.0, "crop_mm": 24},
    "radiomics": {"settings": {"version": 1}},
    "model": {"components": 3, "width": 16, "depth": 1, "heads": 2},
}
KINDS = ("radiomics-mr", "radiomics-ct", "image-mr", "image-ct", "clinical")


def study(*inputs: str, **changes: Any) -> Study:
    model = CONTENT["model"] | ({"inputs": list(inputs)} if inputs else {})
    return parse_study({**CONTENT, "model": model, **changes})


class TestWhatIsSeen:
    def test_without_the_key_everything_is_seen_and_the_fingerprint_is_the_old_one(self):
        whole = study()
        assert input_kinds(whole) == KINDS
        assert all(sees(whole, kind) for kind in KINDS)
        assert "inputs" not in whole.model_dump()["model"]
        assert whole.fingerprint != study(*KINDS).fingerprint

    @pytest.mark.parametrize(
        ("group", "mr", "ct"),
        [
            ("shape", True, False),
            ("t2w", True, False),
            ("t2w|rim_5mm", True, False),
            ("ct", False, True),
            ("ct|rim_5mm", False, True),
            ("adc:t2w", True, False),
            ("ct:t2w", False, False),
        ],
    )
    def test_a_group_belongs_to_the_modality_of_its_sequences(self, group, mr, ct):
        assert sees_group(study("radiomics-mr"), group) is mr
        assert sees_group(study("radiomics-ct"), group) is ct
        assert sees_group(study("radiomics-mr", "radiomics-ct"), group)

    def test_the_model_has_no_parameter_for_what_it_does_not_see(self):
        images = Schema.of(study("image-ct"), ())
        assert (images.mr, images.ct, images.clinical) == (0, 1, 0)
        model = build_model(study("image-ct"), images)
        assert model.tokens.mr is None and model.tokens.clinical is None and model.tokens.radiomics is None
        assert model.wide.in_features == 0
        assert len(clinical_inputs(study("clinical"))) == 1 and not clinical_inputs(study("image-mr"))

    def test_a_table_of_features_is_a_kind_of_its_own(self):
        tables = study("radiomics-table", sequences=[], radiomics={"source": "table"})
        assert input_kinds(tables) == ("radiomics-table", "clinical")
        assert sees_group(tables, "table")
        assert not sees_group(study("clinical", sequences=[], radiomics={"source": "table"}), "table")


class TestRefused:
    @pytest.mark.parametrize(
        ("inputs", "changes", "words"),
        [
            (("radiomics-table",), {}, "has only"),
            (("image-mr",), {"sequences": [], "radiomics": {"source": "table"}}, "has only"),
            (("clinical", "clinical"), {}, "more than once"),
            (("image-mr",), {"quality": {}}, "quality"),
            (("clinical",), {"harmonisation": {}}, "harmonisation"),
            (("radiomics-mr",), {"harmonisation": {"covariates": ["age"]}}, "covariates"),
            (("image-mr",), {"evaluation": {"clinical_baseline": True}}, "clinical_baseline"),
            (("image-mr",), {"evaluation": {"trees": {}}}, "trees"),
        ],
    )
    def test_inputs_that_the_study_cannot_have(self, inputs, changes, words):
        with pytest.raises(StudyInvalid, match=words):
            study(*inputs, **changes)
