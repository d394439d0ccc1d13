"""Ingest, imaging and radiomics of all sites of a one-machine run, on all cores, with progress of each site.

prepare_sites(study, homes, workers=2, tell=lambda site, stage, done, total: ...)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
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
from fedloupe_client.ingest import ingest
from fedloupe_server.simulation.cohort import CohortSpec, write_patient, write_site_tables

CT_COST = 5  # registration makes a patient with a CT as dear as so many without
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
    """Prepare every site; the one with the most work first.

    Args:
        study: the study; each site approves it.
        homes: home by site.
        tell: called with (site, stage, done, total).
        cohort: folder and specification of a synthetic cohort to generate.
        workers: processes; all cores where None.

    Raises:
        FedLoupeError: the first site's error; what other sites finished stays.
    """
    sizes = {s.name: s.patients * (CT_COST if s.has_ct else 1) for s in cohort[1].sites} if cohort else {}
    generated = (str(cohort[0]), cohort[1]) if cohort else None
    jobs = [Job(site, str(home), study.canonical, generated, sizes.get(site, 0)) for site, home in homes.items()]
    jobs.sort(key=lambda job: -job.size)
    count = workers or os.cpu_count() or 1
    context = get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(min(count, len(jobs)), mp_context=context) as pool:
        queue: Queue[tuple[str, str, int, int]] = manager.Queue()
        pending = {pool.submit(_prepare, job, queue) for job in jobs}
        while pending:
            done, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
            _drain(queue, tell)
            for future in done:
                future.result()


def _drain(queue: Queue[tuple[str, str, int, int]], tell: Tell) -> None:
    while True:
        try:
            tell(*queue.get_nowait())
        except Empty:
            return


def _prepare(job: Job, queue: Any) -> None:
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # a process a core: more threads only get in each other's way
    study, home = Study.model_validate_json(job.study), Path(job.home)

    def says(stage: str) -> Callable[[int, int, str], None]:
        return lambda done, total, _: queue.put((job.site, stage, done, total))

    if job.cohort:
        generate_site(Path(job.cohort[0]), job.cohort[1], job.site, says("generate"))
    ingest(load_site(home), study, home, progress=says("ingest"))
    derive(home, study, progress=says("imaging and radiomics"))
    approve(home, study, by="one-machine run")


def generate_site(root: Path, spec: CohortSpec, site: str, progress: Callable[[int, int, str], None]) -> None:
    """Write one synthetic hospital; the tables come last, so their presence says that it is complete."""
    which = spec.site(site)
    if (root / site / "data" / "clinical.csv").exists():
        return
    for index in range(which.patients):
        write_patient(root, spec, which, index)
        progress(index + 1, which.patients, which.case(index))
    write_site_tables(root, spec, which)
