"""From a hospital's files to its case store, whole or not at all; only what changed is done again.

report = ingest(load_site(home), study, home, workers=2)
report.statuses            # {'ready': 118, 'excluded': 3, 'broken': 2}

home/ingest/               a lock, what is known of source files, and finished cases (`lock`, `memory`, `shelf`)
home/store.new/            the new store, until it is complete
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fedloupe.errors import FedLoupeError
from fedloupe.study import Study
from fedloupe_client.config import DicomSource, NiftiSource, SiteConfig, TableSource
from fedloupe_client.ingest.dicom.choices import Choices, read_choices
from fedloupe_client.ingest.dicom.folders import SLICE_FIELDS, Found, read_all, sort_out
from fedloupe_client.ingest.dicom.rules import load_rules
from fedloupe_client.ingest.drawer import Drawer
from fedloupe_client.ingest.files import sync, telling_apart, walk, write_whole
from fedloupe_client.ingest.identity.pseudonyms import pseudonym, site_key
from fedloupe_client.ingest.problems import (
    ConfigMismatch,
    NoneReady,
    OneClass,
    PatientRepeated,
    SequenceMissing,
    SiteUnknown,
    Trouble,
)
from fedloupe_client.ingest.store.lock import locked, work_folder
from fedloupe_client.ingest.store.memory import FileMemory
from fedloupe_client.ingest.store.records import SCHEMA, CaseRecord, Index, IngestReport, recover
from fedloupe_client.ingest.store.shelf import Shelf
from fedloupe_client.ingest.tables.clinical import Row, read_clinical_table
from fedloupe_client.ingest.tables.readymade import FeatureTable, read_features
from fedloupe_client.ingest.work import VERSIONS, Done, Work, at_hand, do, left_out, refuse_leaks, remembered
from fedloupe_client.ingest.workers import Mapper, mapping

Progress = Callable[[int, int, str], None]
Source = DicomSource | NiftiSource | TableSource


def ingest(
    config: SiteConfig,
    study: Study,
    home: Path,
    *,
    progress: Progress | None = None,
    workers: int = 1,
    verify: bool = False,
) -> IngestReport:
    """Build `home/store` anew; an earlier store stays until the new one is complete, and survives any error.

    A case whose files, row and rules are as they were is taken over from an earlier run, also from one that was
    killed. The store's bytes depend on the source, the study, `site.yaml` and the site's secret, on nothing else.

    A problem of a case becomes its record and never stops the others; a problem of the site is raised before
    anything is written. `home/ingest-local.csv` (mode 0600) tells the hospital which local id is which case, and where
    each problem lies; with `home/ingest` it holds identifiers, and is no part of the store. When no store can be made
    of the cases, `home/ingest-failed.csv` says the same.

    Args:
        config: from `load_site`, its root absolute.
        study: the study to ingest for.
        home: the site's home folder.
        progress: called with (done, total, what) for files, then for cases; what holds no identifier.
        workers: processes. They are spawned: a script calls this under `if __name__ == "__main__"`.
        verify: read every file again, though size, time and inode say that it did not change.

    Raises:
        SiteUnknown, ConfigMismatch, FileMissing, PermissionRefused, FileUnreadable, ColumnMissing, TableEmpty,
        FeatureNotNumeric, ScaleNotAccepted, RulesInvalid, ChoicesInvalid, DrawingUnreadable,
        DrawingUnsuited: the site, before anything is written.
        IngestRunning: another process works in this home.
        WorkerLost, NotWritten: the machine; finished cases are kept for the next run.
        StoreLeaks: an identifier would reach the store.
        OneClass: a training site's labels, before or after the cases were read.
        NoneReady: no case passed.
    """
    role = study.role(config.site)
    if role is None:
        raise SiteUnknown(
            f"the study has no site `{config.site}`",
            where="site.yaml",
            remedy=f"use one of {', '.join(f'`{s.name}`' for s in study.sites)}",
        )
    source = config.source
    _check(config, study)
    clinical = read_clinical_table(source, study, role)
    rows = clinical.rows
    rules, choices = _rules(source)
    drawer = Drawer.of(source, study)
    table = read_features(source, study) if isinstance(source, TableSource) else None
    paths, refused = walk(source.root / source.images) if isinstance(source, DicomSource) else ([], [])
    report = progress or (lambda done, total, what: None)
    with telling_apart(home):
        folder = work_folder(home)
    memory_version = str((VERSIONS, SLICE_FIELDS))
    with (
        locked(home),
        mapping(workers) as mapper,
        FileMemory(folder / "files.sqlite", memory_version, anew=verify) as memory,
    ):
        recover(home)
        shelf = Shelf(folder / "cases")
        shelf.tidy()
        found = Found({}, {}, None, ())
        if isinstance(source, DicomSource):
            headers = read_all(paths, memory, mapper, report)
            cases = frozenset(row.local for row in rows)
            found = sort_out(source.root / source.images, cases, headers, refused)
        works = _works(rows, source, study, shelf, found, site_key(home), verify)
        works = [
            replace(work, rules=json.dumps([rules, _own(choices, work.row.local)]), drawer=drawer) for work in works
        ]
        done = _do_all(works, memory, mapper, report)
        memory.keep_only({*paths, *(path for work in works for path in work.files)})
        lines: dict[str, tuple[float, ...]] = {}
        if table is not None:
            done, lines = _take_features(works, done, table)
        records = tuple(sorted((one.record for one in done), key=lambda record: record.case))
        local = _local_csv(works, done)
        if problem := _unusable(records, role):
            write_whole(home / "ingest-failed.csv", local)
            raise problem
        fresh = home / "store.new"
        try:
            index = Index(
                schema_version=SCHEMA,
                site=config.site,
                source=source.format,
                endpoint_column=study.endpoint.column,
                records=records,
            )
            _assemble(fresh, index, done, shelf, None if table is None else _features_csv(table.names, lines))
            _check_identity(fresh, works, records, clinical.identifiers, verify)
            _swap(home)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        write_whole(home / "ingest-local.csv", local)
        (home / "ingest-failed.csv").unlink(missing_ok=True)
        shelf.keep_only({one.name for one in done})
    return IngestReport(
        site=config.site, records=records, notes=(*clinical.notes, *found.notes, *_drawn(records, drawer))
    )


def _drawn(records: tuple[CaseRecord, ...], drawer: Drawer | None) -> tuple[str, ...]:
    """What is to be said where a model drew masks."""
    ready = [record for record in records if record.status == "ready"]
    count = sum(record.mask == "drawn" for record in ready)
    if drawer is None or not count:
        return ()
    said = f"masks of {count} of {len(ready)} ready cases were drawn by model {drawer.model}: look at them"
    alone = "no case has a mask of its own: if it should, check where site.yaml says that masks lie"
    return (said, alone) if count == len(ready) else (said,)


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


def _rules(source: Source) -> tuple[str, Choices]:
    """The rules by which series are chosen, as text, and the site's choices by hand."""
    if not isinstance(source, DicomSource):
        return load_rules(None).model_dump_json(), {}
    rules = load_rules(None if source.rules is None else source.root / source.rules)
    choices = {} if source.choices is None else read_choices(source.root / source.choices)
    return rules.model_dump_json(), choices


def _own(choices: Choices, local: str) -> list[tuple[str, str]]:
    return sorted((sequence, series) for (case, sequence), series in choices.items() if case == local)


def _works(
    rows: tuple[Row, ...], source: Source, study: Study, shelf: Shelf, found: Found, key: bytes, verify: bool
) -> list[Work]:
    works = []
    patients = {}
    for row in rows:
        names = {item.patient for item in found.slices.get(row.local, ())}
        header = names.pop() if len(names) == 1 else ""  # of several, none: the case is refused for that (FL-227)
        patients[row.local] = row.patient or header or row.local
    count = Counter(patients[row.local] for row in rows if row.problem is None and not row.unlabelled)
    for row in rows:
        slices = found.slices.get(row.local, ())
        trouble = row.problem or found.troubles.get(row.local)
        if trouble is None and not row.unlabelled and count[patients[row.local]] > 1:
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
            Work(
                row=row,
                case=case,
                patient=pseudonym(key, "patient", patient),
                local_patient=patient,
                source=source,
                study=study,
                shelf=shelf,
                slices=slices,
                trouble=trouble,
                verify=verify,
                headers={item.path: found.stamps[item.path] for item in slices},
                identities={item.path: found.identities[item.path] for item in slices if item.path in found.identities},
            )
        )
    return works


def _do_all(works: list[Work], memory: FileMemory, mapper: Mapper, report: Progress) -> list[Done]:
    """Every case, in the order of the works: from an earlier run where nothing changed, else by the mapper."""
    works = [replace(work, seen=remembered(work.files, memory)) for work in works]
    done = {number: one for number, work in enumerate(works) if (one := at_hand(work)) is not None}
    for count, one in enumerate(done.values(), start=1):
        report(count, len(works), f"case {one.record.case}")
    waiting = [number for number in range(len(works)) if number not in done]
    for place, one in mapper(do, [works[number] for number in waiting]):
        done[waiting[place]] = one
        for path, seen in one.learned.items():
            if seen.read:
                memory.learn("digest", path, seen.stamp, seen.digest)
        report(len(done), len(works), f"case {one.record.case}")
    return [done[number] for number in range(len(works))]


def _take_features(
    works: list[Work], done: list[Done], table: FeatureTable
) -> tuple[list[Done], dict[str, tuple[float, ...]]]:
    """The features of the ready cases, and of those without an outcome; one whose row is not usable is left out."""
    result, lines = [], {}
    for work, one in zip(works, done, strict=True):
        if one.record.status == "ready" or (work.row.unlabelled and work.trouble is None):
            try:
                lines[work.case] = table.take(work.row.local)
            except FedLoupeError as error:
                result.append(left_out(work, Trouble.of(error)))
                continue
        result.append(one)
    return result, lines


def _features_csv(names: tuple[str, ...], lines: dict[str, tuple[float, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", *names])
    writer.writerows([case, *map(repr, lines[case])] for case in sorted(lines))
    return text.getvalue()


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


def _local_csv(works: list[Work], done: list[Done]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["local_id", "local_patient", "case", "status", "code", "reason", "remedy", "where", "mask"])
    for work, one in zip(works, done, strict=True):
        r = one.record
        writer.writerow(
            [work.row.local, work.local_patient, r.case, r.status, r.code, r.reason, r.remedy, one.where, r.mask]
        )
    return text.getvalue()


def _assemble(fresh: Path, index: Index, done: list[Done], shelf: Shelf, features: str | None) -> None:
    """The new store beside the old one, durable."""
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    for one in done:
        if one.entry is not None:
            folder = fresh / "cases" / one.record.case
            shelf.lend(one.name, one.entry, folder)
            sync(folder)
    if (fresh / "cases").exists():
        sync(fresh / "cases")
    if features is not None:
        write_whole(fresh / "features.csv", features)
    write_whole(fresh / "index.json", index.model_dump_json(indent=1) + "\n")


def _check_identity(
    fresh: Path, works: list[Work], records: tuple[CaseRecord, ...], identifiers: frozenset[str], verify: bool
) -> None:
    """No local id in the new store. Each case's images were searched before they came onto the shelf.

    A number of the records may equal an id that is a number; it tells nobody who it is.
    """
    identifiers = identifiers.union(*({work.row.local, work.local_patient} for work in works))
    numbers = {str(int(v)) for r in records for v in (*r.clinical.values(), *r.intervals.values()) if v is not None}
    words = works[0].words
    refuse_leaks(fresh / "index.json", identifiers, words | numbers)
    if (fresh / "features.csv").exists():
        refuse_leaks(fresh / "features.csv", {text for text in identifiers if not text.isdigit()}, words)
    elif verify:
        refuse_leaks(fresh / "cases", identifiers, words)


def _swap(home: Path) -> None:
    """Put the new store in the old one's place; `recover` mends an interruption between the two renames."""
    old = home / "store.old"
    shutil.rmtree(old, ignore_errors=True)
    if (home / "store").exists():
        os.rename(home / "store", old)
    os.rename(home / "store.new", home / "store")
    sync(home)
    shutil.rmtree(old, ignore_errors=True)
