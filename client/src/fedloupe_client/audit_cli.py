"""`fedloupe-site audit`: what passed the gate, whether nobody changed the record, and a copy of it for others.

fedloupe-site audit show HOME
fedloupe-site audit verify HOME
fedloupe-site audit sign HOME
fedloupe-site audit export HOME FILE
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from fedloupe.errors import FedLoupeError
from fedloupe.signing import spoken
from fedloupe.terminal import console, say_json, speaking
from fedloupe_client.config import load_site

app = typer.Typer(no_args_is_help=True, help="The audit chain: every passage of the gate, hash-linked, signed daily.")
Home = Annotated[Path, typer.Argument(help="the site's home folder, with site.yaml", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="one JSON document instead of words")]


class AuditNotExported(FedLoupeError):
    """The copy of the audit chain is not written; the chain itself is as it was."""

    code = "FL-541"
    title = "the copy of the audit chain cannot be written"


@app.command("show")
def show_command(
    home: Home,
    last: Annotated[int, typer.Option(min=1, help="lines, the latest ones")] = 30,
    as_json: Json = False,
) -> None:
    """The latest passages. Nothing is changed."""
    from fedloupe_client.gate import Audit

    with speaking(as_json):
        load_site(home)
        lines = Audit(home).sound().lines[-last:]
    if as_json:
        say_json(list(lines))
        return
    table = Table("no.", "time (UTC)", "way", "kind", "run", "round", "bytes", "outcome", "tells")
    for line in lines:
        number = "" if line["round"] is None else str(line["round"])
        size, tells = f"{line['bytes']:,}", ", ".join(line["disclosure"])
        table.add_row(
            *(str(line["sequence"]), line["time"][:19], line["direction"], line["kind"], line["run"]),
            *(number, size, line["outcome"], tells),
        )
    console.print(table)


@app.command("verify")
def verify_command(home: Home, as_json: Json = False) -> None:
    """Check every line's hash, the chain's end, and every signed head. Exit code 1: something does not fit."""
    with speaking(as_json):
        load_site(home)
        content = examined(home)
    if as_json:
        say_json(content)
    else:
        for problem in content["problems"]:
            console.print(f"[red]wrong[/]: line {problem['line']}: {problem['what']}", highlight=False)
        if not content["problems"]:
            console.print(
                f"{content['lines']} lines, their hashes meet; {content['signed']} signed heads, each still where it "
                f"was signed\nhead {content['head']['sequence']} {content['head']['sha256']}",
                highlight=False,
                soft_wrap=True,
            )
    if content["problems"]:
        raise typer.Exit(1)


@app.command("sign")
def sign_command(home: Home, as_json: Json = False) -> None:
    """Sign the chain's head now; the site does so at the first passage of each day."""
    from fedloupe_client.gate.signed import sign_head

    with speaking(as_json):
        load_site(home)
        signed = sign_head(home)
    if as_json:
        say_json(None if signed is None else asdict(signed))
    elif signed is None:
        console.print("Nothing ever passed: there is nothing to sign.")
    else:
        console.print(f"head {signed.sequence} {signed.sha256}\nkey  {spoken(signed.public)}", soft_wrap=True)


@app.command("export")
def export_command(
    home: Home, file: Annotated[Path, typer.Argument(help="JSON file to write", show_default=False)]
) -> None:
    """Sign the head, and write chain, signed heads and what does not fit as JSON to a new file.

    It has kinds, sizes, digests, codes, and names of runs and studies; nobody's name, no patient, no file's name. Who
    keeps such a copy can tell later whether the chain is still the one that it was.
    """
    from fedloupe_client.gate import Audit
    from fedloupe_client.gate.disk import write_atomic
    from fedloupe_client.gate.signed import sign_head, signed_heads

    with speaking():
        site = load_site(home).site
        if file.exists():
            raise AuditNotExported("there is a file of that name", where=str(file), remedy="name a new file")
        sign_head(home)
        lines, heads = Audit(home).sound().lines, signed_heads(home)
        content = {"site": site, **examined(home), "chain": lines, "signed_heads": [asdict(head) for head in heads]}
        try:
            write_atomic(file, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
        except OSError as error:
            raise AuditNotExported(
                f"writing failed: {error.strerror or error}",
                where=str(file),
                remedy="name a file in a folder that is there, may be written and has room",
            ) from None
    console.print(f"{len(lines)} lines in {file}", highlight=False, soft_wrap=True)


def examined(home: Path) -> dict[str, Any]:
    """What verification finds, as plain values.

    Raises:
        AuditDamaged: the signed heads cannot be read.
    """
    from fedloupe_client.gate import Audit
    from fedloupe_client.gate.signed import check_signed, signed_heads

    audit = Audit(home)
    problems = audit.problems() + check_signed(home)
    found = {"problems": [asdict(problem) for problem in problems], "signed": len(signed_heads(home))}
    if problems:
        return {**found, "lines": None, "head": None}
    reading = audit.sound()
    return {**found, "lines": len(reading.lines), "head": asdict(reading.head)}
