"""Who the patients were, as tables: flow, Table 1, missing data, label sheet, split manifest.

flow(results), table_one(results), missing(results), labels(study, results), splits(study, results)

What a hospital's gate holds back reads `withheld`; what a hospital did not say at all, or a study did not declare, is
said to be so. Pooled numbers are exact sums over the cells that are shown.
"""

from __future__ import annotations

from math import floor, log10
from typing import get_args

from fedloupe.assessing import Described, Part
from fedloupe.study import SCALES, Study
from fedloupe_server.evidence import formats
from fedloupe_server.evidence.cohort_lines import WITHHELD, Sheet, pool, with_tables
from fedloupe_server.evidence.reasons import reason
from fedloupe_server.evidence.results import Results, SiteResult
from fedloupe_server.evidence.tables import Table

NOT_DECLARED = "not declared"
ALL = "All sites"
NOBODY = "0 (0 %)"
Cell = Described | str | None


def flow(results: Results) -> Table:
    """From the cases that each site looked at to those of each split, and why the others were left out."""
    sites = results.sites
    codes = sorted({code for site in sites for code in site.excluded})
    rows = [
        _counted("Cases looked at", [candidates(site) for site in sites]),
        _counted("Left out", [sum(site.excluded.values()) for site in sites]),
        *(_counted(f"Left out: {reason(code)}", [site.excluded.get(code, 0) for site in sites]) for code in codes),
        _counted("Used", [site.train + site.tune + site.test for site in sites]),
        _counted("Used: training", [site.train for site in sites]),
        _counted("Used: tuning", [site.tune for site in sites]),
        _counted("Used: evaluation", [site.test for site in sites]),
        _counted("Events among those used", [site.positives for site in sites]),
    ]
    header = ("", *(site.site for site in sites), ALL)
    return Table("Cases from those looked at to those used", header, tuple(rows))


def table_one(results: Results) -> Table | None:
    """Table 1 of each part of each site, and of all; None where no site sent one."""
    sheet = Sheet.of(results)
    if not sheet.columns:
        return None
    rows = []
    for variable, level in sheet.rows:
        cells: list[Cell] = [sheet.cell(column, variable, level) for column in sheet.columns]
        cells += [sheet.pooled(part, variable, level) for part in _parts(sheet)]
        rows.append((_row_name(sheet, variable, level), *(_said(cell) for cell in cells)))
    header = ("Variable", *(f"{c.site}, {c.part}" for c in sheet.columns), *(f"{ALL}, {p}" for p in _parts(sheet)))
    caption = (
        "Patients: mean (SD), or number and share of those whose value is known. All sites: exact sums over the cells "
        "shown; what a hospital holds back because few patients are in it is in no sum"
    )
    return Table(caption, header, tuple(rows))


def missing(results: Results) -> Table | None:
    """Patients without a value, of each variable; None where no site sent a table."""
    sheet = Sheet.of(results)
    if not sheet.columns:
        return None
    rows = []
    for variable in sheet.variables:
        known = [sheet.known(column, variable) for column in sheet.columns]
        cells = [_unknown(cell) for cell in known]
        for part in _parts(sheet):
            there = zip(sheet.columns, known, strict=True)
            shown = [cell for column, cell in there if column.part == part and isinstance(cell, Described)]
            total, without = sum(c.patients + c.missing for c in shown), sum(c.missing for c in shown)
            cells.append(_share(without, total) if shown else formats.ABSENT)
        rows.append((variable, *cells))
    header = ("Variable", *(f"{c.site}, {c.part}" for c in sheet.columns), *(f"{ALL}, {p}" for p in _parts(sheet)))
    return Table("Patients whose value is not known, and their share", header, tuple(rows))


def by_part(table: Table) -> list[Table]:
    """A table of development and evaluation side by side as one table a part, narrow enough for a page.

    A level that nobody is in anywhere has no row: the file beside the page has it.
    """
    found = []
    for part in get_args(Part):
        columns = [i for i, name in enumerate(table.header) if name.endswith(f", {part}")]
        if not columns:
            continue
        header = (table.header[0], *(table.header[i].removesuffix(f", {part}") for i in columns))
        rows = tuple((row[0], *(row[i] for i in columns)) for row in table.rows)
        kept = tuple(row for row in rows if not set(row[1:]) <= {NOBODY, formats.ABSENT})
        if kept:
            found.append(Table(f"{part.capitalize()} patients. {table.caption}", header, kept))
    return found


def labels(study: Study, results: Results) -> Table:
    """How the outcome came about: as declared, never checked by software, and the intervals that sites measured."""
    endpoint, evidence = study.endpoint, study.evidence
    sheet = evidence.labels if evidence else None
    blinded = {None: NOT_DECLARED, True: "yes", False: "no"}[sheet.blinded if sheet else None]
    rows = [("Endpoint", endpoint.name)]
    if endpoint.positive:
        own = f"event: {', '.join(endpoint.positive)}; no event: {', '.join(endpoint.negative)}"
        rows.append(("Outcomes in the study's own words", own))
    for name, grades in endpoint.scales.items():
        mapped = f"event: {', '.join(grades.positive)}; no event: {', '.join(grades.negative)}"
        rows.append((f"Scale {name}: {SCALES[name].title}", f"{mapped}. {SCALES[name].source}"))
    rows += [(f"Scale at {site.site}", _scale(site)) for site in results.sites]
    rows += [
        ("Assessed by", (sheet.assessor if sheet else "") or NOT_DECLARED),
        ("Blinded to images and predictions", blinded),
        ("From images to outcome, as declared", (sheet.interval if sheet else "") or NOT_DECLARED),
        *_measured(results),
    ]
    if sheet and sheet.notes:
        rows.append(("Notes", sheet.notes))
    return Table("How the outcome came about", ("Item", "Value"), tuple(rows))


def splits(study: Study, results: Results) -> Table:
    """How patients were parted, and a digest of each site's parts by which the site can show that they stayed so."""
    split = study.split
    shares = f"{formats.percent(split.test)} evaluate, {formats.percent(split.tune)} tune, the others train"
    if split.folds:
        shares = f"part {split.fold + 1} of {split.folds} equal ones evaluates, {formats.percent(split.tune)} tune"
    external = ", ".join(study.validate_sites) or "none"
    rows = [
        ("Unit", "patient: two cases of one patient at a site are refused"),
        ("Seed", str(study.seed)),
        ("Shares at training sites", shares),
        ("Stratified by", "the outcome"),
        ("Order", "SHA-256 of seed, site and pseudonymous case, within each outcome"),
        ("Sites whose every patient only evaluates", external),
    ]
    shared = 0
    for site, table in with_tables(results):
        shared += table.shared
        counted = f"{site.train} / {site.tune} / {site.test}; {formats.count(site.positives, 'event')} in all"
        counted += f", {site.federated.positives} among those scored"
        rows.append((f"Patients of {site.site}: train / tune / test", counted))
        rows.append((f"Splits of {site.site} (keyed digest)", table.splits))
    silent = [site.site for site in results.sites if site.cohort is None]
    rows.append(("Patients in more than one split of a site", str(shared) if len(silent) < len(results.sites) else "–"))
    if silent:
        rows.append(("No digest from", ", ".join(silent)))
    rows.append(
        (
            "Patients at more than one site",
            "cannot be seen: each site makes its pseudonyms with a secret of its own, which leaves it nowhere",
        )
    )
    return Table("How patients were parted", ("Item", "Value"), tuple(rows))


def shown_number(line: Described) -> str:
    """`63.1 (10.9)`: mean and SD, to one decimal; to none from an SD of 100 on, and to two figures of one below 1."""
    if line.mean is None:
        return formats.ABSENT
    spread = line.sd or abs(line.mean) or 1.0
    digits = int(spread < 100) if spread >= 1 else min(4, 1 - floor(log10(spread)))
    sd = formats.ABSENT if line.sd is None else f"{line.sd:.{digits}f}"
    return f"{line.mean:.{digits}f} ({sd})".replace("-", "−")


def _counted(name: str, counts: list[int]) -> tuple[str, ...]:
    return (name, *(f"{count:,}" for count in (*counts, sum(counts))))


def candidates(site: SiteResult) -> int:
    """Cases that a site looked at; without its table, what it used and left out."""
    return site.cohort.candidates if site.cohort else site.train + site.tune + site.test + sum(site.excluded.values())


def _parts(sheet: Sheet) -> tuple[Part, ...]:
    return tuple(dict.fromkeys(column.part for column in sheet.columns))


def _row_name(sheet: Sheet, variable: str, level: str | None) -> str:
    if level is not None:
        return f"{variable}: {level}"
    unit = ", days" if variable.startswith("interval ") else ""
    shown = any((column, variable) in sheet.lines for column in sheet.columns)
    return f"{variable}{unit}, mean (SD)" if shown else variable


def _said(cell: Cell) -> str:
    if cell is None:
        return formats.ABSENT
    if isinstance(cell, str):
        return cell
    return shown_number(cell) if cell.level is None else _share(cell.count or 0, cell.patients)


def _share(count: int, patients: int) -> str:
    return f"{count:,} ({formats.percent(count / patients)})" if patients else formats.ABSENT


def _unknown(cell: Cell) -> str:
    if isinstance(cell, Described):
        return _share(cell.missing, cell.patients + cell.missing)
    return cell or formats.ABSENT


def _scale(site: SiteResult) -> str:
    if site.cohort is None:
        return "not told"
    return site.cohort.scale or "the study's own words"


def _measured(results: Results) -> list[tuple[str, str]]:
    """Each interval that sites measured: mean and SD of days at each, all its patients together."""
    sheet, rows = Sheet.of(results), []
    for variable in sheet.variables:
        if not variable.startswith("interval "):
            continue
        said = []
        for site in dict.fromkeys(column.site for column in sheet.columns):
            columns = [column for column in sheet.columns if column.site == site]
            cells = [sheet.cell(column, variable, None) for column in columns]
            lines = [cell for cell in cells if isinstance(cell, Described)]
            if (whole := pool(lines)) is not None and len(lines) == len(cells):
                said.append(f"{site} {shown_number(whole)}")
            elif WITHHELD in cells:
                said.append(f"{site} {WITHHELD}")
        name = variable.removeprefix("interval ").replace("_", " ")
        rows.append((f"Days, {name}, measured: mean (SD)", "; ".join(said) or "not told by any site"))
    return rows or [("Days between dates, measured", "not told by any site")]
