"""How the round loop reaches hospitals: sends what waits in an outbox, yields what arrives, blind to what carries it.

    outbox = Outbox(("north", "south"), encode=lambda site: encode(requests[site]))
    for arrival in exchange(outbox, 3600.0):        # in the order in which answers come
        if arrival and arrival.blob is None:
            outbox.add(arrival.site)                # asked again while the others still work

A request is encoded when it is sent, an answer is dropped when the next one is asked for: the coordinator's memory does
not grow with the number of sites.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

NOT_CONNECTED = "not connected"
"""Problem of a site that cannot be reached now: nothing was sent."""


class Arrival(NamedTuple):
    """What came from a site.

    Attributes:
        site: that was asked.
        blob: its answer; None where the request could not be delivered or its time is over.
        problem: why there is no answer, for the log.
    """

    site: str
    blob: bytes | None
    problem: str = ""


class Outbox:
    """Requests that wait to be sent. Taking one encodes it; more may be added while an exchange goes on.

    Args:
        sites: whom to ask, in this order.
        encode: a site's request as bytes; called again when it is asked again.

    Attributes:
        encode: as given.
    """

    def __init__(self, sites: Iterable[str], encode: Callable[[str], bytes]) -> None:
        self._queue, self.encode = deque(sites), encode

    def add(self, site: str, *, first: bool = False) -> None:
        """Ask this site, after those that wait already or before them."""
        (self._queue.appendleft if first else self._queue.append)(site)

    @property
    def sites(self) -> tuple[str, ...]:
        """Who waits to be asked."""
        return tuple(self._queue)

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        """What waits, one encoded request after the other, and what is added meanwhile."""
        while self._queue:
            site = self._queue.popleft()
            yield site, self.encode(site)


class Exchange(Protocol):
    """Sends what is in an outbox, and yields what arrives."""

    def __call__(self, outbox: Outbox, timeout_s: float) -> Generator[Arrival | None, None, None]:
        """Ask, and look for what is added to the outbox after each thing that it yields.

        Args:
            outbox: the requests.
            timeout_s: seconds after which a request is no longer waited for.

        Yields:
            An answer, or that there is none; None now and then while nothing comes. A site of which nothing was
            yielded at the end stayed silent.
        """
        ...


def ask_once(exchange: Exchange, requests: Mapping[str, bytes], timeout_s: float) -> dict[str, bytes]:
    """The answers to these few requests by site, all together; silent sites are absent.

    Args:
        exchange: to the sites.
        requests: encoded message by site.
        timeout_s: seconds to wait for the slowest.
    """
    arrivals = exchange(Outbox(requests, lambda site: requests[site]), timeout_s)
    return {a.site: a.blob for a in arrivals if a is not None and a.blob is not None}
