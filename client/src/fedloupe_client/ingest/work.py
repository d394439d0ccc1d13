"""One case as a piece of work for any process: is it done already? If not, read it, check it, keep it.

work = Work(row, case, patient, ..., slices=found.slices["P-0001"])
name = work.name(digests)       # pseudonym and digest of everything that decides the case
done = do(work)                 # its record, ready or with its problem; never raises a problem of the case
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import isal
import pydicom
import SimpleITK as sitk

from fedloupe import __version__
from fedloupe.errors import FedLoupeError
from fedloupe.study import Study
from fedloupe_client.config import DicomSource, NiftiSource, TableSource
from fedloupe_client.ingest.cases import at, from_dicom, from_nifti
from fedloupe_client.ingest.dicom.headers import OBJECTS
from fedloupe_client.ingest.dicom.series import Slice
from fedloupe_client.ingest.drawer import Drawer
from fedloupe_client.ingest.identity.attributes import Identity, read_identity
from fedloupe_client.ingest.identity.leaks import leaks
from fedloupe_client.ingest.problems import NotWritten, SourceChanging, StoreLeaks, Trouble
from fedloupe_client.ingest.store.memory import ABSENT, FileMemory, stamp
from fedloupe_client.ingest.store.records import SCHEMA, CaseRecord
from fedloupe_client.ingest.store.shelf import Entry, Shelf
from fedloupe_client.ingest.tables.clinical import Row, no_outcome
from fedloupe_client.ingest.tables.subgroups import asks_scanner, level_words, scanner_groups

VERSIONS = (SCHEMA, __version__, pydicom.__version__, sitk.Version_VersionString(), isal.__version__)


@dataclass(frozen=True)
class Seen:
    """A source file as it was found; `digest` is SHA-256 of its bytes, or a word where there are none to read."""

    stamp: str
    digest: str

    @property
    def read(self) -> bool:
        """Whether the file was there and could be read."""
        return len(self.digest) == 64


@dataclass(frozen=True)
class Work:
    """One case to be done.

    Attributes:
        rules: by which rules and choices by hand its series are chosen.
        slices: headers of its DICOM files.
        drawer: of the site, where it has a drawing model.
        headers: stamps of these files when their headers were read.
        identities: who is named in these files, where that is known.
        seen: what is already known of its files' bytes.
    """

    row: Row
    case: str
    patient: str
    local_patient: str
    source: DicomSource | NiftiSource | TableSource
    study: Study
    shelf: Shelf
    rules: str = ""
    slices: tuple[Slice, ...] = ()
    trouble: Trouble | None = None
    verify: bool = False
    drawer: Drawer | None = None
    headers: dict[Path, str] = field(default_factory=dict)
    identities: dict[Path, Identity] = field(default_factory=dict)
    seen: dict[Path, Seen] = field(default_factory=dict)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every source file that the case may depend on, there or not, sorted."""
        if isinstance(self.source, TableSource) or self.trouble is not None:
            return ()
        patterns = [] if isinstance(self.source, DicomSource) else list(self.source.files.values())
        if self.source.mask is not None:
            patterns.append(self.source.mask)
        named = {at(self.source, pattern, self.row.local) for pattern in patterns}
        return tuple(sorted(named | {item.path for item in self.slices}))

    @property
    def words(self) -> frozenset[str]:
        """Words of the study and the configuration, which may stand in the store."""
        named = {self.study.study, self.study.endpoint.name, self.study.endpoint.column, "mask"}
        named |= {site.name for site in self.study.sites} | {sequence.name for sequence in self.study.sequences}
        return frozenset(named | {variable.name for variable in self.study.clinical} | level_words(self.study))

    def drawer_for(self, seen: dict[Path, Seen]) -> Drawer | None:
        """The site's drawing model, where the case has no mask of its own at all.

        A mask that is there and wrong, or a structure set without a fitting name, is no reason to draw: the site's own
        tumour may stand in it.
        """
        if isinstance(self.source, TableSource) or any(item.modality in OBJECTS for item in self.slices):
            return None
        file = None if self.source.mask is None else at(self.source, self.source.mask, self.row.local)
        return self.drawer if file is None or seen[file].digest == ABSENT else None

    def name(self, seen: dict[Path, Seen]) -> str:
        """The case's name on the shelf, from all that decides it: its row, its files' paths and bytes, rules, versions.

        Where the files lie, and when they were written, decides nothing.
        """
        row = {name: value for name, value in asdict(self.row).items() if name not in ("groups", "grade")}
        parts = {
            "versions": VERSIONS,
            "row": row,
            "source": self.source.model_dump(mode="json", exclude={"root", "clinical", "rules", "choices", "drawing"}),
            "rules": self.rules,
            "sequences": [sequence.model_dump(mode="json") for sequence in self.study.sequences],
            "files": [(os.path.relpath(path, self.source.root), seen[path].digest) for path in self.files],
        }
        if drawer := self.drawer_for(seen):
            parts["drawing"] = drawer.model
        if isinstance(self.source, DicomSource) and asks_scanner(self.study):
            parts["scanner"] = "asked"
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return f"{self.case}-{digest[:32]}"


@dataclass(frozen=True)
class Done:
    """What became of a case: `name` and `entry` say where its files are, `learned` what its source files hold."""

    record: CaseRecord
    where: str = ""
    name: str = ""
    entry: Entry | None = None
    learned: dict[Path, Seen] = field(default_factory=dict)


def look(path: Path) -> Seen:
    """Read a file to the end for its digest; a file that is absent or refuses has a word instead."""
    seen = stamp(path)
    try:
        with open(path, "rb") as file:
            return Seen(seen, hashlib.file_digest(file, "sha256").hexdigest())
    except (FileNotFoundError, NotADirectoryError):
        return Seen(ABSENT, ABSENT)
    except OSError as error:
        return Seen(seen, type(error).__name__)


def remembered(files: tuple[Path, ...], memory: FileMemory) -> dict[Path, Seen]:
    """What is known of these files without reading them."""
    found = {}
    for path in files:
        now = stamp(path)
        digest = ABSENT if now == ABSENT else memory.recall("digest", path, now)
        if digest is not None:
            found[path] = Seen(now, digest)
    return found


def at_hand(work: Work) -> Done | None:
    """The case without reading any image: left out before it is begun, or finished by an earlier run."""
    if work.trouble is not None:
        return left_out(work, work.trouble)
    if isinstance(work.source, TableSource):
        return _done(work, Entry(sequences=(), notes=(), files={}))
    if any(path not in work.seen for path in work.files):
        return None
    return _found(work, work.seen)


def do(work: Work) -> Done:
    """One case: its record, and its files on the shelf where it is ready.

    Raises:
        NotWritten: the home refuses; every other case would fail as well.
        StoreLeaks: an identifier would reach the store.
    """
    seen = {path: work.seen.get(path) or look(path) for path in work.files}
    if found := _found(work, seen):
        return found
    local = work.row.local
    try:
        if isinstance(work.source, DicomSource):
            case = from_dicom(work.source, work.study, local, work.slices, work.drawer_for(seen))
        elif isinstance(work.source, NiftiSource):
            case = from_nifti(work.source, work.study, local, work.drawer_for(seen))
        else:
            raise TypeError("a feature table has no images to read")
        _check_unchanged({path: one.stamp for path, one in seen.items()})
        _check_unchanged(work.headers)
        name = work.name(seen)
        entry = work.shelf.put(name, case, partial(_check_identity, work))
    except (NotWritten, StoreLeaks):
        raise
    except FedLoupeError as error:
        return left_out(work, Trouble.of(error), seen)
    return _done(work, entry, name, seen)


def left_out(work: Work, trouble: Trouble, learned: dict[Path, Seen] | None = None) -> Done:
    """A case that cannot be used, as a record with its problem.

    Where the outcome is not known, that is the reason; what is wrong besides is a note, because it only keeps the case
    from being predicted.
    """
    row, notes = work.row, work.row.notes
    if row.unlabelled:
        notes = (*notes, f"cannot be predicted either: {trouble.reason} ({trouble.code})")
        trouble = Trouble.of(no_outcome(row.local))
    record = CaseRecord(
        case=work.case,
        patient=work.patient,
        status=trouble.status,
        code=trouble.code,
        kind=trouble.kind,
        reason=trouble.reason,
        remedy=trouble.remedy,
        label=row.label,
        clinical=row.clinical,
        batch=row.batch,
        groups=row.groups,
        grade=row.grade,
        intervals=row.intervals,
        reference=row.reference,
        notes=notes,
    )
    return Done(record, trouble.where, learned=learned or {})


def _done(work: Work, entry: Entry, name: str = "", learned: dict[Path, Seen] | None = None) -> Done:
    """A case whose images are kept: ready, or excluded where its outcome is not known."""
    row = work.row
    trouble = Trouble.of(no_outcome(row.local)) if row.unlabelled else None
    record = CaseRecord(
        case=work.case,
        patient=work.patient,
        status=trouble.status if trouble else "ready",
        code=trouble.code if trouble else None,
        kind=trouble.kind if trouble else None,
        reason=trouble.reason if trouble else "",
        remedy=trouble.remedy if trouble else "",
        label=row.label,
        clinical=row.clinical,
        batch=row.batch,
        groups=scanner_groups(work.study, row.groups, entry.scanner),
        grade=row.grade,
        intervals=row.intervals,
        reference=row.reference,
        sequences=entry.sequences,
        mask=None if isinstance(work.source, TableSource) else "drawn" if entry.drawn_by else "own",
        drawn_by=entry.drawn_by,
        notes=(*row.notes, *entry.notes),
    )
    return Done(
        record, trouble.where if trouble else "", name=name, entry=entry if name else None, learned=learned or {}
    )


def _found(work: Work, seen: dict[Path, Seen]) -> Done | None:
    name = work.name(seen)
    entry = work.shelf.find(name, verify=work.verify)
    return None if entry is None else _done(work, entry, name, seen)


def _check_identity(work: Work, folder: Path) -> None:
    identities = [work.identities.get(item.path) or read_identity(item.path) for item in _one_a_file(work.slices)]
    own = {work.row.local, work.local_patient}
    refuse_leaks(folder, own.union(*(one.identifiers for one in identities)), declared=work.words)


def refuse_leaks(folder: Path, identifiers: Iterable[str], declared: Iterable[str]) -> None:
    """Refuse a folder or file in which an identifier stands.

    Raises:
        StoreLeaks: saying in which files, for the hospital's eyes only.
    """
    if found := leaks(folder, identifiers, declared=declared):
        raise StoreLeaks(
            f"{len(found)} identifiers stand in what would become the store",
            where="; ".join(f"{leak.file}: `{leak.identifier}`" for leak in found[:5]),
            remedy="the earlier store stays; report this with the code, without the identifiers",
        )


def _one_a_file(slices: tuple[Slice, ...]) -> list[Slice]:
    return list({item.path: item for item in slices}.values())


def _check_unchanged(stamps: dict[Path, str]) -> None:
    for path, before in stamps.items():
        if stamp(path) != before:
            raise SourceChanging(
                "a source file changed while it was read",
                where=str(path),
                remedy="wait until the export has ended, then run ingest again",
            )
