"""Who the site's patients are, in numbers: the answer to `cohort`, before the gate looks at it.

reply = answer(header, study, cohort, home)      # Table 1 by part, cases looked at, a digest of the splits
"""

from __future__ import annotations

import hashlib
import hmac
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloupe.assessing import CohortReply, Described, Part
from fedloupe.study import ScaleName, Study
from fedloupe.study.levels import OUTCOMES, PRESENCE, grade_levels, named_levels, value_levels
from fedloupe_client.config import load_site
from fedloupe_client.dataset.cohort import Cohort
from fedloupe_client.dataset.grouping import told_apart
from fedloupe_client.gate import load_policy
from fedloupe_client.ingest import CaseRecord, load_store
from fedloupe_client.ingest.identity.pseudonyms import site_key


def answer(header: dict[str, Any], study: Study, cohort: Cohort, home: Path) -> CohortReply:
    """Everything, small groups too: the gate withholds those.

    Args:
        header: of the reply.
        study: as approved, with `evidence`.
        cohort: the site's patients.
        home: of the site.
    """
    store, scale = load_store(home), load_site(home).source.clinical.scale
    by_case = {record.case: record for record in store.records}
    records = tuple(by_case[case] for case in cohort.cases)
    splits: dict[str, set[str]] = defaultdict(set)
    for record, split in zip(records, cohort.split, strict=True):
        splits[record.patient].add(str(split))
    return CohortReply(
        **header,
        candidates=len(store.records),
        patients=len(splits),
        shared=sum(len(found) > 1 for found in splits.values()),
        scale=scale,
        splits=splits_digest(records, cohort.split, site_key(home)),
        lines=describe(study, cohort, records, scale, load_policy(home).minimum_cell),
    )


def splits_digest(records: Sequence[CaseRecord], split: NDArray[np.str_], secret: bytes) -> str:
    """Keyed SHA-256 of patient, case and split of each case: tells nothing, but changes with any of them."""
    lines = sorted(f"{r.patient}|{r.case}|{part}\n" for r, part in zip(records, split, strict=True))
    return hmac.new(secret, "".join(lines).encode(), hashlib.sha256).hexdigest()


def describe(
    study: Study,
    cohort: Cohort,
    records: Sequence[CaseRecord],
    scale: ScaleName | None = None,
    cell: int = 1,
) -> tuple[Described, ...]:
    """Table 1 of each part that has patients; a variable's lines stand together, levels in the study's order.

    Args:
        study: with `evidence`.
        cohort: the site's patients.
        records: (n) of the same cases.
        scale: of the outcome, that the site declares.
        cell: smallest group that may be described.
    """
    tested = cohort.split == "test"
    parts: tuple[tuple[Part, NDArray[np.bool_]], ...] = (("development", ~tested), ("evaluation", tested))
    return tuple(
        line
        for part, chosen in parts
        if chosen.any()
        for line in _part(part, study, cohort, records, np.flatnonzero(chosen).tolist(), scale, cell)
    )


def _part(
    part: Part,
    study: Study,
    cohort: Cohort,
    records: Sequence[CaseRecord],
    rows: list[int],
    scale: ScaleName | None,
    cell: int,
) -> Iterable[Described]:
    chosen = [records[row] for row in rows]
    yield from _levels("outcome", part, [OUTCOMES[1 - int(cohort.labels[row])] for row in rows], OUTCOMES)
    if len(grades := grade_levels(study, scale)) > len(OUTCOMES):  # two are the outcome itself
        yield from _levels("grade", part, [cohort.grades[row] for row in rows], grades)
    for variable in study.clinical:
        values = [record.clinical.get(variable.name) for record in chosen]
        if variable.levels is None:
            yield _number(variable.name, part, values)
        else:
            names = value_levels(variable)
            told = ["" if value is None else names.get(value, "") for value in values]
            yield from _levels(variable.name, part, told, dict.fromkeys(names.values()))
    categorical = {variable.name for variable in study.clinical if variable.levels is not None}
    apart = told_apart({name: [levels[row] for row in rows] for name, levels in cohort.groups.items()}, cell)
    for group in study.evidence.subgroups if study.evidence else ():
        if group.name in categorical or group.name not in apart:
            continue  # the same patients, counted above by the same name or nearly so
        told = [cohort.groups[group.name][row] for row in rows]
        yield from _levels(group.name, part, told, named_levels(group) or sorted({*told} - {""}))
    for sequence in study.sequences:
        there = [PRESENCE[sequence.name not in record.sequences] for record in chosen]
        yield from _levels(f"sequence {sequence.name}", part, there, PRESENCE)
    for name in sorted({name for record in records for name in record.intervals}):
        yield _number(f"interval {name}", part, [record.intervals.get(name) for record in chosen])


def _levels(variable: str, part: Part, told: list[str], names: Collection[str]) -> Iterable[Described]:
    """How many are in each level; who is in none is not known. Without any level, one line says so."""
    known = sum(one != "" for one in told)
    if not names:
        yield Described(variable=variable, part=part, patients=known, missing=len(told) - known)
    for name in names:
        count = told.count(name)
        yield Described(
            variable=variable, part=part, level=name, patients=known, missing=len(told) - known, count=count
        )


def _number(variable: str, part: Part, values: Sequence[float | None]) -> Described:
    """Mean and SD (n - 1) of the known values, in the table's own units."""
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    return Described(
        variable=variable,
        part=part,
        patients=len(known),
        missing=len(values) - len(known),
        mean=float(known.mean()) if len(known) else None,
        sd=float(known.std(ddof=1)) if len(known) > 1 else None,
    )
