"""How unlike the patients are: of development and evaluation, and from hospital to hospital.

development_against_evaluation(results), site_heterogeneity(results)

A standardised difference is in units of the spread, so that no number of patients enters it. For numbers and for two
levels it is (evaluation - development) / sqrt((s1^2 + s2^2) / 2), s^2 = p (1 - p) of a share; for more levels the
Mahalanobis distance of the shares, without a sign (Austin 2009, Stat Med 28:3083; Yang and Dalton 2012, SAS Global
Forum, paper 335).
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from fedloupe.assessing import Described
from fedloupe.study.levels import named_levels
from fedloupe_server.evidence import formats
from fedloupe_server.evidence.cohort_lines import WITHHELD, Column, Sheet, with_tables
from fedloupe_server.evidence.cohort_tables import ALL, shown_number
from fedloupe_server.evidence.results import Results
from fedloupe_server.evidence.tables import Table

UNBOUNDED = "nothing in common"


def development_against_evaluation(results: Results) -> Table | None:
    """Standardised difference of each variable, from development at all sites to evaluation at each and at all."""
    sheet = Sheet.of(results)
    evaluating = [column for column in sheet.columns if column.part == "evaluation"]
    developing = [column for column in sheet.columns if column.part == "development"]
    if not evaluating or not developing:
        return None
    groups = [*([column] for column in evaluating), evaluating]
    rows = [_numbers(sheet, variable, groups) for variable, level in sheet.rows if level is None]
    rows += [_levels(sheet, variable, developing, groups) for variable in sheet.variables]
    named = {variable: place for place, variable in enumerate(sheet.variables)}
    kept = sorted((row for row in rows if row is not None), key=lambda row: named[row[0]])
    caption = (
        "Development patients of all sites against evaluation patients: standardised differences; about 0.1 is small. "
        "Sites count where they show all of a variable"
    )
    header = ("Variable", "Development", *(f"{column.site}, evaluation" for column in evaluating), ALL)
    return Table(caption, header, tuple(kept)) if kept else None


def site_heterogeneity(results: Results) -> Table | None:
    """What differs between hospitals: patients, share of events, scanners and their field strengths as DICOM says."""
    if not with_tables(results):
        return None
    sheet = Sheet.of(results)
    scanners = [g for g in results.evidence.subgroups if g.header is not None] if results.evidence else []
    rows = []
    for site in results.sites:
        patients = site.train + site.tune + site.test
        columns = [column for column in sheet.columns if column.site == site.site]
        told = [_of_site(sheet, columns, group.name, named_levels(group)) for group in scanners]
        rows.append((site.site, str(patients), formats.percent(site.positives / patients if patients else None), *told))
    header = ("Site", "Patients", "Events", *(group.name for group in scanners))
    apart = frozenset(i for i, s in enumerate(results.sites) if s.role == "validate")
    return Table("Hospitals: patients, events and scanners", header, tuple(rows), apart)


def apart_in_mean(first: Described, second: Described) -> float | None:
    """Standardised difference of two groups' means, second less first; None without spread or values."""
    if first.mean is None or second.mean is None or first.sd is None or second.sd is None:
        return None
    return _over(second.mean - first.mean, sqrt((first.sd**2 + second.sd**2) / 2))


def apart_in_levels(first: dict[str, int], second: dict[str, int], levels: list[str]) -> float | None:
    """Standardised difference of two groups' shares; None where nobody is counted, or the groups share no level.

    Args:
        first: patients by level.
        second: likewise.
        levels: with two, signed as of the first of them.
    """
    a, b = (np.array([group.get(level, 0) for level in levels], dtype=np.float64) for group in (first, second))
    if not (a.sum() and b.sum()):
        return None
    a, b = a / a.sum(), b / b.sum()
    if len(levels) == 2:
        return _over(float(b[0] - a[0]), sqrt((a[0] * (1 - a[0]) + b[0] * (1 - b[0])) / 2))
    known = (a + b) > 0
    a, b = a[known][1:], b[known][1:]
    if not len(a):
        return 0.0
    spread = (np.diag(a) - np.outer(a, a) + np.diag(b) - np.outer(b, b)) / 2
    solved = np.linalg.lstsq(spread, b - a, rcond=1e-10)[0]
    if np.abs(spread @ solved - (b - a)).max() > 1e-9:
        return None
    return sqrt(max(0.0, float((b - a) @ solved)))


def _over(apart: float, spread: float) -> float | None:
    if not apart:
        return 0.0
    return apart / spread if spread else None


def _numbers(sheet: Sheet, variable: str, groups: list[list[Column]]) -> tuple[str, ...] | None:
    before = sheet.pooled("development", variable, None)
    if before is None or before.mean is None:
        return None
    cells = []
    for group in groups:
        one = sheet.cell(group[0], variable, None) if len(group) == 1 else sheet.pooled("evaluation", variable, None)
        if isinstance(one, Described):
            found = apart_in_mean(before, one)
            cells.append(formats.ABSENT if found is None else formats.difference(found))
        else:
            cells.append(one or formats.ABSENT)
    return (variable, shown_number(before), *cells)


def _levels(
    sheet: Sheet, variable: str, developing: list[Column], groups: list[list[Column]]
) -> tuple[str, ...] | None:
    levels = [level for name, level in sheet.rows if name == variable and level is not None]
    before = sheet.counts(developing, variable)
    total = sum(before.values())
    if not total:
        return None
    cells = []
    for group in groups:
        there = sheet.counts(group, variable)
        if not sum(there.values()):
            hidden = len(group) == 1 and variable in sheet.withheld[group[0].site]
            cells.append(WITHHELD if hidden else formats.ABSENT)
            continue
        found = apart_in_levels(before, there, levels)
        signed = len(levels) == 2 and found is not None
        cells.append(formats.difference(found) if signed and found is not None else _size(found))
    shown = [f"{level} {formats.percent(before.get(level, 0) / total)}" for level in levels]
    return (variable, ", ".join(shown[:1] if len(levels) == 2 else shown), *cells)


def _size(found: float | None) -> str:
    return UNBOUNDED if found is None else f"{found:.2f}"


def _of_site(sheet: Sheet, columns: list[Column], variable: str, levels: tuple[str, ...]) -> str:
    """`Siemens 40, GE 12, not known 3`, over both parts of a site."""
    lines = [line for column in columns for line in sheet.lines.get((column, variable), {}).values()]
    shown = {level: sum(line.count or 0 for line in lines if line.level == level) for level in levels}
    said = [f"{level} {count}" for level, count in shown.items() if count]
    known = [sheet.known(column, variable) for column in columns]
    unknown = sum(line.missing for line in known if isinstance(line, Described))
    if unknown:
        said.append(f"not known {unknown}")
    hidden = any(not sheet.complete(column, variable) for column in columns) if columns else False
    if hidden and variable in sheet.withheld.get(columns[0].site, frozenset()):
        said.append(f"others {WITHHELD}")
    return ", ".join(said) or formats.ABSENT
