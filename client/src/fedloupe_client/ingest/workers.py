"""`map` over one process or several, that do not outlive this one.

with mapping(2) as mapper:
    for number, result in mapper(function, items):      # as they are done; `number` is the item's place
        ...
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import SimpleITK as sitk

from fedloupe_client.ingest.problems import WorkerLost
from fedloupe_client.processes import begin_forkserver

Given = TypeVar("Given")
Got = TypeVar("Got")

PRELOADED = ("fedloupe_client.ingest.work", "fedloupe_client.ingest.dicom.folders")


@dataclass(frozen=True)
class Mapper:
    """Applies a function in this process, or in those of a pool."""

    pool: ProcessPoolExecutor | None

    def __call__(self, function: Callable[[Given], Got], items: Sequence[Given]) -> Iterator[tuple[int, Got]]:
        """Each item's place and result, as they are done.

        Raises:
            WorkerLost: a process of the pool was ended from outside.
        """
        if self.pool is None:
            yield from ((number, function(item)) for number, item in enumerate(items))
            return
        futures = {self.pool.submit(function, item): number for number, item in enumerate(items)}
        try:
            for future in as_completed(futures):
                yield futures.pop(future), future.result()
        except BrokenProcessPool:
            raise WorkerLost(
                "a worker process ended before its work was done",
                where="ingest",
                remedy="memory may have run out: run ingest again with fewer `--workers`; finished cases are kept",
            ) from None


@contextmanager
def mapping(workers: int) -> Iterator[Mapper]:
    """A mapper over `workers` processes, started on first use; 1 stays in this one.

    Processes are forked from one that has imported this room and started no thread (`processes.begin_forkserver`).
    """
    if workers <= 1:
        yield Mapper(None)
        return
    begin_forkserver(*PRELOADED)
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("forkserver"), initializer=_begin)
    try:
        yield Mapper(pool)
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Use one core, and end with the parent: without this a killed ingest would leave its workers at work."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
