"""DICOM folders: read every header once and say whose files they are.

    paths, refused = walk(root / images)
    headers = read_all(paths, memory, mapper, progress)        # what the memory holds is not read again
    found = sort_out(root / images, {"P-0001", ...}, headers, refused)
    found.slices["P-0001"], found.troubles.get("P-0001"), found.notes

A file belongs to the case that its top folder names, else to the case that its PatientID names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from pydicom.dataset import Dataset

from fedloupe.errors import FedLoupeError
from fedloupe_client.ingest.dicom.alike import Neighbours
from fedloupe_client.ingest.dicom.series import Slice, read_headers
from fedloupe_client.ingest.files import PERMISSION_REMEDY
from fedloupe_client.ingest.identity.attributes import READ, BurnedIn, Identity, identity_notes, identity_of
from fedloupe_client.ingest.problems import PermissionRefused, Trouble
from fedloupe_client.ingest.store.memory import FileMemory, stamp
from fedloupe_client.ingest.workers import Mapper

CHUNK = 256
NOBODY = Identity()
SLICE_FIELDS = ",".join(f"{one.name}:{one.type}" for one in fields(Slice))


@dataclass(frozen=True)
class Headers:
    """What one file gave: headers, nothing (it does not concern us), or a problem.

    `identity` of a file that was remembered has no identifiers: they are kept in memory only.
    """

    path: Path
    stamp: str
    slices: tuple[Slice, ...] = ()
    trouble: Trouble | None = None
    identity: Identity = NOBODY
    remembered: bool = False


@dataclass(frozen=True)
class _Kept:
    slices: tuple[Slice, ...]
    attributes: frozenset[str]
    burned_in: BurnedIn | None


_KEPT = TypeAdapter(_Kept)


@dataclass(frozen=True)
class Found:
    """DICOM headers and problems by local case id.

    Attributes:
        slices: headers by case.
        troubles: the first unreadable file of a case.
        unassigned: the first unreadable file that is nobody's.
        notes: remarks on the folder.
        stamps: of each file when its header was read.
        identities: who is named in a file that was read now; a remembered file is not there.
    """

    slices: dict[str, tuple[Slice, ...]]
    troubles: dict[str, Trouble]
    unassigned: Trouble | None
    notes: tuple[str, ...]
    stamps: dict[Path, str] = field(default_factory=dict)
    identities: dict[Path, Identity] = field(default_factory=dict)


def read_chunk(paths: list[Path]) -> list[Headers]:
    """The headers of several files; a file's problem does not stop the others."""
    found, near = [], Neighbours()
    for path in paths:
        before = stamp(path)
        try:
            found.append(_read(path, before, near))
        except FedLoupeError as error:
            found.append(Headers(path, before, trouble=Trouble.of(error)))
    return found


def _read(path: Path, before: str, near: Neighbours) -> Headers:
    if (known := near.read(path)) is not None:
        return Headers(path, before, (known[0],), identity=known[1])
    named = [NOBODY]

    def look(head: Dataset) -> None:
        named.append(identity_of(head))

    slices = tuple(read_headers(path, READ, look))
    near.learn(path, slices, named[-1])
    return Headers(path, before, slices, identity=named[-1])


def read_all(
    paths: list[Path], memory: FileMemory, mapper: Mapper, progress: Callable[[int, int, str], None]
) -> list[Headers]:
    """The headers of every file, in the order of the paths; of files that did not change, from memory."""
    known = {path: one for path in paths if (one := _recall(memory, path)) is not None}
    unknown = [path for path in paths if path not in known]
    chunks = [unknown[i : i + CHUNK] for i in range(0, len(unknown), CHUNK)]
    for done, (_, chunk) in enumerate(mapper(read_chunk, chunks), start=1):
        for one in chunk:
            known[one.path] = one
            if (text := _to_text(one)) is not None:
                memory.learn("headers", one.path, one.stamp, text)
        progress(done, len(chunks), "reading DICOM headers")
    return [known[path] for path in paths]


def recall_all(paths: list[Path], memory: FileMemory, most: int) -> list[Headers]:
    """The headers that the memory holds of these files, and of `most` others, which are read now."""
    known, unknown = [], []
    for path in paths:
        one = _recall(memory, path)
        if one is None:
            unknown.append(path)
        else:
            known.append(one)
    return known + read_chunk(unknown[:most])


def _recall(memory: FileMemory, path: Path) -> Headers | None:
    now = stamp(path)
    text = memory.recall("headers", path, now)
    if text is None:
        return None
    try:
        kept = _KEPT.validate_json(text)
    except ValidationError:  # JSON has no word for a number that is not finite: read that file again
        return None
    return Headers(
        path, now, kept.slices, identity=Identity(frozenset(), kept.attributes, kept.burned_in), remembered=True
    )


def _to_text(one: Headers) -> str | None:
    """What of a file's headers may be kept on disk; None where it cannot be."""
    if one.trouble is not None:
        return None
    try:
        return _KEPT.dump_json(_Kept(one.slices, one.identity.attributes, one.identity.burned_in)).decode()
    except ValueError:  # a file name that is not Unicode: read that file each time
        return None


def sort_out(folder: Path, cases: frozenset[str], headers: list[Headers], refused: list[Path]) -> Found:
    """Every DICOM file below a folder, by case.

    An unreadable file counts for the case of its top folder, else for the cases of the readable files beside it.
    `unassigned` is the first that belongs to nobody: it may be why a case has no files.

    Args:
        folder: the folder of all DICOM files.
        cases: local ids.
        headers: of each file, from `read_all`.
        refused: folders that may not be listed.
    """
    headers = list(headers)
    for path in refused:
        error = PermissionRefused("this user may not list a folder", where=str(path), remedy=PERMISSION_REMEDY)
        headers.append(Headers(path / "folder", "", trouble=Trouble.of(error)))
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
    notes += identity_notes(one.identity for one in headers)
    return Found(
        slices={case: tuple(items) for case, items in slices.items()},
        troubles=troubles,
        unassigned=unassigned,
        notes=tuple(notes),
        stamps={one.path: one.stamp for one in headers if one.slices},
        identities={one.path: one.identity for one in headers if one.slices and not one.remembered},
    )


def _top(path: Path, folder: Path, cases: frozenset[str]) -> str | None:
    parts = path.relative_to(folder).parts
    return parts[0] if len(parts) > 1 and parts[0] in cases else None


def _owners(path: Path, folder: Path, cases: frozenset[str], beside: dict[Path, set[str]]) -> Iterator[str]:
    top = _top(path, folder, cases)
    yield from [top] if top is not None else sorted(beside.get(path.parent, set()))
