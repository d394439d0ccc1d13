"""The table of radiomic features that a site already has, from CSV to numbers.

features = read_features(source, study)     # text cells by local id
features.take("P-0001")                     # one case's numbers, or the reason why not
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from fedloupe.study import Study
from fedloupe_client.config import TableSource
from fedloupe_client.ingest.problems import (
    CaseRepeated,
    ColumnMissing,
    FeatureNotFinite,
    FeatureNotNumeric,
    FeaturesMissing,
)
from fedloupe_client.ingest.tables.clinical import finite, formula, need
from fedloupe_client.ingest.tables.delimited import decimal_points, is_formula, read_sheet
from fedloupe_client.ingest.tables.subgroups import subgroup_columns


@dataclass(frozen=True)
class FeatureTable:
    """Ready-made features as text, by local id; `take` turns a row into numbers."""

    path: Path
    names: tuple[str, ...]
    rows: dict[str, tuple[str, ...]]
    repeated: frozenset[str]
    notes: tuple[str, ...] = ()

    def take(self, local: str) -> tuple[float, ...]:
        """The features of one case.

        Raises:
            FeaturesMissing, CaseRepeated, FormulaCell, FeatureNotFinite: see there.
        """
        if local not in self.rows:
            raise FeaturesMissing("the feature table has no row of this case", where=local, remedy="add its row")
        if local in self.repeated:
            raise CaseRepeated("the feature table has several rows of this case", where=local, remedy="keep one row")
        if formulas := [n for n, cell in zip(self.names, self.rows[local], strict=True) if is_formula(cell)]:
            raise formula(formulas[0], local)
        values = [finite(cell) for cell in self.rows[local]]
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
        FileMissing, PermissionRefused, FileUnreadable, DecimalsMixed: the file.
        ColumnMissing: no case column.
        FeatureNotNumeric: a column that holds text throughout; it would be an identifier or a label.
    """
    path = source.root / source.features
    wanted = source.clinical
    sheet = read_sheet(path, wanted.encoding, wanted.layout) if source.features == wanted.file else read_sheet(path)
    case = wanted.case
    need(sheet.cells, [case], path)
    taken = {case, wanted.patient, study.endpoint.column, study.evaluation.reference_score}
    taken |= {*source.exclude, *wanted.where, *(v.column for v in study.clinical)}
    taken |= {wanted.exams.date} if wanted.exams else set()
    taken |= subgroup_columns(study, sheet.cells.columns)
    taken |= {wanted.dates.imaging, wanted.dates.treatment, wanted.dates.outcome}
    names = tuple(name for name in sheet.cells.columns if name not in taken)
    if not names:
        raise ColumnMissing("no column is left as a feature", where=str(path), remedy="check `features` and `exclude`")
    table, notes = decimal_points(sheet, names)
    cells = table[list(names)].to_numpy(dtype=object)
    # NaN is a defect of a case, but a column without one number is no measurement
    texts = [n for j, n in enumerate(names) if not any(_is_number(cell) for cell in cells[:, j])]
    if texts:
        raise FeatureNotNumeric(
            f"columns {texts[:10]} hold no number", where=str(path), remedy="name them under `exclude` in `site.yaml`"
        )
    count = Counter(table[case])
    rows = {str(local): tuple(map(str, line)) for local, line in zip(table[case], cells, strict=True)}
    repeated = frozenset(local for local, n in count.items() if n > 1)
    return FeatureTable(path, names, rows, repeated, (*sheet.notes, *notes))


def _is_number(cell: str) -> bool:
    return finite(cell) is not None
