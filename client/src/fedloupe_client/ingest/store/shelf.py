"""Finished cases, kept between runs so that nothing is done twice.

    shelf = Shelf(home / "ingest" / "cases")
    shelf.put(name, case)               # whole or not at all
    shelf.find(name)                    # None: not there, or changed since
    shelf.lend(name, folder)            # hard links: the store needs no second copy

The name of an entry is the case's pseudonym and a digest of everything that decides it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from fedloupe_client.ingest.cases import Case
from fedloupe_client.ingest.files import sync, write_whole
from fedloupe_client.ingest.problems import NotWritten

ENTRY = "entry.json"


class Written(BaseModel):
    """One file as it was written; a later change shows in its size or time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    mtime_ns: int
    sha256: str


class Entry(BaseModel):
    """`entry.json`, written last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sequences: tuple[str, ...]
    notes: tuple[str, ...]
    files: dict[str, Written]
    drawn_by: str | None = None
    scanner: dict[str, str] = {}


@dataclass(frozen=True)
class Shelf:
    """A folder of finished cases."""

    folder: Path

    def tidy(self) -> None:
        """Make the folder, and remove what a killed run left half done."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self.folder.glob(".*"):
            shutil.rmtree(path)

    def find(self, name: str, *, verify: bool = False) -> Entry | None:
        """The entry, if its files are as they were written; `verify` reads them to be sure."""
        folder = self.folder / name
        try:
            entry = Entry.model_validate_json((folder / ENTRY).read_bytes())
            same = all(_unchanged(folder / file, as_written, verify) for file, as_written in entry.files.items())
        except (OSError, ValidationError):
            return None
        return entry if same else None

    def put(self, name: str, case: Case, check: Callable[[Path], None]) -> Entry:
        """Write a case under a temporary name, check it, make it durable, and give it its name.

        Raises:
            NotWritten: the disk is full, or the folder refuses.
            FedLoupeError: what `check` raises of the written folder; nothing is kept then.
        """
        part, folder = self.folder / f".{name}", self.folder / name
        try:
            shutil.rmtree(part, ignore_errors=True)
            case.save(part)
            check(part)
            files = sorted(part.iterdir())
            for path in files:
                sync(path)
            entry = Entry(
                sequences=tuple(case.volumes),
                notes=case.notes,
                files={f.name: _written(f) for f in files},
                drawn_by=case.drawn_by,
                scanner=case.scanner,
            )
            write_whole(part / ENTRY, entry.model_dump_json(indent=1) + "\n")
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(part, folder)
            sync(self.folder)
        except (OSError, RuntimeError) as error:  # SimpleITK raises RuntimeError where it cannot write
            raise NotWritten(
                f"a finished case cannot be written ({type(error).__name__})",
                where=f"{self.folder}: {str(error).strip().splitlines()[-1][:300]}",
                remedy="free disk space in the site's home and run ingest again; finished cases are kept",
            ) from None
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return entry

    def lend(self, name: str, entry: Entry, target: Path) -> None:
        """The case's files in a new folder, as hard links where the file system has them."""
        target.mkdir(parents=True)
        for file in entry.files:
            try:
                os.link(self.folder / name / file, target / file)
            except OSError:
                shutil.copyfile(self.folder / name / file, target / file)

    def keep_only(self, names: Collection[str]) -> None:
        """Remove every other entry."""
        for path in self.folder.iterdir():
            if path.name not in names:
                shutil.rmtree(path)


def _written(path: Path) -> Written:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    status = path.stat()
    return Written(size=status.st_size, mtime_ns=status.st_mtime_ns, sha256=digest)


def _unchanged(path: Path, as_written: Written, verify: bool) -> bool:
    status = path.stat()
    if (status.st_size, status.st_mtime_ns) != (as_written.size, as_written.mtime_ns):
        return False
    return not verify or _written(path) == as_written
