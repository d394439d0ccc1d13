"""Tables of patients at the gate: asked only where the study declares its evidence, and without small groups."""

from __future__ import annotations

from typing import Any

import pytest

import fedloupe
from fedloupe.assessing import Described
from fedloupe.messages import CohortReply, CohortRequest, decode, encode
from fedloupe.study import Study
from fedloupe_client.gate import Gate, NotInStudy, Policy, ReplyRefused, approve
from fedloupe_client.gate.errors import KindNotAllowed, NotSealed
from fedloupe_client.gate.tabulating import check_tabulating, kept, protect
from sealing import open_site

CELL = 5
SUBGROUPS = [
    {"name": "sex", "column": "sex", "levels": {"women": ["f"], "men": ["m"]}},
    {"name": "age-60", "column": "age", "cuts": [60]},
    {"name": "age-61", "column": "age", "cuts": [61]},
    {"name": "histology", "column": "histology"},
]
GRADES = {"name": "response", "column": "response", "positive": ["best", "good"], "negative": ["fair", "poor"]}


@pytest.fixture
def study(make_study) -> Study:
    clinical = [
        {"name": "cea", "column": "cea"},
        {"name": "stage", "column": "stage", "levels": {"T2": -1, "T3": 0, "T4": 1}},
    ]
    return make_study(clinical=clinical, endpoint=GRADES, evidence={"subgroups": SUBGROUPS})


@pytest.fixture
def request_(study) -> CohortRequest:
    return CohortRequest(version=fedloupe.__version__, fingerprint=study.fingerprint, run="run-1", site="north")


@pytest.fixture
def reply(request_):
    def make(*lines: Described, **changes: Any) -> CohortReply:
        header = {name: getattr(request_, name) for name in ("version", "fingerprint", "run", "site")}
        body = {"candidates": 60, "patients": 50, "shared": 0, "splits": "ab" * 32, "lines": lines}
        return CohortReply(**{**header, **body, **changes})

    return make


def levels(variable: str, counts: dict[str, int], missing: int = 0, part: str = "development") -> list[Described]:
    size = sum(counts.values())
    return [
        Described(variable=variable, part=part, level=level, patients=size, missing=missing, count=count)
        for level, count in counts.items()
    ]


def number(variable: str, patients: int, missing: int = 0, part: str = "development") -> Described:
    return Described(variable=variable, part=part, patients=patients, missing=missing, mean=2.0, sd=1.0)


def shown(reply: CohortReply, study: Study, part: str = "development", **policy: Any) -> dict[str, dict[str, int]]:
    out = protect(reply, study, Policy(minimum_cell=CELL, **policy))
    found: dict[str, dict[str, int]] = {}
    for line in out.lines:
        if line.part == part:
            found.setdefault(line.variable, {})[line.level or ""] = line.patients if line.count is None else line.count
    return found


class TestAsked:
    def test_of_training_and_validating_sites_of_a_study_with_evidence(self, home, study, make_study):
        approve(home, study, by="officer")
        for site in ("north", "coast"):
            header = {"version": fedloupe.__version__, "fingerprint": study.fingerprint, "run": "run-1", "site": site}
            asked = CohortRequest(**header)
            gate = Gate(home, site) if site == "north" else open_site(home, study, asked)
            request, _ = gate.admit(encode(asked))
            assert request.kind == "cohort"

    def test_not_of_a_validate_only_site_before_the_seal(self, home, study):
        approve(home, study, by="officer")
        header = {"version": fedloupe.__version__, "fingerprint": study.fingerprint, "run": "run-1", "site": "coast"}
        with pytest.raises(NotSealed):
            Gate(home, "coast").admit(encode(CohortRequest(**header)))

    def test_never_where_the_study_declares_none_or_is_private(self, gate, home, ask, make_study, private_study, study):
        for other in (make_study(), private_study):
            approve(home, other, by="officer")
            header = {"version": fedloupe.__version__, "fingerprint": other.fingerprint, "run": "r", "site": "north"}
            with pytest.raises(NotInStudy, match="`cohort`"):
                gate.admit(encode(CohortRequest(**header)))
        both = private_study.model_copy(update={"evidence": study.evidence})
        with pytest.raises(NotInStudy, match="private"):
            check_tabulating(CohortRequest(**header), both)

    def test_not_where_the_policy_leaves_the_kind_out(self, home, study, set_policy, request_):
        approve(home, study, by="officer")
        set_policy(messages=["hello"])
        with pytest.raises(KindNotAllowed):
            Gate(home, "north").admit(encode(request_))

    def test_the_answer_passes_the_gate_itself(self, home, study, set_policy, request_, reply):
        approve(home, study, by="officer")
        set_policy(minimum_cell=CELL)
        gate = Gate(home, "north")
        gate.admit(encode(request_))
        out = decode(gate.release(reply(*levels("sex", {"women": 2, "men": 48})), request_))
        assert (out.lines, out.withheld) == ((), ("sex",))


class TestSmallLevels:
    """`kept`, worked out by hand from the rule: what is hidden is two levels at least, and a cell of patients."""

    @pytest.mark.parametrize(
        ("counts", "visible"),
        [
            ({"a": 10, "b": 20}, "ab"),
            ({"a": 10, "b": 0}, "ab"),
            ({"a": 2, "b": 20, "c": 9}, "b"),  # c goes with a: a alone is the total less the others
            ({"a": 2, "b": 2, "c": 20, "d": 9}, "c"),  # a and b together are four: still few
            ({"a": 3, "b": 3, "c": 20}, "c"),
            ({"a": 2, "b": 0, "c": 20, "d": 30}, "bd"),  # a level of nobody hides nothing
            ({"a": 2, "b": 20}, ""),
            ({"a": 0, "b": 0}, "ab"),
        ],
    )
    def test_take_the_next_smaller_ones_with_them(self, counts, visible):
        assert kept(counts, dict.fromkeys(counts, 0), CELL) == set(visible)

    def test_within_each_outcome_whose_total_is_known(self):
        counts, outcome = {"best": 2, "good": 10, "fair": 6, "poor": 20}, {"best": 1, "good": 1, "fair": 0, "poor": 0}
        assert kept(counts, outcome, CELL) == {"fair", "poor"}
        assert kept(counts, dict.fromkeys(counts, 0), CELL) == {"good", "poor"}, "which would give `best` away"

    def test_grades_are_hidden_by_outcome(self, study, reply):
        out = shown(reply(*levels("grade", {"best": 2, "good": 10, "fair": 6, "poor": 20})), study)
        assert out == {"grade": {"fair": 6, "poor": 20}}

    def test_words_of_a_table_are_levels_only_where_a_cell_shares_them(self, study, reply):
        words = {"mucinous": 1, "signet-ring": 12, "tubular": 7}
        out = protect(reply(*levels("histology", words)), study, Policy(minimum_cell=CELL))
        assert [line.level for line in out.lines] == ["signet-ring"]
        assert out.withheld == ("histology",)
        assert "mucinous" not in out.model_dump_json()


class TestSmallVariables:
    def test_a_number_known_or_unknown_in_few_stays(self, study, reply):
        study = study.model_copy(update={"aggregation": "secure"})
        assert shown(reply(number("cea", 4, 46)), study) == {}
        assert shown(reply(number("cea", 46, 4)), study) == {}
        assert shown(reply(number("cea", 45, 5)), study) == {"cea": {"": 45}}
        nobody = Described(variable="cea", part="development", patients=0, missing=50)
        assert shown(reply(nobody), study) == {"cea": {"": 0}}

    def test_levels_of_a_variable_unknown_in_few_stay(self, study, reply):
        assert shown(reply(*levels("sex", {"women": 20, "men": 27}, missing=3)), study) == {}
        assert shown(reply(*levels("sex", {"women": 20, "men": 25}, missing=5)), study) != {}

    def test_an_outcome_of_few_in_one_part_stays_in_both(self, study, reply):
        """The events of both parts together are known from the first hello."""
        lines = levels("outcome", {"event": 20, "no event": 20})
        few = levels("outcome", {"event": 2, "no event": 8}, part="evaluation")
        sex = levels("sex", {"women": 5, "men": 5}, part="evaluation")
        out = protect(reply(*lines, *few, *sex), study, Policy(minimum_cell=CELL))
        assert {line.variable for line in out.lines} == {"sex"}
        assert out.withheld == ("outcome",)

    def test_each_part_is_looked_at_by_itself(self, study, reply):
        study = study.model_copy(update={"aggregation": "secure"})
        lines = [number("cea", 40), number("cea", 4, 6, part="evaluation")]
        assert shown(reply(*lines), study) == {"cea": {"": 40}}
        assert shown(reply(*lines), study, part="evaluation") == {}

    def test_a_second_grouping_of_one_column_stays(self, study, reply):
        """Patients aged 60 are those below 61 less those below 60."""
        lines = [*levels("age-60", {"<60": 20, ">=60": 30}), *levels("age-61", {"<61": 21, ">=61": 29})]
        assert list(shown(reply(*lines), study)) == ["age-60"]

    def test_where_training_sums_leave_too_the_tuning_patients_are_not_the_difference(self, study, reply):
        lines = [number("cea", 50), *levels("stage", {"T2": 20, "T3": 20, "T4": 10})]
        lines += [*levels("sex", {"women": 25, "men": 25}), number("cea", 20, part="evaluation")]
        assert list(shown(reply(*lines), study)) == ["sex"]
        assert list(shown(reply(*lines), study, part="evaluation")) == ["cea"]
        summed = study.model_copy(update={"aggregation": "secure"})
        assert list(shown(reply(*lines), summed)) == ["cea", "stage", "sex"]

    def test_a_policy_without_the_metric_tells_only_how_many(self, study, reply):
        lines = [number("cea", 50), *levels("sex", {"women": 25, "men": 25})]
        out = protect(reply(*lines), study, Policy(metrics=("subgroups",)))
        assert (out.lines, out.withheld, out.candidates) == ((), ("cea", "sex"), 60)


class TestFaults:
    @pytest.mark.parametrize(
        "lines",
        [
            levels("name", {"women": 20, "men": 30}),
            levels("sex", {"women": 20, "P-00017": 30}),
            levels("sex", {"women": 20, "men": 15}) + levels("sex", {"women": 20, "men": 15}),
            levels("histology", {"P-00017": 50}),
            [number("sex", 50)],
            [number("interval birth_to_death", 50)],
            levels("sex", {"women": 20, "men": 30})[:1],
            [number("cea", 50), *levels("sex", {"women": 20, "men": 20})],
            [levels("sex", {"women": 20, "men": 30})[0], levels("sex", {"women": 19, "men": 30})[1]],
            levels("grade", {"best": 5, "good": 10, "fair": 6, "worst": 20}),
        ],
    )
    def test_lines_that_the_study_has_no_room_for_or_that_do_not_add_up_are_refused(self, study, reply, lines):
        with pytest.raises(ReplyRefused):
            protect(reply(*lines), study, Policy())

    def test_patients_in_two_splits_or_a_scale_of_no_study_are_refused(self, study, reply):
        for wrong in ({"shared": 1}, {"scale": "dworak"}):
            with pytest.raises(ReplyRefused):
                protect(reply(**wrong), study, Policy())
