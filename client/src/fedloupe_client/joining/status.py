"""What a site says of itself: `fedloupe-site status`, one small function a line.

for line in look(home, utc_now()):
    print(line.label, line.words, line.state)

To say more, write a function from home and time to lines, and add it to `LOOKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from fedloupe.certificates import check_certificate, identity_of, read_authority, read_certificate
from fedloupe.errors import FedLoupeError
from fedloupe.signing import spoken
from fedloupe_client.config import load_site
from fedloupe_client.gate.approvals import approved
from fedloupe_client.gate.trust import trusted
from fedloupe_client.joining.installed import Installed, finish, installed
from fedloupe_client.joining.joining import prepared
from fedloupe_client.joining.keys import Keys

State = Literal["ok", "soon", "wrong"]
SOON_DAYS = 14


@dataclass(frozen=True)
class Line:
    """One thing that is to be known.

    Attributes:
        name: for scripts.
        label: for people.
        words: for people.
        value: for scripts; plain JSON.
        state: `soon`: it needs somebody within two weeks; `wrong`: it does not work.
    """

    name: str
    label: str
    words: str
    value: object
    state: State = "ok"


def site_line(home: Path, now: datetime) -> Iterator[Line]:
    """Who this is: by its kit, else by site.yaml."""
    del now
    kit = installed(home)
    name = kit.site if kit is not None else load_site(home).site if (home / "site.yaml").is_file() else None
    yield Line("site", "site", name or "not named yet: no kit and no site.yaml", name)


def kit_line(home: Path, now: datetime) -> Iterator[Line]:
    """Which kit is in force, since when, by whom; keys that wait for theirs."""
    del now
    kit = installed(home)
    if kit is None:
        yield Line("kit", "kit", "none: `fedloupe-site init`, then `fedloupe-site join`", None, "wrong")
        return
    words = f"number {kit.number} of {kit.issued[:10]}, installed {kit.joined[:10]} by {kit.by}"
    value = {"number": kit.number, "issued": kit.issued, "joined": kit.joined, "by": kit.by}
    yield Line("kit", "kit", words, value)
    if Keys.at(home, Path(kit.courier), new=True).site.is_file():
        yield Line("new_keys", "new keys", "made, and waiting for their kit; the old ones are in force", True)


def certificate_line(home: Path, now: datetime) -> Iterator[Line]:
    """How long the certificate is good, checked against the authority."""
    kit = installed(home)
    if kit is None:
        return
    try:
        pem = (home / "gate" / "certificate.pem").read_text(encoding="ascii")
        authority = (home / "gate" / "authority.pem").read_text(encoding="ascii")
        identity = identity_of(read_certificate(pem))
        days = (identity.ends - now).days
        value: dict[str, object] = {"expires": identity.ends.isoformat(), "days": days}
        if days < 0:
            yield Line("certificate", "certificate", f"expired {-days} days ago: a new kit is needed", value, "wrong")
            return
        check_certificate(pem, read_authority(authority, now), now)
    except (OSError, ValueError) as error:
        yield Line("certificate", "certificate", f"cannot be read: {type(error).__name__}", None, "wrong")
        return
    words = f"until {identity.ends:%Y-%m-%d}, in {days} days"
    if days <= SOON_DAYS:
        yield Line("certificate", "certificate", f"{words}: ask for a new kit now", value, "soon")
    else:
        yield Line("certificate", "certificate", words, value)


def coordinator_lines(home: Path, now: datetime) -> Iterator[Line]:
    """Whose signature counts, by whom, since when."""
    del now
    for key, one in trusted(home).items():
        words = f"{one.name}  {spoken(key)}  by {one.by}, {one.when[:10]}"
        value = {"name": one.name, "key": key, "by": one.by, "when": one.when}
        yield Line("coordinator", "coordinator", words, value)


def address_line(home: Path, now: datetime) -> Iterator[Line]:
    """Where the courier dials."""
    del now
    if (kit := installed(home)) is not None:
        yield Line("address", "address", kit.address, kit.address)


def study_lines(home: Path, now: datetime) -> Iterator[Line]:
    """Approved studies; whether the one that the kit brought is among them."""
    del now
    found = approved(home)
    for fingerprint, one in found.items():
        value = {"study": one.study.study, "fingerprint": fingerprint, "by": one.by, "when": one.when}
        words = f"{one.study.study}  {fingerprint[:12]}  approved by {one.by}, {one.when[:10]}"
        yield Line("study", "study", words, value)
    kit = installed(home)
    if kit is not None and kit.fingerprint not in found:
        words = f"the kit's study {kit.fingerprint[:12]} is not approved: read {home / 'study.json'}"
        yield Line("study", "study", words, {"fingerprint": kit.fingerprint, "by": None}, "soon")


def bundle_line(home: Path, now: datetime) -> Iterator[Line]:
    """Whether the courier's Flower home is made around the kit's bundle."""
    del now
    kit = installed(home)
    if kit is None:
        return
    ready = _prepared(kit)
    words = kit.bundle_sha256[:16] + ("" if ready else "  not approved in the courier's Flower home")
    value = {"sha256": kit.bundle_sha256, "approved": ready}
    yield Line("bundle", "app bundle", words, value, "ok" if ready else "soon")


Look = Callable[[Path, datetime], Iterator[Line]]
LOOKS: tuple[Look, ...] = (
    site_line,
    kit_line,
    certificate_line,
    coordinator_lines,
    address_line,
    study_lines,
    bundle_line,
)


def look(home: Path, now: datetime) -> list[Line]:
    """Every line; what cannot be read is a line as well. Completes an installation that a crash interrupted."""
    lines = []
    for one in (_unfinished, *LOOKS):
        try:
            lines += list(one(home, now))
        except FedLoupeError as error:
            lines.append(
                Line("error", error.code, f"{error.what} ({error.where}). {error.remedy}", error.code, "wrong")
            )
    return lines


def _unfinished(home: Path, now: datetime) -> Iterator[Line]:
    del now
    if finish(home):
        yield Line("finished", "note", "an interrupted installation of a kit was completed", True)


def _prepared(kit: Installed) -> bool:
    try:
        return prepared(Path(kit.courier), kit.bundle_sha256)
    except OSError:
        return False  # the courier's folder is not this user's to read
