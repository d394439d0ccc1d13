"""Processes of one thread each: as many as there are cores, and no library that starts more threads in them.

with one_thread_each():
    pool = ProcessPoolExecutor(2, mp_context=get_context("spawn"))
    ...                                     # the processes start here

begin_forkserver("fedloupe_client.ingest.work")     # get_context("forkserver") then starts a process at once

Two processes with two threads each took half as long again as with one, on two cores.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver

_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread_each() -> Iterator[None]:
    """What is started meanwhile uses one thread in OpenMP, BLAS and Numba; this process goes on as it is."""
    before = {name: os.environ.get(name) for name in _VARIABLES}
    os.environ.update(dict.fromkeys(_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def begin_forkserver(*modules: str) -> None:
    """Start the process that workers are forked from, and let it import these modules while this one goes on.

    It imports once for all workers, and runs nothing: a copy of a process in which ITK or torch has started threads can
    hang, and in this one there is a single thread. Where it runs already, nothing happens.
    """
    multiprocessing.set_forkserver_preload(list(modules))
    with one_thread_each():
        forkserver.ensure_running()
