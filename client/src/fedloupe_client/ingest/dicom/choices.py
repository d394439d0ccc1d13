"""The site's own word on which series is meant: `series-choices.csv`, a line a choice.

    case,sequence,series
    P-0001,t2w,10                             # a Series Number, or a Series Instance UID
    P-0007,adc,1.2.840.113619.2.55.3

choices = read_choices(path)                  # {("P-0001", "t2w"): "10", ...}
"""

from __future__ import annotations

from pathlib import Path

from fedloupe_client.ingest.dicom.headers import Slice
from fedloupe_client.ingest.problems import ChoicesInvalid, ChoiceUnknown
from fedloupe_client.ingest.tables.delimited import read_sheet

COLUMNS = ("case", "sequence", "series")
Choices = dict[tuple[str, str], str]


def read_choices(path: Path) -> Choices:
    """Every choice, by the case's local id and the sequence's name.

    Raises:
        FileMissing, PermissionRefused, FileUnreadable: see `read_sheet`.
        ChoicesInvalid: other columns, an empty cell, or two choices for one sequence of a case.
    """
    table = read_sheet(path).cells
    remedy = f"give the columns {', '.join(COLUMNS)}: local id, sequence name, series number or Series Instance UID"
    if sorted(table.columns) != sorted(COLUMNS):
        raise ChoicesInvalid("the series choices have other columns", where=str(path), remedy=remedy)
    found: Choices = {}
    for number, (case, sequence, series) in enumerate(table[list(COLUMNS)].itertuples(index=False), start=2):
        if not (case and sequence and series):
            raise ChoicesInvalid(f"row {number} has an empty cell", where=str(path), remedy=remedy)
        if (case, sequence) in found:
            raise ChoicesInvalid(
                f"row {number} chooses a series that an earlier row chose already",
                where=str(path),
                remedy="keep one line for each case and sequence",
            )
        found[case, sequence] = series
    return found


def pick(series: dict[str, list[Slice]], choice: str, sequence: str) -> list[Slice]:
    """The one series that a choice names.

    Raises:
        ChoiceUnknown: none, or a number that several series of the case have.
    """
    fitting = [s for uid, s in series.items() if choice == uid or (choice.isdigit() and s[0].number == int(choice))]
    if len(fitting) != 1:
        raise ChoiceUnknown(
            f"the series chosen for `{sequence}` is {len(fitting)} series of this case",
            where=f"{choice}; there are {', '.join(f'{s[0].number} ({uid})' for uid, s in series.items())}",
            remedy="give the Series Instance UID of one of them in the file of series choices",
        )
    return fitting[0]
