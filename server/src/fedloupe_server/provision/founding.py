"""A federation's beginning: authority, server certificate, coordinator's key, signed study, app bundle.

    founded = provision(study, Path("FED"), "fl.example.org:443", name="Coordinating Hospital", app=Path("configs/app"))
    founded.spoken                         # what the coordinator reads out on the telephone

Safe to repeat: a key that is there stays; name, address, study and bundle become what is given. A server certificate
that ran out, or does not name the host, is made anew, with a new key.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fedloupe.certificates import utc_now
from fedloupe.enrolment import Address, Name, document_bytes
from fedloupe.signing import Signer, spoken
from fedloupe.study import Study, canonical_json
from fedloupe_server.hub.flower import Flower, stage
from fedloupe_server.provision.authority import (
    Authority,
    load_private_key,
    revocation_list,
    serves,
    write_server_certificate,
)
from fedloupe_server.provision.errors import AddressInvalid, FederationNotWritten, FederationUnusable
from fedloupe_server.provision.federation import Federation, StudySignature, load_federation
from fedloupe_server.provision.files import locked, write_whole
from fedloupe_server.provision.records import FederationRecord, read_record

AUTHORITY_DAYS = 3650
DAYS = 365


@dataclass(frozen=True)
class Founded:
    """What `provision` made.

    Attributes:
        federation: read back from the folder.
        spoken: fingerprint of the coordinator's key, as people compare it.
        new: the coordinator's key was made now.
    """

    federation: Federation
    spoken: str
    new: bool


def provision(
    study: Study, folder: Path, address: str, *, name: str = "Coordinator", days: int = DAYS, app: Path
) -> Founded:
    """Found a federation, or bring one up to date.

    Args:
        study: what hospitals will approve.
        folder: FED; made, mode 0700.
        address: `host:port` that couriers dial.
        name: the coordinator's, as hospitals see it.
        days: how long a new server certificate is good; the authority lasts ten years.
        app: source of the app bundle.

    Raises:
        AddressInvalid: not `host:port`, or a name that cannot be shown.
        BundleMissing, FlowerRefused: the bundle cannot be built.
        FederationNotWritten, FederationUnusable, KeyUnusable: the folder.
    """
    host, folder = _host(address, name), folder.resolve()  # `flwr build` runs elsewhere
    if folder.is_dir() and not (folder / "federation.json").exists() and any(folder.iterdir()):
        begun = {"authority", "tls", "coordinator.key", "coordinator.pub", ".lock"}
        if not {path.name for path in folder.iterdir()} & begun:
            raise FederationUnusable("it holds something else", where=str(folder), remedy="name an empty folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise FederationNotWritten(
            f"the folder cannot be made: {error.strerror}", where=str(folder), remedy="check the path"
        ) from None
    with locked(folder):
        authority = _authority(folder / "authority", name)
        _tls(folder / "tls", authority, host, days)
        new = not (folder / "coordinator.key").exists()
        if new and (folder / "federation.json").exists():
            raise FederationUnusable(
                "the coordinator's key is gone, and hospitals compared it",
                where=str(folder / "coordinator.key"),
                remedy="restore it from its backup; without one, found another federation in an empty folder",
            )
        key = Signer.make(folder / "coordinator.key") if new else Signer.load(folder / "coordinator.key")
        write_whole(folder / "coordinator.pub", f"{key.public}\n".encode())
        content = canonical_json(study).encode()
        digest = _bundle(folder, app)
        if not (folder / "revoked.crl").exists():
            write_whole(folder / "revoked.crl", revocation_list(authority, [], utc_now()).encode())
        # Signature and study change one after the other: a crash between them shows, and this command mends it.
        signature = StudySignature(key=key.public, signature=key.sign("study", content))
        write_whole(folder / "study.json.sig", document_bytes(signature))
        write_whole(folder / "study.json", content)
        path = folder / "federation.json"
        created = read_record(path, FederationRecord).created if path.exists() else utc_now().isoformat()
        record = FederationRecord(name=name, address=address, created=created, bundle_sha256=digest)
        write_whole(path, document_bytes(record))
        for part in ("sites", "kits"):
            (folder / part).mkdir(exist_ok=True)
    return Founded(load_federation(folder), spoken(key.public), new)


def rotate_server(folder: Path, *, days: int = DAYS) -> Federation:
    """A new key and certificate for proxy and SuperLink, from the same authority, for the same host.

    Hospitals need nothing new: they trust the authority. Processes that run load the new files when they start or
    reload.

    Raises:
        FederationUnusable, FederationNotWritten, CertificateExpired: see there.
    """
    federation = load_federation(folder)
    with locked(folder):
        authority = Authority.load(folder / "authority")
        write_server_certificate(folder / "tls", authority, _host(federation.record.address), days=days)
    return load_federation(folder)


def _host(address: str, name: str = "Coordinator") -> str:
    try:
        TypeAdapter(Address).validate_python(address)
        TypeAdapter(Name).validate_python(name)
        host, _, port = address.rpartition(":")
        if int(port) > 65_535:
            raise ValueError("port")
    except (ValidationError, ValueError):
        raise AddressInvalid(
            "not `host:port` and a name of at most 80 characters",
            where=address,
            remedy="as in: --address fl.example.org:443 --name 'Coordinating Hospital'",
        ) from None
    return host


def _authority(folder: Path, name: str) -> Authority:
    if not (folder / "ca.key").exists():
        if (folder / "ca.crt").exists():
            raise FederationUnusable(
                "the authority's key is gone", where=str(folder / "ca.key"), remedy="restore it from its backup"
            )
        return Authority.make(folder, name[:64], days=AUTHORITY_DAYS)
    if not (folder / "ca.crt").exists():  # killed between the two
        return Authority.certify(folder, load_private_key(folder / "ca.key"), name[:64], days=AUTHORITY_DAYS)
    return Authority.load(folder)


def _tls(folder: Path, authority: Authority, host: str, days: int) -> None:
    write_whole(folder / "ca.crt", authority.pem.encode())
    if not (folder / "executor.secret").exists():
        write_whole(folder / "executor.secret", os.urandom(32), private=True)
    certificate = folder / "server.crt"
    current = certificate.read_text(encoding="ascii") if certificate.is_file() else ""
    if not (folder / "server.key").is_file() or not serves(current, authority, host):
        write_server_certificate(folder, authority, host, days=days)


def _bundle(folder: Path, app: Path) -> str:
    """Build the bundle and put it in place; its SHA-256 in hex."""
    staged = stage(app, folder / "app")
    with tempfile.TemporaryDirectory(prefix="fedloupe-") as scratch:
        built = Flower(Path(scratch), folder / "authority" / "ca.crt", 0).build(staged)
        content = built.read_bytes()
    for old in staged.glob("*.fab"):  # each version has a name of its own; the one that counts is fedloupe.fab
        old.unlink()
    write_whole(folder / "fedloupe.fab", content)
    return hashlib.sha256(content).hexdigest()
