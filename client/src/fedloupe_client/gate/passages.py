"""Every passage of the gate as a line of the audit chain; what cannot be recorded does not pass.

passages = Passages(home)
passages.log("in", request, blob)
passages.log("out", reply, blob, outcome="repeated")
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from fedloupe.messages import Message
from fedloupe_client.gate import disclosure
from fedloupe_client.gate.audit import Audit, Direction
from fedloupe_client.gate.errors import GateFault


class Passages:
    """Writes one site's passages down.

    Args:
        home: the site's home folder.
    """

    def __init__(self, home: Path) -> None:
        self._audit = Audit(home)

    def log(self, direction: Direction, message: Message | None, blob: bytes, outcome: str = "ok") -> None:
        """A message in or out, or an answer that stays to be summed.

        Args:
            direction: see `Entry`.
            message: what the bytes are; None where they could not be read.
            blob: the bytes.
            outcome: see `Entry`.

        Raises:
            AuditDamaged, GateFault: see there.
        """
        self.note(
            direction,
            str(getattr(message, "kind", "unknown")),
            message,
            outcome,
            size=len(blob),
            digest=hashlib.sha256(blob).hexdigest(),
            disclosed=disclosure.classes(message) if message and direction != "in" else (),
        )

    def note(
        self,
        direction: Direction,
        kind: str,
        message: Message | None,
        outcome: str,
        size: int = 0,
        digest: str = "",
        disclosed: tuple[str, ...] = (),
    ) -> None:
        """As `log`, without the bytes.

        Raises:
            AuditDamaged, GateFault: see there.
        """
        try:
            self._audit.append(
                direction=direction,
                kind=kind,
                run=message.run if message else "",
                round=getattr(message, "round", None),
                size=size,
                digest=digest,
                outcome=outcome,
                disclosure=disclosed,
                epsilon=getattr(message, "epsilon", None),
            )
        except OSError as error:  # a full or unreadable disk
            raise fault(error) from error


def fault(error: Exception) -> GateFault:
    """What nobody foresaw, as a refusal."""
    return GateFault(
        f"{type(error).__name__}: {error}", remedy="see the site's log and report it; nothing was trained, nothing left"
    )
