"""`fedloupe provision`, `enrol`, `sites`, `revoke`, `rotate`: hospitals come in and go; private keys never travel.

fedloupe provision STUDY.yaml --out FED --address fl.example.org:443
fedloupe enrol FED north.request.json --key "..."
fedloupe sites FED
fedloupe rotate FED server
fedloupe rotate FED north north.request.json
fedloupe revoke FED north --reason "left the study"
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from fedloupe.certificates import utc_now
from fedloupe.signing import spoken
from fedloupe.study import load_study
from fedloupe.terminal import console, say_json, speaking

if TYPE_CHECKING:
    from fedloupe_server.provision import Enrolled, Row

app = typer.Typer()
Folder = Annotated[Path, typer.Argument(metavar="FED", help="the federation folder", show_default=False)]
Request = Annotated[Path, typer.Argument(help="the hospital's request file", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="one JSON document instead of words")]
Days = Annotated[int, typer.Option(min=1, max=3650, help="how long the new certificate is good")]
Heard = Annotated[
    str | None,
    typer.Option("--key", help="fingerprint of the site's key as the hospital told it on the telephone; for new keys"),
]
APP = Path(__file__).parents[3] / "configs" / "app"


@app.command("provision")
def provision_command(
    study: Annotated[Path, typer.Argument(help="the study's YAML", show_default=False)],
    out: Annotated[Path, typer.Option(help="the federation folder, made with mode 0700", show_default=False)],
    address: Annotated[str, typer.Option(help="HOST:PORT that couriers dial", show_default=False)],
    name: Annotated[str, typer.Option(help="the coordinator's, as hospitals will see it")] = "Coordinator",
    days: Days = 365,
    bundle_source: Annotated[
        Path, typer.Option("--app", help="source of the app bundle; configs/app of FedLoupe", show_default=False)
    ] = APP,
    as_json: Json = False,
) -> None:
    """Found a federation: authority, server certificate, coordinator's key, signed study, app bundle.

    Safe to repeat, for another address, study or bundle: no key that is there is ever replaced.
    """
    from fedloupe_server.provision import provision

    with speaking(as_json):
        founded = provision(load_study(study), out, address, name=name, days=days, app=bundle_source)
    record, fingerprint = founded.federation.record, founded.federation.study.fingerprint
    if as_json:
        say_json(
            {
                "name": record.name,
                "address": record.address,
                "study": fingerprint,
                "bundle": record.bundle_sha256,
                "coordinator": founded.spoken,
                "new": founded.new,
                "stale_kits": {site: list(words) for site, words in founded.federation.stale_kits.items()},
            }
        )
        return
    _say("name", record.name)
    _say("address", record.address)
    _say("study", f"{founded.federation.study.study}  {fingerprint}")
    _say("bundle", record.bundle_sha256)
    _say("your key", f"{founded.spoken}   tell hospitals by telephone, never by the way that the kit goes")
    for site, words in founded.federation.stale_kits.items():
        _say("stale", f"{site}: {', '.join(words)} changed since its kit; `fedloupe enrol` its request again")


@app.command("enrol")
def enrol_command(
    folder: Folder,
    request: Request,
    renew: Annotated[
        bool, typer.Option("--renew", help="a new certificate and kit for a site enrolled before")
    ] = False,
    key: Heard = None,
    days: Days = 365,
    as_json: Json = False,
) -> None:
    """Check a hospital's request, certify its key, make its kit in FED/kits. Other sites' files stay as they are."""
    from fedloupe_server.provision import enrol

    with speaking(as_json):
        done = enrol(folder, request, renew=renew, heard=key, trusting=False, days=days)
    _say_enrolled(done, as_json, compared=key is not None)


@app.command("rotate")
def rotate_command(
    folder: Folder,
    what: Annotated[str, typer.Argument(help="`server`, or a site's name with its request", show_default=False)],
    request: Annotated[Path | None, typer.Argument(help="the site's request file", show_default=False)] = None,
    key: Heard = None,
    days: Days = 365,
    as_json: Json = False,
) -> None:
    """A new certificate: the server's (hospitals need nothing new), or a site's, with a new kit. No other changes.

    A site's old keys work until its new ones were seen: of keys that others may know, `revoke` first, then `enrol`.
    """
    from fedloupe_server.provision import enrol, rotate_server

    if request is None and what != "server":
        raise typer.BadParameter("give the site's request file, or `server`")
    with speaking(as_json):
        if request is not None:
            done = enrol(folder, request, renew=True, site=what, heard=key, trusting=False, days=days)
        else:
            federation = rotate_server(folder, days=days)
    if request is not None:
        _say_enrolled(done, as_json, compared=key is not None)
        return
    ends = next(one.ends for one in federation.expiries if one.what == "server" and one.site is None)
    if as_json:
        say_json({"server": ends.isoformat()})
    else:
        _say("server", f"new key and certificate, until {ends:%Y-%m-%d}; proxy and SuperLink take it when they reload")


@app.command("revoke")
def revoke_command(
    folder: Folder,
    site: Annotated[str, typer.Argument(help="its name in the study", show_default=False)],
    reason: Annotated[str, typer.Option(help="why, for your own record", show_default=False)],
    as_json: Json = False,
) -> None:
    """Take back a site's certificates and keys. Other sites see it in the list that their next kit brings."""
    from fedloupe_server.provision import revoke

    with speaking(as_json):
        record = revoke(folder, site, reason)
    when = record.revoked.when if record.revoked else ""
    if as_json:
        say_json({"site": site, "revoked": when, "serial": record.serial})
    else:
        _say("revoked", f"{site}, certificate {record.serial}; the service takes its courier's keys out within seconds")


@app.command("sites")
def sites_command(
    folder: Folder,
    within: Annotated[
        int, typer.Option(min=0, max=3650, help="days before its end that a certificate needs care")
    ] = 14,
    as_json: Json = False,
) -> None:
    """Where each site stands. Exit code 1: a certificate ended or ends within `--within` days, the server's too."""
    from fedloupe_server.provision import load_federation, site_rows

    with speaking(as_json):
        federation = load_federation(folder)
        rows = site_rows(federation, utc_now(), within)
    if as_json:
        say_json({"sites": [{**asdict(row), "attention": row.attention} for row in rows]})
    else:
        table = Table("site", "state", "kit", "site's key", "courier's key", title=Text(federation.record.name))
        for row in rows:
            table.add_row(row.site, _words(row), str(row.kit or "-"), row.key, row.courier_key)
        console.print(table)
    if any(row.attention for row in rows):
        raise typer.Exit(1)


def _words(row: Row) -> str:
    state = {"expires": f"expires in {row.days} days", "expired": f"expired {-(row.days or 0)} days ago"}
    words = state.get(row.state, row.state)
    if row.state == "kit issued":
        words += f", {row.days} days left"
    if row.stale:
        words += f"; stale kit: {', '.join(row.stale)}"
    return words if row.in_study else f"{words}; not in the study"


def _say_enrolled(done: Enrolled, as_json: bool, compared: bool) -> None:
    record = done.record
    if as_json:
        kit = {"kit": str(done.kit), "number": record.kit, "fresh": done.fresh, "expires": record.expires}
        say_json({"site": record.site, "key": spoken(record.site_key), **kit})
        return
    _say("site", record.site)
    rest = "as told" if compared else "as it was enrolled before"
    _say("its key", f"{spoken(record.site_key)}   {rest}")
    _say("kit", f"{done.kit}, number {record.kit}, until {record.expires[:10]}" + ("" if done.fresh else "; as before"))


def _say(label: str, words: str) -> None:
    console.print(Text(f"{label:<10}{words}"), soft_wrap=True)
