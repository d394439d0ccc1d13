"""Levels of subgroup variables: cut numbers, grouped words, scanners' classes, and words that must stay at home."""

from __future__ import annotations

import pytest

from fedloupe.study import StudyInvalid, Subgroup, parse_study
from fedloupe.study.levels import level_of, named_levels, scanner_word

AGE = Subgroup(name="age", column="age", cuts=(60, 70))
SEX = Subgroup(name="sex", column="sex", levels={"women": ("f", "Female"), "men": ("m",)})
VENDOR = Subgroup(name="vendor", header="vendor", column="scanner")
FIELD = Subgroup(name="field", header="field-strength")


class TestCuts:
    @pytest.mark.parametrize(
        ("cell", "level"),
        [("59.9", "<60"), ("60", "60-<70"), ("69.99", "60-<70"), ("70", ">=70"), ("-1", "<60"), ("", None),
         ("n/a", None), ("nan", None), ("inf", None), ("=A1", None)],
    )  # fmt: skip
    def test_a_number_is_in_the_half_open_range_that_it_falls_in(self, cell, level):
        assert level_of(AGE, cell) == level

    def test_levels_are_named_in_order(self):
        assert named_levels(AGE) == ("<60", "60-<70", ">=70")
        assert named_levels(Subgroup(name="cea", column="cea", cuts=(2.5,))) == ("<2.5", ">=2.5")


class TestWords:
    @pytest.mark.parametrize(("cell", "level"), [("F", "women"), (" FEMALE ", "women"), ("M", "men"), ("x", None)])
    def test_are_mapped_whatever_their_case(self, cell, level):
        assert level_of(SEX, cell) == level

    @pytest.mark.parametrize("word", ["Skyra", "T3c", "1.5 T", "MR-2", "mucinous (G3)", "K"])
    def test_short_plain_ones_are_levels_of_their_own(self, word):
        plain = Subgroup(name="kind", column="kind")
        assert level_of(plain, word) == word
        assert named_levels(plain) == ()

    @pytest.mark.parametrize(
        "word", ["P-00017", "1961-02-03", "03.02.1961", "DOE^JANE", "a@b.org", "a sentence that goes on and on", "=A1"]
    )
    def test_what_looks_like_an_id_a_date_a_name_or_a_text_is_unknown(self, word):
        assert level_of(Subgroup(name="kind", column="kind"), word) is None


class TestScanners:
    @pytest.mark.parametrize(
        ("text", "vendor"),
        [("SIEMENS", "Siemens"), ("Siemens Healthineers", "Siemens"), ("GE MEDICAL SYSTEMS", "GE"),
         ("GE Healthcare", "GE"), ("Philips Medical Systems", "Philips"), ("TOSHIBA_MEC", "Canon"),
         ("CANON_MEC", "Canon"), ("Hitachi Medical Corporation", "other"), ("Image", "other"), (" ", None)],
    )  # fmt: skip
    def test_vendors_are_known_by_how_they_write_themselves(self, text, vendor):
        assert scanner_word("vendor", text) == vendor

    @pytest.mark.parametrize(
        ("text", "field"),
        [("1.5", "1.5 T"), ("1.494", "1.5 T"), ("2.8936", "3 T"), ("3", "3 T"), ("3.0 T", "3 T"), ("15000", "1.5 T"),
         ("0.35", "other"), ("7", "other"), ("0", None), ("", None), ("high", None)],
    )  # fmt: skip
    def test_field_strengths_are_rounded_and_gauss_is_understood(self, text, field):
        assert scanner_word("field-strength", text) == field

    def test_a_tables_words_are_read_as_the_headers(self):
        assert level_of(VENDOR, "GE Signa") == "GE"
        assert level_of(FIELD, "2.89") == "3 T"
        assert named_levels(FIELD) == ("1.5 T", "3 T", "other")

    def test_the_study_may_group_them_further(self):
        grouped = Subgroup(name="vendor", header="vendor", levels={"siemens": ("Siemens",), "others": ("GE", "other")})
        assert level_of(grouped, "SIEMENS") == "siemens"
        assert level_of(grouped, "Hyperfine") == "others"
        assert level_of(grouped, "Philips") is None
        cut = Subgroup(name="field", header="field-strength", cuts=(2,))
        assert level_of(cut, "2.89") == ">=2"


@pytest.mark.parametrize(
    "section",
    [
        {"clinical": [{"name": "grade", "column": "g"}], "evidence": {}},
        {"evidence": {"subgroups": [{"name": "outcome", "column": "o"}]}},
    ],
)
def test_no_variable_takes_a_tables_own_name(section):
    content = {
        "study": "s",
        "title": "S",
        "endpoint": {"name": "r", "column": "r", "positive": ["1"], "negative": ["0"]},
        "aggregation": "plain",
        "sites": [{"name": "north", "role": "train"}],
        "quorum": {"minimum": 1},
        "radiomics": {"source": "table"},
        "model": {"image": False},
    }
    with pytest.raises(StudyInvalid, match="other names"):
        parse_study({**content, **section})
    assert parse_study({**content, "clinical": [{"name": "grade", "column": "g"}]}).evidence is None
