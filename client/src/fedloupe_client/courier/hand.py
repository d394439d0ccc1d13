"""What the courier has in hand, on disk, so that no kill loses a message: node id, last contact, the message itself.

    hand = Hand(Path("/var/lib/fedloupe/courier"))
    hand.take(blob)          # a message was received; confirmed to the coordinator only once it is answered
    hand.taken()             # after a restart: (blob, how often it has been delivered)
    hand.put_down()          # answered

A message here is Flower's envelope of a few hundred bytes: ids and digests of what it holds, not the contents.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

# A node counts as online for 60 s after its last sign of life (Flower 1.41: twice the heartbeat's 30 s).
FRESH_S = 90.0
_log = logging.getLogger("fedloupe_client.courier.hand")


class Upload(NamedTuple):
    """An answer that is on its way.

    Attributes:
        reply: its id.
        session: under which the coordinator waits for the parts; empty where it gave none, or none that we heard.
        parts: of the answer, those that it waits for; none when all have arrived.
    """

    reply: str
    session: str
    parts: list[str]


@dataclass(frozen=True)
class Hand:
    """Files of one courier in its state folder."""

    folder: Path

    @property
    def _node(self) -> Path:
        return self.folder / "node.json"

    @property
    def _message(self) -> Path:
        return self.folder / "in-hand.json"

    @property
    def _upload(self) -> Path:
        return self.folder / "upload.json"

    def be(self, node: int) -> None:
        """We are this node now."""
        write(self._node, {"node": node})

    def touch(self) -> None:
        """The coordinator heard us."""
        if self._node.is_file():
            os.utime(self._node)

    def node(self) -> int | None:
        """The node that we were until a moment ago; None after a longer silence, in which another may have come."""
        try:
            fresh = time.time() - self._node.stat().st_mtime < FRESH_S
            return int(read(self._node)["node"]) if fresh else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def leave(self) -> None:
        """We said goodbye."""
        self._node.unlink(missing_ok=True)

    def take(self, blob: bytes, deliveries: int = 1) -> None:
        """Keep a message, with how often it has been delivered."""
        write(self._message, {"deliveries": deliveries, "message": base64.b64encode(blob).decode("ascii")})

    def taken(self) -> tuple[bytes, int] | None:
        """The kept message and how often it has been delivered; None for a damaged file, which must not stop us."""
        try:
            kept = read(self._message)
            return base64.b64decode(kept["message"], validate=True), int(kept["deliveries"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            _log.error("the message in hand cannot be read: %s", self._message)
            return None

    def begin_upload(self, message: str, begun: Upload) -> None:
        """An answer to this message is on its way."""
        write(self._upload, {"message": message, **begun._asdict()})

    def begun_upload(self, message: str) -> Upload | None:
        """The upload of an answer to this very message that was begun; None where there was none."""
        try:
            begun = read(self._upload)
            upload = Upload(str(begun["reply"]), str(begun["session"]), list(begun["parts"]))
            return upload if begun["message"] == message else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def put_down(self) -> None:
        """The message is answered."""
        self._message.unlink(missing_ok=True)
        self._upload.unlink(missing_ok=True)


def write(path: Path, content: dict[str, Any], *, durable: bool = True) -> None:
    """Write JSON so that a reader, and where `durable` a machine that lost its power, sees all of it or the former."""
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=2, sort_keys=True)
        file.write("\n")
        if durable:
            file.flush()
            os.fsync(file.fileno())
    part.replace(path)


def read(path: Path) -> dict[str, Any]:
    """Read what `write` wrote."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
