"""Other hospitals' keys of secure sums: made by whom they should be, whatever the coordinator that carries them says.

    peers = Peers(home, "north")
    certificate, signature = peers.prove(reply)           # beside this site's public keys
    peers.check(request)                                  # every member's, before anything is shared with them

A hospital signs its keys of a set-up with its own key, which the federation's authority certified. The first key that a
name is seen with is remembered (`gate/peers.json`); another one is refused until a person accepted it. So an
authority that certifies keys of its own for a hospital's name is found out wherever that hospital was met before, and
by a telephone call (`fedloupe-site peers`) wherever it was not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedloupe.certificates import check_certificate, read_authority, read_revocations, utc_now
from fedloupe.errors import FedLoupeError
from fedloupe.messages import KeysReply, KeysRequest, SharesRequest
from fedloupe.signing import Signer, check, same_spoken, spoken
from fedloupe_client.gate.audit import Audit
from fedloupe_client.gate.disk import gate_folder, write_atomic
from fedloupe_client.gate.errors import NotEnrolled, NothingOfThatName, PeerChanged, PeerUnproven
from fedloupe_client.gate.signed import site_key


@dataclass(frozen=True, slots=True)
class Peer:
    """Another hospital as this one knows it.

    Attributes:
        site: its name.
        key: its public key, 64 hex digits.
        since: when it was first seen or accepted, UTC, ISO 8601.
        by: who accepted it here; empty where it was the first one seen.
        offered: another key that it came with since, which nobody accepted; empty where there is none.
    """

    site: str
    key: str
    since: str
    by: str = ""
    offered: str = ""


class Peers:
    """One site's view of the others.

    Args:
        home: the site's home folder.
        site: its name.
        clock: UTC.
    """

    def __init__(self, home: Path, site: str, clock: Callable[[], datetime] = utc_now) -> None:
        self._home, self._site, self._clock = home, site, clock

    def prove(self, request: KeysRequest, channel: NDArray[np.uint8], masks: NDArray[np.uint8]) -> tuple[str, str]:
        """This site's certificate, and its signature under its keys of a set-up.

        Raises:
            NotEnrolled: no kit is installed.
            KeyUnusable: see there.
        """
        key = self._own_key()
        certificate = self._file("certificate.pem")
        return certificate, key.sign("sum-keys", said(request, self._site, channel, masks))

    def check(self, request: SharesRequest) -> None:
        """Each member's keys are signed by the hospital of that name.

        Raises:
            PeerUnproven: a certificate or a signature does not fit.
            PeerChanged: a name comes with another key than before.
            NotEnrolled: no kit is installed.
        """
        members = request.members
        if len(request.certificates) != len(members) or len(request.signatures) != len(members):
            raise PeerUnproven("keys without certificates", where=f"run {request.run}", remedy=_ASK)
        channels, masks = np.asarray(request.channels), np.asarray(request.masks)
        now, met = self._clock(), dict[str, str]()
        authority = read_authority(self._file("authority.pem"), now)
        revoked = read_revocations(self._file("revoked.pem"), authority)
        for place, member in enumerate(members):
            try:
                identity = check_certificate(request.certificates[place], authority, now, revoked)
                content = said(request, member, channels[place], masks[place])
                check("sum-keys", content, request.signatures[place], identity.key)
            except FedLoupeError as error:
                raise PeerUnproven(f"{member}: {error.what}", where=f"run {request.run}", remedy=_ASK) from None
            if identity.name != member:
                raise PeerUnproven(
                    f"{member}'s keys come with {identity.name}'s certificate", where=f"run {request.run}", remedy=_ASK
                )
            if member != self._site:
                met[member] = identity.key
        self._remember(met)

    def known(self) -> list[Peer]:
        """The hospitals met so far, by name.

        Raises:
            PeerChanged: the record of them is damaged.
        """
        return list(self._read().values())

    def accept(self, site: str, heard: str, *, by: str) -> Peer:
        """Take the other key that a hospital came with, once a person compared it with that hospital by telephone.

        Args:
            site: the hospital.
            heard: its key's fingerprint as that hospital read it out, all of it.
            by: who compared it.

        Raises:
            NothingOfThatName: it came with no other key, or with one that does not sound so.
        """
        peers = self._read()
        key = peers[site].offered if site in peers else ""
        if not key or not same_spoken(heard, key):
            raise NothingOfThatName(
                f"{site} came with {spoken(key)}, which was not heard" if key else f"{site} came with no other key",
                where=str(self._path),
                remedy=f"ask {site} again by telephone, all 32 digits",
            )
        accepted = Peer(site, key, self._clock().isoformat(), by)
        self._write({**peers, site: accepted}, "accept-peer")
        return accepted

    def _remember(self, met: Mapping[str, str]) -> None:
        """Keys by site: new ones are kept, known ones are the same, or the first that is not is refused."""
        peers, since = self._read(), self._clock().isoformat()
        new = {site: Peer(site, key, since) for site, key in met.items() if site not in peers}
        changed = {site: key for site, key in met.items() if site in peers and peers[site].key != key}
        offered = {site: replace(peers[site], offered=key) for site, key in changed.items()}
        if new or any(peers[site] != peer for site, peer in offered.items()):
            self._write({**peers, **new, **offered}, "meet-peer")
        for site, key in changed.items():
            raise PeerChanged(
                f"{site} comes with {spoken(key)}, and had {spoken(peers[site].key)}",
                where=str(self._path),
                remedy=f"ask {site} by telephone; if it has new keys: `fedloupe-site peers HOME --accept {site}`",
            )

    def _write(self, peers: Mapping[str, Peer], kind: str) -> None:
        content = {site: asdict(peer) for site, peer in sorted(peers.items())}
        data = (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
        digest = hashlib.sha256(data).hexdigest()
        Audit(self._home).append(direction="local", kind=kind, size=len(data), digest=digest)
        gate_folder(self._home)
        write_atomic(self._path, data)

    def _read(self) -> dict[str, Peer]:
        if not self._path.exists():
            return {}
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            peers = {site: Peer(**record) for site, record in content.items()}
            for site, peer in peers.items():
                if peer.site != site or len(bytes.fromhex(peer.key)) != 32:
                    raise ValueError("it is of another hospital, or holds no key")
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise PeerChanged(
                f"not a record of hospitals: {type(error).__name__}",
                where=str(self._path),
                remedy="restore it from its copy; deleted, the next keys seen would count",
            ) from None
        return peers

    @property
    def _path(self) -> Path:
        return self._home / "gate" / "peers.json"

    def _own_key(self) -> Signer:
        return site_key(self._home)

    def _file(self, name: str) -> str:
        path = self._home / "gate" / name
        if not path.exists():
            raise NotEnrolled(
                "no certificate of this site",
                where=str(path),
                remedy="install the coordinator's kit: `fedloupe-site join`",
            )
        return path.read_text(encoding="ascii")


_ASK = "ask the coordinator, and the hospital named, by telephone; nothing was shared with it"


def said(request: KeysRequest | SharesRequest | KeysReply, site: str, channel: object, masks: object) -> bytes:
    """What a site's signature under its keys is over: they are good for one set-up of one run of one study.

    Args:
        request: of the set-up.
        site: whose keys.
        channel: (32) uint8.
        masks: (s, 32) uint8.
    """
    keys = hashlib.sha256(np.asarray(channel).tobytes() + np.asarray(masks).tobytes()).hexdigest()
    return json.dumps([request.run, request.fingerprint, request.setup, site, keys]).encode()
