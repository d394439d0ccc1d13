"""What the site's own gate would refuse of a study, said before anybody asks: approval, policy, privacy budget.

    permitted, findings = look_at_gate(home, study, "north", policy)
    permitted.requests, permitted.budget          # ("hello", "train", ...), Budget(...) or None without DP

The gate's own rules are asked, with one specimen of every request; nothing is written and nothing spent.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

import fedloupe
from fedloupe.masking import is_summed
from fedloupe.messages import (
    AssessRequest,
    BucketsRequest,
    CalibrateRequest,
    CohortRequest,
    ConformRequest,
    CovarianceRequest,
    CrossProductsRequest,
    DescribeRequest,
    EmbedRequest,
    EvaluateRequest,
    GrowRequest,
    HarmoniseRequest,
    HelloRequest,
    KeysRequest,
    MidpointRequest,
    NewtonRequest,
    OpenRequest,
    OverlapRequest,
    PrepareRequest,
    PriorRequest,
    RedundancyRequest,
    ReleaseRequest,
    Request,
    ResidualsRequest,
    ScoresRequest,
    SharesRequest,
    SketchRequest,
    StabilityRequest,
    SummaryRequest,
    SumRequest,
    TrainRequest,
    UnmaskRequest,
)
from fedloupe.privacy import AccountantFailed, epsilon
from fedloupe.study import DpSgd, Study
from fedloupe_client.gate import (
    ApprovalDamaged,
    AuditDamaged,
    BudgetExceeded,
    GateRefused,
    KindNotAllowed,
    Ledger,
    LedgerDamaged,
    NotInStudy,
    Policy,
    PrivacyRequired,
    RoleRefused,
    RoundRefused,
    SecureSumsRequired,
    SplitRefused,
    StudyNotApproved,
    WrongSite,
    approved,
    verify,
)
from fedloupe_client.gate.rules import check_request
from fedloupe_client.preflight.findings import CHECK, Finding, Frozen, Severity
from fedloupe_client.training.private import planned_spend

RUN = "check"
APPROVE = ('fedloupe-site approve HOME STUDY --by "NAME"', *CHECK)
NOT_ASKED = (NotInStudy, RoleRefused, SplitRefused)


class Budget(Frozen):
    """The privacy budget of this site, in epsilon at `delta`.

    Attributes:
        spent: by all runs of all studies so far.
        planned: by what this study still asks here, taken alone.
        after: by everything together; less than the sum, epsilon does not add up.
        budget: the policy's.
        rounds: ahead.
    """

    spent: float
    planned: float
    after: float
    budget: float
    delta: float
    rounds: int


class Permitted(Frozen):
    """What the gate would say.

    Attributes:
        approved: this very study is approved here.
        requests: kinds of request that the study provides for at this site.
        budget: None without differential privacy, at a validate-only site, or where the ledger cannot be used.
    """

    approved: bool
    requests: tuple[str, ...]
    budget: Budget | None


def look_at_gate(home: Path, study: Study, site: str, policy: Policy) -> tuple[Permitted, list[Finding]]:
    """Ask the gate's rules, approvals, audit chain and ledger about a run that has not begun.

    Args:
        home: the site's home.
        study: the study.
        site: this site's name.
        policy: of the site.
    """
    agreed, findings = _approval(home, study)
    requests, found = _requests(home, study, site, policy)
    findings += found + _audit(home)
    budget = None
    if isinstance(study.privacy, DpSgd) and study.role(site) == "train":
        budget, found = _budget(home, study, study.privacy, policy)
        told = any(finding.code == PrivacyRequired.code for finding in findings)  # more than the whole budget, so
        findings += [finding for finding in found if not told or finding.code != BudgetExceeded.code]
    return Permitted(approved=agreed, requests=requests, budget=budget), findings


def policy_line(home: Path, key: str, policy: Policy) -> str:
    """Where `policy.yaml` sets a key, and to what."""
    path, value = home / "policy.yaml", getattr(policy, key)
    shown = f"`{key}: {'[' + ', '.join(value) + ']' if isinstance(value, tuple) else value}`"
    if path.exists():
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        keys = node.value if isinstance(node, yaml.MappingNode) else []
        lines = {name.value: name.start_mark.line + 1 for name, _ in keys}
        if key in lines:
            return f"policy.yaml, line {lines[key]}: {shown}"
    return f"policy.yaml does not say; {shown} holds by default"


def specimens(study: Study, site: str) -> tuple[Request, ...]:
    """One request of every kind, as a coordinator could send it first to this site."""
    header = {"version": fedloupe.__version__, "fingerprint": study.fingerprint, "run": RUN, "site": site}
    none, split = np.zeros(0), "all" if study.role(site) == "validate" else "test"
    scope = "unseen" if split == "all" else "train"
    judged: dict[str, object] = {"label": "federated", "scored": "0" * 64}
    line, range_ = np.array([0.0, 1.0]), {"centre": none, "precision": np.zeros((0, 0))}
    content: tuple[tuple[type[Request], dict[str, object]], ...] = (
        (HelloRequest, {}),
        (OpenRequest, {"seal": ""}),
        (SummaryRequest, {}),
        (BucketsRequest, {"centre": none, "scale": none}),
        (CovarianceRequest, {"columns": none.astype(np.int64)}),
        (DescribeRequest, {}),
        (StabilityRequest, {"mean": none, "scale": none}),
        (RedundancyRequest, {"mean": none, "scale": none, "earlier": none, "block": none}),
        (CrossProductsRequest, dict.fromkeys(CrossProductsRequest.tensors, none)),
        (ResidualsRequest, dict.fromkeys(ResidualsRequest.tensors, none)),
        (PriorRequest, dict.fromkeys(PriorRequest.tensors, none)),
        (HarmoniseRequest, {**dict.fromkeys(HarmoniseRequest.tensors, none), "scope": scope}),
        (SketchRequest, {"mean": none, "scale": none, "probe": none, "iteration": 0}),
        (PrepareRequest, {"mean": none, "scale": none, "projection": none, "origin": study.training.preparation}),
        (NewtonRequest, {"step": 0, "beta": none}),
        (TrainRequest, {"round": 1, "scope": "federated", "weights": none}),
        (GrowRequest, {"round": 1, "trees": none}),
        (MidpointRequest, {"weights": none}),
        (CalibrateRequest, {"step": 0, "targets": (0.0, 1.0), "line": line, "weights": none}),
        (EmbedRequest, {"size": 1, "weights": none}),
        (ConformRequest, {"line": (0.0, 1.0), "weights": none, **range_}),
        (CohortRequest, {}),
        (
            EvaluateRequest,
            {
                "label": "federated-raw",
                "architecture": "transformer",
                "split": split,
                "threshold": 0.5,
                "weights": none,
            },
        ),
        (ScoresRequest, {**judged, "bins": study.evidence.bins if study.evidence else 20}),
        (AssessRequest, {**judged, "split": split, "threshold": 0.5, "against": ()}),
        (
            ReleaseRequest,
            {
                **{"threshold": 0.5, "admitted": 0.5, "limit": 1.0, "patients": 1},
                **{"line": line, "weights": none, **range_},
            },
        ),
        (OverlapRequest, {"label": "federated", "split": split, "weights": none}),
    )
    if study.aggregation == "secure":
        octets, members = np.zeros(0, np.uint8), tuple(sorted(study.train_sites))
        of: dict[str, object] = {"setup": "0" * 32}
        named: dict[str, object] = {"members": members, "certificates": (), "signatures": ()}
        content = (
            *content,
            (KeysRequest, of),
            (SharesRequest, {**of, **named, "channels": octets, "masks": octets}),
            (SumRequest, {**of, "session": 0, "inner": octets}),
            (UnmaskRequest, {**of, "session": 0, "contributors": members, "boxes": octets}),
        )
    return tuple(kind.model_validate({**header, **fields}) for kind, fields in content)


def _approval(home: Path, study: Study) -> tuple[bool, list[Finding]]:
    try:
        known = approved(home)
    except ApprovalDamaged as error:
        damaged = ApprovalDamaged("a file in gate/approved is not the study that its name says", remedy=error.remedy)
        return False, [Finding.of(damaged, "fix", commands=("ls -l HOME/gate/approved", *CHECK))]
    if study.fingerprint in known:
        return True, []
    if any(one.study.study == study.study for one in known.values()):
        changed = StudyNotApproved(
            "an earlier form of this study is approved here, this one is not: every request would be refused",
            remedy="read what changed, then approve this one",
        )
        return False, [Finding.of(changed, "warning", commands=APPROVE)]
    absent = StudyNotApproved(
        "nobody has approved this study here yet: until then every request is refused",
        remedy="let the security officer read the study and approve it",
    )
    return False, [Finding.of(absent, "note", commands=APPROVE)]


def _requests(home: Path, study: Study, site: str, policy: Policy) -> tuple[tuple[str, ...], list[Finding]]:
    """The kinds that the study provides for at this site, and what the policy says to them."""
    widest = Policy.model_construct(epsilon_budget=math.inf, delta=1.0, maximum_rounds=sys.maxsize)
    sent: list[str] = []
    said: dict[str, GateRefused] = {}
    for request in specimens(study, site):
        answer = _ask(request, study, widest, site)
        if isinstance(answer, NOT_ASKED):
            continue
        sent.append(request.kind)
        answer = answer or _ask(request, study, policy, site)
        if answer is not None:
            said[request.kind] = answer
    answers = list({answer.what: answer for answer in said.values() if not isinstance(answer, KindNotAllowed)}.values())
    if unheard := [kind for kind, answer in said.items() if isinstance(answer, KindNotAllowed)]:
        kinds = ", ".join(f"`{kind}`" for kind in unheard)
        answers.insert(0, KindNotAllowed(f"the policy does not allow {kinds}", remedy=said[unheard[0]].remedy))
    return tuple(sent), [_refusal(home, study, policy, answer) for answer in answers]


def _ask(request: Request, study: Study, policy: Policy, site: str) -> GateRefused | None:
    try:
        summed = study.aggregation == "secure" and is_summed(request)
        check_request(request, study, policy, site=site, took_part=False, asked=set(), digest="", summed=summed)
    except GateRefused as error:
        return error
    return None


def _refusal(home: Path, study: Study, policy: Policy, error: GateRefused, severity: Severity = "fix") -> Finding:
    """A refusal as a finding, with the line of the policy that it rests on."""
    if isinstance(error, WrongSite):
        named = WrongSite(error.what, remedy="check `site` in site.yaml against the study's list of sites")
        return Finding.of(named, "fix")
    keys = {
        KindNotAllowed: ("messages",),
        RoundRefused: ("maximum_rounds",),
        BudgetExceeded: ("epsilon_budget",),
        SecureSumsRequired: ("require_secure_sums",),
        PrivacyRequired: ("epsilon_budget", "delta") if isinstance(study.privacy, DpSgd) else ("require_dp",),
    }[type(error)]
    lines = "; ".join(policy_line(home, key, policy) for key in keys)
    whom = "this study" if severity == "fix" else "another run of this study"
    said = type(error)(f"the gate would refuse {whom}: {error.what} ({lines})", remedy=error.remedy)
    there = (home / "policy.yaml").exists()
    return Finding.of(said, severity, commands=("cat HOME/policy.yaml", *CHECK) if there else CHECK)


def _audit(home: Path) -> list[Finding]:
    """A chain that was altered lets nothing pass."""
    try:
        problems = verify(home)
    except OSError as error:
        what = f"the audit chain cannot be read ({type(error).__name__})"
    else:
        if not problems:
            return []
        what = f"{len(problems)} lines of the audit chain do not fit it, the first is line {problems[0].line}"
    damaged = AuditDamaged(
        what, remedy="let the security officer find out who changed gate/audit.jsonl, and restore it from its copy"
    )
    return [Finding.of(damaged, "fix", commands=("ls -l HOME/gate", *CHECK))]


def _budget(home: Path, study: Study, privacy: DpSgd, policy: Policy) -> tuple[Budget | None, list[Finding]]:
    """Whether the ledger pays for what this study asks here: its run, and one more for each site that is left out.

    A run of this study that has begun is gone on with: only where its rest is not paid for, the site is not ready.
    """
    ledger, spend = Ledger(home), planned_spend(study, privacy)
    folds = len(study.train_sites) - 1 if study.evaluation.leave_one_site_out else 0
    rounds = study.training.rounds * (1 + folds)
    findings: list[Finding] = []
    try:
        own = [row.run for row in ledger.entries() if row.study == study.fingerprint and not folds]
        runs: tuple[tuple[str, Severity], ...] = ((own[-1], "fix"), (RUN, "warning")) if own else ((RUN, "fix"),)
        plan = ledger.plan(runs[0][0], spend, rounds, policy.delta)
        alone = (replace(spend, steps=spend.steps * plan.rounds),) if plan.rounds else ()
        planned = epsilon(alone, policy.delta)
        for run, severity in runs:
            try:
                ledger.check_plan(run, spend, rounds, policy.epsilon_budget, policy.delta)
            except BudgetExceeded as error:
                findings.append(_refusal(home, study, policy, error, severity))
                break
    except (LedgerDamaged, OSError):
        damaged = LedgerDamaged(
            "gate/ledger.sqlite cannot be read, or is no ledger",
            remedy="check permission and disk, restore the ledger from its copy; never start an empty one",
        )
        return None, [Finding.of(damaged, "fix", commands=("ls -l HOME/gate", *CHECK))]
    except AccountantFailed as error:
        return None, [Finding.of(error, "fix")]
    budget = Budget(
        spent=plan.spent,
        planned=planned,
        after=plan.after,
        budget=policy.epsilon_budget,
        delta=policy.delta,
        rounds=plan.rounds,
    )
    return budget, findings
