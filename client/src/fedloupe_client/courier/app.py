"""The ClientApp that the code-free bundle names: bytes from Flower to the site's socket, bytes back.

    flower-supernode ... --node-config 'site-socket="/run/fedloupe/site.sock"'

Nothing but an error code leaves when something fails: Flower would send the exception's text to the coordinator.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from fedloupe.errors import FedLoupeError
from fedloupe_client.site.server import ask

Send = Callable[[bytes, float], bytes]
RECORD, ARRAY = "fedloupe", "message"
FAILED = 100  # Flower's own error codes end at 8
_log = logging.getLogger(__name__)


class NotOneMessage(FedLoupeError):
    """What Flower delivered is not one array of bytes."""

    code = "FL-625"
    title = "not a FedLoupe message record"


class NoSocketNamed(FedLoupeError):
    """The SuperNode's node-config does not name the site's socket."""

    code = "FL-626"
    title = "the courier does not know the site's socket"


class CourierFailed(FedLoupeError):
    """Something unforeseen; the courier's log has the traceback."""

    code = "FL-627"
    title = "the courier failed"


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


def carry(message: Message, send: Send) -> Message:
    """Deliver one message and bring the answer, or an error that holds a code and nothing else.

    Args:
        message: from Flower, with one uint8 array.
        send: delivers bytes within so many seconds.
    """
    try:
        # The message's time to live is the longest anybody waits for the answer.
        return Message(pack(send(unpack(message.content), message.metadata.ttl)), reply_to=message)
    except FedLoupeError as error:
        _log.error("%s", error)
        reason = f"{error.code} {error.title}"
    except Exception:  # noqa: BLE001 - the outermost wall: Flower would send the text of whatever escapes here
        _log.exception("carrying failed")
        reason = f"{CourierFailed.code} {CourierFailed.title}"
    return Message(Error(code=FAILED, reason=reason), reply_to=message)


def courier(reach: Callable[[Context], Send]) -> ClientApp:
    """A ClientApp that answers `query.ask` through what `reach` finds for its node."""
    made = ClientApp()

    @made.query("ask")
    def ask_site(message: Message, context: Context) -> Message:
        def send(blob: bytes, timeout_s: float) -> bytes:
            return reach(context)(blob, timeout_s)

        return carry(message, send)

    return made


def through_socket(context: Context) -> Send:
    """The site's socket, as the SuperNode's node-config names it."""
    socket = context.node_config.get("site-socket")
    if not isinstance(socket, str):
        raise NoSocketNamed("no `site-socket`", remedy="start the SuperNode with --node-config 'site-socket=\"PATH\"'")
    path = Path(socket)
    return lambda blob, timeout_s: ask(path, blob, timeout_s)


app = courier(through_socket)
