"""Hospitals come in, come again with new keys, and go; nobody else's files change.

    enrolled = enrol(Path("FED"), Path("north.request.json"))          # writes FED/kits/north.kit
    enrol(Path("FED"), Path("north.request.json"), renew=True)      # new certificate and kit; the old in history
    revoke(Path("FED"), "north", "left the study")

SuperLink is not asked here: whoever runs it reads `load_federation(FED).couriers` and registers or removes keys.
A revocation reaches other hospitals with their next kit only, in its list of revoked certificates.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import fedloupe
from fedloupe.certificates import identity_of, read_certificate, utc_now
from fedloupe.enrolment import Enrolment, Kit, document_bytes, read_request, sign_kit
from fedloupe.signing import same_spoken, spoken
from fedloupe_server.provision.authority import Authority, revocation_list, site_certificate
from fedloupe_server.provision.errors import (
    FederationUnusable,
    KeyRevoked,
    KeySpent,
    KeyUnheard,
    NotEnrolled,
    NotInStudy,
    OtherKeyEnrolled,
    RequestNotTheirs,
)
from fedloupe_server.provision.federation import Federation, load_federation
from fedloupe_server.provision.files import locked, write_whole
from fedloupe_server.provision.founding import DAYS
from fedloupe_server.provision.records import Revocation, SiteRecord

_NEW_KEYS = "ask the hospital for new keys: `fedloupe-site init --new-keys`"


@dataclass(frozen=True)
class Enrolled:
    """What `enrol` did.

    Attributes:
        record: that counts now.
        kit: the file to send.
        fresh: False: the kit that was there still holds, and nothing was written.
    """

    record: SiteRecord
    kit: Path
    fresh: bool


def enrol(
    folder: Path,
    request: Path,
    *,
    renew: bool = False,
    site: str | None = None,
    heard: str | None = None,
    trusting: bool = True,
    days: int = DAYS,
) -> Enrolled:
    """Certify a hospital's keys and make its kit.

    The same request again gives the same certificate while that lasts; a new kit only where the old is stale or gone.
    After a certificate's end, after a revocation, and once newer ones took their place, keys are never certified again.

    Args:
        folder: FED.
        request: the hospital's file.
        renew: new certificate and kit for a site that is enrolled, with the same or with new keys; a site that was
            revoked may come with new keys either way.
        site: refuse a request of another site.
        heard: fingerprint of the site's key, as the hospital told it on the telephone.
        trusting: take a new key without `heard` too, for a rehearsal: the request came from nobody else's hands.
        days: how long the certificate is good.

    Raises:
        RequestInvalid, SignatureWrong: the file.
        RequestNotTheirs, KeyUnheard: its key is not the one that was told, or none was told.
        NotInStudy, OtherKeyEnrolled, KeyRevoked, KeySpent, NotEnrolled: this site, these keys.
        FederationUnusable, FederationNotWritten, KeyUnusable, CertificateExpired: the folder.
    """
    asked = read_request(request)
    with locked(folder):
        federation = load_federation(folder)
        _require_fit(federation, asked, request, site, heard)
        old = federation.sites.get(asked.site)
        if heard is None and not trusting and (old is None or old.site_key != asked.site_key):
            raise KeyUnheard(
                f"a new key for {asked.site}, and whoever sends such a file takes part in its name",
                where=str(request),
                remedy="have the hospital read its key's fingerprint out on the telephone (`fedloupe-site init` "
                "says it), and type that after `--key`",
            )
        if renew and old is None:
            raise NotEnrolled(
                f"{asked.site} was never enrolled", where=str(request), remedy="enrol it, without renewing"
            )
        same = old is not None and (old.site_key, old.courier_key) == (asked.site_key, asked.courier_key)
        if old is not None and old.revoked is None and not same and not renew:
            raise OtherKeyEnrolled(
                f"{asked.site} is enrolled with the key {spoken(old.site_key)}",
                where=str(request),
                remedy="ask the hospital by telephone whether it made new keys; if so, `--renew`",
            )
        if old is not None and same and not renew:
            kit = federation.kit_file(asked.site)
            if asked.site not in federation.stale_kits and kit.is_file():
                return Enrolled(old, kit, fresh=False)
            return _issue(federation, asked, old.certificate)
        return _issue(federation, asked, None, days)


def revoke(folder: Path, site: str, reason: str) -> SiteRecord:
    """Take back every certificate of a site and say so in the signed list; its keys can not be enrolled again.

    Raises:
        NotEnrolled: there is nothing to take back.
        FederationUnusable, FederationNotWritten: the folder.
    """
    with locked(folder):
        federation = load_federation(folder)
        record = federation.sites.get(site)
        if record is None or record.revoked is not None:
            state = "was never enrolled" if record is None else "is revoked already"
            raise NotEnrolled(f"{site} {state}", where=str(folder), remedy="see `fedloupe sites`")
        note = Revocation(when=utc_now().isoformat(), reason=reason)
        for old in federation.history.get(site, ()):
            if old.revoked is None:
                write_whole(_history(folder, old), document_bytes(old.model_copy(update={"revoked": note})))
        revoked = record.model_copy(update={"revoked": note})
        write_whole(folder / "sites" / f"{site}.json", document_bytes(revoked))
        _write_revocations(load_federation(folder), Authority.load(folder / "authority"))
    return revoked


def _require_fit(federation: Federation, asked: Enrolment, request: Path, site: str | None, heard: str | None) -> None:
    named = {one.name for one in federation.study.sites}
    if asked.site not in named or (site is not None and asked.site != site):
        wanted = site if site is not None else f"one of {', '.join(sorted(named))}"
        raise NotInStudy(
            f"the request is of {asked.site}, not of {wanted}",
            where=str(request),
            remedy="use the study's name of the site in `fedloupe-site init`",
        )
    if heard is not None and not same_spoken(heard, asked.site_key):
        raise RequestNotTheirs(
            f"the request's key reads {spoken(asked.site_key)}",
            where=str(request),
            remedy="compare again by telephone; if it differs, the file is not the hospital's",
        )
    for other in federation.records:
        shared = {asked.site_key, asked.courier_key} & {other.site_key, other.courier_key}
        if shared and (other.site != asked.site or other.revoked is not None):
            whose = f"{other.site}'s" if other.site != asked.site else "a revoked one"
            raise KeyRevoked(f"a key of this request is {whose}", where=str(request), remedy=_NEW_KEYS)
    old = federation.sites.get(asked.site)
    if old is not None and (why := _spent(asked, old, federation.history.get(asked.site, ()))):
        raise KeySpent(why, where=str(request), remedy=_NEW_KEYS)


def _spent(asked: Enrolment, old: SiteRecord, history: Iterable[SiteRecord]) -> str:
    """Why these keys had their time; empty where they had not."""
    before = {key for one in history for key in (one.site_key, one.courier_key)}
    if before & ({asked.site_key, asked.courier_key} - {old.site_key, old.courier_key}):
        return f"newer keys of {asked.site} took the place of those in this request"
    if asked.courier_key == old.courier_key and not old.lasts(utc_now()):  # Flower registers no key a second time
        return f"the certificate of {asked.site} ended, and its courier's key with it"
    return ""


def _issue(federation: Federation, asked: Enrolment, certificate: str | None, days: int = DAYS) -> Enrolled:
    """Record, then kit. A crash between them leaves a record without its kit: the next `enrol` makes another."""
    folder, now = federation.folder, utc_now()
    key, authority = federation.signer(), Authority.load(federation.folder / "authority")
    pem = certificate or site_certificate(authority, asked.site, asked.site_key, days=days, now=now)
    old = federation.sites.get(asked.site)
    number = 1 + max((one.kit for one in federation.records), default=0)
    identity = identity_of(read_certificate(pem))
    record = SiteRecord(
        site=asked.site,
        site_key=asked.site_key,
        courier_key=asked.courier_key,
        serial=identity.serial,
        issued=old.issued if certificate and old else now.isoformat(),
        expires=identity.ends.isoformat(),
        kit=number,
        told=federation.told,
        certificate=pem,
    )
    bundle = _bundle(federation)
    kit = Kit(
        number=number,
        site=asked.site,
        site_key=asked.site_key,
        courier_key=asked.courier_key,
        version=fedloupe.__version__,
        issued=now.isoformat(),
        expires=record.expires,
        address=federation.record.address,
        coordinator=federation.record.name,
        coordinator_key=key.public,
        authority=authority.pem,
        certificate=pem,
        revoked=_write_revocations(federation, authority),
        study=federation.study.canonical,
        fingerprint=federation.study.fingerprint,
        bundle=base64.b64encode(bundle).decode("ascii"),
        bundle_sha256=federation.record.bundle_sha256,
    )
    if old is not None:
        write_whole(_history(folder, old), document_bytes(old))
    write_whole(folder / "sites" / f"{asked.site}.json", document_bytes(record))
    write_whole(federation.kit_file(asked.site), document_bytes(sign_kit(kit, key)))
    return Enrolled(record, federation.kit_file(asked.site), fresh=True)


def _bundle(federation: Federation) -> bytes:
    try:
        content = federation.bundle.read_bytes()
    except OSError:
        content = b""
    if hashlib.sha256(content).hexdigest() != federation.record.bundle_sha256:
        raise FederationUnusable(
            "the bundle is not the one that was built", where=str(federation.bundle), remedy="run `fedloupe provision`"
        )
    return content


def _history(folder: Path, record: SiteRecord) -> Path:
    return folder / "sites" / "history" / f"{record.site}-{record.kit}.json"


def _write_revocations(federation: Federation, authority: Authority) -> str:
    """Bring FED/revoked.crl up to what the records say; its text."""
    revoked = [
        (int(one.serial, 16), datetime.fromisoformat(one.revoked.when))
        for one in federation.records
        if one.revoked is not None
    ]
    text = revocation_list(authority, revoked, utc_now())
    write_whole(federation.revocations, text.encode())
    return text
