"""The checklists hold the published items, and every rule stays inside what it may claim."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from pydantic import ValidationError

from fedloupe_server.evidence.checklists import NAMES, Checklist, Key, load
from fedloupe_server.evidence.checklists.lists import AnyOf, Item

# Items and sub-items as published: TRIPOD+AI, BMJ 2024;385:e078378; TRIPOD-Cluster, BMJ 2023;380:e071018 (its table);
# CLAIM 2024, Radiol Artif Intell 6(4):e240300; CLEAR, Insights Imaging 2023;14:75; METRICS, Insights Imaging 2024;15:8.
PUBLISHED = {
    "tripod-ai": (27, 52),
    "tripod-cluster": (19, 37),
    "claim": (44, 44),
    "clear": (58, 58),
    "metrics": (30, 30),
}

# METRICS, Table 1 of Insights Imaging 2024;15:8, in the order of its items.
WEIGHTS = (
    *(0.0368, 0.0735, 0.0919, 0.0438, 0.0292, 0.0438, 0.0292, 0.0337, 0.0225, 0.0112),
    *(0.0622, 0.0311, 0.0415, 0.0200, 0.0200, 0.0300, 0.0200, 0.0599, 0.0300, 0.0352),
    *(0.0234, 0.0176, 0.0117, 0.0293, 0.0176, 0.0375, 0.0749, 0.0075, 0.0075, 0.0075),
)

# Sub-items of TRIPOD+AI's Table 2.
LETTERS = {3: "abc", 5: "ab", 6: "abc", 8: "abc", 9: "abc", 12: "abcdefg", 18: "abcdef", 20: "abc", 23: "ab", 27: "abc"}


def keys(item: Item) -> set[Key]:
    return {key for need in item.evidence for key in (need.any if isinstance(need, AnyOf) else (need,))}


@pytest.mark.parametrize("name", NAMES)
class TestEachList:
    def test_has_the_published_numbers(self, name: str) -> None:
        numbers = [item.item for item in load(name).items]
        main = [int(re.match(r"\d+", number).group()) for number in numbers]  # type: ignore[union-attr]
        assert (len(set(main)), len(numbers)) == PUBLISHED[name]
        assert main == sorted(main)
        assert set(main) == set(range(1, PUBLISHED[name][0] + 1))

    def test_names_source_licence_and_what_it_was_checked_against(self, name: str) -> None:
        checklist = load(name)
        assert checklist.doi.startswith("10.")
        assert checklist.citation and checklist.licence and "2026" in checklist.checked

    def test_says_why_wherever_it_points_to_a_file(self, name: str) -> None:
        for item in load(name).items:
            assert not item.evidence or (item.why and item.why.endswith(".")), item.item
            assert item.asks.endswith("."), item.item

    def test_is_a_file_of_the_package_within_the_limit_of_lines(self, name: str) -> None:
        text = files("fedloupe_server.evidence.checklists").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 400
        assert max(map(len, text.splitlines())) <= 120


def test_tripod_ai_has_the_published_letters() -> None:
    expected = [f"{n}{letter}" for n in range(1, 28) for letter in LETTERS.get(n, " ")]
    assert [item.item for item in load("tripod-ai").items] == [number.strip() for number in expected]


def test_tripod_cluster_has_the_published_letters() -> None:
    letters = {3: "ab", 4: "ab", 6: "ab", 7: "abcd", 8: "abcdefg", 10: "abc", 12: "ab", 13: "ab", 16: "abc"}
    expected = [f"{n}{letter}".strip() for n in range(1, 20) for letter in letters.get(n, " ")]
    assert [item.item for item in load("tripod-cluster").items] == expected


class TestMetrics:
    def test_weights_are_the_published_ones_and_sum_to_one(self) -> None:
        weights = [item.weight for item in load("metrics").items]
        assert weights == list(WEIGHTS)
        assert sum(WEIGHTS) == pytest.approx(1, abs=1e-12)

    def test_conditions_are_the_tools(self) -> None:
        # METRICS.html v1.0: 1 segmentation 8-10, 2 automated 9, 3 hand-crafted 12, 4 tabular 14-16, 5 deep 17.
        assert {item.item: item.when for item in load("metrics").items if item.when} == {
            "8": ("segmentation",),
            "9": ("segmentation", "automated-segmentation"),
            "10": ("segmentation",),
            "12": ("hand-crafted",),
            **dict.fromkeys(("14", "15", "16"), ("tabular",)),
            "17": ("end-to-end",),
        }


class TestRules:
    def test_every_key_is_asked_for_and_has_meaning_and_place(self) -> None:
        asked = {key for name in NAMES for item in load(name).items for key in keys(item)}
        assert asked == set(Key)
        for key in Key:
            assert key.meaning and re.fullmatch(r"[\w./*-]+\.(html|md|json|svg|csv)(#[\w-]*)?", key.home), key

    def test_an_unknown_key_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="ethics"):
            Item.model_validate({"item": "1", "asks": "x.", "evidence": ["ethics"], "why": "y."})

    def test_evidence_without_a_reason_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="`why`"):
            Item.model_validate({"item": "1", "asks": "x.", "evidence": ["flow"]})

    def test_an_item_without_a_rule_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="neither"):
            Item.model_validate({"item": "1", "asks": "x."})

    def test_a_number_given_twice_is_refused(self) -> None:
        content = load("claim").model_dump(mode="json")
        content["sections"][0]["items"][0]["item"] = "2"
        with pytest.raises(ValidationError, match="twice"):
            Checklist.model_validate(content)

    def test_a_weight_that_is_missing_is_refused(self) -> None:
        content = load("metrics").model_dump(mode="json")
        content["sections"][0]["items"][0]["weight"] = None
        with pytest.raises(ValidationError, match="weight"):
            Checklist.model_validate(content)

    def test_an_unknown_list_is_refused(self) -> None:
        with pytest.raises(ValueError, match="tripod-ai"):
            load("consort")
