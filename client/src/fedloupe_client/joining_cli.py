"""`fedloupe-site init`, `join`, `status`: how a hospital joins a federation, and where it stands.

fedloupe-site init HOME north                   keys that stay here, and HOME/north.request.json to send
fedloupe-site join HOME north.kit --coordinator "3f2a 90c1 ..." --by "Dr Ito"
fedloupe-site status HOME
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from fedloupe.certificates import utc_now
from fedloupe.enrolment import Kit, read_kit, read_request
from fedloupe.signing import spoken
from fedloupe.terminal import console, say_json, speaking

app = typer.Typer()
Home = Annotated[Path, typer.Argument(help="the site's home folder", show_default=False)]
Courier = Annotated[
    Path | None,
    typer.Option(help="the courier's folder; as in the kit in force, else HOME/courier", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="one JSON document instead of words")]


@app.command("init")
def init_command(
    home: Home,
    site: Annotated[str, typer.Argument(help="this site's name in the study", show_default=False)],
    courier: Courier = None,
    new_keys: Annotated[
        bool, typer.Option("--new-keys", help="a second pair of keys beside the present one, for a new kit")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make this hospital's private keys, which stay, and a request, which goes to the coordinator.

    Safe to repeat: a key that is there is never replaced, and the request stays the same.
    """
    from fedloupe_client.joining import courier_folder, finish, initialise

    with speaking(as_json):
        finish(home)
        path = initialise(home, site, courier_folder(home, courier), new_keys=new_keys)
        asked = read_request(path)
    if as_json:
        say_json({"site": site, "request": str(path), "key": spoken(asked.site_key), "public": asked.site_key})
        return
    _say("request", f"{path}   send it to the coordinator; there is no secret in it")
    _say("your key", f"{spoken(asked.site_key)}   read it to them on the telephone")
    if not (home / "site.yaml").exists():
        _say("next", f"write {home / 'site.yaml'} after configs/site-example.yaml, with `site: {site}`")


@app.command("join")
def join_command(
    home: Home,
    kit: Annotated[Path, typer.Argument(help="the file that the coordinator sent", show_default=False)],
    by: Annotated[str, typer.Option(help="who decides: a name that your audit will recognise", show_default=False)],
    coordinator: Annotated[
        str | None,
        typer.Option(
            help="fingerprint of the coordinator's key, as they read it to you on the telephone", show_default=False
        ),
    ] = None,
    courier: Courier = None,
    as_json: Json = False,
) -> None:
    """Install a kit: trust its coordinator, and put certificate, authority, study and bundle in place, all or nothing.

    No study is approved by this. Without --coordinator it shows what the kit says and exits with 1, unless the kit's
    coordinator and authority are those of the kit in force: a renewal.
    """
    from fedloupe_client.joining import check_kit, courier_folder, finish, join
    from fedloupe_client.joining.errors import CoordinatorNotCompared
    from fedloupe_client.joining.joining import prepared

    with speaking(as_json):
        finish(home)
        folder = courier_folder(home, courier)
        try:
            checked = check_kit(home, folder, kit, heard=coordinator, now=utc_now())
        except CoordinatorNotCompared:
            if not as_json:
                _say_kit(read_kit(kit))
            raise
        done = join(home, folder, checked, by=by)
        ready = prepared(folder, done.bundle_sha256)
    if as_json:
        say_json({**done.model_dump(mode="json"), "study": str(home / "study.json"), "bundle_approved": ready})
        return
    _say_kit(checked.kit)
    _say("study", f"{checked.study.study}: read {home / 'study.json'}, then")
    _say("", f"fedloupe-site approve {home} {home / 'study.json'} --by NAME")
    if ready:
        _say("bundle", f"approved in {folder / 'flower'}")
    else:
        _say("bundle", "Flower is not installed here; on the courier's machine:")
        _say("", f"python -m fedloupe_client.courier approve {folder / 'fedloupe.fab'} --home {folder / 'flower'}")


@app.command("status")
def status_command(home: Home, as_json: Json = False) -> None:
    """Where this site stands. Exit code 1: something does not work, an expired certificate for instance."""
    from fedloupe_client.joining.errors import KeysAbsent
    from fedloupe_client.joining.status import look

    with speaking(as_json):
        if not home.is_dir():
            raise KeysAbsent("there is no such folder", where=str(home), remedy="make it with `fedloupe-site init`")
        lines = look(home, utc_now())
    if as_json:
        found: dict[str, list[object]] = {}
        for line in lines:
            found.setdefault(line.name, []).append({"state": line.state, "value": line.value})
        say_json(found)
    else:
        colours = {"ok": "", "soon": "yellow", "wrong": "red"}
        for line in lines:
            console.print(Text(f"{line.label:<13}") + Text(line.words, style=colours[line.state]), soft_wrap=True)
    if any(line.state == "wrong" for line in lines):
        raise typer.Exit(1)


def _say_kit(kit: Kit) -> None:
    _say("kit", f"number {kit.number} of {kit.issued[:10]} for {kit.site}, until {kit.expires[:10]}")
    _say("from", f"{kit.coordinator}  {spoken(kit.coordinator_key)}")
    _say("address", kit.address)
    _say("study", kit.fingerprint)
    _say("bundle", kit.bundle_sha256)


def _say(label: str, words: str) -> None:
    console.print(Text(f"{label:<10}{words}"), soft_wrap=True)
