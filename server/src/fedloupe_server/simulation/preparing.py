"""Ingest, imaging and radiomics of all sites of a one-machine run, on all cores, with progress of each site.

prepare_sites(study, homes, workers=2, tell=lambda site, stage, done, total: ...)

A site is one piece of work up to its store, and from there a few patients are: whichever core is free takes the next.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import SimpleITK as sitk
import torch

from fedloupe.study import Study
from fedloupe_client.config import load_site
from fedloupe_client.dataset import derive
from fedloupe_client.gate import approve
from fedloupe_client.ingest import ingest, load_store
from fedloupe_client.processes import one_thread_each
from fedloupe_server.simulation.cohort import CohortSpec, write_patient, write_site_tables

PART = 4  # patients a piece of work: near the end no core waits longer than for one
DERIVING = "imaging and radiomics"
Tell = Callable[[str, str, int, int], None]


@dataclass(frozen=True)
class Job:
    """One site's preparation; with a cohort, its synthetic data are generated first."""

    site: str
    home: str
    study: str
    cohort: tuple[str, CohortSpec] | None
    size: int


def prepare_sites(
    study: Study,
    homes: Mapping[str, Path],
    tell: Tell,
    *,
    cohort: tuple[Path, CohortSpec] | None = None,
    workers: int | None = None,
) -> None:
    """Prepare every site; the largest first.

    Args:
        study: the study; each site approves it.
        homes: home by site.
        tell: called with (site, stage, done, total).
        cohort: folder and specification of a synthetic cohort to generate.
        workers: processes; all cores where None.

    Raises:
        FedLoupeError: the first site's error; what other sites finished stays.
    """
    sizes = {s.name: s.patients for s in cohort[1].sites} if cohort else {}
    generated = (str(cohort[0]), cohort[1]) if cohort else None
    jobs = [Job(site, str(home), study.canonical, generated, sizes.get(site, 0)) for site, home in homes.items()]
    jobs.sort(key=lambda job: -job.size)
    context = get_context("spawn")
    with (
        one_thread_each(),
        context.Manager() as manager,
        ProcessPoolExecutor(workers or os.cpu_count() or 1, mp_context=context) as pool,
    ):
        queue: Queue[tuple[str, str, int, int]] = manager.Queue()
        storing = {pool.submit(_store, job, queue): job for job in jobs}
        deriving: dict[Future[None], tuple[str, int]] = {}
        ready: dict[str, int] = {}
        done: Counter[str] = Counter()
        while storing or deriving:
            pending: set[Future[Any]] = {*storing, *deriving}
            wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
            _drain(queue, tell)
            for stored in [future for future in storing if future.done()]:
                job, cases = storing.pop(stored), stored.result()
                ready[job.site] = len(cases)
                for part in (cases[first : first + PART] for first in range(0, len(cases), PART)):
                    deriving[pool.submit(_derive, job, part)] = (job.site, len(part))
            for derived in [future for future in deriving if future.done()]:
                site, count = deriving.pop(derived)
                derived.result()
                done[site] += count
                tell(site, DERIVING, done[site], ready[site])


def _drain(queue: Queue[tuple[str, str, int, int]], tell: Tell) -> None:
    while True:
        try:
            tell(*queue.get_nowait())
        except Empty:
            return


def _store(job: Job, queue: Any) -> tuple[str, ...]:
    """The site's store and its approval of the study; returns the cases that are left to derive."""
    _one_thread()
    study, home = Study.model_validate_json(job.study), Path(job.home)

    def says(stage: str) -> Callable[[int, int, str], None]:
        return lambda done, total, _: queue.put((job.site, stage, done, total))

    if job.cohort:
        generate_site(Path(job.cohort[0]), job.cohort[1], job.site, says("generate"))
    ingest(load_site(home), study, home, progress=says("ingest"))
    approve(home, study, by="one-machine run")
    return tuple(record.case for record in load_store(home).ready) if study.sequences else ()


def _derive(job: Job, cases: tuple[str, ...]) -> None:
    _one_thread()
    derive(Path(job.home), Study.model_validate_json(job.study), cases=cases)


def _one_thread() -> None:
    """A process a core: more threads only get in each other's way."""
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def generate_site(root: Path, spec: CohortSpec, site: str, progress: Callable[[int, int, str], None]) -> None:
    """Write one synthetic hospital; the tables come last, so their presence says that it is complete."""
    which = spec.site(site)
    if (root / site / "data" / "clinical.csv").exists():
        return
    for index in range(which.patients):
        write_patient(root, spec, which, index)
        progress(index + 1, which.patients, which.case(index))
    write_site_tables(root, spec, which)
