"""The hospital's own names of its cases, for the page that stays there: what ingest wrote beside its store, read back.

names = local_names(home)
names["0123456789abcdef"].local, names["0123456789abcdef"].where
"""

from __future__ import annotations

import csv
import shlex
from dataclasses import dataclass
from pathlib import Path

from fedloupe_client.config import NiftiSource, SiteConfig, TableSource
from fedloupe_client.ingest.cases import at
from fedloupe_client.ingest.files import telling_apart
from fedloupe_client.ingest.problems import DataProblem, FileMissing, Kind


@dataclass(frozen=True)
class LocalName:
    """One row: the local id, and where the case's problem lies ("" where it has none)."""

    local: str
    where: str


def local_names(home: Path) -> dict[str, LocalName]:
    """Local names by pseudonym, of the store's cases; where there is no store, of those that none could be made of.

    Empty where the file is not there or is no table.

    Raises:
        PermissionRefused, FileUnreadable: the file may not be read, or is no text.
    """
    failed = home / "ingest-failed.csv"
    path = failed if failed.exists() and not (home / "store").exists() else home / "ingest-local.csv"
    try:
        with telling_apart(path), open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (FileMissing, csv.Error):
        return {}
    except DataProblem:
        if path != failed:
            raise
        return {}  # `failed.failed_ingest` makes a finding of it
    return {
        row["case"]: LocalName(row.get("local_id") or "", row.get("where") or "") for row in rows if row.get("case")
    }


def file_named(where: str) -> Path | None:
    """The file or folder that a problem's `where` begins with, if it is one on this machine."""
    for separator in ("; ", ": "):
        where = where.split(separator, maxsplit=1)[0]
    path = Path(where)
    return path if path.is_absolute() and (path.exists() or path.is_symlink() or path.parent.exists()) else None


def own_file(config: SiteConfig, local: str) -> Path:
    """Where a case's data begin: its first image file, its folder of DICOM, or the table that holds its features."""
    source = config.source
    if isinstance(source, TableSource):
        return source.root / source.features
    if isinstance(source, NiftiSource):
        return at(source, next(iter(source.files.values())), local)
    return source.root / source.images / local


def look_command(kind: Kind, name: LocalName, config: SiteConfig) -> str | None:
    """What to type to see the problem with one's own eyes; it changes nothing."""
    path = file_named(name.where)
    table = config.source.root / config.source.clinical.file
    if kind == "mislabelled" and (path is None or path == table) and name.local:
        return shlex.join(["grep", "-n", "-F", "--", name.local, str(table)])
    if path is None:
        return None
    if kind == "corruption" and path.suffix == ".gz":
        return shlex.join(["gzip", "-t", "-v", str(path)])
    if kind == "permission":
        return shlex.join(["namei", "-l", str(path)])
    return shlex.join(["ls", "-ld", str(path if path.exists() else path.parent)])
