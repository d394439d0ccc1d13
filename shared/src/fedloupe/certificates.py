"""Whose certificate this is, and whether an authority stands behind it at a moment.

    authority = read_authority(pem, now)
    identity = check_certificate(pem, authority, now)       # CertificateWrong, CertificateExpired, CertificateRevoked
    identity.name, identity.key                             # "north", 64 hex digits: the Ed25519 public key

X.509 (RFC 5280) by `cryptography`. An authority signs with ECDSA on P-384; a site's key is Ed25519. One level: the
authority signs sites and servers itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedloupe.errors import FedLoupeError

LONGEST_PEM = 16_384
"""Characters of one certificate; ours have some 800."""


class CertificateWrong(FedLoupeError):
    """Not a certificate, or not one that this authority made for this use."""

    code = "FL-132"
    title = "a certificate does not fit"


class CertificateExpired(FedLoupeError):
    """The certificate's time has not begun or is over."""

    code = "FL-133"
    title = "a certificate is out of its time"


class CertificateRevoked(FedLoupeError):
    """The authority took the certificate back."""

    code = "FL-134"
    title = "a certificate was revoked"


@dataclass(frozen=True)
class Identity:
    """What a site's certificate says.

    Attributes:
        name: the site.
        key: its Ed25519 public key, 64 hex digits.
        serial: number of the certificate, unique with its authority; hex.
        begins: UTC.
        ends: UTC.
    """

    name: str
    key: str
    serial: str
    begins: datetime
    ends: datetime


def read_certificate(pem: str) -> x509.Certificate:
    """One certificate from PEM.

    Raises:
        CertificateWrong: it is none, or more than one, or too long.
    """
    return _one(pem, x509.load_pem_x509_certificate, "CERTIFICATE")


def read_revocations(pem: str, authority: x509.Certificate) -> x509.CertificateRevocationList:
    """An authority's list of what it took back.

    Raises:
        CertificateWrong: it is none, or another authority's.
    """
    revoked = _one(pem, x509.load_pem_x509_crl, "X509 CRL")
    key = authority.public_key()
    if (
        not isinstance(key, EllipticCurvePublicKey)
        or revoked.issuer != authority.subject
        or not revoked.is_signature_valid(key)
    ):
        raise CertificateWrong("the list of revoked certificates is another authority's", remedy=_ASK)
    return revoked


def read_authority(pem: str, now: datetime) -> x509.Certificate:
    """A self-signed authority that may sign certificates at `now`.

    Raises:
        CertificateWrong: it is none.
        CertificateExpired: not at this time.
    """
    certificate = read_certificate(pem)
    _require_issued_by(certificate, certificate)
    basic, usage = _extension(certificate, x509.BasicConstraints), _extension(certificate, x509.KeyUsage)
    if not basic.ca or not usage.key_cert_sign or not isinstance(certificate.public_key(), EllipticCurvePublicKey):
        raise CertificateWrong("no certificate of an authority", remedy=_ASK)
    _require_in_time(certificate, now, "the authority's certificate")
    return certificate


def check_certificate(
    pem: str, authority: x509.Certificate, now: datetime, revoked: x509.CertificateRevocationList | None = None
) -> Identity:
    """A site's certificate: made by this authority, in its time, not taken back.

    Args:
        pem: the certificate.
        authority: as `read_authority` gave it.
        now: UTC.
        revoked: as `read_revocations` gave it; None: nothing is known of revocations.

    Raises:
        CertificateWrong: another authority's, or made for another use.
        CertificateExpired: not at this time.
        CertificateRevoked: the list names it.
    """
    certificate = read_certificate(pem)
    _require_issued_by(certificate, authority)
    identity = identity_of(certificate)
    _require_in_time(certificate, now, f"the certificate of {identity.name}")
    if revoked is not None and revoked.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
        raise CertificateRevoked("the coordinator took this certificate back", where=identity.name, remedy=_ASK)
    return identity


def identity_of(certificate: x509.Certificate) -> Identity:
    """Site, key and time of a certificate, whoever signed it.

    Raises:
        CertificateWrong: it is no site's.
    """
    key = certificate.public_key()
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    uses = list(_extension(certificate, x509.ExtendedKeyUsage))
    if (
        not isinstance(key, Ed25519PublicKey)
        or len(names) != 1
        or _extension(certificate, x509.BasicConstraints).ca
        or uses != [ExtendedKeyUsageOID.CLIENT_AUTH]
    ):
        raise CertificateWrong("no certificate of a site", remedy=_ASK)
    return Identity(
        str(names[0].value),
        key.public_bytes_raw().hex(),
        f"{certificate.serial_number:x}",
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )


def utc_now() -> datetime:
    """Now, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


_ASK = "ask the coordinator for a new kit; use nothing of this one"
_Read = TypeVar("_Read")
_Kind = TypeVar("_Kind", bound=x509.ExtensionType)


def _one(pem: str, read: Callable[[bytes], _Read], label: str) -> _Read:
    try:
        if len(pem) > LONGEST_PEM or pem.count(f"-----BEGIN {label}-----") != 1:
            raise ValueError("not one of its kind")
        return read(pem.encode("ascii"))
    except (ValueError, x509.UnsupportedGeneralNameType) as error:
        raise CertificateWrong(f"not one {label} in PEM: {type(error).__name__}", remedy=_ASK) from None


def _extension(certificate: x509.Certificate, kind: type[_Kind]) -> _Kind:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError) as error:
        raise CertificateWrong(
            f"its extensions do not say what it is for: {type(error).__name__}", remedy=_ASK
        ) from None


def _require_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> None:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        raise CertificateWrong("not signed by the authority that it should be signed by", remedy=_ASK) from None


def _require_in_time(certificate: x509.Certificate, now: datetime, what: str) -> None:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begins:
        raise CertificateExpired(f"{what} begins on {begins:%Y-%m-%d %H:%M} UTC", remedy="set this machine's clock")
    if now > ends:
        raise CertificateExpired(
            f"{what} ended on {ends:%Y-%m-%d %H:%M} UTC",
            remedy="make a new request with `fedloupe-site init`, and ask the coordinator for a new kit",
        )
