"""The quality section: what it may hold, and that studies without one keep the fingerprint that hospitals approved."""

from __future__ import annotations

from typing import Any

import pytest

from fedloupe.study import Perturbation, Study, StudyInvalid, parse_study

_TABLE: dict[str, Any] = {
    "study": "quality-test",
    "title": "Quality",
    "endpoint": {"name": "r", "column": "r", "positive": ["1"], "negative": ["0"]},
    "sites": [{"name": name, "role": "train"} for name in ("north", "south", "east")],
    "radiomics": {"source": "table"},
    "model": {"image": False},
    "quorum": {"minimum": 1},
}
_COMPUTED = {**_TABLE, "sequences": [{"name": "t2w"}], "radiomics": {"source": "computed", "settings": {}}}
# As this study's canonical form was before the section existed.
BEFORE = "46eac591"


def judged(**section: Any) -> Study:
    return parse_study({**_COMPUTED, "quality": section})


class TestFingerprint:
    def test_a_study_without_the_section_keeps_its_canonical_form(self):
        plain = parse_study(_TABLE)
        assert '"quality":' not in plain.canonical
        assert plain.fingerprint.startswith(BEFORE)
        assert parse_study({**_TABLE, "quality": None}).fingerprint == plain.fingerprint

    def test_every_key_changes_it(self):
        sections: list[dict[str, Any]] = [
            {},
            {"perturbations": [{"rotate_deg": 4}]},
            {"minimum_icc": 0.9},
            {"patients": 20},
            {"redundancy": None},
        ]
        assert len({judged(**section).fingerprint for section in sections}) == len(sections)

    def test_the_canonical_form_is_the_study_again(self):
        assert Study.model_validate_json(judged().canonical) == judged()


class TestRules:
    @pytest.mark.parametrize(
        ("section", "says"),
        [
            ({"perturbations": [{}]}, "changes something"),
            ({"perturbations": [{"bins_times": 2, "grow_mm": 1}]}, "stands alone"),
            ({"perturbations": [{"grow_mm": 1}, {"grow_mm": 1.0}]}, "twice"),
            ({"perturbations": [], "redundancy": None}, "remove the section"),
        ],
    )
    def test_a_section_that_makes_no_sense_is_refused(self, section, says):
        with pytest.raises(StudyInvalid, match=says):
            judged(**section)

    def test_perturbations_need_images(self):
        with pytest.raises(StudyInvalid, match=r"perturbations: \[\]"):
            parse_study({**_TABLE, "quality": {}})
        assert parse_study({**_TABLE, "quality": {"perturbations": []}}).quality.redundancy == 0.95

    def test_features_are_needed(self):
        with pytest.raises(StudyInvalid, match="judges features"):
            parse_study({**_COMPUTED, "radiomics": {"source": "none"}, "model": {}, "quality": {}})

    @pytest.mark.parametrize(
        "change",
        [
            {"training": {"preparation": "public"}},
            {
                "training": {"preparation": "public", "start": "random"},
                "privacy": {"mode": "dp-sgd", "epsilon": 8},
            },
        ],
    )
    def test_exact_sums_are_not_asked_for_where_the_study_promises_none(self, change):
        with pytest.raises(StudyInvalid, match="exact sums"):
            parse_study({**_COMPUTED, **change, "quality": {}})


class TestKinds:
    @pytest.mark.parametrize(
        ("change", "kind"),
        [
            ({"rotate_deg": 4, "translate_mm": 1}, "pose"),
            ({"grow_mm": -1}, "contour"),
            ({"noise_sd": 0.1}, "noise"),
            ({"bins_times": 2}, "bins"),
            ({"rotate_deg": 4, "grow_mm": 1}, "mixed"),
        ],
    )
    def test_a_perturbation_knows_what_it_tries(self, change, kind):
        assert Perturbation(**change).kind == kind

    def test_other_grey_levels_are_a_group_of_their_own(self):
        section = judged(perturbations=[{"grow_mm": 1}, {"bins_times": 2}, {"noise_sd": 0.1}]).quality
        assert (section.repeats, section.settings) == ((0, 1, 3), (0, 2))
