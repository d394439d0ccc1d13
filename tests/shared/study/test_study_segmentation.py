"""A drawing study: what it may hold, and that studies without one keep the fingerprint that hospitals approved."""

from __future__ import annotations

from typing import Any

import pytest

from fedloupe.study import Study, StudyInvalid, parse_study

_PLAIN: dict[str, Any] = {
    "study": "drawing-test",
    "title": "Drawing",
    "endpoint": {"name": "r", "column": "r", "positive": ["1"], "negative": ["0"]},
    "sequences": [{"name": "t2w"}],
    "aggregation": "plain",
    "sites": [{"name": "north", "role": "train"}],
    "imaging": {"spacing_mm": 2.0},
    "radiomics": {"source": "none"},
    "quorum": {"minimum": 1},
}


def drawing(**changes: Any) -> Study:
    return parse_study({**_PLAIN, "segmentation": {"field_mm": 64, "channels": [8, 16, 32]}, **changes})


class TestFingerprint:
    def test_a_study_that_draws_nothing_keeps_its_canonical_form(self):
        plain = parse_study(_PLAIN)
        assert "segmentation" not in plain.canonical
        assert parse_study({**_PLAIN, "segmentation": None}).fingerprint == plain.fingerprint

    def test_a_drawing_study_has_another_that_changes_with_every_key(self):
        studies = [
            drawing(segmentation={"field_mm": 64, "channels": [8, 16, 32], **change})
            for change in ({}, {"field_mm": 128}, {"channels": [8, 16]}, {"threshold": 0.4})
        ]
        assert len({s.fingerprint for s in [*studies, parse_study(_PLAIN)]}) == 5

    def test_the_canonical_form_is_the_study_again(self):
        assert Study.model_validate_json(drawing().canonical) == drawing()


class TestRules:
    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"clinical": [{"name": "age", "column": "age"}]}, "clinical"),
            ({"radiomics": {"source": "computed", "settings": {}}}, "radiomics.source: none"),
            ({"sequences": [{"name": "t2w"}, {"name": "adc", "required": False}]}, "required"),
            ({"evaluation": {"leave_one_site_out": True}}, "leave_one_site_out"),
            (
                {
                    "privacy": {"mode": "dp-sgd", "epsilon": 8},
                    "training": {"preparation": "public", "start": "random"},
                },
                "dp-sgd",
            ),
        ],
    )
    def test_what_it_cannot_do_is_refused_by_name(self, change, says):
        with pytest.raises(StudyInvalid, match=says):
            drawing(**change)

    def test_a_field_that_the_network_cannot_halve_names_one_that_it_can(self):
        with pytest.raises(StudyInvalid, match="64 fits"):
            drawing(segmentation={"field_mm": 66, "channels": [8, 16, 32]})
        assert drawing(segmentation={"field_mm": 64, "channels": [8, 16, 32]}).segmentation.edge(2.0) == 32
