"""The first look at what arrives: is it a known coordinator's own request, unchanged, for this site, now and once?

    seals = Seals(home, site="north")
    opened = seals.open(blob)              # or GateRefused, one class a reason
    opened.inner                           # bytes of the request, for `Gate.admit`

What passes here is authentic and nothing more: whether it is allowed, the gate asks next.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedloupe.messages import Message, SealedRequest, decode
from fedloupe.sealed import SKEW_S, header_of
from fedloupe.signing import SignatureWrong, check, spoken
from fedloupe_client.gate.errors import (
    CoordinatorUnknown,
    NotSigned,
    OutOfTime,
    Replayed,
    RequestAltered,
    WrongSite,
)
from fedloupe_client.gate.inbox import Inbox
from fedloupe_client.gate.trust import trusted

LONGEST_S = 40 * 86_400
"""No seal is good for longer: nonces are remembered until their seals are over."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A request whose seal was good.

    Attributes:
        seal: its header, and who signed it.
        inner: the request, encoded.
    """

    seal: SealedRequest
    inner: bytes


class Seals:
    """Opens sealed requests for one site.

    Args:
        home: the site's home folder.
        site: its name.
        clock: gives seconds since 1970 UTC.
    """

    def __init__(self, home: Path, site: str, clock: Callable[[], float] = time.time) -> None:
        self._home, self._site, self._clock = home, site, clock
        self._inbox = Inbox(home)

    def read(self, blob: bytes) -> SealedRequest:
        """What arrived as a sealed request; nothing about it is believed yet.

        Raises:
            MessageRefused: not a message.
            NotSigned: a message of another kind.
        """
        message = decode(blob)
        if not isinstance(message, SealedRequest):
            raise NotSigned(
                f"`{message.kind}` without a coordinator's seal", remedy="only a coordinator's requests are answered"
            )
        return message

    def open(self, seal: SealedRequest) -> Opened:
        """The request under a seal.

        Raises:
            WrongSite: it is for another site.
            CoordinatorUnknown: the key is not one that a person here approved.
            RequestAltered: the signature does not fit, or seal and request name another run or study.
            OutOfTime: the seal is over, or from the future.
            Replayed: it was opened before.
            CoordinatorsDamaged, InboxDamaged: see there.
        """
        if seal.site != self._site:
            raise WrongSite(f"the request is for `{seal.site}`", remedy="check the coordinator's list")
        if seal.coordinator not in trusted(self._home):
            raise CoordinatorUnknown(
                f"signed by {spoken(seal.coordinator)}",
                remedy="compare this with the coordinator on the telephone; `fedloupe-site join` installs a kit",
            )
        try:
            check("request", seal.said, seal.signature, seal.coordinator)
        except SignatureWrong as error:
            raise RequestAltered(error.what, where=f"run {seal.run}", remedy="find out what lies between you") from None
        self._check_time(seal)
        inner = np.asarray(seal.inner).tobytes()
        self._check_header(seal, inner)
        if not self._inbox.once(seal.nonce, seal.expires + SKEW_S, self._clock()):
            raise Replayed(
                "this very request came before",
                where=f"run {seal.run}",
                remedy="nothing to do; if it happens again, find out who sends old messages",
            )
        return Opened(seal, inner)

    def _check_header(self, seal: SealedRequest, inner: bytes) -> None:
        try:
            header = header_of(inner)
        except ValueError:
            header = {}
        if header != {name: getattr(seal, name) for name in Message.model_fields}:
            raise RequestAltered("the seal is of another request", where=f"run {seal.run}", remedy="ask the sender")

    def _check_time(self, seal: SealedRequest) -> None:
        now = self._clock()
        late, early = now - seal.expires, seal.issued - now
        if late > SKEW_S or early > SKEW_S or not 0 < seal.expires - seal.issued <= LONGEST_S:
            what = f"over since {late:.0f} s" if late > SKEW_S else f"{max(early, 0):.0f} s from the future"
            raise OutOfTime(
                f"the seal is {what}", where=f"run {seal.run}", remedy="set both clocks; it will be asked again"
            )
