"""What is evidenced, what waits for a person, what is not met; METRICS' score by hand."""

from __future__ import annotations

import json

import pytest

from fedloupe_server.evidence.checklists import (
    NAMES,
    Checklist,
    Filled,
    Key,
    Score,
    counts,
    fill,
    load,
    markdown,
    score,
    summary,
    to_json,
)

ALL = {key: key.home for key in Key}

# What no pipeline knows, in the lists' own numbers: title, abstract, ethics, funding, interests, registration,
# involvement, rationale, discussion, and what is public.
PERSONS = {
    "tripod-ai": "1 2 3a 3c 8b 9c 17 18a 18b 18d 19 25 26 27c",
    "tripod-cluster": "1 2 3a 7b 11 16a 16b 16c 17 19",
    "claim": "1 2 3 15 18 34 40 41 44",
    "clear": "1 2 3 4 5 7 8 14 49 50 51 52 53 54 56 57 58",
    "metrics": "1 2 5 16 28 29 30",
}


def statuses(filled: Filled) -> dict[str, str]:
    return {found.item.item: found.status for found in filled.items}


def made(*items: dict[str, object]) -> Checklist:
    """A small list; weights where the items have them."""
    head = dict.fromkeys(("name", "title", "version", "citation", "doi", "licence", "checked"), "x")
    return Checklist.model_validate({**head, "sections": [{"title": "All", "items": list(items)}]})


class TestFilling:
    @pytest.mark.parametrize("name", NAMES)
    def test_what_only_a_person_knows_is_never_evidenced(self, name: str) -> None:
        found = statuses(fill(load(name), ALL))
        assert {found[number] for number in PERSONS[name].split()} == {"person"}

    @pytest.mark.parametrize("name", NAMES)
    def test_an_empty_pack_evidences_nothing(self, name: str) -> None:
        assert counts(fill(load(name), {}))["evidenced"] == 0

    @pytest.mark.parametrize("name", NAMES)
    def test_each_key_taken_away_only_takes_evidence_away(self, name: str) -> None:
        whole = statuses(fill(load(name), ALL))
        for key in Key:
            less = statuses(fill(load(name), {k: v for k, v in ALL.items() if k != key}))
            assert all(less[n] == status or whole[n] == "evidenced" for n, status in less.items())

    def test_evidence_is_where_the_pack_says(self) -> None:
        filled = fill(load("tripod-ai"), {Key.FLOW: "report.html#flow"})
        flow = next(found for found in filled.items if found.item.item == "20a")
        assert (flow.status, flow.where) == ("evidenced", ("report.html#flow",))

    def test_one_missing_key_of_two_downgrades_and_says_what_would_meet_it(self) -> None:
        half = {key: where for key, where in ALL.items() if key != Key.SPLITS}
        found = next(f for f in fill(load("tripod-ai"), half).items if f.item.item == "12a")
        assert found.status == "not-met"
        assert not found.where
        assert "report.html#splits" in found.note
        assert "protocol.md#split" not in found.note

    def test_what_a_study_may_say_elsewhere_falls_to_a_person(self) -> None:
        found = next(f for f in fill(load("tripod-ai"), {}).items if f.item.item == "6b")
        assert found.status == "person"
        assert "clinical eligibility" in found.note and "protocol.md#eligibility" in found.note

    def test_of_any_one_is_enough(self) -> None:
        one = made({"item": "1", "asks": "a.", "evidence": ["flow", {"any": ["paired", "decision"]}], "why": "w."})
        for place, keys in {"not-met": (Key.FLOW,), "evidenced": (Key.FLOW, Key.DECISION)}.items():
            assert statuses(fill(one, {key: key.home for key in keys})) == {"1": place}

    def test_an_unknown_key_is_refused(self) -> None:
        with pytest.raises(ValueError, match="ethics"):
            fill(load("claim"), {"ethics": "protocol.md#ethics"})  # type: ignore[dict-item]

    @pytest.mark.parametrize("nowhere", ["", "#"])
    def test_evidence_without_a_place_is_refused(self, nowhere: str) -> None:
        with pytest.raises(ValueError, match="flow"):
            fill(load("claim"), {Key.FLOW: nowhere})

    def test_an_unknown_condition_is_refused(self) -> None:
        with pytest.raises(ValueError, match="moon"):
            fill(load("metrics"), {}, ["moon"])  # type: ignore[list-item]


class TestReach:
    """How far a complete pack gets: at least 35 of TRIPOD+AI's 52, and 0.60 of METRICS' weight."""

    def test_tripod_ai(self) -> None:
        assert counts(fill(load("tripod-ai"), ALL))["evidenced"] >= 35

    def test_metrics(self) -> None:
        found = score(fill(load("metrics"), ALL))
        assert found.evidenced >= 0.60
        assert found.applicable == pytest.approx(1, abs=1e-12)


class TestScore:
    def test_by_hand(self) -> None:
        # External (0.0749) and multi-centre (0.0438) evidenced; without segmentation items 8 to 10 (0.0337, 0.0225,
        # 0.0112) leave the applicable weight: 0.1187 / 0.9326 = 12.728 %.
        keys = (Key.MULTICENTRE, Key.EXTERNAL, Key.SEAL)
        without = ("hand-crafted", "tabular", "end-to-end")
        found = score(fill(load("metrics"), {key: key.home for key in keys}, without))
        assert found.evidenced == pytest.approx(0.1187, abs=1e-12)
        assert found.applicable == pytest.approx(0.9326, abs=1e-12)
        assert (found.percent, found.category) == (12.7, "very low")

    def test_an_item_needs_all_its_conditions(self) -> None:
        automated = statuses(fill(load("metrics"), ALL, ["automated-segmentation"]))
        assert automated["9"] == automated["8"] == automated["14"] == "not-applicable"
        assert statuses(fill(load("metrics"), ALL, ["segmentation"]))["8"] == "evidenced"

    def test_what_a_person_must_answer_counts_as_no(self) -> None:
        two = made(
            {"item": "1", "asks": "a.", "evidence": ["flow"], "why": "w.", "weight": 0.25},
            {"item": "2", "asks": "b.", "person": "p.", "weight": 0.75},
        )
        assert score(fill(two, {Key.FLOW: "f#"})).percent == 25.0

    @pytest.mark.parametrize(
        ("share", "category"),
        # Boundaries as METRICS.html v1.0 prints them: on the percentage rounded to one decimal.
        [
            (0.0, "very low"),
            (0.1994, "very low"),
            (0.1996, "low"),
            (0.4, "moderate"),
            (0.6, "good"),
            (0.8, "excellent"),
        ],
    )
    def test_categories(self, share: float, category: str) -> None:
        assert Score(share, 1.0).category == category

    def test_a_list_without_weights_has_no_score(self) -> None:
        with pytest.raises(ValueError, match="weights"):
            score(fill(load("clear"), ALL))


class TestRendering:
    @pytest.mark.parametrize("name", NAMES)
    def test_a_page_has_every_item_its_source_and_the_warning(self, name: str) -> None:
        filled = fill(load(name), ALL)
        page = markdown(filled, "../")
        rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| item ")]
        assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == [f.item.item for f in filled.items]
        assert all(row.replace("\\|", "").count("|") == 5 for row in rows)
        assert "Pre-filled by FedLoupe: a person must check every line." in page
        assert filled.checklist.doi in page and filled.checklist.checked in page
        assert summary(filled) in page

    def test_links_lead_from_the_page_to_the_pack(self) -> None:
        page = markdown(fill(load("tripod-ai"), {Key.FLOW: "report.html#flow"}), "../")
        assert "[report.html#flow](../report.html#flow)" in page

    def test_several_files_are_named_not_linked(self) -> None:
        page = markdown(fill(load("tripod-ai"), ALL))
        assert "`tables/*.csv`" in page and "](tables/*.csv)" not in page

    def test_json_says_the_same(self) -> None:
        filled = fill(load("metrics"), ALL)
        content = json.loads(to_json(filled))
        assert content["counts"] == counts(filled)
        assert content["score"]["percent"] == score(filled).percent
        assert {i["item"]: i["status"] for i in content["items"]} == statuses(filled)
        assert all(("why" in i) == (i["status"] == "evidenced") for i in content["items"])

    def test_the_score_is_said_to_be_the_pipelines(self) -> None:
        said = summary(fill(load("metrics"), ALL))
        assert "a person has confirmed" in said
        assert f"{score(fill(load('metrics'), ALL)).percent:.1f} %" in said
        assert "score" not in summary(fill(load("clear"), ALL))

    def test_counts_add_up(self) -> None:
        for name in NAMES:
            assert sum(counts(fill(load(name), {Key.FLOW: "report.html#flow"})).values()) == len(load(name).items)
