"""An `Exchange` over Flower's Grid: one uint8 array a message, replies mapped back to the site that was asked.

    exchange = GridExchange(grid, {"north": 4711, "south": 815})
    for arrival in exchange(Outbox(["north", "south"], encode), timeout_s=3600.0): ...

The same class serves the deployed federation and the in-process one.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedloupe.errors import FedLoupeError
from fedloupe.messages import encode
from fedloupe.sealed import seal
from fedloupe.signing import Signer
from fedloupe_server.federation.exchange import NOT_CONNECTED, Arrival, Outbox

RECORD, ARRAY = "fedloupe", "message"  # as in fedloupe_client.courier.app, which the coordinator need not install
ACTION = "query.ask"
# A message outlives the wait a little: the clocks of two hospitals and ours are never quite the same.
SLACK_S = 600.0
LONGEST_POLL_S = 1.0
AT_ONCE = 4
"""Replies that are pulled, and so held, together."""
UPLOAD_POLL_S, LONGEST_UPLOAD_POLL_S = 0.1, 2.0
_log = logging.getLogger(__name__)


class NotOneMessage(FedLoupeError):
    """A reply is not one array of bytes."""

    code = "FL-721"
    title = "not a FedLoupe message record"


def pack(blob: bytes) -> RecordDict:
    """Bytes as one uint8 array: one object for Flower, however many tensors are inside."""
    return RecordDict({RECORD: ArrayRecord({ARRAY: Array(np.frombuffer(blob, dtype=np.uint8))})})


def unpack(content: RecordDict) -> bytes:
    """The bytes in a record made by `pack`.

    Raises:
        NotOneMessage: other records, other arrays, or another dtype or shape.
    """
    arrays = content.array_records.get(RECORD)
    if list(content.keys()) != [RECORD] or arrays is None or list(arrays.keys()) != [ARRAY]:
        raise NotOneMessage("unexpected records", remedy="run the same FedLoupe version everywhere")
    try:
        array = arrays[ARRAY].numpy()
    except (TypeError, ValueError, EOFError, OSError):  # what NumPy says of a damaged or foreign encoding
        array = None
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != 1:
        raise NotOneMessage("not a line of uint8", remedy="run the same FedLoupe version everywhere")
    return array.tobytes()


def emptied(content: RecordDict) -> None:
    """Let go of the bytes at once: Flower's records hold each other, so the garbage collector would, messages later."""
    for record in content.array_records.values():
        for name in list(record.keys()):
            del record[name]


def hasten() -> None:
    """Look for the parts of an answer that is still being uploaded after 0.1 s, then 0.2 s, ..., 2 s.

    Flower begins with 1 s, ends at 10 s, and offers an answer as soon as its upload begins: most answers would cost
    that second. A Flower without this inner name is only slower.
    """
    from flwr.superlink.grid import http_grid

    if hasattr(http_grid, "pull_objects"):
        # As long as before (two hours), so without the limit on the number of looks.
        http_grid.pull_objects = functools.partial(
            http_grid.pull_objects,
            initial_backoff=UPLOAD_POLL_S,
            backoff_cap=LONGEST_UPLOAD_POLL_S,
            max_tries_per_object=None,
        )
    else:
        _log.warning("Flower has changed inside: answers arrive up to a second later")


class GridExchange:
    """The sites behind a Grid, as `fedloupe_server.federation.exchange.Exchange`.

    Messages are pushed one by one and replies pulled a few at a time, so that a round's memory does not grow with the
    number of sites.

    Args:
        grid: Flower's, or the in-process one.
        nodes: node id by name of a site that can be reached; looked at each time, for sites come and go.
        key: of the coordinator, to sign each request anew when it is sent; None: for whoever asks for no signature.
        poll_s: seconds between the first two looks at the inbox, growing to `LONGEST_POLL_S` (Flower's own
            `send_and_receive` waits 3 s each time).
        pause: waits so many seconds, or less where something arrived.
        observer: told in one line how each exchange went.
    """

    def __init__(
        self,
        grid: Grid,
        nodes: Mapping[str, int],
        *,
        key: Signer | None = None,
        poll_s: float = 0.2,
        pause: Callable[[float], object] = time.sleep,
        observer: Callable[[str], None] | None = None,
    ) -> None:
        self._grid, self._nodes, self._poll_s, self._pause = grid, nodes, poll_s, pause
        self._key = key
        self._observer = observer or _log.info
        self._count = 0

    def __call__(self, outbox: Outbox, timeout_s: float) -> Generator[Arrival | None, None, None]:
        """Ask these sites at once; what comes is yielded as it comes. One that has no node now counts as silent."""
        self._count += 1
        began, tally = time.monotonic(), _Tally()
        waiting: dict[str, _Sent] = {}
        poll_s = self._poll_s
        try:
            while True:
                for site, blob in outbox:
                    tally.asked += 1
                    # Which message asked whom: error replies are written by the SuperLink and name no hospital.
                    if (node := self._nodes.get(site)) is None:
                        yield tally.missing(site, NOT_CONNECTED)
                        continue
                    with tally.timing("push"):
                        id_ = self._push(node, blob, timeout_s)
                    if id_ is None:
                        yield tally.missing(site, "could not be sent")
                    else:
                        waiting[id_] = _Sent(site, time.monotonic() + timeout_s)
                        yield from self._arrived(waiting, tally)
                came = False
                for arrival in self._arrived(waiting, tally):
                    came = True
                    yield arrival
                for id_ in [id_ for id_, sent in waiting.items() if time.monotonic() >= sent.end]:
                    came = True
                    yield tally.missing(waiting.pop(id_).site, "silent")
                if outbox.sites:
                    continue
                if not waiting:
                    return
                poll_s = self._poll_s if came else min(1.2 * poll_s, LONGEST_POLL_S)
                if not came:
                    yield None
                    soonest = min(sent.end for sent in waiting.values())
                    self._pause(min(poll_s, max(0.0, soonest - time.monotonic())))
        finally:
            self._observer(f"exchange {self._count}: {tally.line(time.monotonic() - began)}")

    def _push(self, node: int, blob: bytes, timeout_s: float) -> str | None:
        """The id of the message; None where Flower gives none, as for one that is too large."""
        if self._key is not None:
            blob = encode(seal(blob, self._key, lifetime_s=timeout_s + SLACK_S))
        message = Message(pack(blob), node, ACTION, ttl=timeout_s + SLACK_S, group_id=str(self._count))
        id_ = next(iter(self._grid.push_messages([message])), None)
        emptied(message.content)
        return id_

    def _arrived(self, waiting: dict[str, _Sent], tally: _Tally) -> Iterator[Arrival]:
        ids = list(waiting)
        for some in (ids[start : start + AT_ONCE] for start in range(0, len(ids), AT_ONCE)):
            with tally.timing("pull"):
                replies = list(self._grid.pull_messages(some))
            while replies:
                reply = replies.pop()
                sent = waiting.pop(reply.metadata.reply_to_message_id, None)
                if sent is None:
                    continue
                try:
                    if reply.has_error():
                        arrival = tally.missing(sent.site, f"error {reply.error.code}: {reply.error.reason}")
                    else:
                        arrival = tally.answer(sent.site, unpack(reply.content))
                        emptied(reply.content)
                except NotOneMessage as error:
                    arrival = tally.missing(sent.site, str(error))
                del reply  # before the consumer works: it is as large as the model
                yield arrival
                del arrival


class _Sent(NamedTuple):
    """A message under way: to whom, and until when it is waited for (monotonic seconds)."""

    site: str
    end: float


class _Tally:
    """How an exchange went, for its line."""

    def __init__(self) -> None:
        self.asked = self.answered = 0
        self.problems: dict[str, str] = {}
        self.seconds = {"push": 0.0, "pull": 0.0}

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """Add the time that this takes to a part."""
        began = time.monotonic()
        yield
        self.seconds[part] += time.monotonic() - began

    def answer(self, site: str, blob: bytes) -> Arrival:
        self.answered += 1
        self.problems.pop(site, None)
        return Arrival(site, blob)

    def missing(self, site: str, problem: str) -> Arrival:
        self.problems[site] = problem
        return Arrival(site, None, problem)

    def line(self, seconds: float) -> str:
        problems = (f"{site}: {problem}" for site, problem in sorted(self.problems.items()))
        push, pull = self.seconds["push"], self.seconds["pull"]
        split = f"push {push:.2f}, wait {seconds - push - pull:.2f}, pull {pull:.2f}"
        return "; ".join([f"asked {self.asked}, answered {self.answered}, {seconds:.1f} s ({split})", *problems])
