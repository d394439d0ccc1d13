"""The clinical table, from CSV to checked rows.

    table = read_clinical_table(config.source, study, role)    # rows, notes, and the identifiers that stand in it

A row is one case, with its label or its problem. Cells are text until the study says what they are; an empty cell is
an unknown value, `nan` is an error. Where the site declares it, one of several rows of a patient is taken.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fedloupe.study import SCALES, ClinicalVariable, Study
from fedloupe_client.config import Clinical, DicomSource, NiftiSource, TableSource
from fedloupe_client.ingest.problems import (
    CaseRepeated,
    ClinicalInvalid,
    ColumnMissing,
    DataProblem,
    ExamUndecided,
    FormulaCell,
    IdsAlike,
    LabelMissing,
    LabelUnknown,
    OneClass,
    ScaleNotAccepted,
    TableEmpty,
    Trouble,
)
from fedloupe_client.ingest.tables.delimited import decimal_points, is_formula, read_sheet
from fedloupe_client.ingest.tables.exams import intervals, pick, read_date
from fedloupe_client.ingest.tables.subgroups import (
    Groups,
    checked,
    grade_of,
    groups_of,
    numeric_columns,
    subgroup_columns,
)

if TYPE_CHECKING:
    import pandas as pd

Cells = dict[Hashable, str]


@dataclass(frozen=True)
class Row:
    """One case of the clinical table; `problem` is set where it cannot be used whatever its images are.

    Attributes:
        local: the case's local id.
        patient: the patient's local id, None where the table has no such column.
        label: 1, 0, or None where the outcome is the problem, or, without a problem, not known yet.
        clinical: value by the study's variable name.
        reference: the true probability of a synthetic study.
        intervals: days by name: `imaging_to_treatment`, `imaging_to_outcome`; those that are known.
        notes: decisions taken for this case; they hold no value of a cell.
        problem: why it cannot be used.
        batch: scanner or protocol, as the table writes it; None where the study does not ask.
        groups: level of each subgroup variable that the study declares, None where the table does not say it.
        grade: of the outcome, before it becomes 1 or 0; None where the study has no `evidence`.
    """

    local: str
    patient: str | None
    label: int | None = None
    clinical: dict[str, float | None] = field(default_factory=dict)
    reference: float | None = None
    intervals: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    problem: Trouble | None = None
    batch: str | None = None
    groups: Groups = field(default_factory=dict)
    grade: str | None = None

    @property
    def unlabelled(self) -> bool:
        """Nothing is wrong but that the outcome is not known: excluded, yet its images are kept to be predicted."""
        return self.label is None and self.problem is None


@dataclass(frozen=True)
class ClinicalTable:
    """The rows of this site, sorted by local id; a case comes once.

    Attributes:
        rows: one a case.
        notes: remarks on the table as a whole, without any value of a cell.
        identifiers: local ids, patients' ids and dates of every row, to be looked for in what is written.
    """

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    identifiers: frozenset[str] = field(default=frozenset(), repr=False)


def read_csv(path: Path) -> pd.DataFrame:
    """The stripped text cells of a table, without the remarks that `read_sheet` makes on it."""
    return read_sheet(path).cells


def need(table: pd.DataFrame, columns: list[str], path: Path) -> None:
    """Raise where a table lacks columns; the remedy names those that are nearly the same.

    Raises:
        ColumnMissing: naming what is missing.
    """
    if not (missing := [name for name in dict.fromkeys(columns) if name not in table.columns]):
        return
    there = {_alike(str(name)): str(name) for name in table.columns}
    near = {}
    for name in missing:
        if found := difflib.get_close_matches(_alike(name), there, n=1, cutoff=0.8):
            near[name] = there[found[0]]
    remedy = "; ".join(f"rename `{has}` to `{name}` if that is it" for name, has in near.items())
    raise ColumnMissing(
        f"columns {missing} are missing",
        where=f"{path}: it has {list(table.columns)[:30]}",  # without a header, these are a patient's cells
        remedy=remedy or "add them, or correct the names in `site.yaml`; upper and lower case count",
    )


def _alike(text: str) -> str:
    return "".join(text.casefold().split())


def _fits(cell: str, wanted: str) -> bool:
    return cell.startswith(wanted[:-1]) if wanted.endswith("*") else cell == wanted


def read_clinical_table(source: DicomSource | NiftiSource | TableSource, study: Study, role: str) -> ClinicalTable:
    """The rows of this site; where a case or a patient cannot be told, a row with its problem.

    Raises:
        FileMissing, PermissionRefused, FileUnreadable, DecimalsMixed: the file.
        ColumnMissing: naming those that the study or the configuration wants.
        TableEmpty: no row is left after `where`, or a row has no case or patient id.
        FormulaCell: a case or patient id is a spreadsheet's formula or error value.
        ScaleNotAccepted: the column's scale is not one of the study's.
        OneClass: a training site whose known labels are all the same.
    """
    wanted = source.clinical
    path = source.root / wanted.file
    _check_scale(wanted, study)
    sheet = read_sheet(path, wanted.encoding, wanted.layout)
    ids = [name for name in (wanted.case, wanted.patient) if name]
    dates = [name for name in (wanted.dates.imaging, wanted.dates.treatment, wanted.dates.outcome) if name]
    dates += [wanted.exams.date] if wanted.exams else []
    score = [study.evaluation.reference_score] if study.evaluation.reference_score else []
    batch = [study.harmonisation.batch] if study.harmonisation and study.harmonisation.batch else []
    need(
        sheet.cells,
        [*ids, study.endpoint.column, *(v.column for v in study.clinical), *wanted.where, *dates, *score, *batch],
        path,
    )
    identifiers = frozenset(cell for name in (*ids, *dates) for cell in sheet.cells[name] if cell)
    numbers = [*(v.column for v in study.clinical if v.levels is None), *numeric_columns(study, sheet.cells.columns)]
    table, notes = decimal_points(sheet, [*dict.fromkeys(numbers), *score])
    for column, value in wanted.where.items():
        table = table[[_fits(cell, value) for cell in table[column]]]
    if table.empty:
        raise TableEmpty("no row is left", where=str(path), remedy="check `clinical.where` and the file")
    for column in ids:
        if nameless := int((table[column] == "").sum()):
            raise TableEmpty(f"{nameless} rows have an empty `{column}`", where=str(path), remedy="fill the column")
        if formulas := sum(map(is_formula, table[column])):
            raise formula(column, f"{path}: {formulas} rows")
    rows, said = checked(study, _rows(table, wanted, study), subgroup_columns(study, sheet.cells.columns), identifiers)
    labels = {row.label for row in rows if row.label is not None}
    if role == "train" and len(labels) == 1:
        raise OneClass(
            f"all {len(rows)} cases have label {labels.pop()}",
            where=str(path),
            remedy=f"check column `{study.endpoint.column}` and `clinical.where`, or join as a validate-only site",
        )
    read_as = () if wanted.scale is None else (f"outcomes were read in the scale `{wanted.scale}`",)
    return ClinicalTable(rows, (*sheet.notes, *notes, *read_as, *said), identifiers)


def _check_scale(wanted: Clinical, study: Study) -> None:
    endpoint = study.endpoint
    if wanted.scale is None and not endpoint.positive:
        raise ScaleNotAccepted(
            "the study takes graded outcomes, and the site declares no scale",
            where="site.yaml",
            remedy=f"declare `clinical.scale` as one of {list(endpoint.scales)}",
        )
    if wanted.scale is not None and wanted.scale not in endpoint.scales:
        raise ScaleNotAccepted(
            f"the study has no mapping for the scale `{wanted.scale}`",
            where="site.yaml",
            remedy=f"it accepts {list(endpoint.scales)}; ask the coordinator to add the scale"
            if endpoint.scales
            else "remove `clinical.scale` and use the study's own values, or ask the coordinator to add the scale",
        )


def formula(column: str, where: str) -> FormulaCell:
    """The error of a cell that holds a formula."""
    return FormulaCell(
        f"`{column}` holds a formula or a spreadsheet's error value",
        where=where,
        remedy="mend it in the spreadsheet, paste the column as values, and export again",
    )


def _rows(table: pd.DataFrame, wanted: Clinical, study: Study) -> tuple[Row, ...]:
    groups: dict[str, list[Cells]] = {}
    person = wanted.patient or wanted.case
    for cells in table.to_dict("records"):
        groups.setdefault(str(cells[person if wanted.exams else wanted.case]), []).append(cells)
    found = [_one(group, wanted, study) for group in groups.values()]
    count = Counter(row.local for row in found)
    alike = _lookalikes(row.local for row in found)
    persons_alike = _lookalikes(row.patient for row in found if row.patient is not None)
    rows = {}
    for row in found:
        problem: DataProblem | None = None
        if count[row.local] > 1:
            problem = CaseRepeated(
                "several patients have this case id", where=row.local, remedy="give each case an id of its own"
            )
        elif row.local in alike or row.patient in persons_alike:
            what = "case" if row.local in alike else "patient"
            problem = IdsAlike(
                f"another {what} id differs in upper and lower case or in spaces only",
                where=row.local if row.local in alike else f"{row.local}: {row.patient}",
                remedy="write the id of one person or case in one way, or give two different ones",
            )
        rows[row.local] = row if problem is None else replace(row, problem=Trouble.of(problem))
    return tuple(rows[local] for local in sorted(rows))


def _lookalikes(ids: Iterable[str]) -> set[str]:
    spellings: dict[str, set[str]] = {}
    for text in ids:
        spellings.setdefault(_alike(text), set()).add(text)
    return {text for group in spellings.values() if len(group) > 1 for text in group}


def _one(group: list[Cells], wanted: Clinical, study: Study) -> Row:
    """The row of a case, or of the patient whose examinations these are."""
    local = str(group[0][wanted.case])
    patient = str(group[0][wanted.patient]) if wanted.patient else None
    if len(group) == 1:
        return _row(group[0], wanted, study)
    if wanted.exams is None:
        problem = CaseRepeated("the clinical table has several rows of this case", where=local, remedy="keep one row")
        return Row(local, patient, problem=Trouble.of(problem))
    try:
        treatment = None
        if (column := wanted.dates.treatment) is not None:
            days = {read_date(cells[column], wanted.date_format, column, local) for cells in group} - {None}
            if len(days) > 1 and wanted.exams.take == "closest_before_treatment":
                raise ExamUndecided(
                    "the rows of one patient state several dates of treatment",
                    where=local,
                    remedy="keep the rows of one treatment",
                )
            treatment = next(iter(days), None)
        exams = [
            (number, read_date(cells[wanted.exams.date], wanted.date_format, wanted.exams.date, local))
            for number, cells in enumerate(group)
        ]
        taken = pick(exams, wanted.exams.take, local, treatment=treatment)
    except DataProblem as problem:
        return Row(local, patient, problem=Trouble.of(problem))
    outcomes = {cells[study.endpoint.column] for cells in group} - {""}
    notes = (taken.note, "the examinations' rows state different outcomes") if len(outcomes) > 1 else (taken.note,)
    return _row(group[taken.key], wanted, study, notes)


def _row(cells: Cells, wanted: Clinical, study: Study, notes: tuple[str, ...] = ()) -> Row:
    local = str(cells[wanted.case])
    patient = str(cells[wanted.patient]) if wanted.patient else None
    text = cells[study.endpoint.column]
    label = study.endpoint.label(text, wanted.scale)
    score = study.evaluation.reference_score
    batch = study.harmonisation.batch if study.harmonisation else None
    extra = [name for name in (score, batch) if name]
    needed = [study.endpoint.column, *(v.column for v in study.clinical), *extra]
    try:
        if formulas := [name for name in needed if is_formula(cells[name])]:
            raise formula(formulas[0], f"{local}: `{cells[formulas[0]]}`")
        if text and label is None:
            raise _unknown_label(text, wanted, study, local)
        clinical = {variable.name: _clinical(cells[variable.column], variable, local) for variable in study.clinical}
        reference = None if score is None else _number(cells[score], score, local)
        days = intervals(cells, wanted.dates, wanted.date_format, local)
    except DataProblem as problem:
        if not text and not isinstance(problem, FormulaCell):
            problem = no_outcome(local)
        return Row(local, patient, label, notes=notes, problem=Trouble.of(problem))
    return Row(
        local,
        patient,
        label,
        clinical,
        reference,
        days,
        notes,
        batch=cells[batch] if batch else None,
        groups=groups_of(study, cells),
        grade=grade_of(study, text, wanted.scale),
    )


def no_outcome(local: str) -> LabelMissing:
    """Why a case without an outcome neither trains nor tests."""
    return LabelMissing("the outcome is not known", where=local, remedy="fill it in when it is")


def _unknown_label(text: str, wanted: Clinical, study: Study, local: str) -> LabelUnknown:
    where = f"{local}: `{text}`"
    if wanted.scale is None:
        values = [*study.endpoint.positive, *study.endpoint.negative]
        return LabelUnknown(
            "the outcome is not among the study's values", where=where, remedy=f"use one of {_quoted(values)}"
        )
    if SCALES[wanted.scale].grade(text) is None:
        return LabelUnknown(
            f"the outcome is no grade of the scale `{wanted.scale}`",
            where=where,
            remedy=f"use one of {_quoted(SCALES[wanted.scale].grades)}, and see that `clinical.scale` is the column's",
        )
    return LabelUnknown(
        f"the study counts this grade of `{wanted.scale}` neither as positive nor as negative",
        where=where,
        remedy="leave the case out with `clinical.where`, or ask the coordinator",
    )


def _quoted(values: Iterable[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _clinical(cell: str, variable: ClinicalVariable, local: str) -> float | None:
    if not cell or variable.levels is None:
        return _number(cell, variable.column, local)
    if cell not in variable.levels:
        raise ClinicalInvalid(
            f"`{variable.column}` is not among the study's levels",
            where=f"{local}: `{cell}`",
            remedy=f"use one of {_quoted(variable.levels)}, or leave the cell empty",
        )
    return variable.levels[cell]


def _number(cell: str, column: str, local: str) -> float | None:
    if not cell:
        return None
    value = finite(cell)
    if value is None:
        raise ClinicalInvalid(
            f"`{column}` is not a finite number",
            where=f"{local}: `{cell}`",
            remedy="correct it (decimal point, no unit), or leave the cell empty where the value is unknown",
        )
    return value


def finite(cell: str) -> float | None:
    """A cell as a finite number, or None."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
