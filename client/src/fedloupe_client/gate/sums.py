"""The site's part in secure sums: its secrets, what it masked, whom it helped to unmask; and when it says no.

    sums = SecureSums(home, site="north")
    sums.keys(request), sums.shares(request, study)       # a set-up
    sums.mask(request, digest, reply, study)              # the answer, as random numbers
    sums.unmask(request)                                  # shares, once a sum, for one set of sites

On disk, below `gate/sums/<run>/`: `<setup>.root` (32 random bytes, from which every secret of the set-up follows, and
which never leave), `<setup>.members` (the request that named them), `<setup>.<session>` (digests of what the sum is of
and of this site's answer), `opened/<digest>` (with which answer this request was opened in this run); and for all runs
together `gate/sums-opened/<digest>` (over which sites it was opened). Each is written before anything
follows from it, so a site that is killed gives the same bytes again or none. A new set-up destroys the one before.

A site refuses what would let its term be told from the others': too few members or contributors, members that do not
train, a second vector under one sum's masks, shares for a sum without it, for two sets of sites of one sum, or of one
request in two sums, or for two answers of its own to one request of a run, as before and after a change of policy.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fedloupe.masked import SESSIONS
from fedloupe.masking import KEY, Secrets, least_of, term_of, usable
from fedloupe.masking.keys import BOX
from fedloupe.messages import (
    KeysReply,
    KeysRequest,
    Message,
    MessageRefused,
    Reply,
    SharesReply,
    SharesRequest,
    SumReply,
    SumRequest,
    UnmaskReply,
    UnmaskRequest,
    decode,
    encode,
)
from fedloupe.study import Study
from fedloupe_client.gate.disk import gate_folder, sync_folder, write_atomic
from fedloupe_client.gate.errors import SetupUnknown, SumRefused
from fedloupe_client.gate.peers import Peers

_ASK = "ask the coordinator: a second run with other sites, or a fault; docs/secure-sums.md. Nothing left"


class SecureSums:
    """One site's secure sums, all runs.

    Args:
        home: the site's home folder.
        site: its name.
    """

    def __init__(self, home: Path, site: str) -> None:
        self._home, self._site = home, site
        self._peers = Peers(home, site)

    def keys(self, request: KeysRequest) -> KeysReply:
        """Public keys of a set-up, signed; new secrets where it is new.

        Raises:
            NotEnrolled, KeyUnusable: see there.
        """
        folder = self._folder(request.run)
        path = folder / f"{request.setup}.root"
        if not path.exists():
            for old in folder.glob("*.root"):
                old.unlink()  # first: without it nothing follows from the rest
                sync_folder(folder)
                for left in folder.glob(f"{old.stem}.*"):
                    left.unlink()
            write_atomic(path, os.urandom(KEY))
        secrets = self._secrets(request.run, request.setup)
        channel, masks = secrets.channel, secrets.masks(SESSIONS)
        certificate, signature = self._peers.prove(request, channel, masks)
        return KeysReply(**_header(request), channel=channel, masks=masks, certificate=certificate, signature=signature)

    def shares(self, request: SharesRequest, study: Study) -> SharesReply:
        """Shares of every sum's secrets, sealed for each member.

        Raises:
            SetupUnknown: no keys were made here for it.
            SumRefused: the members are not three or more training sites with this one among them, a key is not this
                site's or stands twice, or other members were named before.
            PeerUnproven, PeerChanged, NotEnrolled: see there.
        """
        secrets = self._secrets(request.run, request.setup)
        members, channels, masks = list(request.members), np.asarray(request.channels), np.asarray(request.masks)
        if members != sorted(set(members)) or not set(members) <= set(study.train_sites) or self._site not in members:
            raise SumRefused(f"members {members}", where=f"run {request.run}", remedy=_ASK)
        if channels.shape != (len(members), KEY) or masks.shape != (len(members), SESSIONS, KEY):
            raise SumRefused("keys of another shape", where=f"run {request.run}", remedy=_ASK)
        own = members.index(self._site)
        mine = np.array_equal(channels[own], secrets.channel) and np.array_equal(masks[own], secrets.masks(SESSIONS))
        every = np.concatenate([channels, masks.reshape(-1, KEY)])
        if not mine or len(np.unique(every, axis=0)) != len(every):
            raise SumRefused("a key is not this site's, or stands twice", where=f"run {request.run}", remedy=_ASK)
        if not all(usable(key) for key in every):
            raise SumRefused("a key gives no secret", where=f"run {request.run}", remedy=_ASK)
        self._peers.check(request)
        path = self._folder(request.run) / f"{request.setup}.members"
        bare = encode(request.model_copy(update={"certificates": (), "signatures": ()}))  # they were checked
        self._once(path, bare, "other members were named for this set-up", f"run {request.run}")
        return SharesReply(**_header(request), boxes=secrets.boxes(members, channels, SESSIONS))

    def mask(self, request: SumRequest, digest: str, reply: Reply, study: Study) -> SumReply:
        """The answer as a term of the sum.

        Args:
            request: that asks for it.
            digest: of what is asked of every site (`sum_digest`).
            reply: the answer, as it may leave in a sum.
            study: as approved.

        Raises:
            SetupUnknown: no set-up of that name was agreed here.
            SumRefused: the sum's masks served another request, or another answer to it.
            NotSummable: see there.
        """
        secrets, members = self._secrets(request.run, request.setup), self._members(request)
        term, layout = term_of(reply, equal=study.training.weighting == "equal")
        answer = hashlib.sha256(term.wide.tobytes() + term.narrow.tobytes()).hexdigest()
        where = f"run {request.run}, sum {request.session}"
        self._once(
            self._session(request), f"{digest}\n{answer}".encode(), "another answer under this sum's masks", where
        )
        keys = np.asarray(members.masks)[:, request.session]
        masked = secrets.mask(term, request.session, digest, members.members, keys)
        epsilon = getattr(reply, "epsilon", None)
        return SumReply(
            **_header(request), of=reply.kind, layout=layout, wide=masked.wide, narrow=masked.narrow, epsilon=epsilon
        )

    def unmask(self, request: UnmaskRequest) -> UnmaskReply:
        """This site's shares of one secret of each member.

        Raises:
            SetupUnknown: as in `mask`.
            SumRefused: this site did not answer; too few contributors, or no members; another set of them for the same
                sum, or for the same request in another sum, or another answer; a box that its member did not seal for
                this.
        """
        secrets, agreed = self._secrets(request.run, request.setup), self._members(request)
        members, there = list(agreed.members), list(request.contributors)
        where = f"run {request.run}, sum {request.session}"
        if there != sorted(set(there)) or not set(there) <= set(members):
            raise SumRefused(f"contributors {there}, of {members}", where=where, remedy=_ASK)
        if len(there) < least_of(len(members)):
            raise SumRefused(f"{len(there)} of {len(members)} sites answered", where=where, remedy=_ASK)
        if np.shape(request.boxes) != (len(members), BOX):
            raise SumRefused("boxes of another shape", where=where, remedy=_ASK)
        session, whom = self._session(request), json.dumps(there).encode()
        if not session.exists() or self._site not in there:
            raise SumRefused("this site's answer is not in it", where=where, remedy=_ASK)
        path = session.with_name(f"{session.name}.opened")
        self._once(path, whom, "this sum was opened over another set of sites", where)
        digest, answer = session.read_text().split("\n")
        own = gate_folder(self._home, "sums", _name(request.run), "opened") / digest
        self._once(own, answer.encode(), "the same request with another answer of this site, in this run", where)
        opened = gate_folder(self._home, "sums-opened") / digest
        self._once(opened, whom, "the same request over another set of sites, in this run or an earlier one", where)
        try:
            shares = secrets.open(request.session, members, np.asarray(agreed.channels), request.boxes, there)
        except ValueError as error:
            raise SumRefused(f"the shares of {error} do not open", where=where, remedy=_ASK) from None
        return UnmaskReply(**_header(request), shares=shares)

    def _secrets(self, run: str, setup: str) -> Secrets:
        path = self._folder(run) / f"{setup}.root"
        if not path.exists():
            raise SetupUnknown("no keys were made here for it", where=f"run {run}", remedy="the run sets up anew")
        return Secrets(path.read_bytes(), setup, self._site)

    def _members(self, request: SumRequest | UnmaskRequest) -> SharesRequest:
        path = self._folder(request.run) / f"{request.setup}.members"
        message: Message | None = None
        with suppress(MessageRefused):  # a damaged file: the run sets up anew, as where there is none
            message = decode(path.read_bytes()) if path.exists() else None
        if not isinstance(message, SharesRequest):
            raise SetupUnknown("its members are not known", where=f"run {request.run}", remedy="the run sets up anew")
        return message

    def _session(self, request: SumRequest | UnmaskRequest) -> Path:
        return self._folder(request.run) / f"{request.setup}.{request.session}"

    def _once(self, path: Path, content: bytes, otherwise: str, where: str) -> None:
        """Write it down, or find the same written."""
        if not path.exists():
            write_atomic(path, content)
        elif path.read_bytes() != content:
            raise SumRefused(otherwise, where=where, remedy=_ASK)

    def _folder(self, run: str) -> Path:
        return gate_folder(self._home, "sums", _name(run))


def _name(run: str) -> str:
    return run.replace("/", "+")


def _header(request: KeysRequest | SharesRequest | SumRequest | UnmaskRequest) -> dict[str, Any]:
    """What a reply repeats."""
    names = [*Message.model_fields, "setup", "session"]
    return {name: getattr(request, name) for name in names if name in type(request).model_fields}
