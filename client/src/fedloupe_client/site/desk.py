"""One request at a time, and nobody waits for long: a caller hears `Working` and asks again.

    desk = Desk(site.handle, site.progress, patience_s=30)
    reply = desk.ask(blob)                  # the answer, or an encoded `Working` after half a minute

The work goes on whether or not anybody waits. Asking again with the same request, wrapped anew or not, attaches to it;
another request waits in line. Each caller's own bytes go through the site's gate before it gets an answer: attaching
saves the work, which the gate keeps by the request's digest, and no check.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLong
from dataclasses import dataclass
from typing import NamedTuple

from fedloupe.messages import Failure, Message, MessageRefused, SumRequest, Working, decode, encode
from fedloupe_client.site.progress import Progress, Told

PATIENCE_S = 30.0
"""Seconds that a caller waits for an answer before it hears `Working`."""
CARRIED = 2**20
"""Bytes carried in a second: a caller with a large request waits longer, and so sends it less often."""
KEPT_FAILURES = 16
LONGEST_FAILURE = 4096
"""Bytes."""


class Asked(NamedTuple):
    """A request as the desk needs it.

    Attributes:
        key: digest of the inner request; the same however it was wrapped.
        header: the fields that its answer repeats; None for bytes that are no request.
    """

    key: str
    header: dict[str, str] | None


def read(blob: bytes) -> Asked:
    """What is asked for, without any check: that is the gate's business. A term of a sum is known by what it asks."""
    try:
        message: Message = decode(blob)
        header = {name: str(getattr(message, name)) for name in Message.model_fields}
        inner = message.inner.tobytes() if isinstance(message, SumRequest) else blob
        return Asked(hashlib.sha256(inner).hexdigest(), header)
    except MessageRefused:
        return Asked(hashlib.sha256(blob).hexdigest(), None)


@dataclass
class _Work:
    """A request in line or under way; `owned` while the caller who brought it waits, `answer` once it is there."""

    future: Future[bytes]
    owned: bool = True
    answer: bytes | None = None


class Desk:
    """The line before a site's work.

    Args:
        handle: answers a request; called in one thread, one request at a time.
        progress: of the running request, which `handle` writes.
        patience_s: seconds that a caller waits.
        read: what a caller asks for.
    """

    def __init__(
        self,
        handle: Callable[[bytes], bytes],
        progress: Progress,
        *,
        patience_s: float = PATIENCE_S,
        read: Callable[[bytes], Asked] = read,
    ) -> None:
        self._handle, self._progress, self._patience_s, self._read = handle, progress, patience_s, read
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fedloupe-site")
        self._lock = threading.Lock()
        self._works: dict[str, _Work] = {}
        self._running: str | None = None
        self._failures: dict[str, bytes] = {}

    def ask(self, blob: bytes, there: Callable[[], bool] = lambda: True) -> bytes:
        """The answer, or `Working`.

        Args:
            blob: an encoded request.
            there: whether the caller still waits: a failure that nobody heard is told to who asks again.

        Raises:
            Exception: whatever the work raised.
        """
        asked = self._read(blob)
        while True:
            with self._lock:
                if (failure := self._failures.pop(asked.key, None)) is not None:
                    return failure
                work = self._works.get(asked.key)
                owner = work is None
                if work is None:
                    work = self._works[asked.key] = _Work(self._thread.submit(self._work, asked.key, blob))
            answer = self._wait(work, asked, len(blob))
            if answer is None:
                with self._lock:
                    if work.answer is None:
                        work.owned = work.owned and not owner
                        return self._working(asked)
                    answer = work.answer  # in this very moment
            if owner:
                if not there() and _failed(answer):
                    with self._lock:
                        self._keep_failure(asked.key, answer)
                return answer
            if _failed(answer):
                return answer
            # the answer is on disk now: the caller's own bytes bring it, through the gate

    def stop(self) -> None:
        """Begin nothing more; what runs ends by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _wait(self, work: _Work, asked: Asked, size: int) -> bytes | None:
        """The answer, or None when the caller has waited long enough; bytes that are no request get no `Working`."""
        patience = None if asked.header is None else self._patience_s + size / CARRIED
        try:
            return work.future.result(patience)
        except TooLong:
            return None

    def _work(self, key: str, blob: bytes) -> bytes:
        self._running = key
        self._progress.begin("working")
        try:
            answer = self._handle(blob)
        except BaseException:
            with self._lock:
                self._works.pop(key)
            raise
        with self._lock:
            work = self._works.pop(key)
            work.answer = answer
            if not work.owned and _failed(answer):
                self._keep_failure(key, answer)
        return answer

    def _keep_failure(self, key: str, answer: bytes) -> None:
        """Failures are not on disk, and begin anew when they are asked for: this one has taken its time already."""
        self._failures[key] = answer
        while len(self._failures) > KEPT_FAILURES:
            self._failures.pop(next(iter(self._failures)))

    def _working(self, asked: Asked) -> bytes:
        told = self._progress.now if self._running == asked.key else Told("waiting", None, None)
        return encode(Working.model_validate({**(asked.header or {}), **told._asdict()}))


def _failed(answer: bytes) -> bool:
    try:
        return len(answer) <= LONGEST_FAILURE and isinstance(decode(answer), Failure)
    except MessageRefused:
        return False
