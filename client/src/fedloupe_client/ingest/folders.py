"""DICOM folders: read every header once and say whose files they are.

    found = sort_out(root / images, {"P-0001", ...}, mapper)
    found.slices["P-0001"], found.troubles.get("P-0001"), found.notes

A file belongs to the case that its top folder names, else to the case that its PatientID names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fedloupe.errors import FedLoupeError
from fedloupe_client.ingest.dicom import Slice, read_headers
from fedloupe_client.ingest.files import PERMISSION_REMEDY, walk
from fedloupe_client.ingest.problems import PermissionRefused, Trouble

CHUNK = 64
Mapper = Callable[[Callable[[list[Path]], list["Headers"]], list[list[Path]]], Iterable[list["Headers"]]]


@dataclass(frozen=True)
class Headers:
    """What one file gave: headers, nothing (it does not concern us), or a problem."""

    path: Path
    slices: tuple[Slice, ...] = ()
    trouble: Trouble | None = None


@dataclass(frozen=True)
class Found:
    """DICOM headers and problems by local case id."""

    slices: dict[str, tuple[Slice, ...]]
    troubles: dict[str, Trouble]
    unassigned: Trouble | None
    notes: tuple[str, ...]


def read_chunk(paths: list[Path]) -> list[Headers]:
    """The headers of several files; a file's problem does not stop the others."""
    found = []
    for path in paths:
        try:
            found.append(Headers(path, tuple(read_headers(path))))
        except FedLoupeError as error:
            found.append(Headers(path, trouble=Trouble.of(error)))
    return found


def sort_out(folder: Path, cases: frozenset[str], mapper: Mapper) -> Found:
    """Every DICOM file below a folder, by case.

    An unreadable file counts for the case of its top folder, else for the cases of the readable files beside it.
    `unassigned` is the first that belongs to nobody: it may be why a case has no files.

    Raises:
        FileMissing, PermissionRefused: the folder itself.
    """
    paths, refused = walk(folder)
    chunks = [paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK)]
    headers = [one for chunk in mapper(read_chunk, chunks) for one in chunk]
    for path in refused:
        error = PermissionRefused("this user may not list a folder", where=str(path), remedy=PERMISSION_REMEDY)
        headers.append(Headers(path / "folder", trouble=Trouble.of(error)))
    slices: dict[str, list[Slice]] = {}
    beside: dict[Path, set[str]] = {}
    strangers: set[str] = set()
    for one in headers:
        for item in one.slices:
            owner = _top(one.path, folder, cases) or (item.patient if item.patient in cases else None)
            if owner is None:
                strangers.add(item.series)
            else:
                slices.setdefault(owner, []).append(item)
                beside.setdefault(one.path.parent, set()).add(owner)
    troubles: dict[str, Trouble] = {}
    unassigned: Trouble | None = None
    for one in headers:
        if one.trouble is not None:
            owners = list(_owners(one.path, folder, cases, beside))
            for owner in owners:
                troubles.setdefault(owner, one.trouble)
            if not owners and unassigned is None:
                unassigned = one.trouble
    ignored = sum(not one.slices and one.trouble is None for one in headers)
    notes = []
    if strangers:
        notes.append(f"{len(strangers)} series belong to no case of the clinical table")
    if ignored:
        notes.append(f"{ignored} files are not images, structure sets or segmentations and were passed over")
    return Found({case: tuple(items) for case, items in slices.items()}, troubles, unassigned, tuple(notes))


def _top(path: Path, folder: Path, cases: frozenset[str]) -> str | None:
    parts = path.relative_to(folder).parts
    return parts[0] if len(parts) > 1 and parts[0] in cases else None


def _owners(path: Path, folder: Path, cases: frozenset[str], beside: dict[Path, set[str]]) -> Iterator[str]:
    top = _top(path, folder, cases)
    yield from [top] if top is not None else sorted(beside.get(path.parent, set()))
