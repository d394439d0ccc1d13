"""An `Exchange` over Flower's Grid: one uint8 array a message, replies mapped back to the site that was asked.

    exchange = GridExchange(grid, {"north": 4711, "south": 815})
    replies = exchange({"north": blob, "south": blob}, timeout_s=3600.0)       # a silent site is absent

The same class serves the deployed federation and the in-process one.
"""

from __future__ import annotations

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
        pause = self._poll_s
        while waiting:
            for reply in self._grid.pull_messages(list(waiting)):
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
        line = (
            f"exchange {self._count}: asked {len(requests)}, answered {len(replies)}, {time.monotonic() - began:.1f} s"
        )
        self._observer("; ".join([line, *(f"{site}: {problem}" for site, problem in sorted(problems.items()))]))
        return {site: replies[site] for site in requests if site in replies}
