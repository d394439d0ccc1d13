"""The hospital's gate: policy, approvals, privacy ledger, audit chain; the only door, and it fails closed.

gate = Gate(home, site="north")
request, study = gate.admit(blob)

`Gate` and `Ledger` bring the models and the accountants along, some seconds of imports; they come when they are named,
so that `fedloupe-site join` and its like need not wait.
"""

from typing import TYPE_CHECKING, Any

from fedloupe_client.gate.approvals import Approval, approve, approved, approved_study
from fedloupe_client.gate.audit import Audit, Entry, verify
from fedloupe_client.gate.chain import Problem
from fedloupe_client.gate.errors import (
    AlreadyAnswered,
    AnswerDamaged,
    ApprovalDamaged,
    AuditDamaged,
    BudgetExceeded,
    CellTooSmall,
    CohortTooSmall,
    CoordinatorsDamaged,
    CoordinatorUnknown,
    GateFault,
    GateRefused,
    KindNotAllowed,
    LedgerDamaged,
    NotAsSealed,
    NotExternal,
    NotInStudy,
    NotSealed,
    PolicyInvalid,
    PrivacyRequired,
    ReplyRefused,
    RoleRefused,
    RoundRefused,
    SealChanged,
    SealDamaged,
    SealRefused,
    SecureSumsRequired,
    SplitRefused,
    StudyNotApproved,
    UpdateTooLong,
    VersionMismatch,
    WrongSite,
)
from fedloupe_client.gate.policy import Policy, load_policy
from fedloupe_client.gate.trust import Coordinator, distrust, trust, trusted

if TYPE_CHECKING:
    from fedloupe_client.gate.gate import Gate
    from fedloupe_client.gate.ledger import Ledger, LedgerEntry, Plan

__all__ = [
    "AlreadyAnswered",
    "AnswerDamaged",
    "Approval",
    "ApprovalDamaged",
    "Audit",
    "AuditDamaged",
    "BudgetExceeded",
    "CellTooSmall",
    "CohortTooSmall",
    "Coordinator",
    "CoordinatorUnknown",
    "CoordinatorsDamaged",
    "Entry",
    "Gate",
    "GateFault",
    "GateRefused",
    "KindNotAllowed",
    "Ledger",
    "LedgerDamaged",
    "LedgerEntry",
    "NotAsSealed",
    "NotExternal",
    "NotInStudy",
    "NotSealed",
    "Plan",
    "Policy",
    "PolicyInvalid",
    "PrivacyRequired",
    "Problem",
    "ReplyRefused",
    "RoleRefused",
    "RoundRefused",
    "SealChanged",
    "SealDamaged",
    "SealRefused",
    "SecureSumsRequired",
    "SplitRefused",
    "StudyNotApproved",
    "UpdateTooLong",
    "VersionMismatch",
    "WrongSite",
    "approve",
    "approved",
    "approved_study",
    "distrust",
    "load_policy",
    "trust",
    "trusted",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "Gate":
        from fedloupe_client.gate.gate import Gate

        return Gate
    if name in ("Ledger", "LedgerEntry", "Plan"):
        from fedloupe_client.gate import ledger

        return getattr(ledger, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
