"""A hospital's own keys and the request that tells their public halves: `fedloupe-site init`.

    request = initialise(Path("HOME"), "north", Path("HOME/courier"))        # HOME/north.request.json
    keys = find_keys(Path("HOME"), Path("HOME/courier"), site_key="3f...")   # which of ours a kit is for

    HOME/gate/site.key        Ed25519; the site process alone reads it
    COURIER/courier.key       EC P-384, OpenSSH; Flower's SuperNode reads it
    COURIER/courier.pub

New keys are made beside, as `*.new`; they take the old ones' place when their kit is installed, not before.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)

from fedloupe.enrolment import document_bytes, make_request, openssh, read_request
from fedloupe.errors import FedLoupeError
from fedloupe.signing import KeyUnusable, Signer
from fedloupe_client.config import load_site
from fedloupe_client.gate.disk import gate_folder, write_atomic
from fedloupe_client.joining.errors import KeysAbsent, KitNotInstalled, SiteNameRefused
from fedloupe_client.joining.installed import installed

NEW = ".new"


@dataclass(frozen=True)
class Keys:
    """The files of one pair of private keys.

    Attributes:
        site: the site process's.
        courier: the courier's.
        public: the courier's public half.
        new: they wait for their kit.
    """

    site: Path
    courier: Path
    public: Path
    new: bool

    @classmethod
    def at(cls, home: Path, courier: Path, *, new: bool) -> Keys:
        """Where they lie, or will."""
        end = NEW if new else ""
        return cls(home / "gate" / f"site.key{end}", courier / f"courier.key{end}", courier / f"courier.pub{end}", new)

    def there(self) -> bool:
        """Are both private ones there?"""
        return self.site.is_file() and self.courier.is_file()


def initialise(home: Path, site: str, courier: Path, *, new_keys: bool = False) -> Path:
    """Make what is missing of a hospital's keys, and the request for the coordinator.

    Repeated, it finds the same keys and leaves the same request.

    Args:
        home: the site's home folder; made, mode 0700.
        site: the site's name in the study.
        courier: the courier's folder; made, mode 0700.
        new_keys: a second pair beside the present one, and a request for that.

    Returns:
        HOME/SITE.request.json.

    Raises:
        SiteNameRefused: not a name, or this home is another site's.
        KeyUnusable: a key that is there cannot be used.
        KitNotInstalled: a folder cannot be made or written.
    """
    require_name(home, site)
    try:
        for folder in (home, courier):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        gate_folder(home)
        keys = Keys.at(home, courier, new=new_keys)
        signer = Signer.load(keys.site) if _begun(keys.site) else Signer.make(keys.site)
        carrier = load_courier_key(keys.courier) if _begun(keys.courier) else _make_courier_key(keys.courier)
        write_public(keys.public, carrier)
        path = home / f"{site}.request.json"
        if not _asks_for(path, site, signer, carrier):
            write_atomic(path, document_bytes(make_request(site, signer, carrier)))
    except OSError as error:
        raise KitNotInstalled(
            f"writing failed: {error.strerror or type(error).__name__}",
            where=str(error.filename or home),
            remedy="see to the folder's permissions and the disk's room, run the same command again",
        ) from None
    return path


def courier_folder(home: Path, given: Path | None) -> Path:
    """Where the courier's files are: as given, else as the kit in force has it, else HOME/courier."""
    if given is not None:
        return given
    kit = installed(home)
    return Path(kit.courier) if kit is not None else home / "courier"


def require_name(home: Path, site: str) -> None:
    """Refuse a name that is none, or not this home's.

    Raises:
        SiteNameRefused: likewise.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,39}", site):
        raise SiteNameRefused(
            "a site's name is small letters, digits, `-` and `_`", where=site[:60], remedy="take it from the study"
        )
    own = {kit.site for kit in [installed(home)] if kit is not None}
    if (home / "site.yaml").is_file():
        own.add(load_site(home).site)
    if own - {site}:
        raise SiteNameRefused(
            f"this home is of {', '.join(sorted(own - {site}))}, not of {site}",
            where=str(home),
            remedy="use the study's name of this site, here and in site.yaml",
        )


def find_keys(home: Path, courier: Path, site_key: str, courier_key: str) -> Keys | None:
    """Those of our keys that have these public halves; None: none of them.

    Raises:
        KeysAbsent: there are no keys here at all.
        KeyUnusable: a key that is there cannot be used, and no other one is it.
    """
    pairs = [keys for new in (False, True) if (keys := Keys.at(home, courier, new=new)).there()]
    if not pairs:
        raise KeysAbsent(
            "no site.key and courier.key",
            where=f"{home / 'gate'}, {courier}",
            remedy="make them with `fedloupe-site init`, with the same --courier, and send the request",
        )
    unusable: KeyUnusable | None = None
    for keys in pairs:
        try:
            own = (Signer.load(keys.site).public, openssh(load_courier_key(keys.courier).public_key()))
        except KeyUnusable as error:
            unusable = error
            continue
        if own == (site_key, courier_key):
            return keys
    if unusable is not None:
        raise unusable
    return None


def load_courier_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A courier's private key that only its owner may read.

    Raises:
        KeyUnusable: it is none, or others may read it.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise KeyUnusable("others may read it", where=str(path), remedy=f"chmod 600 {path}")
        key = load_ssh_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise KeyUnusable(
            f"no private key: {type(error).__name__}", where=str(path), remedy="restore it from its backup"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise KeyUnusable("not an EC key on P-384", where=str(path), remedy="restore it from its backup")
    return key


def write_public(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """The public half in OpenSSH's form."""
    write_atomic(path, f"{openssh(key.public_key())}\n".encode())


def _begun(path: Path) -> bool:
    """Is a key there? An empty file is one that a crash left: it holds nothing, and goes."""
    if path.is_file() and path.stat().st_size == 0:
        path.unlink()
    return path.exists()


def _make_courier_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP384R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    return key


def _asks_for(path: Path, site: str, signer: Signer, carrier: ec.EllipticCurvePrivateKey) -> bool:
    """Is the request already there, for just these keys?"""
    if not path.is_file():
        return False
    try:
        asked = read_request(path)
    except FedLoupeError:  # damaged or half-written: a new one takes its place
        return False
    return (asked.site, asked.site_key, asked.courier_key) == (site, signer.public, openssh(carrier.public_key()))
