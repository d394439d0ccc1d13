"""The clinical table and the table of ready-made features, from CSV to checked rows.

    rows = read_clinical(config.source, study)      # one a case, each with its label or its problem
    features = read_features(source, study)         # text cells, index local id

Cells are text until the study says what they are; an empty cell is an unknown value, `nan` is an error.
"""

from __future__ import annotations

import csv
import gzip
import math
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from fedloupe.study import ClinicalVariable, Study
from fedloupe_client.config import DicomSource, NiftiSource, TableSource
from fedloupe_client.ingest.files import telling_apart
from fedloupe_client.ingest.problems import (
    CaseRepeated,
    ClinicalInvalid,
    ColumnMissing,
    FeatureNotFinite,
    FeatureNotNumeric,
    FeaturesMissing,
    FileUnreadable,
    LabelMissing,
    LabelUnknown,
    OneClass,
    TableEmpty,
    Trouble,
)


@dataclass(frozen=True)
class Row:
    """One row of the clinical table; `problem` is set where the case cannot be used whatever its images are."""

    local: str
    patient: str | None
    label: int | None = None
    clinical: dict[str, float | None] = field(default_factory=dict)
    reference: float | None = None
    problem: Trouble | None = None


def read_csv(path: Path) -> pd.DataFrame:
    """A CSV (`,` or `;`, UTF-8, plain or .gz) as stripped text cells.

    Raises:
        FileMissing, PermissionRefused, FileUnreadable: see there.
    """
    with telling_apart(path):
        blob = path.read_bytes()
        text = (gzip.decompress(blob) if path.suffix == ".gz" else blob).decode("utf-8-sig")
    first = text.partition("\n")[0]
    lines = list(csv.reader(text.splitlines(), delimiter=";" if ";" in first and "," not in first else ","))
    lines = [line for line in lines if any(cell.strip() for cell in line)]
    if not lines:
        raise FileUnreadable("the table is empty", where=str(path), remedy="export it again, with a header line")
    header = [cell.strip() for cell in lines[0]]
    if twice := sorted(name for name, n in Counter(header).items() if n > 1):
        raise FileUnreadable(f"columns {twice} stand twice in the header", where=str(path), remedy="keep one of each")
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise FileUnreadable(
                f"row {number} has {len(line)} cells, the header has {len(header)}",
                where=str(path),
                remedy="quote cells that hold the separator",
            )
    return pd.DataFrame([[cell.strip() for cell in line] for line in lines[1:]], columns=header, dtype=str)


def _need(table: pd.DataFrame, columns: list[str], path: Path) -> None:
    if missing := [name for name in columns if name not in table.columns]:
        raise ColumnMissing(
            f"columns {missing} are missing", where=str(path), remedy=f"the table has {list(table.columns)[:30]}"
        )


def _fits(cell: str, wanted: str) -> bool:
    return cell.startswith(wanted[:-1]) if wanted.endswith("*") else cell == wanted


def read_clinical(source: DicomSource | NiftiSource | TableSource, study: Study, role: str) -> tuple[Row, ...]:
    """The rows of this site, sorted by local id; a case of two rows comes once, with its problem.

    Raises:
        FileMissing, PermissionRefused, FileUnreadable: the file.
        ColumnMissing: naming those that the study or the configuration wants.
        TableEmpty: no row is left after `where`, or a row has no case or patient id.
        OneClass: a training site whose known labels are all the same.
    """
    wanted = source.clinical
    path = source.root / wanted.file
    table = read_csv(path)
    columns = [wanted.case, study.endpoint.column, *(v.column for v in study.clinical), *wanted.where]
    columns += [name for name in (wanted.patient, study.evaluation.reference_score) if name]
    _need(table, columns, path)
    for column, value in wanted.where.items():
        table = table[[_fits(cell, value) for cell in table[column]]]
    if table.empty:
        raise TableEmpty("no row is left", where=str(path), remedy="check `clinical.where` and the file")
    for column in filter(None, (wanted.case, wanted.patient)):
        if nameless := int((table[column] == "").sum()):
            raise TableEmpty(f"{nameless} rows have an empty `{column}`", where=str(path), remedy="fill the column")
    count = Counter(table[wanted.case])
    rows = {}
    for cells in table.to_dict("records"):
        local = str(cells[wanted.case])
        row = _row(cells, local, wanted.patient, study)
        if count[local] > 1:
            problem = CaseRepeated(
                "the clinical table has several rows of this case", where=local, remedy="keep one row"
            )
            row = Row(local, row.patient, problem=Trouble.of(problem))
        rows[local] = row
    labels = {row.label for row in rows.values() if row.label is not None}
    if role == "train" and len(labels) == 1:
        raise OneClass(
            f"all {len(rows)} cases have label {labels.pop()}",
            where=str(path),
            remedy=f"check column `{study.endpoint.column}` and `clinical.where`, or join as a validate-only site",
        )
    return tuple(rows[local] for local in sorted(rows))


def _row(cells: dict[Hashable, str], local: str, patient_column: str | None, study: Study) -> Row:
    patient = cells[patient_column] if patient_column else None
    text = cells[study.endpoint.column]
    label = study.endpoint.label(text)
    try:
        if not text:
            raise LabelMissing("the outcome is not known", where=local, remedy="fill it in when it is")
        if label is None:
            raise LabelUnknown(
                "the outcome is not among the study's values",
                where=f"{local}: `{text}`",
                remedy=f"use one of {[*study.endpoint.positive, *study.endpoint.negative]}",
            )
        clinical = {variable.name: _clinical(cells[variable.column], variable, local) for variable in study.clinical}
        column = study.evaluation.reference_score
        reference = None if column is None else _number(cells[column], column, local)
    except (LabelMissing, LabelUnknown, ClinicalInvalid) as problem:
        return Row(local, patient, label, problem=Trouble.of(problem))
    return Row(local, patient, label, clinical, reference)


def _clinical(cell: str, variable: ClinicalVariable, local: str) -> float | None:
    if not cell or variable.levels is None:
        return _number(cell, variable.column, local)
    if cell not in variable.levels:
        raise ClinicalInvalid(
            f"`{variable.column}` is not among the study's levels",
            where=f"{local}: `{cell}`",
            remedy=f"use one of {list(variable.levels)}, or leave the cell empty",
        )
    return variable.levels[cell]


def _number(cell: str, column: str, local: str) -> float | None:
    if not cell:
        return None
    value = _finite(cell)
    if value is None:
        raise ClinicalInvalid(
            f"`{column}` is not a finite number",
            where=f"{local}: `{cell}`",
            remedy="correct it (decimal point, no unit), or leave the cell empty where the value is unknown",
        )
    return value


def _finite(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class FeatureTable:
    """Ready-made features as text, by local id; `take` turns a row into numbers."""

    path: Path
    names: tuple[str, ...]
    rows: dict[str, tuple[str, ...]]
    repeated: frozenset[str]

    def take(self, local: str) -> tuple[float, ...]:
        """The features of one case.

        Raises:
            FeaturesMissing, CaseRepeated, FeatureNotFinite: see there.
        """
        if local not in self.rows:
            raise FeaturesMissing("the feature table has no row of this case", where=local, remedy="add its row")
        if local in self.repeated:
            raise CaseRepeated("the feature table has several rows of this case", where=local, remedy="keep one row")
        values = [_finite(cell) for cell in self.rows[local]]
        if bad := [name for name, value in zip(self.names, values, strict=True) if value is None]:
            raise FeatureNotFinite(
                f"{len(bad)} features are not finite numbers, the first is `{bad[0]}`",
                where=local,
                remedy="extract them again, or leave the column out with `exclude`",
            )
        return tuple(value for value in values if value is not None)


def read_features(source: TableSource, study: Study) -> FeatureTable:
    """Every column that is neither the case, the endpoint, a clinical value nor excluded is a feature.

    Raises:
        FileMissing, PermissionRefused, FileUnreadable: the file.
        ColumnMissing: no case column.
        FeatureNotNumeric: a column that holds text throughout; it would be an identifier or a label.
    """
    path = source.root / source.features
    table = read_csv(path)
    case = source.clinical.case
    _need(table, [case], path)
    taken = {case, source.clinical.patient, study.endpoint.column, study.evaluation.reference_score}
    taken |= {*source.exclude, *source.clinical.where, *(v.column for v in study.clinical)}
    names = tuple(name for name in table.columns if name not in taken)
    if not names:
        raise ColumnMissing("no column is left as a feature", where=str(path), remedy="check `features` and `exclude`")
    cells = table[list(names)].to_numpy(dtype=object)
    # NaN is a defect of a case, but a column without one number is no measurement
    texts = [n for j, n in enumerate(names) if not any(_is_number(cell) for cell in cells[:, j])]
    if texts:
        raise FeatureNotNumeric(
            f"columns {texts[:10]} hold no number", where=str(path), remedy="name them under `exclude` in `site.yaml`"
        )
    count = Counter(table[case])
    rows = {str(local): tuple(map(str, line)) for local, line in zip(table[case], cells, strict=True)}
    return FeatureTable(path, names, rows, frozenset(local for local, n in count.items() if n > 1))


def _is_number(cell: str) -> bool:
    return _finite(cell) is not None
