"""Subgroup variables and the outcome's grade of a case, for a study with `evidence`; nothing where it has none.

columns = subgroup_columns(study, sheet.cells.columns)          # those that this table has
row = replace(row, groups=groups_of(study, cells), grade=grade_of(study, text, scale))
rows, notes = checked(study, rows, columns, identifiers)        # without words that an identifier stands in
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from fedloupe.study import SCALES, ScaleName, Study
from fedloupe.study.evidence import Subgroup
from fedloupe.study.levels import level_of, named_levels

if TYPE_CHECKING:
    from fedloupe_client.ingest.tables.clinical import Row

Groups = dict[str, str | None]


def subgroups(study: Study) -> tuple[Subgroup, ...]:
    """The variables that the study declares."""
    return study.evidence.subgroups if study.evidence else ()


def asks_scanner(study: Study) -> bool:
    """Whether a variable is read from the DICOM header."""
    return any(group.header is not None for group in subgroups(study))


def subgroup_columns(study: Study, there: Iterable[object]) -> frozenset[str]:
    """Columns of subgroup variables that a table has."""
    return frozenset({group.column for group in subgroups(study) if group.column} & {str(name) for name in there})


def numeric_columns(study: Study, there: Iterable[object]) -> list[str]:
    """Those of them that are cut as numbers, in the study's order."""
    has = subgroup_columns(study, there)
    return list(
        dict.fromkeys(g.column for g in subgroups(study) if g.cuts and g.column is not None and g.column in has)
    )


def groups_of(study: Study, cells: Mapping[object, str]) -> Groups:
    """Level of each variable as the table says it, None where it does not."""
    return {
        group.name: level_of(group, cells.get(group.column, "")) if group.column else None for group in subgroups(study)
    }


def grade_of(study: Study, text: str, scale: ScaleName | None) -> str | None:
    """The outcome before it becomes 1 or 0: the scale's canonical grade, else the study's word for it.

    Args:
        study: the protocol.
        text: the cell.
        scale: that the site declares.
    """
    if study.evidence is None or study.endpoint.label(text, scale) is None:
        return None
    return SCALES[scale].grade(text) if scale is not None else text.strip()


def scanner_groups(study: Study, groups: Groups, scanner: Mapping[str, str]) -> Groups:
    """These levels, with those of the scanner where DICOM says them.

    Args:
        study: the protocol.
        groups: from the table.
        scanner: what the header says, by `Subgroup.header`; empty without DICOM.
    """
    found = {g.name: level_of(g, scanner.get(g.header, "")) for g in subgroups(study) if g.header is not None}
    return {name: found.get(name) or level for name, level in groups.items()}


def level_words(study: Study) -> frozenset[str]:
    """What of these variables and grades may stand in the store: the study's own words."""
    if study.evidence is None:
        return frozenset()
    named = {word for group in subgroups(study) for word in (group.name, *named_levels(group))}
    grades = {grade for scale in study.endpoint.scales for grade in SCALES[scale].grades}
    named |= {f"{cut:g}" for group in subgroups(study) for cut in group.cuts}
    return frozenset(named | grades | {*study.endpoint.positive, *study.endpoint.negative})


def checked(
    study: Study, rows: tuple[Row, ...], columns: Collection[str], identifiers: Collection[str]
) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """The rows without words that look like an identifier, and remarks on what is not known.

    Args:
        study: the protocol.
        rows: of the site.
        columns: of subgroup variables that the table has.
        identifiers: local ids, patients' ids and dates of the table.
    """
    known = {text.casefold() for text in identifiers if len(text) > 1}
    notes = []
    for group in subgroups(study):
        if group.column is None:
            continue
        if group.column not in columns:
            if group.header is None:
                notes.append(f"the table has no column `{group.column}`: `{group.name}` is unknown for everybody")
            continue
        if not named_levels(group):
            words = {level for row in rows if (level := row.groups.get(group.name))}
            refused = {word for word in words if any(text in word.casefold() for text in known)}
            if refused:
                rows = tuple(
                    replace(row, groups={**row.groups, group.name: None})
                    if row.groups.get(group.name) in refused
                    else row
                    for row in rows
                )
                notes.append(f"`{group.column}`: {len(refused)} words hold a case's or patient's id: unknown")
        unknown = sum(group.name in row.groups and row.groups[group.name] is None for row in rows)
        if unknown and group.header is None:
            notes.append(f"`{group.name}` is unknown for {unknown} of {len(rows)} cases, by column `{group.column}`")
    return rows, tuple(notes)
