"""What a federation folder says in its JSON files: of itself, and of each hospital.

federation.json          FederationRecord
sites/north.json         SiteRecord: the keys and the certificate that count
sites/history/north-3    SiteRecord: kit 3, which another one followed
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from fedloupe.certificates import Identity, identity_of, read_certificate
from fedloupe.enrolment import Address, Document, Hex, Moment, Name, OpenSsh, Pem, Site, parse_document
from fedloupe.errors import FedLoupeError
from fedloupe_server.provision.errors import FederationUnusable

_REMEDY = "restore it from its backup; nothing here is meant to be edited"


class FederationRecord(Document):
    """The federation.

    Attributes:
        name: the coordinator's, as hospitals see it.
        address: `host:port` that couriers dial.
        created: UTC, ISO 8601.
        bundle_sha256: of the app bundle.
    """

    format: Literal["fedloupe-federation-1"] = "fedloupe-federation-1"
    name: Name
    address: Address
    created: Moment
    bundle_sha256: Hex


class Revocation(Document):
    """That a hospital's certificate was taken back.

    Attributes:
        when: UTC, ISO 8601.
        reason: in words.
    """

    when: Moment
    reason: Name


class Told(Document):
    """What a kit said that may change later; a kit that says something else than holds now is stale.

    Attributes:
        address: where the courier dials.
        authority_sha256: of the authority's certificate in PEM.
        bundle_sha256: of the app bundle.
        fingerprint: of the study.
    """

    address: Address
    authority_sha256: Hex
    bundle_sha256: Hex
    fingerprint: Hex


class SiteRecord(Document):
    """One enrolment of a hospital.

    Attributes:
        site: its name in the study.
        site_key: Ed25519 public key of the site process.
        courier_key: the courier's, one OpenSSH line; what SuperLink must know.
        serial: of the certificate, hex.
        issued: UTC, ISO 8601; of the certificate.
        expires: likewise.
        kit: number of the kit.
        told: what the kit said.
        certificate: PEM.
        revoked: None: it counts.
    """

    format: Literal["fedloupe-site-1"] = "fedloupe-site-1"
    site: Site
    site_key: Hex
    courier_key: OpenSsh
    serial: Annotated[str, Field(pattern=r"^[0-9a-f]{1,40}$")]
    issued: Moment
    expires: Moment
    kit: int = Field(ge=1, lt=2**31)
    told: Told
    certificate: Pem
    revoked: Revocation | None = None

    @property
    def identity(self) -> Identity:
        """What the certificate says."""
        return identity_of(read_certificate(self.certificate))

    def lasts(self, now: datetime) -> bool:
        """Is it neither revoked nor over?"""
        return self.revoked is None and now < self.identity.ends


_Record = TypeVar("_Record", bound=Document)


def read_record(path: Path, kind: type[_Record]) -> _Record:
    """A record of a federation folder.

    Raises:
        FederationUnusable: absent, not permitted, damaged, or not what its name says.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FederationUnusable(
            f"it cannot be read: {error.strerror}", where=str(path), remedy="check the path; see `fedloupe provision`"
        ) from None
    record = parse_document(content, kind, FederationUnusable, str(path), _REMEDY)
    if isinstance(record, SiteRecord):
        try:
            identity = record.identity
        except FedLoupeError as error:
            raise FederationUnusable(error.what, where=str(path), remedy=_REMEDY) from None
        if path.stem not in (record.site, f"{record.site}-{record.kit}"):
            raise FederationUnusable(f"the record is of {record.site}", where=str(path), remedy=_REMEDY)
        if (identity.name, identity.key, identity.serial) != (record.site, record.site_key, record.serial):
            raise FederationUnusable("record and certificate differ", where=str(path), remedy=_REMEDY)
    return record
