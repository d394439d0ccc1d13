"""A CSV as hospitals export it, to stripped text cells; what cannot be read for certain is refused with its reason.

    sheet = read_sheet(path)                    # Sheet(cells, separator, notes)
    cells, notes = decimal_points(sheet, ["age", "cea"])

Rules: UTF-8 and UTF-16 with or without a byte order mark as far as the bytes decide it, Windows-1252 with a note;
separator `,` `;` or tab by the header; with `;`, a comma between digits is a decimal comma; cells stay text.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fedloupe_client.config import Encoding, Layout
from fedloupe_client.ingest.files import telling_apart
from fedloupe_client.ingest.problems import DecimalsMixed, FileUnreadable

if TYPE_CHECKING:
    import pandas as pd

MAXIMUM_BYTES = 1 << 30
MAXIMUM_COLUMNS = 100_000
_EXPORT = "export it again as CSV (UTF-8), with a header line"
_PLAIN = Layout()
_SEPARATORS = (",", ";", "\t")
_BLANK = " \t\r\n\f\v\u00a0\u2007\u202f\u200b\ufeff"
_MAGIC = {b"PK\x03\x04": "a spreadsheet or archive", b"\xd0\xcf\x11\xe0": "a spreadsheet", b"%PDF": "a PDF"}
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# two letters with accents may stand side by side (`créée`), three in a row are another alphabet read wrongly
_NOT_WESTERN = re.compile(r"[^\x00-\x7f]{3}|[\u0192\u02c6\u02dc\u2020\u2021\u2030\u2039\u203a¤¥¦¬¯¶·¸]")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
_DECIMAL_POINT = re.compile(r"[+-]?\d+\.\d+(?:[eE][+-]?\d+)?")

SPREADSHEET_ERRORS = frozenset(
    {"#N/A", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!", "#SPILL!", "#CALC!"}
)


@dataclass(frozen=True)
class Sheet:
    """Text cells by column name, the separator they came with, and remarks that hold no cell's value."""

    path: Path
    cells: pd.DataFrame
    separator: str
    notes: tuple[str, ...] = ()


def is_formula(cell: str) -> bool:
    """A spreadsheet's formula or error value, which an export writes instead of the value."""
    return cell.startswith("=") or cell.upper() in SPREADSHEET_ERRORS


def read_sheet(path: Path, encoding: Encoding | None = None, layout: Layout = _PLAIN) -> Sheet:
    """Read a table, plain or .gz.

    Args:
        path: the file.
        encoding: as the site declares it; None: a byte order mark, else UTF-8, else Windows-1252 where nothing speaks
            against it.
        layout: names of the columns where there is no header line, signs of unknown values (read as empty cells), and
            a column of row numbers to add.

    Raises:
        FileMissing, PermissionRefused: the file.
        FileUnreadable: not a table, empty, damaged, rows of unequal length, an unclear separator, or a column that
            already has the name of the row numbers.
    """
    with telling_apart(path):
        if path.stat().st_size > MAXIMUM_BYTES:
            raise _too_long(path)
        blob = path.read_bytes()
        if blob.startswith(b"\x1f\x8b"):
            try:
                blob = gzip.GzipFile(fileobj=io.BytesIO(blob)).read(MAXIMUM_BYTES + 1)
            except (EOFError, zlib.error) as error:
                raise _refused(path, f"the packed table is damaged ({type(error).__name__})", _EXPORT) from None
    if len(blob) > MAXIMUM_BYTES:
        raise _too_long(path)
    text, notes = _decode(path, blob, encoding)
    separator, lines = _split(path, text)
    return _laid_out(_sheet(path, separator, lines, notes, layout.names), layout)


def _too_long(path: Path) -> FileUnreadable:
    return _refused(path, f"the table has more than {MAXIMUM_BYTES >> 20} MiB", "leave out what the study does not use")


def _refused(path: Path, what: str, remedy: str, detail: str = "") -> FileUnreadable:
    return FileUnreadable(what, where=f"{path}{detail}", remedy=remedy)


def _decode(path: Path, blob: bytes, encoding: Encoding | None) -> tuple[str, list[str]]:
    for magic, kind in _MAGIC.items():
        if blob.startswith(magic):
            raise _refused(path, f"the file is {kind}, not a CSV", "save the sheet as CSV (UTF-8)")
    notes: list[str] = []
    try:
        if encoding is not None:
            text = blob.decode(encoding)
        elif blob.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            text = blob.decode("utf-16")
        elif b"\0" in blob:
            raise _refused(path, "the file holds NUL bytes: it is no text", _EXPORT)
        else:
            try:
                text = blob.decode("utf-8")
            except UnicodeDecodeError:
                text = blob.decode("cp1252")
                if _NOT_WESTERN.search(text):
                    raise _refused(
                        path, "the encoding cannot be told", "save the table as UTF-8, or declare `clinical.encoding`"
                    ) from None
                notes.append("the table is not UTF-8 and was read as Windows-1252")
    except (UnicodeDecodeError, UnicodeError) as error:
        raise _refused(
            path, f"the bytes are not {encoding or 'text in a known encoding'}", _EXPORT, f": {error}"
        ) from None
    text = text.removeprefix("\ufeff")
    if _CONTROL.search(text):
        raise _refused(path, "the file holds control characters: it is no text", _EXPORT)
    return text if "\n" in text else text.replace("\r", "\n"), notes


def _split(path: Path, text: str) -> tuple[str, list[tuple[int, list[str]]]]:
    """The separator, and the rows that are not blank with the line they end on."""
    head, _, rest = text.partition("\n")
    if match := re.fullmatch(r'"?sep=([,;\t])"?\s*', head.strip("\r"), re.IGNORECASE):
        return match[1], _rows(path, rest, match[1])
    first = next((line for line in text.split("\n") if line.strip(_BLANK + ",;")), "")
    bare = re.sub(r'"[^"]*"', "", first)
    count = {separator: bare.count(separator) for separator in _SEPARATORS}
    most = max(count.values())
    best = [separator for separator, number in count.items() if number == most] if most else [","]
    if len(best) > 1:
        raise _refused(
            path,
            f"the header has as many {' as '.join(map(repr, best))}: the separator cannot be told",
            "rename the columns without these signs, or begin the file with a line `sep=;`",
        )
    return best[0], _rows(path, text, best[0])


def _rows(path: Path, text: str, separator: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        for line in reader:
            cells = [cell.strip(_BLANK).replace("\u00a0", " ") for cell in line]
            if any(cells):
                if len(cells) > MAXIMUM_COLUMNS:
                    raise _refused(path, f"a row has more than {MAXIMUM_COLUMNS} cells", _EXPORT)
                rows.append((reader.line_num, cells))
    except csv.Error as error:
        raise _refused(
            path,
            "the table is damaged: a quote or a line break stands where none may",
            "quote each cell that holds the separator, a quote or a line break",
            f", line {reader.line_num}: {error}",
        ) from None
    return rows


def _sheet(
    path: Path, separator: str, rows: list[tuple[int, list[str]]], notes: list[str], names: tuple[str, ...]
) -> Sheet:
    if not rows:
        raise _refused(path, "the table is empty", _EXPORT)
    header, below = (list(names), rows) if names else (rows[0][1], rows[1:])
    while header and not header[-1]:
        header = header[:-1]
    width = len(header)
    if twice := sorted(name for name, n in Counter(filter(None, header)).items() if n > 1):
        raise _refused(
            path, f"{len(twice)} column names stand twice in the header", "keep one of each", f": {twice[:30]}"
        )
    cells = []
    for number, line in below:
        if len(line) < width or any(line[width:]):
            raise _refused(
                path,
                f"row {number} has {len(line)} cells, {'`layout.names`' if names else 'the header'} has {width}",
                "quote cells that hold the separator; give every column a name",
            )
        cells.append(line[:width])
    import pandas as pd  # 0.4 s that a worker, who reads no table, need not spend

    frame = pd.DataFrame(cells, columns=header, dtype=str)
    if unnamed := sum(not name for name in header):
        frame = frame.loc[:, [bool(name) for name in header]]
        notes = [*notes, f"{unnamed} columns without a name were left out"]
    return Sheet(path, frame, separator, tuple(notes))


def _laid_out(sheet: Sheet, layout: Layout) -> Sheet:
    cells = sheet.cells
    if layout.missing:
        cells = cells.mask(cells.isin(layout.missing), "")
    if layout.number is not None:
        if layout.number in cells.columns:
            raise _refused(sheet.path, f"the table has a column `{layout.number}`", "give `layout.number` another name")
        # a bare number would be found in every file when the store is searched for ids
        cells = cells.assign(**{layout.number: [f"row-{row}" for row in range(1, len(cells) + 1)]})
    return replace(sheet, cells=cells)


def decimal_points(sheet: Sheet, columns: Iterable[str]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The cells with decimal commas of these columns written as points, where the separator is `;`; and a note.

    Raises:
        DecimalsMixed: a column has both.
    """
    if sheet.separator != ";":
        return sheet.cells, ()
    cells, changed = sheet.cells.copy(), []
    for name in columns:
        commas = [bool(_DECIMAL_COMMA.fullmatch(cell)) for cell in cells[name]]
        if not any(commas):
            continue
        if any(_DECIMAL_POINT.fullmatch(cell) for cell in cells[name]):
            raise DecimalsMixed(
                f"column `{name}` has decimal commas and decimal points",
                where=str(sheet.path),
                remedy="write every number of the column with one of them, without marks for thousands",
            )
        cells[name] = [
            cell.replace(",", ".") if comma else cell for cell, comma in zip(cells[name], commas, strict=True)
        ]
        changed.append(name)
    if not changed:
        return cells, ()
    named = f"{', '.join(f'`{name}`' for name in changed[:5])}" + (" and more" if len(changed) > 5 else "")
    return cells, (f"decimal commas were read in {len(changed)} columns ({named}): the separator is `;`",)
