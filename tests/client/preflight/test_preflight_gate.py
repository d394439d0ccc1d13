"""What the gate would refuse is said beforehand, by the gate's own rules; what is said agrees with the gate itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from fedloupe.masking import is_summed
from fedloupe.messages import Message, SumRequest, encode
from fedloupe.privacy import Spend, epsilon
from fedloupe.study import Study, parse_study
from fedloupe_client.gate import Gate, GateRefused, Ledger, approve, load_policy
from fedloupe_client.preflight import preflight, write_page
from fedloupe_client.preflight.permitted import look_at_gate, policy_line, specimens
from fedloupe_client.preflight.rehearsal import dry_round
from fedloupe_client.preflight.terminal import say_result
from fedloupe_client.training.private import planned_spend
from sealing import open_site

PRIVATE = {
    "privacy": {"mode": "dp-sgd", "epsilon": 8.0, "sampling_rate": 0.5},
    "training": {"rounds": 4, "local_epochs": 1, "preparation": "public", "start": "random"},
}
DRAWING = {
    "sequences": [{"name": "t2w"}],
    "radiomics": {"source": "none"},
    "model": {"image": True},
    "segmentation": {"field_mm": 64, "channels": [4, 8]},
}
SECURE = {"aggregation": "secure", "sites": [{"name": n, "role": "train"} for n in ("alpha", "beta", "gamma")]}
SECURE["sites"] += [{"name": "coast", "role": "validate"}]
USUAL = ("hello", "describe", "sketch", "prepare", "newton", "train", "midpoint", "evaluate")
ADDING_UP = ("keys", "shares", "sum", "unmask")


def make_study(**changes) -> Study:
    content = {
        "study": "tiny",
        "title": "Synthetic table",
        "synthetic": True,
        "endpoint": {"name": "response", "column": "response", "positive": ["yes"], "negative": ["no"]},
        "aggregation": "plain",
        "sites": [
            {"name": "alpha", "role": "train"},
            {"name": "beta", "role": "train"},
            {"name": "coast", "role": "validate"},
        ],
        "radiomics": {"source": "table"},
        "model": {"image": False},
        "training": {"rounds": 4},
        "quorum": {"minimum": 1},
    }
    return parse_study({**content, **changes})


def look(home: Path, study: Study, site: str = "alpha", **policy):
    if policy:
        (home / "policy.yaml").write_text("# limits\n" + yaml.safe_dump(policy, sort_keys=False))
    return look_at_gate(home, study, site, load_policy(home))


def sent(request, study: Study) -> bytes:
    """As the coordinator sends it: in a secure study what is summed comes in a sum's request."""
    if study.aggregation == "plain" or not is_summed(request):
        return encode(request)
    header = {name: getattr(request, name) for name in Message.model_fields}
    inner = np.frombuffer(encode(request), dtype=np.uint8)
    return encode(SumRequest(**header, setup="0" * 32, session=0, inner=inner))


def fixes(found) -> list[str]:
    return [one.code for one in found[1] if one.severity == "fix"]


class TestARequestOfEachKind:
    @pytest.mark.parametrize(
        ("changes", "site", "kinds"),
        [
            ({}, "alpha", USUAL),
            ({}, "coast", ("hello", "open", "prepare", "evaluate")),
            ({"evaluation": {"logistic_baseline": False}}, "alpha", tuple(k for k in USUAL if k != "newton")),
            ({"prediction": {}}, "alpha", (*USUAL[:-1], "calibrate", "embed", "conform", "evaluate", "release")),
            ({"prediction": {}}, "coast", ("hello", "open", "prepare", "evaluate", "release")),
            (PRIVATE, "alpha", ("hello", "prepare", "train", "midpoint", "evaluate")),
            (DRAWING, "alpha", ("hello", "train", "overlap")),
            (DRAWING, "coast", ("hello", "open", "overlap")),
            (SECURE, "alpha", (*USUAL, *ADDING_UP)),
            (SECURE, "coast", ("hello", "open", "prepare", "evaluate")),
            ({**SECURE, **PRIVATE}, "alpha", ("hello", "prepare", "train", "midpoint", "evaluate", *ADDING_UP)),
            ({**SECURE, **DRAWING}, "alpha", ("hello", "train", "overlap", *ADDING_UP)),
        ],
    )
    def test_is_expected_where_the_study_provides_for_it_and_then_admitted(self, tmp_path, changes, site, kinds):
        if changes.get("evaluation"):
            changes = {**changes, "training": {"rounds": 4, "start": "random"}}
        study = make_study(**changes)
        permitted, findings = look(tmp_path, study, site)
        assert permitted.requests == kinds
        assert [f.code for f in findings] == ["FL-501"]
        approve(tmp_path, study, by="officer")
        gate, asked = Gate(tmp_path, site), [one for one in specimens(study, site) if one.kind in kinds]
        for request in specimens(study, site):
            if request.kind == "open" and site == "coast":  # the specimen holds no seal, this one does
                open_site(tmp_path, study, *asked)
                continue
            if isinstance(request, SumRequest) and site != "coast":
                continue  # it holds nothing; those that hold a request are sent below
            if request.kind in kinds:
                gate.admit(sent(request, study))
            else:
                with pytest.raises(GateRefused):
                    gate.admit(sent(request, study))


class TestThePolicy:
    @pytest.mark.parametrize(
        ("changes", "policy", "code", "words"),
        [
            ({}, {"minimum_cell": 2, "require_dp": True}, "FL-507", "line 3: `require_dp: True`"),
            ({}, {"maximum_rounds": 3}, "FL-509", "line 2: `maximum_rounds: 3`"),
            ({}, {"messages": [k for k in USUAL if k != "newton"]}, "FL-505", "`newton`"),
            (
                {},
                {"messages": ["hello", "prepare"]},
                "FL-505",
                "`describe`, `sketch`, `newton`, `train`, `midpoint`, `evaluate`",
            ),
            ({}, {"require_secure_sums": True}, "FL-523", "line 2: `require_secure_sums: True`"),
            (SECURE, {"messages": list(USUAL)}, "FL-505", "`keys`, `shares`, `sum`, `unmask`"),
            (SECURE, {"require_dp": True}, "FL-507", "line 2: `require_dp: True`"),
            (DRAWING, {"messages": list(USUAL)}, "FL-505", "`overlap`"),
            (PRIVATE, {"epsilon_budget": 5.0}, "FL-507", "line 2: `epsilon_budget: 5.0`"),
            (PRIVATE, {"delta": 1e-7}, "FL-507", "line 2: `delta: 1e-07`"),
        ],
    )
    def test_that_the_gate_would_hold_against_the_study_is_told_with_its_line(
        self, tmp_path, changes, policy, code, words
    ):
        study = make_study(**changes)
        found = look(tmp_path, study, **policy)
        assert fixes(found) == [code]
        finding = next(f for f in found[1] if f.severity == "fix")
        assert words in finding.what and "policy.yaml" in finding.what
        assert finding.commands[0] == "cat HOME/policy.yaml"
        assert "security officer" in finding.remedy
        approve(tmp_path, study, by="officer")
        refused = set()
        for request in specimens(study, "alpha"):
            if request.kind in found[0].requests:
                try:
                    if not isinstance(request, SumRequest):  # which holds nothing; others come in one
                        Gate(tmp_path, "alpha").admit(sent(request, study))
                except GateRefused as error:
                    refused.add(error.code)
        assert refused == {code}  # the gate itself says the same

    def test_that_requires_secure_sums_is_met_by_a_study_that_adds_up_securely(self, tmp_path):
        assert fixes(look(tmp_path, make_study(**SECURE), require_secure_sums=True)) == []

    def test_may_leave_out_a_kind_that_the_study_does_not_send(self, tmp_path):
        study = make_study(evaluation={"logistic_baseline": False}, training={"rounds": 4, "start": "random"})
        assert fixes(look(tmp_path, study, messages=[k for k in USUAL if k != "newton"])) == []

    def test_without_a_file_is_said_to_be_the_default(self, tmp_path):
        assert "`maximum_rounds: 500` holds by default" in policy_line(
            tmp_path, "maximum_rounds", load_policy(tmp_path)
        )

    def test_of_a_site_that_the_study_does_not_name(self, tmp_path):
        assert fixes(look(tmp_path, make_study(), "delta")) == ["FL-503"]


class TestApproval:
    def test_that_is_absent_is_a_note_with_the_command(self, tmp_path):
        permitted, findings = look(tmp_path, make_study())
        assert not permitted.approved
        assert [(f.code, f.severity) for f in findings] == [("FL-501", "note")]
        assert findings[0].commands[0].startswith("fedloupe-site approve HOME STUDY")

    def test_of_an_earlier_form_of_the_study_is_a_warning(self, tmp_path):
        approve(tmp_path, make_study(seed=7), by="officer")
        permitted, findings = look(tmp_path, make_study())
        assert not permitted.approved
        assert [(f.code, f.severity) for f in findings] == [("FL-501", "warning")]

    def test_that_is_there_leaves_nothing_to_say(self, tmp_path):
        approve(tmp_path, make_study(), by="officer")
        permitted, findings = look(tmp_path, make_study())
        assert permitted.approved and findings == []

    def test_that_was_altered_is_to_be_fixed_and_no_path_is_told(self, tmp_path):
        approve(tmp_path, make_study(), by="officer")
        path = next((tmp_path / "gate" / "approved").iterdir())
        path.write_text(path.read_text().replace('"rounds": 4', '"rounds": 400'))
        found = look(tmp_path, make_study())
        assert fixes(found) == ["FL-514"]
        assert str(tmp_path) not in "".join(f.model_dump_json() for f in found[1])


class TestTheAuditChain:
    def test_that_was_altered_is_to_be_fixed(self, tmp_path):
        study = make_study()
        approve(tmp_path, study, by="officer")
        approve(tmp_path, study, by="another")
        path = tmp_path / "gate" / "audit.jsonl"
        path.write_text(path.read_text().replace("approve", "improve", 1))
        assert fixes(look(tmp_path, study)) == ["FL-517"]


class TestTheBudget:
    def spend(self, home: Path, study: Study, rounds: int, run: str = "first") -> None:
        ledger, spend = Ledger(home), planned_spend(study, study.privacy)
        for number in range(1, rounds + 1):
            ledger.confirm(ledger.intend(run, number, study.fingerprint, spend, 100.0, 1e-5))

    def test_of_a_new_site_pays_for_the_study_and_is_told(self, tmp_path):
        study = make_study(**PRIVATE)
        permitted, findings = look(tmp_path, study)
        budget = permitted.budget
        assert fixes((permitted, findings)) == []
        assert (budget.spent, budget.budget, budget.rounds) == (0, 10.0, 4)
        one = planned_spend(study, study.privacy)
        whole = epsilon([Spend(one.noise_multiplier, one.sampling_rate, 4 * one.steps)], 1e-5)
        assert budget.planned == budget.after == pytest.approx(whole)
        assert 7.5 < whole <= 8.0  # the noise was chosen for epsilon 8
        assert not (tmp_path / "gate").exists()  # looking makes no ledger

    def test_that_others_have_spent_is_to_be_fixed_with_line_and_remedy(self, tmp_path):
        study = make_study(**PRIVATE)
        self.spend(tmp_path, make_study(**PRIVATE, seed=9), 4)
        permitted, findings = look(tmp_path, study, minimum_cell=3, epsilon_budget=9.0)
        refused = [f for f in findings if f.severity == "fix"]
        assert [f.code for f in refused] == ["FL-515"]
        assert "policy.yaml, line 3: `epsilon_budget: 9.0`" in refused[0].what
        assert "raise the budget" in refused[0].remedy
        assert permitted.budget.spent == Ledger(tmp_path).spent(1e-5)
        assert permitted.budget.after > 9.0 > permitted.budget.spent

    def test_agrees_with_the_gate_to_the_thousandth(self, tmp_path):
        study = make_study(**PRIVATE)
        self.spend(tmp_path, make_study(**PRIVATE, seed=9), 2)
        after = look(tmp_path, study)[0].budget.after
        for limit, codes in ((after + 1e-3, []), (after - 1e-3, ["FL-515"])):
            assert fixes(look(tmp_path, study, epsilon_budget=limit)) == codes
            gate, spend = Gate(tmp_path, "alpha"), planned_spend(study, study.privacy)
            if codes:
                with pytest.raises(GateRefused):
                    gate.check_budget("new", spend, 4)
            else:
                gate.check_budget("new", spend, 4)

    def test_pays_for_the_rest_of_a_run_that_has_begun_though_not_for_another(self, tmp_path):
        study = make_study(**PRIVATE)
        self.spend(tmp_path, study, 3)
        permitted, findings = look(tmp_path, study, epsilon_budget=8.5)
        assert permitted.budget.rounds == 1
        assert permitted.budget.planned < permitted.budget.spent < permitted.budget.after <= 8.0
        assert [(f.code, f.severity) for f in findings] == [("FL-501", "note"), ("FL-515", "warning")]
        assert "another run of this study" in findings[1].what

    def test_is_asked_for_a_run_more_for_each_site_left_out(self, tmp_path):
        study = make_study(**PRIVATE, evaluation={"leave_one_site_out": True})
        found = look(tmp_path, study)
        assert found[0].budget.rounds == 8  # this site trains in the study's own run and in one fold
        assert fixes(found) == ["FL-515"]

    def test_is_not_asked_of_a_site_that_only_validates(self, tmp_path):
        assert look(tmp_path, make_study(**PRIVATE), "coast")[0].budget is None

    def test_in_a_damaged_ledger_is_to_be_fixed(self, tmp_path):
        (tmp_path / "gate").mkdir()
        (tmp_path / "gate" / "ledger.sqlite").write_bytes(b"not a ledger" * 100)
        found = look(tmp_path, make_study(**PRIVATE))
        assert fixes(found) == ["FL-516"]
        assert found[0].budget is None


class TestOnPageTerminalAndJson:
    def test_the_budget_and_the_requests_stand(self, healthy, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr("fedloupe_client.preflight.check.rehearse", dry_round)
        home = tmp_path / "home"
        shutil.copytree(healthy.hospital.home, home)
        content = json.loads(healthy.study.canonical)
        study = parse_study({**content, "privacy": PRIVATE["privacy"], "training": PRIVATE["training"]})
        seen = preflight(home, study)
        page = write_page(seen, home, Path("study.yaml"))
        budget = seen.result.budget
        assert seen.result.ready and budget.spent == 0
        assert f"Epsilon 0 spent, {budget.planned:.3g} planned for the 4 rounds ahead" in page.read_text()
        assert "hello, prepare, train, midpoint, evaluate" in page.read_text()
        assert json.loads(page.with_name("check.json").read_text())["budget"]["budget"] == 10.0
        say_result(seen.result, page)
        assert "planned for 4 rounds" in " ".join(capsys.readouterr().out.split())
        assert not (home / "gate").exists()

    def test_a_ready_site_is_told_to_approve_once(self, healthy):
        text = healthy.page.read_text()
        assert text.count("fedloupe-site approve") == 1
        assert "What deserves a look" not in text
