"""`fedloupe-site ledger`: what was spent of the privacy of this site's patients, whether it adds up, and a copy of it.

fedloupe-site ledger show HOME
fedloupe-site ledger verify HOME
fedloupe-site ledger export HOME FILE
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from fedloupe.errors import FedLoupeError
from fedloupe.terminal import console, say_json, speaking
from fedloupe_client.config import load_site

if TYPE_CHECKING:
    from fedloupe_client.gate.recount import Recount

app = typer.Typer(no_args_is_help=True, help="The privacy ledger: every spend of every study on this site's patients.")
Home = Annotated[Path, typer.Argument(help="the site's home folder, with site.yaml", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="one JSON document instead of words")]


class CopyNotWritten(FedLoupeError):
    """The copy of the ledger is not written; the ledger itself is as it was."""

    code = "FL-520"
    title = "the copy of the ledger cannot be written"


@app.command("show")
def show_command(home: Home, as_json: Json = False) -> None:
    """Every spend, and what all of them together come to. Nothing is changed."""
    from fedloupe_client.gate.recount import recount

    with speaking(as_json):
        site, found = load_site(home).site, recount(home, every_row=False)
    if as_json:
        say_json(content_of(site, found))
        return
    table = Table("row", "time", "run", "round", "study", "noise", "rate", "steps", "answered", title=f"{site}: ledger")
    for row in found.rows:
        spend = row.spend
        numbers = (f"{spend.noise_multiplier:.4g}", f"{spend.sampling_rate:.4g}", str(spend.steps))
        answered = "yes" if row.confirmed else "no, counts"
        table.add_row(str(row.entry), row.time, row.run, str(row.round), row.study[:12], *numbers, answered)
    if found.rows:
        console.print(table)
    _say_total(found)


@app.command("verify")
def verify_command(home: Home, as_json: Json = False) -> None:
    """Check the record's hashes, the rows against it, and every epsilon by two accountants.

    Exit code 1: something does not fit.
    """
    from fedloupe_client.gate.recount import recount

    with speaking(as_json):
        site = load_site(home).site
        with console.status("recomputing") as status:
            found = recount(home, progress=lambda done, total: status.update(f"recomputing row {done} of {total}"))
    if as_json:
        say_json(content_of(site, found))
    else:
        _say_total(found)
        for problem in found.problems:
            console.print(f"[red]wrong[/]: {problem}", highlight=False)
        if found.sound:
            console.print("The record's hashes meet, the rows are its rows, and every epsilon comes out again.")
    if not found.sound:
        raise typer.Exit(1)


@app.command("export")
def export_command(
    home: Home, file: Annotated[Path, typer.Argument(help="JSON file to write", show_default=False)]
) -> None:
    """Write spends, totals and the record's head as JSON to a new file: names of runs and studies, no patient."""
    from fedloupe_client.gate.disk import write_atomic
    from fedloupe_client.gate.recount import recount

    with speaking():
        if file.exists():
            raise CopyNotWritten("there is a file of that name", where=str(file), remedy="name a new file")
        site, found = load_site(home).site, recount(home)
        try:
            write_atomic(file, (json.dumps(content_of(site, found), indent=1, sort_keys=True) + "\n").encode())
        except OSError as error:
            raise CopyNotWritten(
                f"writing failed: {error.strerror or error}",
                where=str(file),
                remedy="name a file in a folder that is there, may be written and has room",
            ) from None
    console.print(f"{len(found.rows)} rows in {file}", highlight=False)
    if not found.sound:
        console.print("[red]It does not fit[/]: see `fedloupe-site ledger verify`.")
        raise typer.Exit(1)


def content_of(site: str, found: Recount) -> dict[str, Any]:
    """A recount as plain values: JSON's."""
    return {
        "site": site,
        "delta": found.delta,
        "budget": found.budget,
        "spent": asdict(found.total),
        "studies": {study: asdict(value) for study, value in found.studies.items()},
        "head": {"sequence": found.head[0], "sha256": found.head[1]},
        "unchecked": found.unchecked,
        "problems": list(found.problems),
        "rows": [asdict(row) for row in found.rows],
    }


def _say_total(found: Recount) -> None:
    if not found.rows:
        console.print("Nothing was spent: no round under differential privacy was trained here.")
        return
    console.print(
        f"spent [bold]{found.total.prv:.4f}[/] of {found.budget:g} (epsilon at delta {found.delta:g}, PRV); the second "
        f"accountant's bound is {found.total.renyi:.4f}, {found.total.apart:.1%} above",
        highlight=False,
    )
    if found.unchecked:
        console.print(
            f"{found.unchecked} rows are from before there was a record: they count, and nothing vouches for them"
        )
    for study, value in found.studies.items():
        console.print(f"  study {study[:12]}: {value.prv:.4f}, bound {value.renyi:.4f}", highlight=False)
