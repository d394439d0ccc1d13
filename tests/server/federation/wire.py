"""An exchange to real secure sums over invented answers, and the plain sums to hold them to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tests.helpers.certified import Registrar

from fedloupe.errors import FedLoupeError
from fedloupe.masking import Term, reply_of, sum_digest, term_of
from fedloupe.messages import (
    DescribeRequest,
    KeysRequest,
    Message,
    SharesRequest,
    SumRequest,
    TrainRequest,
    UnmaskRequest,
    decode,
)
from fedloupe.study import Study
from fedloupe_client.gate.sums import SecureSums
from fedloupe_server.federation.conversation import Conversation
from fedloupe_server.federation.exchange import Arrival, Outbox

SITES = ("east", "north", "south", "west", "york")
SIZES = {"east": 20, "north": 30, "south": 10, "west": 25, "york": 15}
PHASES = ("keys", "shares", "sum", "unmask")


class Wire:
    """An exchange to real secure sums over invented answers; keeps what it carried, may lose what it likes.

    Attributes:
        seen: every reply that came back, in order.
        lose: called with each request; true: the site is silent.
    """

    def __init__(self, hospitals: Any, folder: Path, study: Study) -> None:
        self.hospitals, self.folder, self.study = hospitals, folder, study
        self.registrar = Registrar(folder / "registrar")
        self.seen: list[Message] = []
        self.asked: list[Message] = []
        self.lose: Callable[[Any], bool] = lambda request: False

    def __call__(self, outbox: Outbox, timeout_s: float) -> Iterator[Arrival | None]:
        for site, blob in outbox:
            request = decode(blob)
            self.asked.append(request)
            if self.lose(request):
                continue
            try:
                reply = self.answer(request)
            except FedLoupeError as error:
                reply = self.hospitals.failure(request, error.code, error.title)
            self.seen.append(reply)
            yield Arrival(site, self.hospitals.bytes_of(reply))

    def sums(self, site: str) -> SecureSums:
        home = self.registrar.home(self.folder / site, site)
        return SecureSums(home, site)  # anew each time: what it knows is on disk

    def answer(self, request: Any) -> Message:
        sums = self.sums(request.site)
        match request:
            case KeysRequest():
                return sums.keys(request)
            case SharesRequest():
                return sums.shares(request, self.study)
            case UnmaskRequest():
                return sums.unmask(request)
            case SumRequest():
                inner = decode(request.inner.tobytes())
                return sums.mask(request, sum_digest(inner), self.hospitals.answer(inner), self.study)
        reply: Message = self.hospitals.answer(request)
        return reply

    def kinds(self) -> list[str]:
        return [m.kind for m in self.seen]


def describing(header: dict[str, Any]) -> DescribeRequest:
    return DescribeRequest(**header)


def training(header: dict[str, Any], weights: int = 50) -> TrainRequest:
    return TrainRequest(**header, round=1, scope="federated", weights=np.linspace(-1, 1, weights, dtype=np.float32))


def plain_sum(wire: Wire, make: Any, kind: Any, sites: tuple[str, ...]) -> Message:
    """The sum of the sites' own answers, added in the clear."""
    header = Conversation(wire.study, wire, "trial").header
    requests = {site: make(header(site)) for site in sites}
    replies = [wire.hospitals.answer(request) for request in requests.values()]
    found = [term_of(reply, equal=False) for reply in replies]
    total = Term(
        sum_words([term.wide for term, _ in found]),
        np.sum([term.narrow for term, _ in found], axis=0),
    )
    return reply_of(total, found[0][1], kind, next(iter(requests.values())), len(found), equal=False)


def sum_words(terms: list[np.ndarray]) -> np.ndarray:
    """Ring elements added as Python integers."""
    flat = [
        sum(int.from_bytes(np.ascontiguousarray(term[i]).tobytes(), "little") for term in terms) % 2**384
        for i in range(len(terms[0]))
    ]
    words = b"".join(value.to_bytes(48, "little") for value in flat)
    return np.frombuffer(words, dtype=np.int64).reshape(-1, 6)


def same(one: Message, two: Message) -> bool:
    return all(np.array_equal(getattr(one, n), getattr(two, n)) for n in type(one).model_fields)
