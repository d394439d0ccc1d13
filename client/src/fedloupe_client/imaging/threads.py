# mypy: disable-error-code="no-untyped-call"
# (SimpleITK ships wrappers without types)
"""One thread, for the same bytes each time.

with one_thread():
    method.Execute(fixed, moving)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import SimpleITK as sitk


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold ITK to one thread and give back what it had.

    `SetNumberOfThreads` of a filter does not reach the metric and the smoothing inside it: they take ITK's own default,
    add in the order in which threads finish, and so differ in the last digits from run to run.
    """
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
