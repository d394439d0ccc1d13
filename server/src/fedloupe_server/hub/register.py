"""Makes the SuperLink know the couriers that the federation folder names, and no others.

    nodes = reconcile(control, federation.couriers)       # node id by site, after every look

The SuperLink is asked each time: nothing is remembered that a crash could make wrong. A courier's key that a newer kit
replaced stays registered until the newer one was online, so that a hospital changes keys when it likes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from fedloupe_server.hub.control import Node
from fedloupe_server.provision import Courier

_log = logging.getLogger(__name__)


class Registry(Protocol):
    """What is needed of `fedloupe_server.hub.control.Control`."""

    def nodes(self) -> list[Node]:
        """All registered nodes."""
        ...

    def register(self, public_key: str, site: str) -> int:
        """Register a key."""
        ...

    def unregister(self, node: int) -> None:
        """Take a registration back."""
        ...


@dataclass(frozen=True)
class Registered:
    """A site's courier at the SuperLink.

    Attributes:
        node: its node id.
        status: `registered`, `online` or `offline`.
        contact: when that began, UTC, ISO 8601; empty where it was never online.
    """

    node: int
    status: str
    contact: str


def reconcile(registry: Registry, couriers: Iterable[Courier]) -> dict[str, Registered]:
    """Register what is missing, take back what should not be there.

    Args:
        registry: the SuperLink's.
        couriers: as the federation folder names them.

    Returns:
        By site, the node to ask: of its newest key that was ever online, else of its newest key.

    Raises:
        FlowerRefused: the SuperLink does not answer.
    """
    wanted = {_key(one.public_key): one for one in couriers}
    known = {_key(node.public_key): node for node in registry.nodes()}
    for key, node in known.items():
        if key not in wanted:
            registry.unregister(node.id)
            _log.warning("a courier's key is no longer registered", extra={"said": {"node": node.id}})
    for key, courier in wanted.items():
        if key not in known:
            number = registry.register(courier.public_key, courier.site)
            known[key] = Node(number, courier.public_key, "registered", "")
            _log.info("a courier's key is registered", extra={"said": {"site": courier.site, "node": number}})
    chosen: dict[str, tuple[tuple[bool, bool], Registered]] = {}
    for key, courier in wanted.items():
        node = known[key]
        rank = (node.contact != "", not courier.superseded)
        if courier.site not in chosen or rank > chosen[courier.site][0]:
            chosen[courier.site] = rank, Registered(node.id, node.status, node.contact)
    return {site: registered for site, (_, registered) in sorted(chosen.items())}


def _key(line: str) -> str:
    """An OpenSSH line without its comment."""
    return " ".join(line.split()[:2])
