"""What an ingest that found no usable case said of each: `home/ingest-failed.csv` read back, without identifiers.

failed = failed_ingest(home)          # None where the last ingest ended well
failed.records, failed.findings       # by pseudonym; which of your cases is meant, `local.local_names` knows
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from fedloupe.errors import catalogue
from fedloupe_client.config import SiteConfig
from fedloupe_client.ingest import CaseRecord, Store
from fedloupe_client.ingest.files import telling_apart
from fedloupe_client.ingest.identity.needles import Needles
from fedloupe_client.ingest.problems import (
    URGENCY,
    DataProblem,
    FileMissing,
    FileUnreadable,
    NoneReady,
    OneClass,
)
from fedloupe_client.ingest.store.records import SCHEMA, Index, Status
from fedloupe_client.preflight.findings import AGAIN, Finding, kind_of

FILE = "ingest-failed.csv"
COLUMNS = ("local_id", "local_patient", "case", "status", "code", "reason", "remedy", "where")
PSEUDONYM = re.compile(r"[0-9a-f]{16}")
PLACE = re.compile(r"(?:^|[\s\"'(])(?:/|[A-Za-z]:\\)\w")
"""An absolute path: words about a case hold none."""
EARLIER = "what follows is about the cases of an earlier one"
REMEDY = "mend what is listed and run ingest again"


@dataclass(frozen=True)
class FailedIngest:
    """The cases of an ingest that could not make a store, and why it could not.

    Attributes:
        records: as far as the file's lines can be understood; without label, values and sequences.
        findings: on the ingest as a whole, and on the file.
    """

    records: tuple[CaseRecord, ...]
    findings: tuple[Finding, ...]

    def store(self, home: Path, config: SiteConfig, column: str) -> Store:
        """A store of these records; it has no images."""
        index = Index(
            schema_version=SCHEMA,
            site=config.site,
            source=config.source.format,
            endpoint_column=column,
            records=self.records,
        )
        return Store(home / "store", index)

    def beside_a_store(self) -> Finding:
        """The warning for a home that still has the store of an earlier ingest."""
        codes = Counter(record.code for record in self.records if record.code)
        counts = ", ".join(f"{n} x {code}" for code, n in sorted(codes.items()))
        error = NoneReady(
            f"the last ingest found no usable set of cases ({counts or 'its file cannot be read'}); {EARLIER}",
            remedy=f"{FILE} in the site's home names each case, its problem and where it lies; {REMEDY}",
        )
        return Finding.of(error, "warning", commands=AGAIN)


def failed_ingest(home: Path) -> FailedIngest | None:
    """Read the file; a line that is not as ingest wrote it is counted, never shown.

    Returns:
        None where there is no such file.
    """
    path = home / FILE
    try:
        with telling_apart(path), open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except FileMissing:
        return None
    except csv.Error:
        return FailedIngest((), (_unreadable("it is no table"),))
    except DataProblem as error:
        return FailedIngest((), (_unreadable(error.what, type(error)),))
    header = rows[0] if rows else []
    if absent := [name for name in COLUMNS if header.count(name) != 1]:
        return FailedIngest((), (_unreadable(f"it lacks the columns {', '.join(absent)}"),))
    records: dict[str, CaseRecord] = {}
    damaged = 0
    for row in rows[1:]:
        record = _record(dict(zip(header, row, strict=True))) if len(row) == len(header) else None
        if record is None or record.case in records:
            damaged += 1
        else:
            records[record.case] = record
    findings = [_verdict(tuple(records.values()))] if records else []
    if damaged or not records:
        findings.append(_unreadable(f"{damaged} of its {len(rows) - 1} lines are not as ingest wrote them"))
    return FailedIngest(tuple(sorted(records.values(), key=lambda record: record.case)), tuple(findings))


def _record(row: dict[str, str]) -> CaseRecord | None:
    """A line as a record, or None where anything in it is not what ingest writes."""
    code, status = row["code"] or None, next((s for s in get_args(Status) if s == row["status"]), None)
    known = None if code is None else catalogue().get(code)
    if not PSEUDONYM.fullmatch(row["case"]) or status is None or (code is not None) != (known is not None):
        return None
    if (status == "ready") != (known is None):
        return None
    words = f"{row['reason']} {row['remedy']}"
    names = {name.strip() for name in (row["local_id"], row["local_patient"])}
    telling = {name for name in names if len(name) > 1 and not (name.isdigit() and len(name) < 4)}
    if PLACE.search(words) or Needles(telling).in_text(words.encode()):
        return None
    return CaseRecord(
        case=row["case"],
        patient=row["case"],  # the file tells the hospital's own name of the patient, which stays in it
        status=status,
        code=code,
        kind=None if known is None else kind_of(known),
        reason=row["reason"],
        remedy=row["remedy"],
    )


def _verdict(records: tuple[CaseRecord, ...]) -> Finding:
    """Why no store could be made of these cases."""
    ready = sum(record.status == "ready" for record in records)
    kinds = Counter(record.kind for record in records if record.kind)
    counts = ", ".join(f"{kinds[kind]} {kind}" for kind in URGENCY if kinds[kind])
    error: DataProblem
    if ready:
        error = OneClass(
            f"the {ready} usable cases of {len(records)} all have the same label (the others: {counts or 'none'}), "
            "so that no store was made",
            remedy=f"{REMEDY}; a training site needs cases with the event and cases without",
        )
    else:
        error = NoneReady(
            f"none of {len(records)} cases is usable ({counts}), so that no store was made", remedy=REMEDY
        )
    return Finding.of(error, "fix", commands=AGAIN)


def _unreadable(what: str, kind: type[DataProblem] = FileUnreadable) -> Finding:
    error = kind(
        f"{FILE}, which names the cases that the last ingest could not use: {what}",
        remedy="run ingest again, it writes the file anew" + ("; delete nothing" if kind is not FileUnreadable else ""),
    )
    return Finding.of(error, "fix", commands=AGAIN)
