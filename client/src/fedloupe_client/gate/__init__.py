"""The hospital's gate: policy, approvals, privacy ledger, audit chain; the only door, and it fails closed.

gate = Gate(home, site="north")
request, study = gate.admit(blob)
"""

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
    GateFault,
    GateRefused,
    KindNotAllowed,
    LedgerDamaged,
    NotInStudy,
    PolicyInvalid,
    PrivacyRequired,
    ReplyRefused,
    RoleRefused,
    RoundRefused,
    SecureSumsRequired,
    SplitRefused,
    StudyNotApproved,
    UpdateTooLong,
    VersionMismatch,
    WrongSite,
)
from fedloupe_client.gate.gate import Gate
from fedloupe_client.gate.ledger import Ledger, LedgerEntry, Plan
from fedloupe_client.gate.policy import Policy, load_policy

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
    "Entry",
    "Gate",
    "GateFault",
    "GateRefused",
    "KindNotAllowed",
    "Ledger",
    "LedgerDamaged",
    "LedgerEntry",
    "NotInStudy",
    "Plan",
    "Policy",
    "PolicyInvalid",
    "PrivacyRequired",
    "Problem",
    "ReplyRefused",
    "RoleRefused",
    "RoundRefused",
    "SecureSumsRequired",
    "SplitRefused",
    "StudyNotApproved",
    "UpdateTooLong",
    "VersionMismatch",
    "WrongSite",
    "approve",
    "approved",
    "approved_study",
    "load_policy",
    "verify",
]
