"""Hospitals whose work takes time, on a clock that only the tests move: they say `Working` every half minute."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from typing import Any

from fedloupe.messages import Failure, Message, SumRequest, Working, decode, encode
from fedloupe_server.federation.exchange import NOT_CONNECTED, Arrival, Outbox
from fedloupe_server.federation.waiting import Clock

PATIENCE_S, TICK_S = 30.0, 5.0
AWAY = -1.0


class Town:
    """An exchange and its clock.

    Attributes:
        now: seconds.
        log: (seconds, request) of everything that arrived, except by a silent site.
        work: seconds that a request takes at its site; None: the site is silent; a Failure: it says that; AWAY: nothing
            can be sent to it.
        naps: seconds that the coordinator slept, each time.
    """

    def __init__(self, answer: Callable[[Any], Message]) -> None:
        self.now = 1000.0
        self.answer = answer
        self.work: Callable[[Any], float | Failure | None] = lambda request: 1.0
        self.log: list[tuple[float, Any]] = []
        self.naps: list[float] = []
        self._ends: dict[tuple[str, str], float] = {}
        self.clock = Clock(lambda: self.now, self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds

    def __call__(self, outbox: Outbox, timeout_s: float) -> Generator[Arrival | None, None, None]:
        coming: dict[str, tuple[float, bytes | None]] = {}
        while True:
            for site, blob in outbox:
                coming[site] = self._said(blob, timeout_s)
            if not coming:
                return
            site = min(coming, key=lambda name: coming[name][0])
            if coming[site][0] > self.now:
                self.now = min(coming[site][0], self.now + TICK_S)
                yield None
            else:
                blob = coming.pop(site)[1]
                yield Arrival(site, blob or None, NOT_CONNECTED if blob == b"" else "")

    def _said(self, blob: bytes, timeout_s: float) -> tuple[float, bytes | None]:
        """When something comes, and what."""
        request = decode(blob)
        takes = self.work(request)
        if takes is None:
            return self.now + timeout_s, None
        if takes == AWAY:
            return self.now, b""
        self.log.append((self.now, request))
        if isinstance(takes, Failure):
            return self.now + 1, encode(takes)
        inner = request.inner.tobytes() if isinstance(request, SumRequest) else blob
        key = (request.site, hashlib.sha256(inner).hexdigest())
        end = self._ends.setdefault(key, self.now + takes)
        if (left := end - self.now) <= PATIENCE_S:
            return self.now + max(0.0, left), encode(self.answer(request))
        header = {name: getattr(request, name) for name in Message.model_fields}
        told = Working(**header, stage="training", fraction=round(1 - left / takes, 2), seconds=left)
        return self.now + PATIENCE_S, encode(told)

    def asked(self, kind: str, **fields: Any) -> list[Any]:
        return [m for _, m in self.log if m.kind == kind and all(getattr(m, k) == v for k, v in fields.items())]
