"""Every refusal of the gate, each with a request that is admitted but for one change."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fedloupe.errors import FedLoupeError
from fedloupe.messages import MessageRefused, decode, encode
from fedloupe_client.gate import (
    ApprovalDamaged,
    AuditDamaged,
    Gate,
    GateFault,
    KindNotAllowed,
    NotInStudy,
    PolicyInvalid,
    PrivacyRequired,
    RoleRefused,
    RoundRefused,
    SplitRefused,
    StudyNotApproved,
    VersionMismatch,
    WrongSite,
    approve,
    verify,
)
from sealing import open_site

KINDS = ["hello", "describe", "sketch", "prepare", "newton", "train", "midpoint", "evaluate"]
CONTRIBUTING = ["describe", "sketch", "newton", "train", "midpoint"]


def lines(home):
    return [json.loads(line) for line in (home / "gate" / "audit.jsonl").read_text().splitlines()]


class TestAdmitted:
    @pytest.mark.parametrize("kind", KINDS)
    def test_an_approved_study_may_ask_everything_it_provides_for(self, gate, ask, study, kind):
        request, found = gate.admit(encode(ask(kind)))
        assert request.kind == kind
        assert found == study

    @pytest.mark.parametrize("kind", ["hello", "train", "midpoint", "evaluate"])
    def test_a_private_study_too(self, gate, ask, private_study, kind):
        assert gate.admit(encode(ask(kind, private_study)))[1] == private_study

    def test_each_passage_is_a_line_of_the_chain(self, gate, ask, home):
        blob = encode(ask("train", round=3))
        gate.admit(blob)
        line = lines(home)[-1]
        expected = {"direction": "in", "kind": "train", "run": "run-1", "round": 3, "bytes": len(blob), "outcome": "ok"}
        assert {key: line[key] for key in expected} == expected
        assert verify(home) == []


class TestRefusedSender:
    def test_another_site(self, gate, ask):
        with pytest.raises(WrongSite):
            gate.admit(encode(ask("hello", site="south")))

    def test_a_site_that_the_study_does_not_name(self, home, ask):
        with pytest.raises(WrongSite, match="names no site"):
            Gate(home, "island").admit(encode(ask("hello", site="island")))

    def test_another_version(self, gate, ask):
        with pytest.raises(VersionMismatch):
            gate.admit(encode(ask("hello", version="0.0.9")))

    def test_an_unknown_fingerprint(self, gate, ask):
        with pytest.raises(StudyNotApproved):
            gate.admit(encode(ask("hello", fingerprint="0" * 64)))

    def test_a_study_that_differs_from_the_approved_one_in_one_value(self, gate, ask, make_study):
        with pytest.raises(StudyNotApproved):
            gate.admit(encode(ask("hello", make_study(training={"rounds": 5}))))

    def test_an_approval_that_is_withdrawn_while_it_is_looked_for(self, gate, ask, home, study, monkeypatch):
        (home / "gate" / "approved" / f"{study.fingerprint}.json").unlink()
        monkeypatch.setattr(Path, "is_file", lambda self: True)  # as it was a moment ago
        with pytest.raises(StudyNotApproved):
            gate.admit(encode(ask("train")))

    def test_a_tampered_approval(self, gate, ask, home, study):
        path = home / "gate" / "approved" / f"{study.fingerprint}.json"
        path.write_text(path.read_text().replace('"rounds": 4', '"rounds": 400'))
        with pytest.raises(ApprovalDamaged):
            gate.admit(encode(ask("hello")))

    def test_a_reply_in_a_requests_place(self, gate, ask, trained):
        with pytest.raises(KindNotAllowed, match="no request"):
            gate.admit(encode(trained(ask("train"))))


class TestRefusedByPolicy:
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_kind_that_the_policy_leaves_out(self, gate, ask, set_policy, kind):
        set_policy(messages=[other for other in KINDS if other != kind])
        with pytest.raises(KindNotAllowed):
            gate.admit(encode(ask(kind)))

    @pytest.mark.parametrize(
        "text", ["minimum_cohort: true", "minimum_cel: 3", "[]", "", "a: [", "epsilon_budget: -1", "messages: [all]"]
    )
    def test_everything_while_the_policy_is_malformed(self, gate, ask, home, text):
        (home / "policy.yaml").write_text(text)
        with pytest.raises(PolicyInvalid):
            gate.admit(encode(ask("hello")))

    def test_a_dangling_link_in_the_policys_place(self, gate, ask, home):
        (home / "policy.yaml").symlink_to(home / "gone.yaml")
        with pytest.raises(PolicyInvalid):
            gate.admit(encode(ask("hello")))

    def test_a_study_without_privacy_where_it_is_required(self, gate, ask, set_policy, private_study):
        set_policy(require_dp=True)
        gate.admit(encode(ask("hello", private_study)))
        with pytest.raises(PrivacyRequired):
            gate.admit(encode(ask("hello")))

    def test_a_study_that_plans_more_than_the_budget(self, gate, ask, set_policy, private_study):
        set_policy(epsilon_budget=7.9)
        with pytest.raises(PrivacyRequired, match="plans epsilon 8"):
            gate.admit(encode(ask("train", private_study)))

    def test_a_study_with_a_larger_delta(self, gate, ask, set_policy, private_study):
        set_policy(delta="1e-6")
        with pytest.raises(PrivacyRequired, match="delta"):
            gate.admit(encode(ask("train", private_study)))

    def test_a_study_of_too_many_rounds(self, gate, ask, set_policy):
        set_policy(maximum_rounds=3)
        with pytest.raises(RoundRefused):
            gate.admit(encode(ask("hello")))

    def test_a_round_asked_again_and_again_with_other_weights(self, gate, ask, set_policy):
        set_policy(maximum_rounds=4)
        for value in range(5):
            gate.admit(encode(ask("train", weights=np.full(5, value, np.float32))))
        gate.admit(encode(ask("train", weights=np.full(5, 2, np.float32))))  # a repetition is no new round
        with pytest.raises(RoundRefused, match="different training requests"):
            gate.admit(encode(ask("train", weights=np.full(5, 5, np.float32))))


class TestRefusedByRole:
    @pytest.mark.parametrize("kind", CONTRIBUTING)
    def test_a_validating_site_contributes_nothing(self, home, ask, kind):
        with pytest.raises(RoleRefused):
            Gate(home, "coast").admit(encode(ask(kind, site="coast")))

    def test_a_validating_site_scores_all_its_patients_and_no_split(self, home, ask, study):
        whole = ask("evaluate", site="coast", split="all")
        coast = open_site(home, study, whole)
        coast.admit(encode(whole))
        with pytest.raises(SplitRefused):
            coast.admit(encode(ask("evaluate", site="coast", split="test")))
        with pytest.raises(ValueError, match="split"):
            ask("evaluate", site="coast", split="tune")  # no request can name it


class TestLeftOutSite:
    def test_scores_all_in_a_run_in_which_it_took_no_part(self, gate, ask):
        gate.admit(encode(ask("train")))
        gate.admit(encode(ask("evaluate", run="run-1/without-north", split="all")))

    @pytest.mark.parametrize("fold", ["x0", "without-coast", "without-nobody", "without-north/without-south", ""])
    def test_a_fold_that_the_study_has_not_is_no_run(self, gate, ask, fold):
        """Everything that is counted by run would begin anew in it."""
        with pytest.raises((NotInStudy, ValueError)):
            gate.admit(encode(ask("train", run=f"run-1/{fold}")))

    def test_a_study_that_leaves_no_site_out_has_no_folds(self, home, gate, ask, make_study):
        plain = make_study(evaluation={"leave_one_site_out": False})
        approve(home, plain, by="officer")
        gate.admit(encode(ask("train", plain)))
        with pytest.raises(NotInStudy):
            gate.admit(encode(ask("train", plain, run="run-1/without-south")))

    @pytest.mark.parametrize("kind", CONTRIBUTING)
    def test_never_after_it_contributed_to_the_run_even_after_a_restart(self, home, ask, kind):
        Gate(home, "north").admit(encode(ask(kind)))
        with pytest.raises(SplitRefused, match="no external validation"):
            Gate(home, "north").admit(encode(ask("evaluate", split="all")))

    def test_a_refused_request_is_no_contribution(self, gate, ask):
        with pytest.raises(RoundRefused):
            gate.admit(encode(ask("train", round=99)))
        gate.admit(encode(ask("evaluate", split="all")))

    def test_not_in_a_study_that_leaves_no_site_out(self, gate, ask, make_study, home):
        whole = make_study(evaluation={"leave_one_site_out": False})
        approve(home, whole, by="officer")
        with pytest.raises(SplitRefused, match="leaves no site out"):
            gate.admit(encode(ask("evaluate", whole, split="all")))


class TestRefusedByStudy:
    @pytest.mark.parametrize("number", [0, 5])
    def test_a_round_outside_the_study(self, gate, ask, number):
        with pytest.raises(RoundRefused):
            gate.admit(encode(ask("train", round=number)))

    def test_a_local_model_in_a_round(self, gate, ask):
        gate.admit(encode(ask("train", scope="local", round=0)))
        with pytest.raises(RoundRefused):
            gate.admit(encode(ask("train", scope="local", round=1)))

    def test_baselines_that_the_study_does_not_have(self, gate, ask, make_study, home):
        bare = make_study(
            evaluation={"local_baseline": False, "local_models": "everywhere", "logistic_baseline": False},
            training={"rounds": 4, "start": "random"},
        )
        approve(home, bare, by="officer")
        for request in (ask("train", bare, scope="local", round=0), ask("newton", bare)):
            with pytest.raises(NotInStudy):
                gate.admit(encode(request))

    def test_sums_for_the_clinical_baseline_alone_are_in_the_study(self, gate, ask, make_study, home):
        study = make_study(
            clinical=[{"name": "age", "column": "age"}],
            evaluation={"logistic_baseline": False, "clinical_baseline": True},
            training={"rounds": 4, "start": "random"},
        )
        approve(home, study, by="officer")
        gate.admit(encode(ask("newton", study)))

    @pytest.mark.parametrize(
        ("kind", "changes"),
        [
            ("describe", {}),
            ("sketch", {}),
            ("newton", {}),
            ("prepare", {}),
            ("train", {"scope": "local", "round": 0}),
        ],
    )
    def test_sums_that_would_bypass_differential_privacy(self, gate, ask, private_study, kind, changes):
        with pytest.raises(NotInStudy):
            gate.admit(encode(ask(kind, private_study, **changes)))

    def test_a_public_preparation_where_the_study_fits_its_own(self, gate, ask, private_study):
        gate.admit(encode(ask("prepare", private_study, origin="public")))
        with pytest.raises(NotInStudy):
            gate.admit(encode(ask("prepare", origin="public")))


class TestFailsClosed:
    def test_a_refusal_is_a_line_of_the_chain_with_its_code(self, gate, ask, home):
        with pytest.raises(WrongSite):
            gate.admit(encode(ask("hello", site="south")))
        assert (lines(home)[-1]["direction"], lines(home)[-1]["outcome"]) == ("in", "FL-503")

    def test_an_unforeseen_exception_is_a_refusal(self, gate, ask, home, monkeypatch):
        def broken(*_args, **_kwargs):
            raise ZeroDivisionError("unforeseen")

        monkeypatch.setattr("fedloupe_client.gate.gate.rules.check_request", broken)
        with pytest.raises(GateFault):
            gate.admit(encode(ask("hello")))
        assert lines(home)[-1]["outcome"] == "FL-599"

    def test_nothing_passes_while_the_chain_is_damaged(self, gate, ask, home):
        path = home / "gate" / "audit.jsonl"
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
        with pytest.raises(AuditDamaged):
            gate.admit(encode(ask("hello")))

    def test_nothing_passes_that_the_disk_cannot_record(self, gate, ask, monkeypatch):
        def full(*_args, **_kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("fedloupe_client.gate.chain.write_atomic", full)
        with pytest.raises(GateFault):
            gate.admit(encode(ask("hello")))

    def test_random_bytes_never_pass(self, gate):
        rng = np.random.default_rng(1)
        for size in rng.integers(0, 400, 60):
            with pytest.raises(MessageRefused):
                gate.admit(rng.bytes(int(size)))

    def test_mutated_requests_are_refused_or_still_say_what_the_rules_allow(self, gate, ask, home, study):
        rng = np.random.default_rng(2)
        blobs = [encode(ask(kind)) for kind in KINDS]
        passed = 0
        for _ in range(250):
            blob = bytearray(blobs[rng.integers(len(blobs))])
            match rng.integers(4):
                case 0:
                    blob[rng.integers(len(blob))] ^= 1 << int(rng.integers(8))
                case 1:
                    del blob[int(rng.integers(len(blob))) :]
                case 2:
                    blob += rng.bytes(int(rng.integers(1, 20)))
                case _:
                    at = int(rng.integers(len(blob)))
                    blob[at : at + 8] = rng.bytes(8)
            try:
                request, found = gate.admit(bytes(blob))
            except FedLoupeError:
                continue
            # What passed is a well-formed request of the approved study to this site: only numbers, round or run moved.
            passed += 1
            assert decode(bytes(blob)).kind == request.kind
            assert (request.site, request.fingerprint, found) == ("north", study.fingerprint, study)
        assert passed < 250
        assert verify(home) == []
