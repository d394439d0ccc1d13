"""From a hospital's files to its case store, whole or not at all.

report = ingest(load_site(home), study, home, workers=2)
report.statuses            # {'ready': 118, 'excluded': 3, 'broken': 2}
"""

from __future__ import annotations

import csv
import io
import multiprocessing
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fedloupe.errors import FedLoupeError
from fedloupe.study import Study
from fedloupe_client.config import DicomSource, NiftiSource, SiteConfig, TableSource
from fedloupe_client.ingest.cases import from_dicom, from_nifti
from fedloupe_client.ingest.dicom import Slice
from fedloupe_client.ingest.files import telling_apart
from fedloupe_client.ingest.folders import Found, sort_out
from fedloupe_client.ingest.problems import (
    ConfigMismatch,
    NoneReady,
    OneClass,
    PatientRepeated,
    SequenceMissing,
    SiteUnknown,
    Trouble,
)
from fedloupe_client.ingest.pseudonyms import pseudonym, site_key
from fedloupe_client.ingest.records import SCHEMA, CaseRecord, Index, IngestReport, recover
from fedloupe_client.ingest.tables import Row, read_clinical, read_features

Progress = Callable[[int, int, str], None]
Given = TypeVar("Given")
Got = TypeVar("Got")


@dataclass(frozen=True)
class _Map:
    """`map`, in this process or in several, in order."""

    pool: Executor | None

    def __call__(self, function: Callable[[Given], Got], items: list[Given]) -> Iterator[Got]:
        return map(function, items) if self.pool is None else self.pool.map(function, items)


@dataclass(frozen=True)
class _Work:
    """One case to be done, by any process. `features` is there for a feature table only."""

    row: Row
    case: str
    patient: str
    local_patient: str
    source: DicomSource | NiftiSource | TableSource
    study: Study
    folder: Path
    slices: tuple[Slice, ...] = ()
    trouble: Trouble | None = None


@dataclass(frozen=True)
class _Done:
    record: CaseRecord
    where: str = ""


def ingest(
    config: SiteConfig, study: Study, home: Path, *, progress: Progress | None = None, workers: int = 1
) -> IngestReport:
    """Build `home/store` anew; an earlier store stays until the new one is complete, and survives any error.

    A problem of a case becomes its record and never stops the others; a problem of the site is raised before
    anything is written. `home/ingest-local.csv` (mode 0600) tells the hospital which local id is which case, and where
    each problem lies; it is the one file with identifiers, and no part of the store. When no store can be made of the
    cases, `home/ingest-failed.csv` says the same.

    Args:
        config: from `load_site`, its root absolute.
        study: the study to ingest for.
        home: the site's home folder.
        progress: called with (done, total, what) for files, then for cases; what holds no identifier.
        workers: processes. They are spawned: a script calls this under `if __name__ == "__main__"`.

    Raises:
        SiteUnknown, ConfigMismatch, FileMissing, PermissionRefused, FileUnreadable, ColumnMissing, TableEmpty,
        FeatureNotNumeric: the site, before anything is written.
        OneClass: a training site's labels, before or after the cases were read.
        NoneReady: no case passed.
    """
    role = study.role(config.site)
    if role is None:
        raise SiteUnknown(
            f"the study has no site `{config.site}`",
            where="site.yaml",
            remedy=f"use one of {[s.name for s in study.sites]}",
        )
    source = config.source
    _check(config, study)
    rows = read_clinical(source, study, role)
    table = read_features(source, study) if isinstance(source, TableSource) else None
    report = progress or (lambda done, total, what: None)
    with _mapping(workers) as mapper:
        found = _files(source, rows, mapper, report)
        recover(home)
        fresh = home / "store.new"
        with telling_apart(home):
            home.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(mode=0o700)
        try:
            works = _works(rows, source, study, fresh, found, site_key(home))
            done = []
            for number, one in enumerate(mapper(_do, works), start=1):
                done.append(one)
                report(number, len(works), f"case {one.record.case}")
            if table is not None:
                done = _take_features(works, done, table.take, fresh, table.names)
            records = tuple(sorted((one.record for one in done), key=lambda record: record.case))
            local = _local_csv(works, done)
            if problem := _unusable(records, role):
                _write(home / "ingest-failed.csv", local)
                raise problem
            index = Index(
                schema_version=SCHEMA,
                site=config.site,
                source=source.format,
                endpoint_column=study.endpoint.column,
                records=records,
            )
            (fresh / "index.json").write_text(index.model_dump_json(indent=1) + "\n", encoding="utf-8")
            _swap(home)
            _write(home / "ingest-local.csv", local)
            (home / "ingest-failed.csv").unlink(missing_ok=True)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return IngestReport(site=config.site, records=records, notes=found.notes)


@contextmanager
def _mapping(workers: int) -> Iterator[_Map]:
    if workers <= 1:
        yield _Map(None)
        return
    # spawned, because a forked copy of a process in which ITK has started threads can hang
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield _Map(pool)


def _check(config: SiteConfig, study: Study) -> None:
    """What `site.yaml` and the study must agree on beyond each one's own rules."""
    source = config.source
    problems = []
    names = {sequence.name for sequence in study.sequences}
    if (study.radiomics.source == "table") != isinstance(source, TableSource):
        problems.append(f"the study's features are `{study.radiomics.source}`, the site's source is `{source.format}`")
    elif not isinstance(source, TableSource):
        given = source.series if isinstance(source, DicomSource) else source.files
        if unknown := sorted(set(given) - names):
            problems.append(f"sequences {unknown} are not in the study, which has {sorted(names)}")
        patterns = {} if isinstance(source, DicomSource) else {**source.files}
        if source.mask is not None:
            patterns["mask"] = source.mask
        problems += [f"`{key}` has no `{{case}}`" for key, value in patterns.items() if "{case}" not in value]
    if "mask" in names:
        problems.append("the study calls a sequence `mask`, which is the tumour's name in the store")
    if isinstance(source, DicomSource):
        for key, pattern in {**source.series, "roi": source.roi}.items():
            try:
                re.compile(pattern)
            except re.error as error:
                problems.append(f"`{key}` is no regular expression: {error}")
    if isinstance(source, NiftiSource):
        required = {sequence.name for sequence in study.sequences if sequence.required}
        if absent := sorted(required - set(source.files)):
            problems.append(f"`files` has no pattern for {absent}, which the study requires")
    if problems:
        raise ConfigMismatch("; ".join(problems), where="site.yaml", remedy="see configs/site-example.yaml")


def _files(
    source: DicomSource | NiftiSource | TableSource, rows: tuple[Row, ...], mapper: _Map, report: Progress
) -> Found:
    if not isinstance(source, DicomSource):
        return Found({}, {}, None, ())

    def counted(function: Callable[[Given], Got], chunks: list[Given]) -> Iterable[Got]:
        for number, one in enumerate(mapper(function, chunks), start=1):
            report(number, len(chunks), "reading DICOM headers")
            yield one

    return sort_out(source.root / source.images, frozenset(row.local for row in rows), counted)


def _works(
    rows: tuple[Row, ...],
    source: DicomSource | NiftiSource | TableSource,
    study: Study,
    fresh: Path,
    found: Found,
    key: bytes,
) -> list[_Work]:
    works = []
    patients = {}
    for row in rows:
        slices = found.slices.get(row.local, ())
        header = slices[0].patient if slices else ""
        patients[row.local] = row.patient or header or row.local
    count = Counter(patients[row.local] for row in rows if row.problem is None)
    for row in rows:
        slices = found.slices.get(row.local, ())
        trouble = row.problem or found.troubles.get(row.local)
        if trouble is None and count[patients[row.local]] > 1:
            trouble = Trouble.of(
                PatientRepeated(
                    f"{count[patients[row.local]]} cases are of one patient",
                    where=f"{row.local}: patient {patients[row.local]}",
                    remedy="keep one of them in the clinical table, or leave the others out with `clinical.where`",
                )
            )
        if trouble is None and isinstance(source, DicomSource) and not slices:
            trouble = found.unassigned or Trouble.of(
                SequenceMissing(
                    "there is no DICOM file of this case", where=row.local, remedy="add it, if there is one"
                )
            )
        case = pseudonym(key, "case", row.local)
        patient = patients[row.local]
        works.append(
            _Work(
                row=row,
                case=case,
                patient=pseudonym(key, "patient", patient),
                local_patient=patient,
                source=source,
                study=study,
                folder=fresh / "cases" / case,
                slices=slices,
                trouble=trouble,
            )
        )
    return works


def _do(work: _Work) -> _Done:
    """One case, in any process: its record, and its files where it is ready."""
    if work.trouble is not None:
        return _left_out(work, work.trouble)
    row = work.row
    sequences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    if not isinstance(work.source, TableSource):
        try:
            if isinstance(work.source, DicomSource):
                case = from_dicom(work.source, work.study, row.local, work.slices)
            else:
                case = from_nifti(work.source, work.study, row.local)
        except FedLoupeError as error:
            return _left_out(work, Trouble.of(error))
        case.save(work.folder)
        sequences, notes = tuple(case.volumes), case.notes
    return _Done(
        CaseRecord(
            case=work.case,
            patient=work.patient,
            status="ready",
            label=row.label,
            clinical=row.clinical,
            reference=row.reference,
            sequences=sequences,
            notes=notes,
        )
    )


def _left_out(work: _Work, trouble: Trouble) -> _Done:
    record = CaseRecord(
        case=work.case,
        patient=work.patient,
        status=trouble.status,
        code=trouble.code,
        reason=trouble.reason,
        remedy=trouble.remedy,
        label=work.row.label,
        clinical=work.row.clinical,
        reference=work.row.reference,
    )
    return _Done(record, trouble.where)


def _take_features(
    works: list[_Work],
    done: list[_Done],
    take: Callable[[str], tuple[float, ...]],
    fresh: Path,
    names: tuple[str, ...],
) -> list[_Done]:
    """Write `features.csv` of the ready cases; a case whose row is not usable is left out."""
    result, lines = [], {}
    for work, one in zip(works, done, strict=True):
        if one.record.status == "ready":
            try:
                lines[work.case] = take(work.row.local)
            except FedLoupeError as error:
                result.append(_left_out(work, Trouble.of(error)))
                continue
        result.append(one)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", *names])
    writer.writerows([case, *map(repr, lines[case])] for case in sorted(lines))
    (fresh / "features.csv").write_text(text.getvalue(), encoding="utf-8")
    return result


def _unusable(records: tuple[CaseRecord, ...], role: str) -> FedLoupeError | None:
    ready = [record for record in records if record.status == "ready"]
    left = ", ".join(f"{n} x {code}" for code, n in sorted(Counter(r.code for r in records if r.code).items()))
    remedy = "ingest-failed.csv in the site's home names each case, its problem and where it lies"
    if not ready:
        return NoneReady(f"none of {len(records)} cases is ready ({left})", where="ingest", remedy=remedy)
    if role == "train" and len(labels := {record.label for record in ready}) == 1:
        what = f"the {len(ready)} ready cases of {len(records)} all have label {labels.pop()} ({left})"
        return OneClass(what, where="ingest", remedy=remedy)
    return None


def _local_csv(works: list[_Work], done: list[_Done]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["local_id", "local_patient", "case", "status", "code", "reason", "remedy", "where"])
    for work, one in zip(works, done, strict=True):
        r = one.record
        writer.writerow([work.row.local, work.local_patient, r.case, r.status, r.code, r.reason, r.remedy, one.where])
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    """Replace a file whole, readable by its owner only."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(part, path)


def _swap(home: Path) -> None:
    """Put the new store in the old one's place; `recover` mends an interruption between the two renames."""
    old = home / "store.old"
    shutil.rmtree(old, ignore_errors=True)
    if (home / "store").exists():
        os.rename(home / "store", old)
    os.rename(home / "store.new", home / "store")
    shutil.rmtree(old, ignore_errors=True)
