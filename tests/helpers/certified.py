"""An authority of tests, and hospitals with keys that it certified: some with a home, some that only publish keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedloupe.certificates import utc_now
from fedloupe.signing import Signer
from fedloupe_client.gate.peers import said
from fedloupe_server.provision.authority import Authority, site_certificate
from fedloupe_server.simulation.enrolling import certify


@dataclass
class Registrar:
    """Certifies whoever comes.

    Attributes:
        folder: for keys of hospitals without a home, and the authority's.
    """

    folder: Path
    keys: dict[str, Signer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        folder = self.folder / "authority"
        folder.mkdir(parents=True, exist_ok=True)
        made = (folder / "ca.crt").exists()
        self.authority = Authority.load(folder) if made else Authority.make(folder, "Authority of tests", days=30)

    def home(self, home: Path, site: str) -> Path:
        """A home with a certificate."""
        home.mkdir(parents=True, exist_ok=True)
        if not (home / "gate" / "certificate.pem").exists():
            certify(home, site, self.authority)
        return home

    def proof(self, site: str, request: Any, channel: Any, masks: Any) -> tuple[str, str]:
        """Certificate and signature of a hospital under keys that it publishes for a set-up."""
        if site not in self.keys:
            self.keys[site] = Signer.make(self.folder / f"{site}.key")
        key = self.keys[site]
        certificate = site_certificate(self.authority, site, key.public, days=30, now=utc_now())
        return certificate, key.sign("sum-keys", said(request, site, channel, masks))
