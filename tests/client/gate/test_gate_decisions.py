"""What a person decides is in force with the next request, and a line of the chain before it is."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from fedloupe.messages import encode
from fedloupe_client.gate import Gate, approve
from fedloupe_client.gate.decisions import Decisions, decide, pause, paused, resume, waits, withdraw
from fedloupe_client.gate.errors import (
    ApprovalDamaged,
    AwaitsDecision,
    CoordinatorUnknown,
    Denied,
    InboxDamaged,
    NothingOfThatName,
    OutsideHours,
    Paused,
    PolicyInvalid,
    StudyNotApproved,
)
from fedloupe_client.gate.hours import Hours
from fedloupe_client.gate.inbox import Inbox
from fedloupe_client.gate.policy import load_policy
from fedloupe_client.gate.trust import distrust, trust

KEY, OTHER = "ab" * 32, "cd" * 32


@pytest.fixture(autouse=True)
def known(home):
    for key in (KEY, OTHER):
        trust(home, "Coordinating Hospital", key, by="Dr Ito")


@pytest.fixture
def ask(ask):
    """Bytes of a request that the gate admits, but for the changes."""
    return lambda kind, **changes: encode(ask(kind, **changes))


@pytest.fixture
def inbox(home):
    return Inbox(home)


def chain(home):
    return [json.loads(line) for line in (home / "gate" / "audit.jsonl").read_text().splitlines()]


def item(home, level):
    return next(asked for asked in Inbox(home).items() if asked.item.level == level)


class TestPause:
    def test_a_paused_site_answers_nothing_until_it_is_resumed(self, home, gate, ask):
        pause(home, by="Dr Ito", reason="board meets")
        for kind in ("hello", "train"):
            with pytest.raises(Paused):
                gate.admit(ask(kind))
        resume(home, by="Dr Ito")
        gate.admit(ask("hello"))

    def test_it_says_who_why_and_when(self, home):
        pause(home, by="Dr Ito", reason="board meets")
        found = paused(home)
        assert (found["by"], found["reason"]) == ("Dr Ito", "board meets")

    def test_a_pause_that_cannot_be_read_is_still_one(self, home, gate, ask):
        pause(home, by="Dr Ito")
        (home / "gate" / "paused.json").write_text("{")
        with pytest.raises(ApprovalDamaged):
            gate.admit(ask("hello"))

    def test_one_that_is_resumed_while_it_is_looked_for_is_not_paused(self, home, monkeypatch):
        monkeypatch.setattr(Path, "exists", lambda self: True)  # as it was a moment ago
        assert paused(home) is None

    def test_who_is_not_paused_cannot_be_resumed(self, home):
        with pytest.raises(NothingOfThatName):
            resume(home, by="Dr Ito")


class TestHours:
    @pytest.mark.parametrize(
        ("span", "moment", "inside"),
        [
            ("mon-fri 20:00-06:00", "2026-11-23 20:00", True),  # a Monday
            ("mon-fri 20:00-06:00", "2026-11-23 19:59", False),
            ("mon-fri 20:00-06:00", "2026-11-24 05:59", True),
            ("mon-fri 20:00-06:00", "2026-11-24 06:00", False),
            ("mon-fri 20:00-06:00", "2026-11-23 05:00", False),  # Sunday's night
            ("mon-fri 20:00-06:00", "2026-11-28 05:00", True),  # Friday's night, on a Saturday
            ("mon-fri 20:00-06:00", "2026-11-28 20:00", False),
            ("sat,sun 00:00-24:00", "2026-11-28 23:59", True),
            ("sat,sun 00:00-24:00", "2026-11-30 00:00", False),
            ("fri-mon 08:00-09:00", "2026-11-29 08:30", True),  # passes Sunday
            ("fri-mon 08:00-09:00", "2026-11-25 08:30", False),
            ("wed 10:00-10:00", "2026-11-26 09:59", True),  # a whole day
        ],
    )
    def test_a_span_belongs_to_the_day_on_which_it_begins(self, span, moment, inside):
        assert Hours.parse(span).hold(datetime.fromisoformat(moment)) is inside

    @pytest.mark.parametrize("text", ["", "mon", "mon 8-9", "monday 08:00-09:00", "mon 08:00-24:30", "mon 24:00-01:00",
                                      "mon-tue-wed 08:00-09:00", "mon 08:60-09:00", "MON 08:00-09:00"])  # fmt: skip
    def test_anything_else_is_no_span_and_refuses_everything(self, home, set_policy, text):
        set_policy(hours=[text])
        with pytest.raises(PolicyInvalid):
            load_policy(home)

    def test_outside_them_nothing_is_answered(self, home, set_policy):
        set_policy(hours=["sat 00:00-24:00"])
        policy = load_policy(home)
        Decisions(home, lambda: datetime(2026, 11, 28, 12)).check_open(policy)
        with pytest.raises(OutsideHours):
            Decisions(home, lambda: datetime(2026, 11, 27, 12)).check_open(policy)


class TestApprovals:
    def test_an_approved_study_is_enough_by_default(self, home, gate, ask):
        gate.admit(ask("train"), KEY)
        assert (item(home, "run").decision, item(home, "run").item.coordinator) == ("open", KEY)

    def test_with_runs_each_waits_for_a_person(self, home, gate, ask, set_policy):
        set_policy(approval="run")
        with pytest.raises(AwaitsDecision):
            gate.admit(ask("hello"), KEY)
        decide(home, item(home, "run").item.name, "approved", by="Dr Ito")
        gate.admit(ask("hello"), KEY)
        with pytest.raises(AwaitsDecision):
            gate.admit(ask("hello", run="another"), KEY)

    def test_a_fold_belongs_to_its_run(self, home, gate, ask, set_policy):
        set_policy(approval="run")
        with pytest.raises(AwaitsDecision):
            gate.admit(ask("hello"), KEY)
        decide(home, item(home, "run").item.name, "approved", by="Dr Ito")
        gate.admit(ask("hello", run="run-1/without-south"), KEY)

    def test_with_rounds_each_training_waits_too(self, home, gate, ask, set_policy):
        set_policy(approval="round")
        with pytest.raises(AwaitsDecision):
            gate.admit(ask("train"), KEY)
        decide(home, item(home, "run").item.name, "approved", by="Dr Ito")
        gate.admit(ask("hello"), KEY)
        with pytest.raises(AwaitsDecision):
            gate.admit(ask("train"), KEY)
        decide(home, item(home, "round").item.name, "approved", by="Dr Ito")
        gate.admit(ask("train"), KEY)
        with pytest.raises(AwaitsDecision):
            gate.admit(ask("train", round=2), KEY)

    def test_an_approved_round_is_approved_for_its_weights(self, home, gate, ask, set_policy):
        set_policy(approval="round")
        for level in ("run", "round"):
            with pytest.raises(AwaitsDecision):
                gate.admit(ask("train"), KEY)
            decide(home, item(home, level).item.short, "approved", by="Dr Ito")
        gate.admit(ask("train"), KEY)
        gate.admit(ask("train"), KEY)
        with pytest.raises(AwaitsDecision):
            gate.admit(ask("train", weights=np.ones(5, np.float32)), KEY)

    def test_what_one_coordinator_may_ask_another_may_not(self, home, gate, ask, set_policy):
        set_policy(approval="run")
        with pytest.raises(AwaitsDecision):
            gate.admit(ask("hello"), KEY)
        decide(home, item(home, "run").item.name, "approved", by="Dr Ito")
        with pytest.raises(AwaitsDecision):
            gate.admit(ask("hello"), OTHER)

    def test_who_was_distrusted_while_the_request_waited_in_line_is_refused(self, home, gate, ask):
        gate.admit(ask("hello"), KEY)
        distrust(home, KEY, by="Dr Ito")
        with pytest.raises(CoordinatorUnknown):
            gate.admit(ask("hello"), KEY)

    def test_what_waits_counts_as_no_part_taken(self, home, gate, ask, set_policy):
        set_policy(approval="round")
        with pytest.raises(AwaitsDecision):
            gate.admit(ask("train"), KEY)
        assert not (home / "gate" / "trained").exists()

    def test_the_inbox_says_what_waits(self, home, gate, ask, set_policy, study):
        set_policy(approval="run")
        with pytest.raises(AwaitsDecision):
            gate.admit(ask("hello"), KEY)
        assert waits(item(home, "run"), load_policy(home), {study.fingerprint})
        decide(home, item(home, "run").item.name, "approved", by="Dr Ito")
        assert not waits(item(home, "run"), load_policy(home), {study.fingerprint})


class TestDenials:
    def test_a_denied_run_is_refused(self, home, gate, ask):
        gate.admit(ask("hello"), KEY)
        decide(home, item(home, "run").item.name, "denied", by="Dr Ito", reason="not tonight")
        with pytest.raises(Denied):
            gate.admit(ask("train"), KEY)

    def test_a_study_that_nobody_approved_is_noted_and_can_be_denied(self, home, gate, ask):
        unknown = ask("hello", fingerprint="ab" * 32)
        with pytest.raises(StudyNotApproved):
            gate.admit(unknown, KEY)
        assert item(home, "study").item.fingerprint == "ab" * 32
        decide(home, item(home, "study").item.name, "denied", by="Dr Ito")
        with pytest.raises(Denied):
            gate.admit(unknown, KEY)

    def test_a_study_is_not_approved_through_the_inbox(self, home, gate, ask):
        with pytest.raises(StudyNotApproved):
            gate.admit(ask("hello", fingerprint="ab" * 32), KEY)
        with pytest.raises(NothingOfThatName, match="by its file"):
            decide(home, item(home, "study").item.name, "approved", by="Dr Ito")

    def test_who_denies_an_approved_study_withdraws_it(self, home, gate, ask, study):
        fingerprint = study.fingerprint
        withdraw(home, fingerprint, by="Dr Ito")
        with pytest.raises(StudyNotApproved):
            gate.admit(ask("hello"), KEY)
        approve(home, study, by="Dr Ito")
        gate.admit(ask("hello"), KEY)
        decide(home, item(home, "study").item.name, "denied", by="Dr Ito")
        with pytest.raises(Denied):
            gate.admit(ask("hello"), KEY)

    def test_a_later_decision_replaces_it(self, home, gate, ask):
        gate.admit(ask("hello"), KEY)
        name = item(home, "run").item.name
        decide(home, name, "denied", by="Dr Ito")
        decide(home, name, "approved", by="Dr Ono")
        gate.admit(ask("hello"), KEY)
        assert item(home, "run").by == "Dr Ono"

    def test_what_is_not_there_cannot_be_decided(self, home):
        with pytest.raises(NothingOfThatName):
            decide(home, "0" * 12, "denied", by="Dr Ito")


class TestWithdrawal:
    def test_a_withdrawn_study_is_refused_from_the_next_request_on(self, home, gate, ask, study):
        gate.admit(ask("hello"), KEY)
        assert withdraw(home, study.fingerprint[:8], by="Dr Ito") == study.fingerprint
        with pytest.raises(StudyNotApproved):
            gate.admit(ask("hello"), KEY)
        assert (home / "gate" / "withdrawn" / f"{study.fingerprint}.json").exists()

    def test_what_was_approved_of_its_runs_ends_with_it(self, home, gate, ask, study, set_policy):
        set_policy(approval="run")
        with pytest.raises(AwaitsDecision):
            gate.admit(ask("hello"), KEY)
        decide(home, item(home, "run").item.name, "approved", by="Dr Ito")
        withdraw(home, study.fingerprint, by="Dr Ito")
        approve(home, study, by="Dr Ito")
        with pytest.raises(AwaitsDecision):
            gate.admit(ask("hello"), KEY)

    @pytest.mark.parametrize("name", ["", "ab", "0" * 8, "../../policy", "*"])
    def test_what_names_no_study_withdraws_none(self, home, name):
        before = sorted((home / "gate" / "approved").iterdir())
        with pytest.raises(NothingOfThatName):
            withdraw(home, name, by="Dr Ito")
        assert sorted((home / "gate" / "approved").iterdir()) == before


class TestTheRecord:
    def test_each_decision_is_a_line_and_names_nobody(self, home, gate, ask, study):
        gate.admit(ask("hello"), KEY)
        before = len(chain(home))
        name = item(home, "run").item.name
        decide(home, name, "denied", by="Dr Ito", reason="not tonight")
        decide(home, name, "approved", by="Dr Ito")
        pause(home, by="Dr Ito")
        resume(home, by="Dr Ito")
        withdraw(home, study.fingerprint, by="Dr Ito")
        lines = chain(home)[before:]
        assert [line["kind"] for line in lines] == ["deny", "approve", "pause", "resume", "withdraw"]
        assert {line["direction"] for line in lines} == {"local"} and "Ito" not in json.dumps(lines)

    def test_the_coordinator_learns_a_code_and_no_reason(self, home, gate, ask):
        gate.admit(ask("hello"), KEY)
        decide(home, item(home, "run").item.name, "denied", by="Dr Ito", reason="Mrs Novak complained")
        with pytest.raises(Denied) as refused:
            gate.admit(ask("hello"), KEY)
        blob = gate.refuse(refused.value)
        assert b"FL-531" in blob and b"Novak" not in blob and b"Ito" not in blob

    def test_a_decision_that_is_none_refuses_everything(self, home, gate, ask, inbox):
        gate.admit(ask("hello"), KEY)
        with sqlite3.connect(inbox.path) as db:
            db.execute("UPDATE items SET decision = 'maybe'")
        with pytest.raises(InboxDamaged):
            gate.admit(ask("hello"), KEY)

    def test_only_the_sites_user_reads_it(self, gate, ask, inbox):
        gate.admit(ask("hello"), KEY)
        assert inbox.path.stat().st_mode & 0o777 == 0o600

    def test_a_new_gate_knows_what_was_decided(self, home, gate, ask):
        gate.admit(ask("hello"), KEY)
        decide(home, item(home, "run").item.name, "denied", by="Dr Ito")
        with pytest.raises(Denied):
            Gate(home, "north").admit(ask("hello"), KEY)
