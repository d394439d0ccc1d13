"""One request at a time, and nobody waits for long: a caller hears `Working` and asks again.

    desk = Desk(site.enter, site.progress, site.tell, patience_s=30)
    reply = desk.ask(blob)                  # the answer, or an encoded `Working` after half a minute

The work goes on whether or not anybody waits. Asking again with the same request, under a new seal, attaches to it;
another request waits in line. Each caller's seal is looked at before it hears anything, and its own request goes
through the site's gate before it gets an answer: attaching saves the work, which the gate keeps by the request's
digest, and no check.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLong
from dataclasses import dataclass, field
from typing import NamedTuple

from fedloupe.messages import Failure, Message, MessageRefused, SumRequest, Working, decode, encode
from fedloupe_client.site.progress import Progress, Told

PATIENCE_S = 30.0
"""Seconds that a caller waits for an answer before it hears `Working`."""
CARRIED = 2**20
"""Bytes carried in a second: a caller with a large request waits longer, and so sends it less often."""
FORGOTTEN_S = 180.0
"""Seconds after which work in line is not begun if nobody asked for it again: coordinators ask each half minute."""
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


class Entered(NamedTuple):
    """A request whose seal was good.

    Attributes:
        inner: the request, encoded.
        work: gives the answer; called in the desk's own thread.
    """

    inner: bytes
    work: Callable[[], bytes]


@dataclass
class _Work:
    """A request in line or under way.

    Attributes:
        future: its answer.
        header: what its answers repeat.
        owned: the caller who brought it waits.
        asked: when it was asked for last, in the clock's seconds.
        answer: once it is there.
    """

    future: Future[bytes]
    header: dict[str, str] | None
    owned: bool = True
    asked: float = field(default_factory=time.monotonic)
    answer: bytes | None = None


class Desk:
    """The line before a site's work.

    Args:
        enter: looks at a seal, in the caller's thread; what it refuses it answers itself.
        progress: of the running request, which the work writes.
        tell: a `Working` as it leaves.
        again: notes a request that attached to another's work, and the failure that it heard, if any.
        patience_s: seconds that a caller waits.
        forgotten_s: seconds after which nobody is thought to want what is still in line.
    """

    def __init__(
        self,
        enter: Callable[[bytes], Entered | bytes],
        progress: Progress,
        tell: Callable[[Working], bytes] = encode,
        again: Callable[[bytes, bytes | None], None] = lambda inner, failure: None,
        *,
        patience_s: float = PATIENCE_S,
        forgotten_s: float = FORGOTTEN_S,
    ) -> None:
        self._enter, self._progress, self._tell, self._patience_s = enter, progress, tell, patience_s
        self._again, self._forgotten_s = again, forgotten_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fedloupe-site")
        self._lock = threading.Lock()
        self._works: dict[str, _Work] = {}
        self._running: str | None = None
        self._failures: dict[str, bytes] = {}

    def ask(self, blob: bytes, there: Callable[[], bool] = lambda: True) -> bytes:
        """The answer, or `Working`.

        Args:
            blob: as it came.
            there: whether the caller still waits: a failure that nobody heard is told to who asks again.

        Raises:
            Exception: whatever the work raised.
        """
        entered = self._enter(blob)
        if isinstance(entered, bytes):
            return entered
        asked = read(entered.inner)
        while True:
            with self._lock:
                work = self._works.get(asked.key)
                failure = None if work else self._failures.pop(asked.key, None)
                owner = work is None
                if work is not None:
                    work.asked = time.monotonic()
                elif failure is None:
                    future = self._thread.submit(self._work, asked.key, entered.work)
                    work = self._works[asked.key] = _Work(future, asked.header)
            if work is None:
                return self._shared(entered.inner, failure)
            answer = self._wait(work, asked, len(blob))
            if answer is None:
                with self._lock:
                    if work.answer is None:
                        work.owned = work.owned and not owner
                        break
                    answer = work.answer  # in this very moment
            if owner:
                if not there() and _failed(answer):
                    with self._lock:
                        self._keep_failure(asked.key, answer)
                return answer
            if _failed(answer):
                return self._shared(entered.inner, answer)
            # the answer is on disk now: the caller's own request brings it, through the gate
        if not owner:
            self._again(entered.inner, None)
        return self._working(asked)

    def _shared(self, inner: bytes, failure: bytes | None) -> bytes:
        """A failure that this very request had a moment ago."""
        assert failure is not None
        self._again(inner, failure)
        return failure

    def stop(self) -> None:
        """Begin nothing more; what runs ends by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def join(self) -> None:
        """Wait for the end of what runs, once stopped."""
        self._thread.shutdown(wait=True)

    def _wait(self, work: _Work, asked: Asked, size: int) -> bytes | None:
        """The answer, or None when the caller has waited long enough; bytes that are no request get no `Working`."""
        patience = None if asked.header is None else self._patience_s + size / CARRIED
        try:
            return work.future.result(patience)
        except TooLong:
            return None

    def _work(self, key: str, work: Callable[[], bytes]) -> bytes:
        with self._lock:
            waiting = self._works[key]
            if waiting.header is not None and time.monotonic() - waiting.asked > self._forgotten_s:
                del self._works[key]  # as a round that the coordinator closed without this site
                return encode(Working.model_validate({**waiting.header, **Told("waiting", None, None)._asdict()}))
        self._running = key
        self._progress.begin("working")
        try:
            answer = work()
        except BaseException:
            with self._lock:
                self._works.pop(key)
            raise
        with self._lock:
            waiting = self._works.pop(key)
            waiting.answer = answer
            if not waiting.owned and _failed(answer):
                self._keep_failure(key, answer)
        return answer

    def _keep_failure(self, key: str, answer: bytes) -> None:
        """Failures are not on disk, and begin anew when they are asked for: this one has taken its time already."""
        self._failures[key] = answer
        while len(self._failures) > KEPT_FAILURES:
            self._failures.pop(next(iter(self._failures)))

    def _working(self, asked: Asked) -> bytes:
        told = self._progress.now if self._running == asked.key else Told("waiting", None, None)
        return self._tell(Working.model_validate({**(asked.header or {}), **told._asdict()}))


def _failed(answer: bytes) -> bool:
    try:
        return len(answer) <= LONGEST_FAILURE and isinstance(decode(answer), Failure)
    except MessageRefused:
        return False
