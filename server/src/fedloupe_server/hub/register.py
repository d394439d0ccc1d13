"""Makes the SuperLink know the couriers that the federation folder names, and no others.

    done = reconcile(control, federation.couriers)        # after every look
    done.nodes                                            # node id by site
    note_seen(FED, done.seen)                             # whose old keys are over

The SuperLink is asked each time: nothing is remembered that a crash could make wrong. A courier's key that a newer kit
replaced stays registered until the newer one was online, so that a hospital changes keys when it likes; then it is
taken back, and what `seen` says keeps it from coming back with an empty database.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from fedloupe_server.hub.control import Node
from fedloupe_server.hub.flower import FlowerRefused
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


@dataclass(frozen=True)
class Reconciled:
    """What the SuperLink knows after a look.

    Attributes:
        nodes: by site, the node to ask: of its newest key that was ever online, else of its newest key.
        seen: by site, the kit whose courier was online, where older keys were still named: they are taken back.
        refused: sites with a key that the SuperLink does not register.
    """

    nodes: dict[str, Registered]
    seen: dict[str, int]
    refused: tuple[str, ...]


def reconcile(registry: Registry, couriers: Iterable[Courier]) -> Reconciled:
    """Register what is missing, take back what should not be there.

    Args:
        registry: the SuperLink's.
        couriers: as the federation folder names them.

    Raises:
        FlowerRefused: the SuperLink does not answer.
    """
    named = {_key(one.public_key): one for one in couriers}
    known = {_key(node.public_key): node for node in registry.nodes()}
    newest = _newest_online(named, known)
    over = {key for key, one in named.items() if one.superseded and one.kit < newest.get(one.site, 0)}
    wanted = {key: one for key, one in named.items() if key not in over}
    for key, node in known.items():
        if key not in wanted:
            registry.unregister(node.id)
            _log.warning("a courier's key is no longer registered", extra={"said": {"node": node.id}})
    refused = {one.site for key, one in wanted.items() if key not in known and not _registered(registry, one, known)}
    chosen: dict[str, tuple[tuple[bool, int], Registered]] = {}
    for key, courier in wanted.items():
        if key not in known:
            continue
        node = known[key]
        rank = (node.contact != "", courier.kit)
        if courier.site not in chosen or rank > chosen[courier.site][0]:
            chosen[courier.site] = rank, Registered(node.id, node.status, node.contact)
    nodes = {site: registered for site, (_, registered) in sorted(chosen.items())}
    return Reconciled(nodes, {named[key].site: newest[named[key].site] for key in over}, tuple(sorted(refused)))


def _newest_online(named: Mapping[str, Courier], known: Mapping[str, Node]) -> dict[str, int]:
    """By site, the latest kit whose courier was ever online."""
    newest: dict[str, int] = {}
    for key, courier in named.items():
        if key in known and known[key].contact:
            newest[courier.site] = max(courier.kit, newest.get(courier.site, 0))
    return newest


def _registered(registry: Registry, courier: Courier, known: dict[str, Node]) -> bool:
    """Register a key; False where the SuperLink refuses it: the other hospitals' must not wait for that."""
    try:
        number = registry.register(courier.public_key, courier.site)
    except FlowerRefused:
        registry.nodes()  # where it does not answer at all, no key is to blame
        return False
    known[_key(courier.public_key)] = Node(number, courier.public_key, "registered", "")
    _log.info("a courier's key is registered", extra={"said": {"site": courier.site, "node": number}})
    return True


def _key(line: str) -> str:
    """An OpenSSH line without its comment."""
    return " ".join(line.split()[:2])
