"""The set-ups of secure sums: which sites exchanged keys and shares, and for how many sums more.

setups = Setups(talk)
setup = setups.fitting(("north", "south", "east"))      # the present one, or a new one of those who answer
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedloupe.errors import FedLoupeError
from fedloupe.masked import SESSIONS
from fedloupe.masking import KEY, LEAST, least_of, usable
from fedloupe.masking.keys import BOX
from fedloupe.messages import KeysReply, KeysRequest, SharesReply, SharesRequest
from fedloupe_server.federation.waiting import Rule

if TYPE_CHECKING:
    from fedloupe_server.federation.conversation import Conversation


class TooFewForSum(FedLoupeError):
    """A sum of fewer than three sites would show a site's answer to the others."""

    code = "FL-726"
    title = "too few sites for a secure sum"


@dataclass
class Setup:
    """What the coordinator knows of a set-up: nothing of it is secret."""

    name: str
    members: tuple[str, ...]
    channels: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    boxes: dict[str, NDArray[np.uint8]]
    used: int = 0


class Setups:
    """The set-up of one run's sums."""

    def __init__(self, talk: Conversation) -> None:
        self._talk = talk
        self._now: Setup | None = None

    def forget(self) -> None:
        """Begin anew with the next sum."""
        self._now = None

    def fitting(self, sites: tuple[str, ...], rule: Rule) -> Setup:
        """The present set-up where it has these sites and a sum is left; else a new one of those who answer."""
        now = self._now
        fits = now is not None and set(sites) <= set(now.members) and len(sites) >= least_of(len(now.members))
        if now is not None and fits and now.used < SESSIONS:
            return now
        while True:
            made = self._made(sites, rule)
            if isinstance(made, Setup):
                self._now = made
                return made
            sites = made  # somebody vanished between keys and shares: the others begin anew

    def _made(self, sites: tuple[str, ...], rule: Rule) -> Setup | tuple[str, ...]:
        talk, name = self._talk, secrets.token_hex(16)
        keys = talk.ask({s: KeysRequest(**talk.header(s), setup=name) for s in sites}, KeysReply, rule)
        members = tuple(keys)
        self._enough(members, sites)
        for site, reply in keys.items():
            if np.shape(reply.channel) != (KEY,) or np.shape(reply.masks) != (SESSIONS, KEY):
                raise talk.wrong_answer(site, "sent keys of another shape")
            if not all(usable(key) for key in (reply.channel, *reply.masks)):
                raise talk.wrong_answer(site, "sent a key that gives no secret")
        channels = np.stack([reply.channel for reply in keys.values()])
        masks = np.stack([reply.masks for reply in keys.values()])
        shares = talk.ask(
            {
                s: SharesRequest(
                    **talk.header(s),
                    setup=name,
                    members=members,
                    channels=channels,
                    masks=masks,
                    certificates=tuple(reply.certificate for reply in keys.values()),
                    signatures=tuple(reply.signature for reply in keys.values()),
                )
                for s in members
            },
            SharesReply,
            rule,
        )
        if tuple(shares) != members:
            self._enough(tuple(shares), sites)
            return tuple(shares)
        boxes = {site: np.asarray(reply.boxes) for site, reply in shares.items()}
        if other := [site for site, box in boxes.items() if box.shape != (len(members), SESSIONS, BOX)]:
            raise talk.wrong_answer(other[0], "sent shares of another shape")
        return Setup(name, members, channels, masks, boxes)

    def _enough(self, there: tuple[str, ...], sites: tuple[str, ...]) -> None:
        if len(there) < LEAST:
            raise TooFewForSum(
                f"{len(there)} of {len(sites)} sites made keys, {LEAST} needed. "
                f"Missing: {self._talk.missing(sites, there)}",
                where=self._talk.run,
                remedy="see to the sites named and start the run again: it continues",
            )
