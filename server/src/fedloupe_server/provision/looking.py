"""Where each site of a federation stands, for `fedloupe sites`.

for row in site_rows(load_federation(FED), utc_now()):
    row.site, row.state, row.days, row.attention
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from fedloupe.enrolment import openssh_fingerprint
from fedloupe.signing import spoken
from fedloupe_server.provision.federation import Federation

State = Literal["invited", "kit issued", "expires", "expired", "revoked"]
SOON_DAYS = 14


@dataclass(frozen=True)
class Row:
    """One site, or one of the coordinator's own certificates.

    Attributes:
        site: its name; `(server)` and `(authority)` for the coordinator's own.
        state: `invited` has no kit yet; `expires` within `soon` days.
        days: whole days until the certificate ends, negative since; None without one.
        kit: number of the latest kit.
        key: fingerprint of the site's key.
        courier_key: of the courier's key, in OpenSSH's form.
        stale: what the latest kit says and no longer holds.
        in_study: False: enrolled, and the present study does not name it.
    """

    site: str
    state: State
    days: int | None
    kit: int | None = None
    key: str = ""
    courier_key: str = ""
    stale: tuple[str, ...] = ()
    in_study: bool = True

    @property
    def attention(self) -> bool:
        """Must somebody do something before it stops working?"""
        return self.state in ("expires", "expired")


def site_rows(federation: Federation, now: datetime, soon: int = SOON_DAYS) -> list[Row]:
    """Every site of the study, then enrolled ones that it does not name, then the coordinator's own certificates."""
    named = [site.name for site in federation.study.sites]
    stale, rows = federation.stale_kits, []
    for site in (*named, *sorted(set(federation.sites) - set(named))):
        record = federation.sites.get(site)
        if record is None:
            rows.append(Row(site, "invited", None))
            continue
        days = (record.identity.ends - now).days
        state: State = "revoked" if record.revoked is not None else _state(days, soon)
        rows.append(
            Row(
                site,
                state,
                days,
                record.kit,
                spoken(record.site_key),
                openssh_fingerprint(record.courier_key),
                stale.get(site, ()),
                site in named,
            )
        )
    for expiry in federation.expiries:
        if expiry.site is None and (days := (expiry.ends - now).days) <= soon:
            rows.append(Row(f"({expiry.what})", _state(days, soon), days))
    return rows


def _state(days: int, soon: int) -> State:
    return "expired" if days < 0 else "expires" if days <= soon else "kit issued"
