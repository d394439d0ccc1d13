"""A federation folder, read and checked: who is enrolled, where its files are, what runs out and which kits are stale.

    federation = load_federation(Path("FED"))
    federation.couriers                    # the keys that SuperLink should know, each with its site
    federation.expiries                    # what ends when
    federation.stale_kits                  # sites whose kit says what no longer holds

Nothing is written here and no private key is read, except by `signer`. Read it again to see a change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fedloupe.certificates import read_certificate, utc_now
from fedloupe.enrolment import Document, Hex
from fedloupe.errors import FedLoupeError
from fedloupe.signing import Signer, check
from fedloupe.study import Study, StudyInvalid, parse_study
from fedloupe_server.provision.errors import FederationUnusable
from fedloupe_server.provision.records import FederationRecord, SiteRecord, Told, read_record
from fedloupe_server.provision.seen import read_seen


class StudySignature(Document):
    """FED/study.json.sig: the coordinator's signature (purpose `study`) over the bytes of FED/study.json."""

    key: Hex
    signature: str


@dataclass(frozen=True)
class Courier:
    """A courier's key that SuperLink should know.

    Attributes:
        site: whose.
        public_key: one OpenSSH line.
        kit: number of the latest kit that was made for this key.
        superseded: a newer kit has another key; this one serves until that was seen at the SuperLink.
    """

    site: str
    public_key: str
    kit: int
    superseded: bool


@dataclass(frozen=True)
class Expiry:
    """When something ends.

    Attributes:
        what: `authority`, `server` or a site's name.
        ends: UTC.
        site: the site's name, None for the coordinator's own.
    """

    what: str
    ends: datetime
    site: str | None = None


@dataclass(frozen=True)
class Federation:
    """One federation as its folder has it at the moment of reading.

    Attributes:
        folder: FED.
        record: name, address, when it was made, digest of the bundle.
        study: as signed.
        coordinator_key: public key that signs studies, kits and requests; 64 hex digits.
        sites: the enrolments that count, by site; revoked ones too.
        history: earlier enrolments of each site, oldest first.
        seen: by site, the kit whose courier took the place of an earlier one at the SuperLink.
        expiries: of authority, server and every enrolment that is not revoked.
    """

    folder: Path
    record: FederationRecord
    study: Study
    coordinator_key: str
    sites: Mapping[str, SiteRecord]
    history: Mapping[str, tuple[SiteRecord, ...]]
    seen: Mapping[str, int]
    expiries: tuple[Expiry, ...]

    @property
    def authority(self) -> Path:
        """Certificate of the authority, PEM."""
        return self.folder / "authority" / "ca.crt"

    @property
    def certificate(self) -> Path:
        """Certificate of proxy and SuperLink."""
        return self.folder / "tls" / "server.crt"

    @property
    def key(self) -> Path:
        """Private key of proxy and SuperLink."""
        return self.folder / "tls" / "server.key"

    @property
    def secret(self) -> Path:
        """What SuperLink and its executor share."""
        return self.folder / "tls" / "executor.secret"

    @property
    def app(self) -> Path:
        """The staged source of the bundle, to submit runs of."""
        return self.folder / "app"

    @property
    def bundle(self) -> Path:
        """The built bundle."""
        return self.folder / "fedloupe.fab"

    @property
    def study_file(self) -> Path:
        """The study as canonical JSON."""
        return self.folder / "study.json"

    @property
    def revocations(self) -> Path:
        """The CRL, PEM."""
        return self.folder / "revoked.crl"

    @property
    def records(self) -> tuple[SiteRecord, ...]:
        """Every enrolment there ever was, those that count first."""
        return (*self.sites.values(), *(one for many in self.history.values() for one in many))

    def kit_file(self, site: str) -> Path:
        """The latest kit of a site."""
        return self.folder / "kits" / f"{site}.kit"

    def signer(self) -> Signer:
        """The coordinator's private key.

        Raises:
            KeyUnusable: it cannot be read, or others may read it.
        """
        return Signer.load(self.folder / "coordinator.key")

    @property
    def told(self) -> Told:
        """What a kit made now would say."""
        return Told(
            address=self.record.address,
            authority_sha256=hashlib.sha256(self.authority.read_bytes()).hexdigest(),
            bundle_sha256=self.record.bundle_sha256,
            fingerprint=self.study.fingerprint,
        )

    @property
    def stale_kits(self) -> Mapping[str, tuple[str, ...]]:
        """What no longer holds in a site's latest kit, by site: `address`, `authority`, `bundle`, `study`."""
        now = self.told
        names = {"address": "address", "authority_sha256": "authority", "bundle_sha256": "bundle"}
        names["fingerprint"] = "study"
        found = {
            site: tuple(word for field, word in names.items() if getattr(record.told, field) != getattr(now, field))
            for site, record in self.sites.items()
            if record.revoked is None
        }
        return {site: words for site, words in found.items() if words}

    @property
    def couriers(self) -> tuple[Courier, ...]:
        """Courier keys whose latest certificate is neither revoked nor over; superseded ones until a newer came."""
        now, found = utc_now(), []
        for site, record in self.sites.items():
            latest = {one.courier_key: one for one in (*self.history.get(site, ()), record)}
            for one in sorted(latest.values(), key=lambda one: one.kit):
                superseded = one is not record
                if one.lasts(now) and not (superseded and one.kit < self.seen.get(site, 0)):
                    found.append(Courier(site, one.courier_key, one.kit, superseded))
        return tuple(found)


def load_federation(folder: Path) -> Federation:
    """Read a federation folder; certificates that ran out are no error, they are in `expiries`.

    Raises:
        FederationUnusable: no federation, or a file of it is damaged.
        SignatureWrong: the study is not as the coordinator's key signed it.
    """
    record = read_record(folder / "federation.json", FederationRecord)
    study, key = _signed_study(folder)
    sites = {path.stem: read_record(path, SiteRecord) for path in sorted((folder / "sites").glob("*.json"))}
    history: dict[str, list[SiteRecord]] = {}
    for path in (folder / "sites" / "history").glob("*.json"):
        old = read_record(path, SiteRecord)
        if old.site not in sites or sites[old.site].kit != old.kit:  # a crash between copy and replacement
            history.setdefault(old.site, []).append(old)
    authority = _certificate_end(folder / "authority" / "ca.crt")
    server = _certificate_end(folder / "tls" / "server.crt")
    enrolled = [Expiry(site, one.identity.ends, site) for site, one in sites.items() if one.revoked is None]
    return Federation(
        folder,
        record,
        study,
        key,
        sites,
        {site: tuple(sorted(many, key=lambda one: one.kit)) for site, many in history.items()},
        read_seen(folder),
        (Expiry("authority", authority), Expiry("server", server), *enrolled),
    )


def coordinator_public(folder: Path) -> str:
    """The coordinator's public key, from FED/coordinator.pub.

    Raises:
        FederationUnusable: it is not there.
    """
    path = folder / "coordinator.pub"
    try:
        text = path.read_text(encoding="ascii").strip()
        if len(bytes.fromhex(text)) != 32:
            raise ValueError("not a key")
    except (OSError, ValueError):
        raise FederationUnusable("no public key", where=str(path), remedy="run `fedloupe provision` again") from None
    return text


def _signed_study(folder: Path) -> tuple[Study, str]:
    path = folder / "study.json"
    signed, key = read_record(folder / "study.json.sig", StudySignature), coordinator_public(folder)
    try:
        content = path.read_bytes()
        check("study", content, signed.signature, key)
        return parse_study(json.loads(content), str(path)), key
    except (OSError, ValueError, RecursionError, StudyInvalid) as error:
        raise FederationUnusable(
            f"no study: {type(error).__name__}", where=str(path), remedy="run `fedloupe provision` again"
        ) from None


def _certificate_end(path: Path) -> datetime:
    try:
        return read_certificate(path.read_text(encoding="ascii")).not_valid_after_utc
    except (OSError, ValueError, FedLoupeError) as error:
        raise FederationUnusable(
            f"no certificate: {type(error).__name__}", where=str(path), remedy="restore it from its backup"
        ) from None
