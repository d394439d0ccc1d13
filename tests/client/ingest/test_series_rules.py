"""The declared rules: strict, the same file in the repository and the package, and what each condition says."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedloupe.errors import FedLoupeError
from fedloupe.study.loading import StudyUnreadable
from fedloupe_client.ingest.dicom.headers import Slice
from fedloupe_client.ingest.dicom.rules import DEFAULT, Rule, judge, load_rules, plane
from fedloupe_client.ingest.dicom.stacks import seconds
from fedloupe_client.ingest.problems import RulesInvalid

CONFIGS = Path(__file__).parents[3] / "configs"


def slice_(**changes: object) -> Slice:
    plain = {
        "path": Path("a.dcm"), "frame": None, "patient": "P", "modality": "MR", "series": "1", "description": "",
        "instance": "1", "frame_of_reference": "", "image_type": ("ORIGINAL", "PRIMARY", "M"), "scanning": ("SE",),
        "echo_time": 100.0, "time": "", "matrix": (4, 4, 1), "spacing": (1.0, 1.0),
        "orientation": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), "position": (0.0, 0.0, 0.0),
    }  # fmt: skip
    return Slice(**{**plain, **changes})


def refused(tmp_path: Path, text: str) -> FedLoupeError:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(RulesInvalid) as caught:
        load_rules(path)
    return caught.value


class TestFile:
    def test_the_package_carries_the_file_of_the_repository(self):
        assert DEFAULT.read_bytes() == (CONFIGS / "series-rules.yaml").read_bytes()

    def test_an_unknown_key_is_named(self, tmp_path):
        error = refused(tmp_path, "sequences: {t2w: {echo_time: [60, null]}}")
        assert "`sequences.t2w.echo_time`: unknown key" in error.what
        assert error.code == "FL-235"

    def test_a_range_upside_down_and_a_broken_expression_are_refused(self, tmp_path):
        assert "lower bound" in refused(tmp_path, "sequences: {t2w: {echo_time_ms: [90, 60]}}").what
        assert "no regular expression" in refused(tmp_path, 'sequences: {t2w: {description: "t2("}}').what

    def test_a_sequence_taken_from_a_rule_that_is_not_there_is_refused(self, tmp_path):
        assert "`dce`" in refused(tmp_path, "sequences: {dce_pre: {of: dce, take: pre}}").what

    def test_an_absent_file_is_said_to_be_absent(self, tmp_path):
        with pytest.raises(StudyUnreadable, match="no such file"):
            load_rules(tmp_path / "rules.yaml")


class TestNames:
    @pytest.mark.parametrize(
        ("name", "modality", "expected"),
        [("t2w", "MR", "t2w"), ("t2-tra", "MR", "t2w"), ("b800-adc", "MR", "adc"), ("planning", "CT", "ct")],
    )
    def test_a_rule_serves_other_names_of_its_modality(self, name, modality, expected):
        rules = load_rules(None)
        assert rules.rule(name, modality) is rules.sequences[expected]

    def test_a_name_that_no_rule_serves(self):
        assert load_rules(None).rule("perfusion", "MR") is None


class TestConditions:
    def verdict(self, rule: dict, **tags: object) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        found = judge(Rule.model_validate(rule), [slice_(**tags)], ())
        return found.met, found.open, found.failed

    @pytest.mark.parametrize(
        ("rule", "tags", "word", "result"),
        [
            ({"echo_time_ms": [60, None]}, {"echo_time": 60.0}, "echo time", 0),
            ({"echo_time_ms": [60, None]}, {"echo_time": None}, "echo time", 1),
            ({"echo_time_ms": [60, None]}, {"echo_time": 59.0}, "echo time", 2),
            ({"repetition_time_ms": [None, 10]}, {"repetition_time": 5.0}, "repetition time", 0),
            ({"repetition_time_ms": [None, 10]}, {"repetition_time": 11.0}, "repetition time", 2),
            ({"scanning": {"wanted": ["SE"]}}, {"scanning": ("SE", "IR")}, "scanning sequence", 0),
            ({"scanning": {"wanted": ["SE"]}}, {"scanning": ()}, "scanning sequence", 1),
            ({"scanning": {"wanted": ["SE"], "refused": ["EP"]}}, {"scanning": ("EP", "SE")}, "scanning sequence", 2),
            ({"variant": {"wanted": ["SP"]}}, {"variant": ("SK", "SP")}, "sequence variant", 0),
            ({"image_type": {"wanted": ["ADC"]}}, {"image_type": ("DERIVED", "PRIMARY", "ADC")}, "image type", 0),
            ({"image_type": {"wanted": ["ADC"]}}, {"image_type": ("DERIVED", "PRIMARY")}, "image type", 1),
            ({"image_type": {"wanted": ["ADC"], "silent": ["M"]}}, {}, "image type", 1),
            ({"image_type": {"wanted": ["ADC"]}}, {}, "image type", 2),
            ({"contrast": "wanted"}, {"contrast": True}, "contrast agent", 0),
            ({"contrast": "refused"}, {"contrast": True}, "contrast agent", 2),
            ({"b_values": {"at_least": 1}}, {"b_value": 0.0}, "b-values", 0),
            ({"b_values": {"at_least": 2}}, {"b_value": 0.0}, "b-values", 2),
            ({"plane": "sagittal", "plane_required": True}, {}, "plane", 2),
            ({"spacing_mm": [1, 5]}, {}, "slice spacing", 1),
            ({"time_points": {"at_most": 1}}, {}, "time points", 1),
        ],
    )
    def test_met_open_where_the_tag_is_empty_or_failed(self, rule, tags, word, result):
        expected: list[tuple[str, ...]] = [(), (), ()]
        expected[result] = (word,)
        assert self.verdict(rule, **tags) == tuple(expected)

    @pytest.mark.parametrize(
        ("orientation", "expected"),
        [
            ((1, 0, 0, 0, 1, 0), "transverse"),
            ((0, 1, 0, 0, 0, -1), "sagittal"),
            ((1, 0, 0, 0, 0, -1), "coronal"),
            ((1, 0, 0, 0, 0.95, -0.31), "transverse"),
            ((), None),
        ],
    )
    def test_the_plane_is_the_one_that_the_normal_is_nearest_to(self, orientation, expected):
        assert plane(slice_(orientation=tuple(map(float, orientation)))) == expected


class TestTimes:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [("101500", 36900), ("101500.25", 36900.25), ("1015", 36900), ("10:15:00", 36900), ("", None), ("noon", None)],
    )
    def test_a_dicom_time_as_seconds_of_the_day(self, text, expected):
        assert seconds(text) == expected
