"""A federation's certificate authority and what it signs: the server's certificate, the sites', and those taken back.

    authority = Authority.make(FED / "authority", "Coordinating Hospital", days=3650)
    write_server_certificate(FED / "tls", authority, "fl.example.org", days=365)
    pem = site_certificate(authority, "north", public_key_hex, days=365, now=utc_now())
    crl = revocation_list(authority, [(serial, when)], now=utc_now())

Keys are EC P-384, signatures ECDSA with SHA-384; a site's key, made at the site, is Ed25519. Private keys are written
with mode 0600.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedloupe.certificates import read_authority, read_certificate, utc_now
from fedloupe.errors import FedLoupeError
from fedloupe_server.provision.errors import FederationUnusable
from fedloupe_server.provision.files import sync_folder, write_whole

LOOPBACK = ("localhost", "127.0.0.1")
_EARLIER = timedelta(minutes=5)  # clocks of hospitals may be behind
_CRL_TIME = timedelta(days=3650)  # a kit carries the list; nobody fetches a fresh one


@dataclass(frozen=True)
class Authority:
    """The authority with its private key.

    Attributes:
        certificate: self-signed.
        key: signs certificates; it never leaves the coordinator's machine.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls, folder: Path, name: str, *, days: int) -> Self:
        """A new authority: `folder/ca.key` first, then `folder/ca.crt`."""
        key = ec.generate_private_key(ec.SECP384R1())
        write_whole(folder / "ca.key", _private_pem(key), private=True)
        return cls.certify(folder, key, name, days=days)

    @classmethod
    def certify(cls, folder: Path, key: ec.EllipticCurvePrivateKey, name: str, *, days: int) -> Self:
        """Write `folder/ca.crt` for a key that is there."""
        subject = _name(name)
        certificate = (
            _builder(subject, subject, key.public_key(), utc_now(), days)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign=False), critical=True)
            .sign(key, hashes.SHA384())
        )
        write_whole(folder / "ca.crt", certificate.public_bytes(serialization.Encoding.PEM))
        return cls(certificate, key)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The authority in a folder.

        Raises:
            FederationUnusable: no key there, or one that others may read, or not the certificate's.
            CertificateExpired: its time is over.
        """
        key = load_private_key(folder / "ca.key")
        try:
            certificate = read_authority((folder / "ca.crt").read_text(encoding="ascii"), utc_now())
        except (OSError, ValueError):
            raise FederationUnusable("no certificate", where=str(folder / "ca.crt"), remedy=_RESTORE) from None
        if certificate.public_key() != key.public_key():
            raise FederationUnusable("key and certificate do not belong together", where=str(folder), remedy=_RESTORE)
        return cls(certificate, key)

    @property
    def pem(self) -> str:
        """The certificate, as couriers need it."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def load_private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """An EC key that only its owner may read.

    Raises:
        FederationUnusable: it is none, or others may read it.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise FederationUnusable("others may read this private key", where=str(path), remedy=f"chmod 600 {path}")
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise FederationUnusable(f"no private key: {type(error).__name__}", where=str(path), remedy=_RESTORE) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise FederationUnusable("not an EC key", where=str(path), remedy=_RESTORE)
    return key


def write_server_certificate(folder: Path, authority: Authority, host: str, *, days: int) -> None:
    """A new key and certificate for the proxy and the SuperLink: `folder/server.key`, `folder/server.crt`.

    Both names are links into `folder/current`, itself a link to a numbered folder: one rename changes both, so that a
    server that loads them again never meets a key of one and a certificate of the other for longer than its own reading
    takes. The pair before is removed afterwards.

    Args:
        folder: FED/tls.
        authority: signs.
        host: DNS name or IP address that couriers dial; `localhost` and 127.0.0.1 are added.
        days: how long it is good; never longer than the authority.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    numbers = [int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit()]
    fresh = folder / str(max(numbers, default=0) + 1)
    write_whole(fresh / "server.key", _private_pem(key), private=True)
    write_whole(fresh / "server.crt", _server_certificate(authority, key.public_key(), host, days))
    for name in ("server.crt", "server.key"):
        if not (folder / name).is_symlink():
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(Path("current") / name)
    link = folder / f".current.{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(fresh.name)
    os.replace(link, folder / "current")
    sync_folder(folder)
    for number in numbers:
        shutil.rmtree(folder / str(number))


def serves(pem: str, authority: Authority, host: str) -> bool:
    """Is this a certificate of this authority for this host, in its time?"""
    try:
        certificate = read_certificate(pem)
        certificate.verify_directly_issued_by(authority.certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (FedLoupeError, InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    return certificate.not_valid_after_utc > utc_now() and all(name in names for name in _names(host))


def site_certificate(authority: Authority, site: str, key: str, *, days: int, now: datetime) -> str:
    """A site's certificate in PEM: the common name is the site's, the key its Ed25519 one.

    Args:
        authority: signs.
        site: its name.
        key: 64 hex digits.
        days: how long it is good; never longer than the authority.
        now: UTC.
    """
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
    certificate = (
        _builder(_name(site), authority.certificate.subject, public, now, days, _end(authority))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(_issuer(authority), critical=False)
        .sign(authority.key, hashes.SHA384())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def revocation_list(authority: Authority, revoked: Iterable[tuple[int, datetime]], now: datetime) -> str:
    """The certificates taken back, by serial number and time, signed by the authority: a CRL (RFC 5280) in PEM."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now - _EARLIER)
        .next_update(now + _CRL_TIME)
    )
    for serial, when in sorted(set(revoked)):
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
        )
    return builder.sign(authority.key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM).decode("ascii")


_RESTORE = "restore the folder from its backup; a new authority would need new kits everywhere"


def _server_certificate(authority: Authority, key: ec.EllipticCurvePublicKey, host: str, days: int) -> bytes:
    certificate = (
        _builder(_name(host[:64]), authority.certificate.subject, key, utc_now(), days, _end(authority))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(_names(host)), critical=False)
        .add_extension(_usage(sign=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_issuer(authority), critical=False)
        .sign(authority.key, hashes.SHA384())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def _names(host: str) -> list[x509.GeneralName]:
    return [_general(name) for name in dict.fromkeys((host, *LOOPBACK))]


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _end(authority: Authority) -> datetime:
    return authority.certificate.not_valid_after_utc


def _issuer(authority: Authority) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey | Ed25519PublicKey,
    now: datetime,
    days: int,
    latest: datetime | None = None,
) -> x509.CertificateBuilder:
    end = now + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(min(end, latest) if latest else end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, sign: bool) -> x509.KeyUsage:
    """`sign`: a server or a site, which signs; otherwise an authority, which signs certificates."""
    return x509.KeyUsage(
        digital_signature=sign,
        key_cert_sign=not sign,
        crl_sign=not sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
