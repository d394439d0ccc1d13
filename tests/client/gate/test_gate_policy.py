"""The policy's defaults and errors, the approvals on disk, the codes, and the page for the security officer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import fedloupe_client.gate.errors as errors
from fedloupe.errors import FedLoupeError
from fedloupe_client.gate import (
    ApprovalDamaged,
    Policy,
    PolicyInvalid,
    StudyNotApproved,
    approve,
    approved,
    approved_study,
    load_policy,
    verify,
)
from fedloupe_client.gate.disclosure import table

ROOT = Path(__file__).resolve().parents[3]


class TestPolicy:
    def test_without_a_file_is_the_strict_default(self, tmp_path):
        policy = load_policy(tmp_path)
        assert (policy.minimum_cohort, policy.minimum_cell, policy.epsilon_budget, policy.delta) == (20, 3, 10.0, 1e-5)
        assert (policy.require_dp, policy.require_secure_sums) == (False, False)
        assert (len(policy.messages), policy.maximum_rounds) == (31, 500)

    def test_describes_every_limit(self):
        text = Policy().describe()
        assert all(f"{name}: " in text for name in Policy.model_fields)

    def test_example_file_is_the_default(self, tmp_path):
        (tmp_path / "policy.yaml").write_bytes((ROOT / "configs" / "policy-example.yaml").read_bytes())
        assert load_policy(tmp_path) == Policy()

    @pytest.mark.parametrize(
        ("text", "names"),
        [
            ("minimum_cell: 0", "minimum_cell"),
            ("minimum_cell: '3'", "minimum_cell"),
            ("minimum_cell: true", "minimum_cell"),
            ("epsilon_budget: .inf", "epsilon_budget"),
            ("delta: 0.5", "delta"),
            ("minimum_cohort: 5\nminimum_cohort: 50", "twice"),
            ("epsilon: 3", "epsilon"),
        ],
    )
    def test_error_names_the_key(self, tmp_path, text, names):
        (tmp_path / "policy.yaml").write_text(text)
        with pytest.raises(PolicyInvalid, match=names):
            load_policy(tmp_path)


class TestApprovals:
    def test_are_read_back_with_who_and_when(self, tmp_path, study):
        assert approved(tmp_path) == {}
        made = approve(tmp_path, study, by="Dr Ito")
        assert approved(tmp_path) == {study.fingerprint: made}
        assert approved_study(tmp_path, study.fingerprint) == study
        assert verify(tmp_path) == []

    @pytest.mark.parametrize("fingerprint", ["0" * 64, "", "../approved", "/etc/passwd"])
    def test_unknown_fingerprints_are_not_approved(self, tmp_path, study, fingerprint):
        approve(tmp_path, study, by="Dr Ito")
        with pytest.raises(StudyNotApproved):
            approved_study(tmp_path, fingerprint)

    def test_a_path_is_no_fingerprint(self, tmp_path, study):
        approve(tmp_path, study, by="Dr Ito")
        (path,) = (tmp_path / "gate" / "approved").iterdir()
        path.rename(tmp_path / "gate" / path.name)
        with pytest.raises(StudyNotApproved):
            approved_study(tmp_path, f"../{study.fingerprint}")

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda record: record["study"]["training"].update(rounds=99),
            lambda record: record["study"].update(extra=1),
            lambda record: record.update(fingerprint="0" * 64),
            lambda record: record.pop("by"),
        ],
    )
    def test_tampered_files_are_refused(self, tmp_path, study, spoil):
        approve(tmp_path, study, by="Dr Ito")
        (path,) = (tmp_path / "gate" / "approved").iterdir()
        record = json.loads(path.read_text())
        spoil(record)
        path.write_text(json.dumps(record))
        with pytest.raises(ApprovalDamaged):
            approved_study(tmp_path, study.fingerprint)

    def test_another_studys_file_under_an_approved_name_is_refused(self, tmp_path, study, make_study):
        approve(tmp_path, study, by="Dr Ito")
        (path,) = (tmp_path / "gate" / "approved").iterdir()
        other = make_study(seed=2)
        approve(tmp_path, other, by="Dr Ito")
        (tmp_path / "gate" / "approved" / f"{other.fingerprint}.json").replace(path)
        with pytest.raises(ApprovalDamaged):
            approved_study(tmp_path, study.fingerprint)


class TestErrors:
    def test_each_has_a_code_and_title_of_its_own_that_fit_a_failure(self):
        kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, FedLoupeError)]
        kinds.remove(FedLoupeError)
        assert len({k.code for k in kinds}) == len({k.title for k in kinds}) == len(kinds)
        assert all("FL-500" <= k.code <= "FL-599" and len(k.title) <= 120 for k in kinds)


class TestSecurityPage:
    def test_its_table_is_the_codes(self):
        page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
        inside = page.split("<!-- what-can-leave -->\n")[1].split("<!-- /what-can-leave -->")[0]
        assert inside.strip() == table().strip()

    def test_its_codes_are_the_gates(self):
        page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
        for kind in vars(errors).values():
            if isinstance(kind, type) and issubclass(kind, errors.GateRefused):
                assert f"| {kind.code} | {kind.title} |" in page
