"""The site processes of a one-machine run: a few workers that share the sites out, so that every core trains.

with working_sites(homes, loads, workers=2, log=Path("sites.log")) as handlers:
    exchange = inprocess_exchange(handlers, at_once=len(handlers))
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock

import SimpleITK as sitk
import torch

from fedloupe.errors import FedLoupeError
from fedloupe_client.processes import one_thread_each
from fedloupe_client.site.site import Site

Handler = Callable[[bytes], bytes]
STOP_S = 10.0
_LOGGER = logging.getLogger("fedloupe_client")


@contextmanager
def working_sites(
    homes: Mapping[str, Path], loads: Mapping[str, int], *, workers: int, log: Path
) -> Iterator[dict[str, Handler]]:
    """`Site.handle` of every site: in this process with one worker, else in several that end with the context.

    An answer depends on nothing but the site and the request, so the number of workers changes no number.

    Args:
        homes: home by site.
        loads: training patients by site, to share the work out evenly.
        workers: processes at most.
        log: file for the sites' own words, which may name cases.

    Raises:
        FedLoupeError: a home that cannot be opened.
    """
    if min(workers, len(homes)) <= 1:
        with _one_thread_meanwhile(log):
            yield {name: Site(home).handle for name, home in homes.items()}
        return
    with ExitStack() as stack:
        started = [
            stack.enter_context(_worker({name: homes[name] for name in share}, log))
            for share in shared_out(loads, min(workers, len(homes)))
        ]
        for worker in started:
            worker.opened()
        yield {name: worker.handler(name) for worker in started for name in worker.sites}


def shared_out(loads: Mapping[str, int], workers: int) -> list[list[str]]:
    """Sites by worker: the largest first, each to the worker with the least so far (Graham 1969)."""
    shares: list[list[str]] = [[] for _ in range(workers)]
    sums = [0] * workers
    for name in sorted(loads, key=lambda name: (-loads[name], name)):
        least = min(range(workers), key=lambda i: (sums[i], len(shares[i])))
        shares[least].append(name)
        sums[least] += loads[name]
    return shares


class _Worker:
    """One process and the pipe to it; it answers one request at a time."""

    def __init__(self, pipe: Connection, sites: tuple[str, ...]) -> None:
        self.sites = sites
        self._pipe, self._lock = pipe, Lock()

    def opened(self) -> None:
        """Wait until its sites are open, and raise what kept one from it."""
        if isinstance(problem := self._pipe.recv(), FedLoupeError):
            raise problem

    def handler(self, site: str) -> Handler:
        """`Site.handle` of one of its sites; EOFError when the process has died."""

        def handle(blob: bytes) -> bytes:
            with self._lock:
                self._pipe.send_bytes(site.encode())
                self._pipe.send_bytes(blob)
                return self._pipe.recv_bytes()

        return handle


@contextmanager
def _worker(homes: dict[str, Path], log: Path) -> Iterator[_Worker]:
    context = get_context("spawn")  # a forked copy of a process in which torch has run can hang
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, homes, log), daemon=True)
    with one_thread_each():
        process.start()
    theirs.close()
    try:
        yield _Worker(ours, tuple(homes))
    finally:
        ours.close()  # the worker reads the end of the pipe and leaves
        process.join(STOP_S)
        if process.is_alive():  # in the middle of a long round
            process.terminate()
            process.join()


def _serve(pipe: Connection, homes: dict[str, Path], log: Path) -> None:
    one_thread(log)
    try:
        sites = {name: Site(home) for name, home in homes.items()}
    except FedLoupeError as error:
        pipe.send(error)
        return
    pipe.send(None)
    while True:
        try:
            name, blob = pipe.recv_bytes().decode(), pipe.recv_bytes()
            pipe.send_bytes(sites[name].handle(blob))
        except (EOFError, BrokenPipeError, ConnectionResetError):  # the run ended
            return


def one_thread(log: Path) -> None:
    """The numbers must not depend on the cores; the sites' words go to a file, as those of a hospital would."""
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    handler = logging.FileHandler(log, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    for other in _taken_off():
        other.close()
    _LOGGER.addHandler(handler)
    _LOGGER.propagate = False


@contextmanager
def _one_thread_meanwhile(log: Path) -> Iterator[None]:
    """As `one_thread`; afterwards this process has its threads, and its words the way, that they had."""
    threads, itk_threads = torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    handlers, propagate = _taken_off(), _LOGGER.propagate
    try:
        one_thread(log)
        yield
    finally:
        torch.set_num_threads(threads)
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(itk_threads)
        for ours in _taken_off():
            ours.close()
        for handler in handlers:
            _LOGGER.addHandler(handler)
        _LOGGER.propagate = propagate


def _taken_off() -> list[logging.Handler]:
    """The handlers of the sites' logger, which has none afterwards."""
    handlers = list(_LOGGER.handlers)
    for handler in handlers:
        _LOGGER.removeHandler(handler)
    return handlers
