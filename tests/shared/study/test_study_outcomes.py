"""Response scales: what hospitals write, which end is best, and how a study maps them."""

from __future__ import annotations

import pytest

from fedloupe.study import SCALES, Endpoint, parse_study


class TestGrades:
    @pytest.mark.parametrize(
        ("scale", "best", "worst"),
        [
            # Mandard 1994; Dworak 1997; AJCC 8th ed.; Ryan 2005; CAP; RECIST 1.1
            ("mandard", "1", "5"),
            ("dworak", "4", "0"),
            ("ajcc_cap", "0", "3"),
            ("ryan", "1", "3"),
            ("ryan_modified", "0", "3"),
            ("recist", "CR", "PD"),
            ("pcr", "yes", "no"),
            ("ccr", "yes", "no"),
        ],
    )
    def test_the_published_best_and_worst_grade_end_each_scale(self, scale, best, worst):
        assert (SCALES[scale].grades[0], SCALES[scale].grades[-1]) == (best, worst)
        assert SCALES[scale].source

    def test_every_grade_reads_as_itself(self):
        for scale in SCALES.values():
            assert [scale.grade(grade) for grade in scale.grades] == list(scale.grades)
            assert set(scale.words.values()) == set(scale.grades)

    @pytest.mark.parametrize(
        ("scale", "written", "grade"),
        [
            ("mandard", "TRG 1", "1"), ("mandard", "trg1", "1"), ("mandard", "Grade IV", "4"), ("mandard", "2.0", "2"),
            ("mandard", "Mandard TRG-5", "5"), ("mandard", "Complete regression", "1"), ("mandard", " III ", "3"),
            ("dworak", "Dworak 4", "4"), ("dworak", "grade\u00a00", "0"), ("dworak", "Tumour regression grade 3", "3"),
            ("ajcc_cap", "AJCC/CAP 0", "0"), ("ajcc_cap", "score 3", "3"), ("ajcc_cap", "near-complete response", "1"),
            ("ryan", "Ryan 2", "2"), ("ryan_modified", "modified Ryan score 1", "1"),
            ("recist", "Complete Response", "CR"), ("recist", "RECIST 1.1: PR", "PR"), ("recist", "sd", "SD"),
            ("pcr", "ypT0N0", "yes"), ("pcr", "ypT0 ypN0", "yes"), ("pcr", "ypT0N1a", "no"), ("pcr", "ypT3 N0", "no"),
            ("pcr", "Y", "yes"), ("ccr", "no", "no"),
        ],
    )  # fmt: skip
    def test_what_hospitals_write_is_read(self, scale, written, grade):
        assert SCALES[scale].grade(written) == grade

    @pytest.mark.parametrize(
        ("scale", "written"),
        [
            ("mandard", "Dworak 4"), ("dworak", "Mandard 1"), ("mandard", "0"), ("mandard", "6"), ("dworak", "5"),
            ("ryan", "0"), ("mandard", "2-3"), ("mandard", "1/2"), ("mandard", "-1"), ("mandard", "1a"),
            ("mandard", "TRG"), ("mandard", ""), ("mandard", "1,0"), ("ajcc_cap", "Ryan 1"), ("recist", "NE"),
            ("recist", "near complete response"), ("pcr", "ypTisN0"), ("pcr", "ypT0Nx"), ("pcr", "cCR"),
            ("ccr", "near-complete"), ("pcr", "unknown"),
        ],
    )  # fmt: skip
    def test_nothing_is_guessed(self, scale, written):
        assert SCALES[scale].grade(written) is None


SCALED = {
    "name": "good response",
    "column": "trg",
    "scales": {
        "mandard": {"positive": ["TRG1", "TRG2"], "negative": ["3", "4", "5"]},
        "dworak": {"positive": ["4", "3"], "negative": ["2", "1", "0"]},
    },
}


class TestStudy:
    def test_one_word_means_what_the_declared_scale_says(self, content):
        endpoint = parse_study({**content, "endpoint": SCALED}).endpoint
        assert [endpoint.label("Grade 4", scale) for scale in ("mandard", "dworak")] == [0, 1]
        assert [endpoint.label("1", scale) for scale in ("mandard", "dworak")] == [1, 0]

    def test_a_scale_that_the_study_lacks_gives_no_label(self, content):
        assert parse_study({**content, "endpoint": SCALED}).endpoint.label("CR", "recist") is None

    def test_a_grade_in_neither_list_gives_no_label(self):
        mapping = {"positive": ["CR"], "negative": ["SD", "PD"]}
        endpoint = Endpoint(name="r", column="r", scales={"recist": mapping})
        assert [endpoint.label(v, "recist") for v in ("CR", "PR", "PD")] == [1, None, 0]

    def test_scales_may_stand_beside_the_studys_own_values(self, content):
        both = {**SCALED, "positive": ["good"], "negative": ["poor"]}
        endpoint = parse_study({**content, "endpoint": both}).endpoint
        assert (endpoint.label("good"), endpoint.label("TRG1"), endpoint.label("TRG1", "mandard")) == (1, None, 1)

    @pytest.mark.parametrize(
        ("scales", "word"),
        [
            ({"dworak": {"positive": ["0", "1"], "negative": ["2", "3", "4"]}}, "turned round"),
            ({"mandard": {"positive": ["1", "3"], "negative": ["2"]}}, "turned round"),
            ({"mandard": {"positive": ["2"], "negative": ["3"]}}, "best grade"),
            ({"mandard": {"positive": ["1", "TRG 2"], "negative": ["II", "3"]}}, "both positive and negative"),
            ({"mandard": {"positive": ["0"], "negative": ["3"]}}, "not among its grades"),
            ({"mandard": {"positive": ["1"], "negative": []}}, "negative"),
            ({"becker": {"positive": ["1"], "negative": ["2"]}}, "mandard"),
        ],
    )
    def test_a_mapping_that_contradicts_its_scale_is_refused(self, refused, scales, word):
        assert word in refused(endpoint={"name": "r", "column": "r", "scales": scales})

    @pytest.mark.parametrize("key", ["positive", "negative"])
    def test_without_scales_both_lists_are_needed(self, refused, key):
        endpoint = {"name": "r", "column": "r", "positive": ["1"], "negative": ["0"], key: []}
        assert key in refused(endpoint=endpoint)
        assert "positive" in refused(endpoint={"name": "r", "column": "r"})


class TestFingerprint:
    def test_a_study_without_scales_keeps_its_canonical_endpoint(self, content):
        study = parse_study(content)
        assert set(study.model_dump(mode="json")["endpoint"]) == {"name", "column", "positive", "negative"}

    def test_scales_are_substance_and_survive_the_canonical_form(self, content):
        study = parse_study({**content, "endpoint": SCALED})
        other = {**SCALED, "scales": {"mandard": SCALED["scales"]["mandard"]}}
        assert parse_study({**content, "endpoint": other}).fingerprint != study.fingerprint
        assert parse_study(study.model_dump(mode="json")) == study
