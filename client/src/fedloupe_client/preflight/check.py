"""Everything that `fedloupe-site check` looks at, in one go, and its verdict.

seen = preflight(home, study, workers=2)
seen.result.ready, seen.result.findings       # free of identifiers
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedloupe.certificates import utc_now
from fedloupe.errors import FedLoupeError, catalogue
from fedloupe.study import Study
from fedloupe_client.config import SiteConfig, load_site
from fedloupe_client.dataset import Cohort, derivation, derive, load_cohort, problems
from fedloupe_client.dataset.derive import derived_path
from fedloupe_client.gate import Policy, load_policy
from fedloupe_client.gate.disclosure import check_cohort
from fedloupe_client.ingest import CaseRecord, Store, load_store
from fedloupe_client.ingest.problems import URGENCY, Kind, StoreMissing
from fedloupe_client.preflight.baseline import Baseline, local_baseline
from fedloupe_client.preflight.connection import Link, look_at_connection
from fedloupe_client.preflight.failed import FailedIngest, failed_ingest
from fedloupe_client.preflight.findings import (
    AGAIN,
    BesideStudy,
    BurnedInText,
    DuplicatePixels,
    Finding,
    Frozen,
    MasksDrawn,
    RehearsalFailed,
    Unusual,
    importance,
    kind_of,
)
from fedloupe_client.preflight.joined import look_at_kit
from fedloupe_client.preflight.looks import CaseLook, look_at_all, workers_for
from fedloupe_client.preflight.machine import Machine, machine, machine_findings, needed_disk
from fedloupe_client.preflight.measures import SequenceLook, TumourLook, voxel_digest
from fedloupe_client.preflight.permitted import Budget, look_at_gate
from fedloupe_client.preflight.private import few_for_noise
from fedloupe_client.preflight.rehearsal import Rehearsal, rehearse
from fedloupe_client.preflight.tables import Summary, beside_study, missing_values, summarise
from fedloupe_client.preflight.unusual import duplicates, unusual

SCHEMA = 1
DERIVED_A_WORKER = 8
"""Cases whose imaging and radiomics take longer than the start of one more process."""
Progress = Callable[[str, int, int], None]


class CaseEntry(Frozen):
    """A case by its pseudonym: what became of it, what was measured, and sentences on what is unusual.

    `drawn_by` is the digest of the model that drew its mask, None where the mask is the site's own.
    """

    case: str
    status: Literal["ready", "excluded", "broken"]
    code: str | None = None
    kind: Kind | None = None
    reason: str = ""
    remedy: str = ""
    warnings: tuple[str, ...]
    drawn_by: str | None = None
    sequences: dict[str, SequenceLook]
    tumour: TumourLook | None


class Preflight(Frozen):
    """The answer of a check, free of identifiers: cases go by their pseudonyms.

    Attributes:
        ready: nothing is left to fix.
        ingested: there is a store; without one, `cases` are those that an ingest could not make one of.
        approved: this very study, here.
        requests: kinds that the study provides for here; `budget` what it costs, None without DP.
        findings: most important first.
        statuses, kinds: number of cases.
        drawn: ready cases whose mask a model drew.
        patients: by split; `events` of all; `features` columns; `left_out` codes of imaging and radiomics, by case.
        minimum_cohort: of the site's policy.
        cases: worst first.
        rehearsal, baseline: None where `rehearsal_note` or `baseline_note` says why.
    """

    schema_version: int = SCHEMA
    ready: bool
    ingested: bool
    site: str
    study: str
    role: str | None
    fingerprint: str
    approved: bool
    requests: tuple[str, ...]
    budget: Budget | None
    synthetic: bool
    findings: tuple[Finding, ...]
    statuses: dict[str, int]
    kinds: dict[str, int]
    patients: dict[str, int]
    events: int
    left_out: dict[str, str]
    drawn: int
    features: int
    minimum_cohort: int
    machine: Machine
    connection: Link
    data: Summary
    rehearsal: Rehearsal | None
    rehearsal_note: str
    baseline: Baseline | None
    baseline_note: str
    cases: tuple[CaseEntry, ...]


@dataclass(frozen=True)
class Seen:
    """The answer, and what its page needs beyond it: pictures by case, and the site's configuration."""

    result: Preflight
    looks: dict[str, CaseLook]
    config: SiteConfig


def preflight(home: Path, study: Study, *, workers: int = 1, progress: Progress | None = None) -> Seen:
    """Derive what is missing, then look at machine, connection, cases, data and a dry round.

    Nothing leaves the site, nothing is spent from the privacy ledger. What is derived is kept.

    Args:
        home: the site's home, ingested; also where ingest found no usable case, which is then what the answer says.
        study: the study.
        workers: processes at most. They are spawned: a script calls this under `if __name__ == "__main__"`.
        progress: called with (what, done, total).

    Raises:
        SiteConfigInvalid, PolicyInvalid, StoreMissing, StoreUnreadable: see there; everything else is a finding.
    """
    report = progress or (lambda what, done, total: None)
    config, policy = load_site(home), load_policy(home)
    store, failed = _store(home, config, study)
    if failed is None:
        derive(
            home,
            study,
            workers=workers_for(len(store.ready), workers, DERIVED_A_WORKER),
            progress=lambda done, total, _: report("imaging and radiomics", done, total),
        )
    looks = look_at_all(
        home,
        config,
        study,
        unstored=None if failed is None else failed.records,
        workers=workers,
        progress=lambda done, total, _: report("looking at cases", done, total),
    )
    left_out = {} if failed else problems(home, study)
    usable = tuple(look for look in looks if look.case not in left_out)
    entries, findings = _cases(home, store, study, looks, left_out)
    link, found = look_at_connection(config.connection, home)
    findings += found + look_at_kit(config.connection, home, utc_now())
    permitted, found = look_at_gate(home, study, config.site, policy)
    findings += found
    summary = summarise(study, usable)
    findings += missing_values(summary)
    if store.index.endpoint_column != study.endpoint.column:
        other = BesideStudy("the cases were ingested for another endpoint", remedy="ingest them for this study")
        findings.append(Finding.of(other, "fix", commands=AGAIN))
    if failed is None:
        cohort, found = _cohort(home, study, config.site, policy)
        if (last := failed_ingest(home)) is not None:
            found.append(last.beside_a_store())
    else:
        cohort, found = None, list(failed.findings)
    findings += found
    report("dry training round", 0, 1)
    rehearsal, rehearsal_note, found = _rehearse(home, study, config.site, cohort)
    findings += found
    report("dry training round", 1, 1)
    baseline = "there is no cohort" if cohort is None else local_baseline(cohort, study, config.site)
    groups, features = ((), 0) if cohort is None else (cohort.feature_groups, len(cohort.names))
    facts = machine(home, needed_disk(study, store, groups, features), study)
    findings += machine_findings(facts, rehearsal.peak_bytes if rehearsal else None)
    findings.sort(key=importance)
    result = Preflight(
        ready=all(finding.severity != "fix" for finding in findings),
        ingested=failed is None,
        site=config.site,
        study=study.study,
        role=study.role(config.site),
        fingerprint=study.fingerprint,
        approved=permitted.approved,
        requests=permitted.requests,
        budget=permitted.budget,
        synthetic=study.synthetic,
        findings=tuple(findings),
        statuses={s: sum(e.status == s for e in entries) for s in ("ready", "excluded", "broken")},
        kinds={kind: n for kind in URGENCY if (n := sum(entry.kind == kind for entry in entries))},
        patients={name: 0 if cohort is None else len(cohort.rows(name)) for name in ("train", "tune", "test")},
        events=0 if cohort is None else int(cohort.labels.sum()),
        left_out=left_out,
        drawn=sum(entry.drawn_by is not None for entry in entries if entry.status == "ready"),
        features=features,
        minimum_cohort=policy.minimum_cohort,
        machine=facts,
        connection=link,
        data=summary,
        rehearsal=rehearsal,
        rehearsal_note=rehearsal_note,
        baseline=None if isinstance(baseline, str) else baseline,
        baseline_note=baseline if isinstance(baseline, str) else "",
        cases=entries,
    )
    return Seen(result, {look.case: look for look in looks}, config)


def _store(home: Path, config: SiteConfig, study: Study) -> tuple[Store, FailedIngest | None]:
    """The store, or the cases that ingest could not make one of."""
    try:
        return load_store(home), None
    except StoreMissing:
        if (failed := failed_ingest(home)) is None:
            raise
    return failed.store(home, config, study.endpoint.column), failed


def _cases(
    home: Path, store: Store, study: Study, looks: tuple[CaseLook, ...], left_out: dict[str, str]
) -> tuple[tuple[CaseEntry, ...], list[Finding]]:
    """Every case, worst first, and what is found about cases."""
    usable = tuple(look for look in looks if look.case not in left_out)
    odd = unusual(usable)
    sentences = {case: list(found) for case, found in odd.items()}
    findings = []
    twins = duplicates(_digests(store, study, looks)) if store.folder.exists() else ()
    for group in twins:
        what = "the same row of features" if not study.sequences else "an image with the same pixels"
        error = DuplicatePixels(
            f"{len(group)} cases hold {what}",
            remedy="find out whose data these are, export the other patient's anew, or leave one of the cases out",
        )
        findings.append(Finding.of(error, "fix", cases=group, commands=AGAIN))
        for case in group:
            sentences.setdefault(case, []).insert(0, f"holds {what} as another case")
    notes = _notes(home, store, study, left_out)
    entries = [_entry(look, notes.get(look.case), sentences.get(look.case, [])) for look in looks]
    findings += _left_out(entries)
    findings += _drawn(entries)
    burned = {look.case: [n for n, one in look.sequences.items() if one.burned_in] for look in looks}
    findings += _burned_in(tuple(case for case, found in burned.items() if found))
    for case, found in burned.items():
        for name in found:
            sentences.setdefault(case, []).append(f"text may be burned into {name}: something in it stands still")
    beside = beside_study(study, usable)
    for finding in beside:
        for case in finding.cases:
            sentences.setdefault(case, []).append(finding.what)
    if odd:
        apart = Unusual(
            f"{len(odd)} case{' stands' if len(odd) == 1 else 's stand'} apart from the site's others",
            remedy="look at their pictures; what is right may stay",
        )
        findings.append(Finding.of(apart, "warning", cases=tuple(odd), commands=()))
    entries = [entry.model_copy(update={"warnings": tuple(sentences.get(entry.case, []))}) for entry in entries]
    in_twins = {case for group in twins for case in group}
    return tuple(sorted(entries, key=lambda entry: _badness(entry, entry.case in in_twins))), findings + beside


def _badness(entry: CaseEntry, twin: bool) -> tuple[int, int, int, str]:
    place = ("broken", "excluded", "ready").index(entry.status)
    urgency = URGENCY.index(entry.kind) if entry.kind else 0
    return place, urgency, -100 * twin - len(entry.warnings), entry.case


def _digests(store: Store, study: Study, looks: tuple[CaseLook, ...]) -> dict[str, list[str]]:
    if study.sequences:
        return {look.case: [one.digest for one in look.sequences.values()] for look in looks}
    if study.radiomics.source != "table":
        return {}
    table = store.features().loc[[record.case for record in store.ready]]
    return {str(case): [voxel_digest(row.to_numpy())] for case, row in table.iterrows()}


def _notes(home: Path, store: Store, study: Study, left_out: dict[str, str]) -> dict[str, dict[str, str]]:
    """What imaging or radiomics wrote of the cases that they could not use."""
    folder = home / "derived" / derivation(study)
    return {
        case: json.loads(derived_path(folder, store, case).with_suffix(".json").read_text(encoding="utf-8"))
        for case in left_out
    }


def _entry(look: CaseLook, note: dict[str, str] | None, warnings: list[str]) -> CaseEntry:
    record: CaseRecord = look.record
    entry = CaseEntry(
        case=record.case,
        status=record.status,
        code=record.code,
        kind=record.kind,
        reason=record.reason,
        remedy=record.remedy,
        drawn_by=record.drawn_by,
        warnings=tuple(warnings),
        sequences=look.sequences,
        tumour=look.tumour,
    )
    if note is None:
        return entry
    kind = kind_of(catalogue()[note["code"]])
    changes = {"status": "broken", "code": note["code"], "kind": kind, "reason": note["what"], "remedy": note["remedy"]}
    return entry.model_copy(update=changes)


def _left_out(entries: list[CaseEntry]) -> list[Finding]:
    """One finding for all cases of one code and remedy."""
    groups: dict[tuple[str, str, Kind, str], list[CaseEntry]] = defaultdict(list)
    for entry in entries:
        if entry.code is not None and entry.kind is not None:
            groups[entry.status, entry.code, entry.kind, entry.remedy].append(entry)
    findings = []
    for (status, code, kind, remedy), members in groups.items():
        title = catalogue()[code].title
        reasons = sorted({entry.reason for entry in members})
        findings.append(
            Finding(
                severity="fix" if status == "broken" else "warning",
                scope="case",
                code=code,
                kind=kind,
                title=title,
                what=reasons[0] if len(reasons) == 1 else "; ".join(reasons[:3]),
                remedy=remedy,
                commands=AGAIN,
                cases=tuple(entry.case for entry in members),
            )
        )
    return findings


def _drawn(entries: list[CaseEntry]) -> list[Finding]:
    """One finding for all cases whose mask a model drew."""
    drawn = [entry for entry in entries if entry.drawn_by and entry.status == "ready"]
    if not drawn:
        return []
    error = MasksDrawn(
        f"{len(drawn)} ready cases have no mask of their own; model {drawn[0].drawn_by} drew one",
        remedy="look at their pictures; where the outline is not the tumour, draw the mask and run ingest again",
    )
    return [Finding.of(error, "warning", cases=tuple(entry.case for entry in drawn), commands=())]


def _burned_in(cases: tuple[str, ...]) -> list[Finding]:
    """One finding for all cases in whose pictures text may stand."""
    if not cases:
        return []
    error = BurnedInText(
        f"something in the pictures of {len(cases)} {'case' if len(cases) == 1 else 'cases'} stands still from slice "
        "to slice, as burned-in text does",
        remedy="look at their pictures; where there is a name or an id, export the series again without annotations, "
        "or leave the case out",
    )
    return [Finding.of(error, "warning", cases=cases, commands=())]


def _cohort(home: Path, study: Study, site: str, policy: Policy) -> tuple[Cohort | None, list[Finding]]:
    """The patients as a round would see them, and whether they are enough for this site's own policy."""
    try:
        cohort = load_cohort(home, study, site)
    except FedLoupeError as error:
        return None, [Finding.of(error, "fix", commands=AGAIN)]
    if study.role(site) == "train":
        try:
            check_cohort(len(cohort.rows("train")), policy)
        except FedLoupeError as error:
            return cohort, [Finding.of(error, "fix", commands=AGAIN)]
        return cohort, few_for_noise(study, len(cohort.rows("train")))
    return cohort, []


def _rehearse(
    home: Path, study: Study, site: str, cohort: Cohort | None
) -> tuple[Rehearsal | None, str, list[Finding]]:
    if cohort is None or not len(cohort.rows("test" if study.role(site) == "validate" else "train")):
        return None, "there are no patients to try it with", []
    tried = rehearse(home, study, site)
    if isinstance(tried, RehearsalFailed):
        return None, tried.what, [Finding.of(tried, "fix")]
    return tried, "", []
