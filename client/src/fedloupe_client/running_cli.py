"""`fedloupe-site courier` and `fedloupe-site health`: the second process of a hospital, and whether both can work.

fedloupe-site courier COURIER --socket S            carry messages between the coordinator and the site's socket
fedloupe-site health HOME COURIER --socket S        exit 0: registered, approved, and able to train
fedloupe-site health HOME --part site --socket S    what the site's user or container can see of it
fedloupe-site health COURIER --part courier         what the courier's can
"""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from fedloupe.certificates import utc_now
from fedloupe.logs import Form
from fedloupe.terminal import console, say_json, speaking

if TYPE_CHECKING:
    from fedloupe_client.health import Missing

app = typer.Typer()
Log = Annotated[Form, typer.Option("--log", help="lines for people, or one JSON object a line")]
Socket = Annotated[
    Path | None, typer.Option(help="the site's Unix socket; HOME/site.sock if not given", readable=False)
]


@app.command("courier")
def courier_command(
    courier: Annotated[Path, typer.Argument(help="the courier's folder, as `join` filled it", show_default=False)],
    socket: Annotated[Path, typer.Option(help="the site's Unix socket", show_default=False)],
    port: Annotated[int, typer.Option(min=1, max=65535, help="loopback port between the courier's processes")] = 9094,
    log: Log = "words",
) -> None:
    """Run the courier: dials the coordinator, carries messages, sees no data. Needs no HOME. Ctrl-C stops it.

    It writes in COURIER/state alone; its log goes to the standard error.
    """
    from fedloupe_client.joining.courier_file import read_courier_file
    from fedloupe_client.joining.errors import FlowerNotInstalled

    with speaking():
        kit = read_courier_file(courier)
        if importlib.util.find_spec("flwr") is None:
            raise FlowerNotInstalled(
                "the courier is Flower's client",
                where=sys.prefix,
                remedy="install `fedloupe-client[courier]` where the courier runs",
            )
    folder = courier.absolute()
    command = [
        *(sys.executable, "-P", "-m", "fedloupe_client.courier", "start"),
        *("--coordinator", kit.address, "--authority", str(folder / "ca.crt"), "--key", str(folder / "courier.key")),
        *("--socket", str(socket.absolute()), "--home", str(folder / "flower"), "--state", str(folder / "state")),
        *("--port", str(port), "--log", log),
    ]
    # The same process from here on: this side of the client imports no Flower, and a service manager sees one process.
    os.execv(sys.executable, command)


@app.command("health")
def health_command(
    folders: Annotated[
        list[Path], typer.Argument(metavar="HOME COURIER", help="both folders, or with --part its own", readable=False)
    ],
    socket: Socket = None,
    part: Annotated[
        Literal["site", "courier"] | None, typer.Option(help="look at what this part can see, and no more")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON document instead of words")] = False,
) -> None:
    """Can this site train now? Exit code 0: yes. 1: no, and a line for each thing that is missing.

    Looked at are: kit, approved study, pause, policy, the site process on its socket; and the courier: online, lately.
    """
    if len(folders) != (2 if part is None else 1):
        raise typer.BadParameter("give HOME and COURIER; with --part, that part's folder alone")
    from fedloupe_client.health import courier_missing, site_missing

    now = utc_now()
    missing: list[Missing] = []
    if part != "courier":
        missing += site_missing(folders[0], socket or folders[0] / "site.sock", now)
    if part != "site":
        missing += courier_missing(folders[-1], now)
    if as_json:
        say_json({"healthy": not missing, "missing": [asdict(one) for one in missing]})
    for one in [] if as_json else missing:
        console.print(Text(f"{one.what}: {one.do}"), soft_wrap=True)
    if missing:
        raise typer.Exit(1)
    if not as_json:
        console.print("healthy: " + ("the courier is online" if part == "courier" else "able to train"))
