"""Every case measured and drawn, several at a time; one case in memory a process.

for look in look_at_all(home, config, study, workers=2):
    look.case, look.sequences, look.tumour, look.planes
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import SimpleITK as sitk

from fedloupe.study import Study
from fedloupe_client.config import DicomSource, SiteConfig
from fedloupe_client.ingest import CaseRecord, Store, load_store
from fedloupe_client.ingest.dicom.series import Slice
from fedloupe_client.preflight.leftover import dicom_of, leftover
from fedloupe_client.preflight.local import local_names
from fedloupe_client.preflight.measures import SequenceLook, TumourLook, measure, measure_tumour
from fedloupe_client.preflight.pictures import Plane, three_planes

LOOKS_A_WORKER = 50
"""Starting a process costs seconds; a case is looked at in a tenth of one."""
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class CaseLook:
    """One case: its record, what was measured, and its pictures (none where there is no image)."""

    record: CaseRecord
    sequences: dict[str, SequenceLook] = field(default_factory=dict)
    tumour: TumourLook | None = None
    planes: tuple[Plane, ...] = ()

    @property
    def case(self) -> str:
        """The pseudonym."""
        return self.record.case


@dataclass(frozen=True)
class _Job:
    home: Path
    config: SiteConfig
    study: Study
    record: CaseRecord
    local: str
    stored: bool
    slices: tuple[Slice, ...]


def look_at_all(
    home: Path,
    config: SiteConfig,
    study: Study,
    *,
    unstored: tuple[CaseRecord, ...] | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> tuple[CaseLook, ...]:
    """Measure and draw every case of the store, ready or not; sorted by case.

    Args:
        home: the site's home.
        config: its configuration; images of cases that were left out are sought there.
        study: the study.
        unstored: the cases of a home without a store: what image they have is drawn, nothing is measured.
        workers: processes at most. They are spawned: a script calls this under `if __name__ == "__main__"`.
        progress: called with (done, total, case) after each case.

    Raises:
        StoreMissing, StoreUnreadable: the store.
    """
    names = local_names(home)
    records = load_store(home).records if unstored is None else unstored
    local = {record.case: names[record.case].local if record.case in names else "" for record in records}
    lost = {record.case for record in records if local[record.case] and (record.status != "ready" or unstored)}
    slices: dict[str, tuple[Slice, ...]] = {}
    if lost and isinstance(config.source, DicomSource):
        slices = dicom_of(home, config.source, frozenset(local.values()) - {""})
    jobs = [
        _Job(
            home,
            config,
            study,
            record,
            local[record.case],
            unstored is None,
            slices.get(local[record.case], ()) if record.case in lost else (),
        )
        for record in records
    ]
    workers = workers_for(len(jobs) if study.sequences else 0, workers, LOOKS_A_WORKER)
    looks = []

    def took(look: CaseLook) -> None:
        looks.append(look)
        if progress:
            progress(len(looks), len(jobs), look.case)

    if workers == 1:
        for job in jobs:
            took(_look_at(job))
    else:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            for look in pool.map(_look_at, jobs):
                took(look)
    return tuple(looks)


def workers_for(cases: int, workers: int, each: int) -> int:
    """Processes that pay for their start: one for `each` cases, `workers` at most, one at least."""
    return max(1, min(workers, cases // each))


def _look_at(job: _Job) -> CaseLook:
    record = job.record
    if not job.study.sequences:
        return CaseLook(record)
    if record.status != "ready" or not job.stored:
        found = leftover(job.config.source, job.study, job.local, job.slices) if job.local else None
        return CaseLook(record, planes=() if found is None else three_planes(found.image, found.mask))
    return _stored(load_store(job.home), record, job.study)


def _stored(store: Store, record: CaseRecord, study: Study) -> CaseLook:
    sequences: dict[str, SequenceLook] = {}
    planes: tuple[Plane, ...] = ()
    mask = store.mask(record.case)
    first = study.sequences[0].name
    for name in record.sequences:
        image: sitk.Image = store.volume(record.case, name)
        sequences[name] = measure(image)
        if name == first:
            planes = three_planes(image, mask)
    return CaseLook(record, sequences, measure_tumour(mask), planes)
