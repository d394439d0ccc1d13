"""Hospitals and coordinator of a one-machine run know each other as in a real one: requests are signed, keys certified.

key = enrol_here(homes, folder)
exchange = inprocess_exchange(handlers, key=key)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fedloupe.certificates import check_certificate, utc_now
from fedloupe.errors import FedLoupeError
from fedloupe.signing import Signer
from fedloupe_client.gate.disk import gate_folder, write_atomic
from fedloupe_client.gate.signed import site_key
from fedloupe_client.gate.trust import trust, trusted
from fedloupe_server.provision.authority import Authority, revocation_list, site_certificate

NAME = "one-machine run"
DAYS = 3650


def enrol_here(homes: Mapping[str, Path], folder: Path) -> Signer:
    """The run's coordinator key, which every home approves, and a certificate for every home; made where they lack.

    Args:
        homes: by site.
        folder: beside the run's, where key and authority are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "coordinator.key"
    key = Signer.load(path) if path.exists() else Signer.make(path)
    authority = _authority(folder / "authority")
    for site, home in homes.items():
        if key.public not in trusted(home):
            trust(home, NAME, key.public, by=NAME)
        if not _certified(home, site, authority):
            certify(home, site, authority)
    return key


def certify(home: Path, site: str, authority: Authority) -> None:
    """What a kit would bring: the site's certificate, the authority's, and that nothing is revoked."""
    now, gate = utc_now(), gate_folder(home)
    certificate = site_certificate(authority, site, site_key(home).public, days=DAYS, now=now)
    write_atomic(gate / "authority.pem", authority.pem.encode())
    write_atomic(gate / "revoked.pem", revocation_list(authority, [], now).encode())
    write_atomic(gate / "certificate.pem", certificate.encode())


def _authority(folder: Path) -> Authority:
    try:
        return Authority.load(folder)
    except (FedLoupeError, OSError):
        if (folder / "ca.key").exists():
            raise
    return Authority.make(folder, NAME, days=DAYS)


def _certified(home: Path, site: str, authority: Authority) -> bool:
    path = home / "gate" / "certificate.pem"
    if not path.exists():
        return False
    try:
        identity = check_certificate(path.read_text(encoding="ascii"), authority.certificate, utc_now())
    except FedLoupeError:
        return False
    return (identity.name, identity.key) == (site, site_key(home).public)
