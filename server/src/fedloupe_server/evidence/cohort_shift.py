"""How unlike the patients are: of development and evaluation, and from hospital to hospital.

development_against_evaluation(results), site_heterogeneity(results)

A standardised difference is in units of the spread, so that no number of patients enters it: evaluation less
development for numbers and two levels, a distance without a sign for more (`fedloupe.metrics.differences`).
"""

from __future__ import annotations

from fedloupe.assessing import Described
from fedloupe.metrics import standardized_levels, standardized_mean, standardized_share
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
        "Development patients of all sites against evaluation patients: standardised differences; about 0.1 is "
        "small (Austin 2009). "
        "Sites count where they show all of a variable"
    )
    header = ("Variable", "Development", *(column.site for column in evaluating), ALL)
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


def apart_in_levels(first: dict[str, int], second: dict[str, int], levels: list[str]) -> float | None:
    """Standardised difference of two groups' shares; None where nobody is counted, or it has no limit.

    Args:
        first: patients by level.
        second: likewise.
        levels: with two, signed as of the first of them.
    """
    a, b = ([group.get(level, 0) for level in levels] for group in (first, second))
    if not (sum(a) and sum(b)):
        return None
    if len(levels) == 2:
        return standardized_share(b[0] / sum(b), a[0] / sum(a))
    return standardized_levels(b, a)


def _numbers(sheet: Sheet, variable: str, groups: list[list[Column]]) -> tuple[str, ...] | None:
    before = sheet.pooled("development", variable, None)
    if before is None or before.mean is None:
        return None
    cells = []
    for group in groups:
        one = sheet.cell(group[0], variable, None) if len(group) == 1 else sheet.pooled("evaluation", variable, None)
        if isinstance(one, Described):
            spread = [(line.mean, line.sd) for line in (one, before) if line.mean is not None and line.sd is not None]
            found = standardized_mean(*spread) if len(spread) == 2 else None
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
    there_before = levels[:1] if len(levels) == 2 else [level for level in levels if before.get(level)]
    shown = [f"{level} {formats.percent(before.get(level, 0) / total)}" for level in there_before]
    return (variable, ", ".join(shown), *cells)


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
