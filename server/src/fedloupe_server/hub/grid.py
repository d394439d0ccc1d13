"""An `Exchange` over Flower's Grid: one uint8 array a message, replies mapped back to the site that was asked.

    exchange = GridExchange(grid, {"north": 4711, "south": 815})
    replies = exchange({"north": blob, "south": blob}, timeout_s=3600.0)       # a silent site is absent

The same class serves the deployed federation and the in-process one.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedloupe.errors import FedLoupeError

RECORD, ARRAY = "fedloupe", "message"  # as in fedloupe_client.courier.app, which the coordinator need not install
ACTION = "query.ask"
# A message outlives the wait a little: the clocks of two hospitals and ours are never quite the same.
SLACK_S = 600.0
LONGEST_POLL_S = 1.0
UPLOAD_POLL_S, LONGEST_UPLOAD_POLL_S = 0.1, 2.0
_log = logging.getLogger(__name__)


class UnknownNode(FedLoupeError):
    """A site is asked that has no node in the table."""

    code = "FL-720"
    title = "a site has no registered node"


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

    Args:
        grid: Flower's, or the in-process one.
        nodes: node id by site name.
        poll_s: seconds between the first two looks at the inbox, growing to `LONGEST_POLL_S` (Flower's own
            `send_and_receive` waits 3 s each time).
        observer: told in one line how each exchange went.
    """

    def __init__(
        self,
        grid: Grid,
        nodes: Mapping[str, int],
        *,
        poll_s: float = 0.2,
        observer: Callable[[str], None] | None = None,
    ) -> None:
        self._grid, self._nodes, self._poll_s = grid, dict(nodes), poll_s
        self._observer = observer or _log.info
        self._count = 0

    def __call__(self, requests: Mapping[str, bytes], timeout_s: float) -> dict[str, bytes]:
        """Ask these sites at once; those that failed or stayed silent are absent, the others in the order asked.

        Raises:
            UnknownNode: a site is not in the table.
        """
        if unknown := sorted(set(requests) - set(self._nodes)):
            raise UnknownNode(f"no node for {unknown}", remedy="register the site's public key with the coordinator")
        began, end = time.monotonic(), time.monotonic() + timeout_s
        self._count += 1
        messages = [
            Message(pack(blob), self._nodes[site], ACTION, ttl=timeout_s + SLACK_S, group_id=str(self._count))
            for site, blob in requests.items()
        ]
        # Which message asked whom: error replies are written by the SuperLink and name no hospital.
        # Flower gives no id for a message that it could not send, and no ids at all when all together were too large.
        ids: list[str | None] = list(self._grid.push_messages(messages)) or [None] * len(messages)
        waiting = {id_: site for id_, site in zip(ids, requests, strict=True) if id_}
        problems = {site: "could not be sent" for id_, site in zip(ids, requests, strict=True) if not id_}
        replies: dict[str, bytes] = {}
        pause, pushed, pulling = self._poll_s, time.monotonic() - began, 0.0
        while waiting:
            looked = time.monotonic()
            arrived = list(self._grid.pull_messages(list(waiting)))
            pulling += time.monotonic() - looked if arrived else 0.0
            for reply in arrived:
                site = waiting.pop(reply.metadata.reply_to_message_id, None)
                if site is None:
                    continue
                try:
                    if reply.has_error():
                        problems[site] = f"error {reply.error.code}: {reply.error.reason}"
                    else:
                        replies[site] = unpack(reply.content)
                except NotOneMessage as error:
                    problems[site] = str(error)
            if waiting and time.monotonic() >= end:
                problems |= dict.fromkeys(waiting.values(), "silent")
                break
            if waiting:
                time.sleep(min(pause, max(0.0, end - time.monotonic())))
                pause = min(1.2 * pause, LONGEST_POLL_S)
        took = time.monotonic() - began
        line = (
            f"exchange {self._count}: asked {len(requests)}, answered {len(replies)}, {took:.1f} s "
            f"(push {pushed:.2f}, wait {took - pushed - pulling:.2f}, pull {pulling:.2f})"
        )
        self._observer("; ".join([line, *(f"{site}: {problem}" for site, problem in sorted(problems.items()))]))
        return {site: replies[site] for site in requests if site in replies}
