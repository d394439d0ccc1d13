"""Processes of one thread each: as many as there are cores, and no library that starts more threads in them.

with one_thread_each():
    pool = ProcessPoolExecutor(2, mp_context=get_context("spawn"))
    ...                                     # the processes start here

Two processes with two threads each took half as long again as with one, on two cores.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


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
