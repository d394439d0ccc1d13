"""From a kit to a hospital that has joined: `fedloupe-site join`.

    checked = check_kit(home, courier, Path("north.kit"), heard="3f2a 90c1 ...", now=utc_now())
    join(home, courier, checked, by="Dr Ito")

A kit is refused unless its coordinator's key is the one that was told on the telephone (or is trusted here already), it
is for this site's keys, its authority stands behind the certificate, in its time, and no newer kit is installed.
Joining approves no study.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import subprocess
import sys
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fedloupe.certificates import (
    CertificateWrong,
    check_certificate,
    identity_of,
    read_authority,
    read_certificate,
    read_revocations,
    utc_now,
)
from fedloupe.enrolment import Kit, KitInvalid, document_bytes, read_kit
from fedloupe.signing import KeyUnusable, Signer, same_spoken, spoken
from fedloupe.study import Study, StudyInvalid, parse_study
from fedloupe_client.gate.audit import Audit
from fedloupe_client.gate.disk import gate_folder, write_atomic
from fedloupe_client.gate.signed import kept_key
from fedloupe_client.gate.trust import trusted
from fedloupe_client.joining.courier_file import COURIER_FILE, CourierFile
from fedloupe_client.joining.errors import (
    CoordinatorDiffers,
    CoordinatorNotCompared,
    KitNotInstalled,
    KitNotOurs,
    KitStale,
)
from fedloupe_client.joining.installed import Installed, Joining, Move, alone, commit, complete, installed, remove
from fedloupe_client.joining.keys import Keys, find_keys, require_name

IN_A_BUNDLE = {"pyproject.toml", "LICENSE", ".info/CONTENT"}
_BUNDLE_TIMEOUT_S = 120


@dataclass(frozen=True)
class Checked:
    """A kit that may be installed.

    Attributes:
        kit: its content.
        study: that it brings.
        keys: ours that it is for.
        compared: the coordinator's key was compared by telephone now; False: it is trusted here since before.
    """

    kit: Kit
    study: Study
    keys: Keys
    compared: bool


def check_kit(home: Path, courier: Path, path: Path, *, heard: str | None, now: datetime) -> Checked:
    """Everything that must hold before a kit is installed. Nothing is changed.

    Args:
        home: the site's home folder.
        courier: the courier's folder.
        path: the kit.
        heard: fingerprint of the coordinator's key as told on the telephone. None: it must be trusted here already.
        now: UTC.

    Raises:
        KitInvalid, SignatureWrong: not a kit, or changed since it was signed.
        CoordinatorNotCompared, CoordinatorDiffers: whose it is.
        KeysAbsent, KeyUnusable, KitNotOurs, SiteNameRefused: whom it is for.
        KitStale: a newer one is installed.
        CertificateWrong, CertificateExpired, CertificateRevoked: its certificate.
        CoordinatorsDamaged, KitNotInstalled: this site's own records.
    """
    kit = read_kit(path)
    current, known = installed(home), kit.coordinator_key in trusted(home)
    same = current is not None and current.authority_sha256 == _digest(kit.authority.encode())
    if heard is not None and not same_spoken(heard, kit.coordinator_key):
        raise CoordinatorDiffers(
            f"it was signed by the key {spoken(kit.coordinator_key)}, which is not the one you give",
            where=str(path),
            remedy="compare again by telephone, all 32 digits; if they differ, use nothing of this kit",
        )
    if heard is None and not (known and same):
        raise CoordinatorNotCompared(
            f"this kit says that it comes from {kit.coordinator}, whose key reads {spoken(kit.coordinator_key)}",
            where=str(path),
            remedy="telephone the coordinator, let them read their key to you, and give it with --coordinator",
        )
    require_name(home, kit.site)
    keys = find_keys(home, courier, kit.site_key, kit.courier_key)
    if keys is None:
        raise KitNotOurs(
            f"it is for keys of {kit.site} that are not here",
            where=str(path),
            remedy="send HOME/SITE.request.json as it is now, and ask for a kit for it",
        )
    if current is not None and same and kit.number < current.number:
        raise KitStale(
            f"kit {kit.number} of {kit.issued[:10]}; kit {current.number} of {current.issued[:10]} is installed",
            where=str(path),
            remedy="install the newest kit that the coordinator sent",
        )
    authority = read_authority(kit.authority, now)
    identity = check_certificate(kit.certificate, authority, now, read_revocations(kit.revoked, authority))
    if (identity.name, identity.key, identity.ends.isoformat()) != (kit.site, kit.site_key, kit.expires):
        raise CertificateWrong(
            f"the certificate is of {identity.name}, for another key or time than the kit says",
            where=str(path),
            remedy="ask the coordinator for a new kit; use nothing of this one",
        )
    _require_no_code(kit, path)
    return Checked(kit, _study(kit, path), keys, heard is not None)


def join(home: Path, courier: Path, checked: Checked, *, by: str) -> Installed:
    """Install a checked kit: all of it, or nothing.

    Args:
        home: the site's home folder.
        courier: the courier's folder.
        checked: by `check_kit`, just now.
        by: who decides; where the key was compared now, also who vouches for it.

    Raises:
        KitNotInstalled: it cannot be written, or the bundle not be prepared; the old kit is in force.
        CoordinatorsDamaged, AuditDamaged, KeyUnusable: the gate's records and key; the old kit is in force.
    """
    with alone(home):
        complete(home)
        return _install(home.resolve(), courier.resolve(), checked, by)


def prepared(courier: Path, bundle_sha256: str) -> bool:
    """Is the courier's Flower home made around this bundle?"""
    approved = courier / "flower" / "approved"
    return approved.is_file() and approved.read_text(encoding="ascii").split() == [bundle_sha256]


def _install(home: Path, courier: Path, checked: Checked, by: str) -> Installed:
    kit, staged = checked.kit, dict[Path, Path]()

    def stage(target: Path, content: bytes, mode: int = 0o600) -> None:
        if target.is_dir():
            raise KitNotInstalled("a folder is in the way", where=str(target), remedy="move it away")
        staged[target] = target.with_name(f".{target.name}.kit")
        write_atomic(staged[target], content)
        staged[target].chmod(mode)

    def note(kind: str, said: bytes) -> None:
        run = f"{kit.site}-{kit.number}"
        Audit(home).append(direction="local", kind=kind, run=run, size=len(said), digest=_digest(said))

    try:
        record = Installed(
            number=kit.number,
            site=kit.site,
            address=kit.address,
            issued=kit.issued,
            expires=kit.expires,
            coordinator=kit.coordinator,
            coordinator_key=kit.coordinator_key,
            authority_sha256=_digest(kit.authority.encode()),
            fingerprint=kit.fingerprint,
            bundle_sha256=kit.bundle_sha256,
            courier=str(courier),
            by=by,
            joined=utc_now().isoformat(),
        )
        gate = gate_folder(home)
        stage(gate / "certificate.pem", kit.certificate.encode())
        stage(gate / "authority.pem", kit.authority.encode())
        stage(gate / "revoked.pem", kit.revoked.encode())
        stage(home / "study.json", kit.study.encode() + b"\n")
        stage(courier / "ca.crt", kit.authority.encode(), 0o644)
        stage(courier / "fedloupe.fab", kit.bundle_bytes, 0o644)
        told = CourierFile(number=kit.number, site=kit.site, address=kit.address, expires=kit.expires)
        stage(courier / COURIER_FILE, document_bytes(told), 0o644)
        (courier / "state").mkdir(mode=0o700, exist_ok=True)  # the one place where the courier writes
        if not prepared(courier, kit.bundle_sha256) and importlib.util.find_spec("flwr") is not None:
            staged[courier / "flower"] = courier / ".flower.kit"
            _prepare(staged[courier / "fedloupe.fab"], staged[courier / "flower"])
        old = Keys.at(home, courier, new=False)
        if checked.keys.new and (public := _public_half(home, old.site)):
            stage(kept_key(home), f"{public}\n".encode())
        stage(home / "kit.json", document_bytes(record))
        moves = [Move.of(source, target) for target, source in staged.items()]
        if checked.keys.new:
            pairs = zip(_files(checked.keys), (old.site, old.courier, old.public), strict=True)
            moves += [Move.of(source, target) for source, target in pairs]
        before = trusted(home).get(kit.coordinator_key)
        vouches = by if checked.compared or before is None else before.by
        joining = Joining(moves=moves, name=kit.coordinator, key=kit.coordinator_key, by=vouches)
        # The chain first, as with approvals.
        note("kit", kit.said)
        if checked.keys.new:
            note("site-key", kit.site_key.encode())
        commit(home, joining)
    except (OSError, ValueError) as error:
        raise KitNotInstalled(
            f"{getattr(error, 'strerror', None) or type(error).__name__}; the kit before is in force",
            where=str(getattr(error, "filename", None) or home),
            remedy="see to permissions and the disk's room, and to --by (80 characters), then join again",
        ) from None
    finally:
        if not (home / "gate" / "joining.json").exists():
            for source in staged.values():
                remove(source)
    return record


def _files(keys: Keys) -> tuple[Path, Path, Path]:
    return keys.site.resolve(), keys.courier.resolve(), keys.public.resolve()


def _public_half(home: Path, key: Path) -> str | None:
    """Of the key that is replaced, damaged or not; None: what it signed counts no longer, as `audit verify` says."""
    if not key.is_file():
        return None
    try:
        return Signer.load(key).public
    except KeyUnusable:
        with suppress(OSError, ValueError, CertificateWrong):
            return identity_of(read_certificate((home / "gate" / "certificate.pem").read_text(encoding="ascii"))).key
    return None


def _prepare(bundle: Path, home: Path) -> None:
    """A read-only Flower home around the bundle, made by the courier's own command: this side imports no Flower."""
    remove(home)
    # -P, here and elsewhere: the folder in which somebody types a command, perhaps as root, is no place to import from.
    command = [sys.executable, "-P", "-m", "fedloupe_client.courier", "approve", str(bundle), "--home", str(home)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_BUNDLE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise KitNotInstalled("the bundle was not installed in time", where=str(home), remedy="join again") from None
    if done.returncode:
        what = " ".join(done.stderr.split())[-300:]
        raise KitNotInstalled(what, where=str(home), remedy="see to the courier's folder and to Flower, join again")


def _require_no_code(kit: Kit, path: Path) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(kit.bundle_bytes)) as bundle:
            names = set(bundle.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise KitInvalid(
            f"its bundle is no zip: {type(error).__name__}", where=str(path), remedy="ask for the kit again"
        ) from None
    if names - IN_A_BUNDLE:
        raise KitInvalid(
            f"its bundle holds more than {', '.join(sorted(IN_A_BUNDLE))}",
            where=str(path),
            remedy="ask the coordinator why: a bundle of FedLoupe holds no code",
        )


def _study(kit: Kit, path: Path) -> Study:
    try:
        study = parse_study(json.loads(kit.study), str(path))
    except (ValueError, RecursionError, StudyInvalid) as error:
        raise KitInvalid(
            f"its study cannot be read by this version: {type(error).__name__}",
            where=str(path),
            remedy=f"install FedLoupe {kit.version}, the coordinator's version",
        ) from None
    if study.fingerprint != kit.fingerprint:
        raise KitInvalid(
            "this version reads another study out of it than the coordinator's",
            where=str(path),
            remedy=f"install FedLoupe {kit.version}, the coordinator's version",
        )
    if kit.site not in {site.name for site in study.sites}:
        raise KitNotOurs(f"its study names no {kit.site}", where=str(path), remedy="ask the coordinator")
    return study


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
