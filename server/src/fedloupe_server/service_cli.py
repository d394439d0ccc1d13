"""`fedloupe start, status, logs, health`: the coordinator's service, and one look at it.

fedloupe start FED          SuperLink, executor, proxy and the study's run, until stopped; goes on after any crash
                            `--until frozen` stops before any hospital is opened, `--until end` goes on from there,
                            `--validate` opens later ones; the folder remembers what it was last started for
fedloupe status FED         the run and every site, live; who is missing, and why
fedloupe logs FED [SITE]    what happened, oldest first
fedloupe health FED         for a container or a monitor: exit code 0 where the service works
"""

from __future__ import annotations

import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fedloupe.errors import FedLoupeError
from fedloupe.terminal import console, say_json, speaking

if TYPE_CHECKING:
    from fedloupe_server.hub.status import Status
    from fedloupe_server.hub.task import Name

Folder = Annotated[Path, typer.Argument(metavar="FED", help="the federation folder", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="one JSON document instead of words")]
EXIT = {"runs": 0, "completed": 0, "waits": 3, "failed": 4}
NOT_RUNNING = 5
UNTIL: dict[str | None, Name | None] = {"frozen": "freeze", "end": "study", None: None}


class NoStatus(FedLoupeError):
    """No service ever worked in this folder."""

    code = "FL-738"
    title = "the coordinator's service was never started"


def start_command(
    folder: Folder,
    port: Annotated[int, typer.Option(help="of the proxy, for hospitals", min=1, max=65535)] = 443,
    host: Annotated[str, typer.Option(help="address of the proxy")] = "0.0.0.0",
    superlink_port: Annotated[int, typer.Option(help="loopback port of the SuperLink", min=1, max=65535)] = 9092,
    no_proxy: Annotated[bool, typer.Option("--no-proxy", help="nginx or Caddy stands before the SuperLink")] = False,
    metrics_port: Annotated[
        int | None, typer.Option(help="loopback port for Prometheus; none if not given", min=0, max=65535)
    ] = None,
    log: Annotated[Literal["words", "json"], typer.Option(help="form of the log on standard error")] = "words",
    until: Annotated[
        Literal["frozen", "end"] | None,
        typer.Option(
            help="frozen: fit and seal FED/run, and open no hospital that only validates; as said last if not given",
            show_default=False,
        ),
    ] = None,
    validate: Annotated[
        bool, typer.Option("--validate", help="open the study's further hospitals with what FED/run holds sealed")
    ] = False,
    until_done: Annotated[bool, typer.Option("--until-done", help="end when the run has; exit code as status")] = False,
) -> None:
    """Run the study of a federation folder with its hospitals. Stopped or killed at any moment, the same goes on."""
    import contextlib

    from fedloupe.logs import set_up
    from fedloupe_server.hub.metrics import serving
    from fedloupe_server.hub.service import TICK_S, Ports, Service

    if validate and until is not None:
        raise typer.BadParameter("--validate is a task of its own, without --until")
    set_up(log)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    ports = Ports(None if no_proxy else port, host, superlink_port)
    with speaking(), contextlib.ExitStack() as stack:
        service = stack.enter_context(Service.open(folder, ports, "validate" if validate else UNTIL[until]))
        if metrics_port is not None:
            stack.enter_context(serving(lambda: service.status, metrics_port))
        while not stop.wait(TICK_S):
            service.tick()
            if until_done and service.watch.over:
                break
    if until_done and service.watch.state == "failed":
        raise typer.Exit(EXIT["failed"])


def status_command(
    folder: Folder,
    once: Annotated[bool, typer.Option("--once", help="one look, also on a terminal")] = False,
    as_json: Json = False,
) -> None:
    """The run and every site: who is missing and why, how far, until when. Live on a terminal; Ctrl-C ends it.

    Exit code 0: runs, or completed; 3: waits for somebody; 4: failed; 5: the service does not run.
    """
    from rich.live import Live

    from fedloupe_server.hub.showing import screen

    with speaking(as_json):
        status = _read(folder)
    if as_json:
        say_json({**status.model_dump(mode="json"), "outcome": status.outcome, "fresh": _fresh(status)})
    elif once or not console.is_terminal:
        console.print(screen(status, fresh=_fresh(status)))
    else:
        try:
            with Live(screen(status, fresh=_fresh(status)), console=console, refresh_per_second=2) as live:
                while True:
                    time.sleep(1.0)
                    status = _read(folder)
                    live.update(screen(status, fresh=_fresh(status)))
        except KeyboardInterrupt:
            pass
    raise typer.Exit(_exit_code(status))


def logs_command(
    folder: Folder,
    site: Annotated[str | None, typer.Argument(help="one site's events only", show_default=False)] = None,
    last: Annotated[int, typer.Option(min=1, help="events, the latest ones")] = 200,
    as_json: Json = False,
) -> None:
    """What happened: to the run, or to one site as the coordinator saw it. A site's own log stays at the site."""
    from fedloupe_server.hub.service import events

    with speaking(as_json):
        _read(folder)
        lines = events(folder)
    chosen = [line for line in lines if site is None or line.get("site") == site][-last:]
    if as_json:
        say_json(chosen)
        return
    for line in chosen:
        console.print(
            f"{line['time'][:19]:19}  {line.get('site', '-'):12} {line['event']}", highlight=False, soft_wrap=True
        )


def health_command(folder: Folder, as_json: Json = False) -> None:
    """Exit code 0: the service runs and the SuperLink answers; 1: not."""
    with speaking(as_json):
        status = _read(folder)
    problems = [] if _fresh(status) else ["the service does not run"]
    problems += [status.trouble] if status.trouble else []
    problems += ["the run failed: " + status.why] if status.run == "failed" else []
    if as_json:
        say_json({"healthy": not problems, "problems": problems})
    else:
        console.print("healthy" if not problems else "; ".join(problems), highlight=False, soft_wrap=True)
    if problems:
        raise typer.Exit(1)


def add_to(app: typer.Typer) -> None:
    """Give these commands to `fedloupe`."""
    for name, command in (("start", start_command), ("status", status_command), ("logs", logs_command)):
        app.command(name)(command)
    app.command("health")(health_command)


def _read(folder: Path) -> Status:
    from fedloupe_server.hub.status import read_status

    status = read_status(folder)
    if status is None:
        raise NoStatus("no status", where=str(folder), remedy="`fedloupe start FED`")
    return status


def _fresh(status: Status) -> bool:
    from fedloupe_server.hub.status import STALE_S

    return (datetime.now(UTC) - status.written).total_seconds() < STALE_S


def _exit_code(status: Status) -> int:
    if status.run in ("completed", "failed") or _fresh(status):
        return EXIT[status.outcome]
    return NOT_RUNNING
