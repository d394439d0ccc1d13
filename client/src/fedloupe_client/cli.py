"""`fedloupe-site`: what a hospital's data manager types.

fedloupe-site init HOME SITE        keys that stay here, and a request for the coordinator
fedloupe-site join HOME KIT         install what the coordinator sent back
fedloupe-site status HOME           site, kit, certificate, coordinators, studies: where this site stands
fedloupe-site ingest HOME STUDY     from DICOM, NIfTI or a table to a case store, with every problem named
fedloupe-site check HOME STUDY      is this site ready? if not, what to fix, with the exact file and command
fedloupe-site quality HOME STUDY    which features repeat when the site's own cases are perturbed; stays here
fedloupe-site approve HOME STUDY    let this study, and nothing else, run here; deny, withdraw, pause, resume
fedloupe-site inbox HOME            what was asked, and what waits for a person
fedloupe-site policy HOME           the limits in force
fedloupe-site predict HOME STUDY CASE...   one page a patient under the released model; research use only
fedloupe-site ledger show|verify|export HOME   what was spent of the patients' privacy, and whether it adds up
fedloupe-site audit show|verify|sign|export HOME   what passed the gate, and whether nobody changed the record
fedloupe-site start HOME            answer the courier on a Unix socket until stopped
fedloupe-site courier COURIER       carry messages between that socket and the coordinator, without data
fedloupe-site health HOME COURIER   registered, approved, able to train? exit code 0, or what is missing
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from fedloupe.logs import set_up
from fedloupe.study import load_study
from fedloupe.terminal import console, keep_to_installed, say_json, speaking
from fedloupe_client.audit_cli import app as audit_app
from fedloupe_client.config import load_site
from fedloupe_client.deciding_cli import add_to as add_deciding
from fedloupe_client.joining_cli import app as joining_app
from fedloupe_client.ledger_cli import app as ledger_app
from fedloupe_client.running_cli import Log, Socket
from fedloupe_client.running_cli import app as running_app

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
    help="FedLoupe at a hospital. Images, labels and the ledger stay in HOME; research use only, not a medical device.",
)
app.add_typer(joining_app)
app.add_typer(running_app)
app.add_typer(ledger_app, name="ledger")
app.add_typer(audit_app, name="audit")
add_deciding(app)


@app.callback()
def every_command() -> None:
    """Before each command."""
    keep_to_installed()


Home = Annotated[Path, typer.Argument(help="the site's home folder, with site.yaml", show_default=False)]
StudyFile = Annotated[Path, typer.Argument(help="the study's YAML, as the coordinator sent it", show_default=False)]
_WORKERS_IMPORT = (
    "typer",
    "rich.progress",
    "rich.table",
    "fedloupe_client.ingest.work",
    "fedloupe_client.ingest.dicom.folders",
)
Json = Annotated[bool, typer.Option("--json", help="one JSON document instead of words")]


def _bars() -> Progress:
    columns = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


@app.command("ingest")
def ingest_command(
    home: Home,
    study: StudyFile,
    workers: Annotated[
        int | None, typer.Option(min=1, help="processes, one case in memory each; all cores if not given")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="read unchanged files again as well")] = False,
    as_json: Json = False,
) -> None:
    """Read the site's data into the case store; say of every case whether it is ready, and if not why and what to do.

    Nothing leaves the site and no identifier enters the store. An earlier store stays until the new one is complete.
    Stopped at any moment, the next run goes on where it was; a later run does only what changed.
    """
    from fedloupe_client.processes import available_cores, begin_forkserver

    count = workers or available_cores()
    if count > 1:  # first of all: it imports while this process does
        begin_forkserver(*_WORKERS_IMPORT)
    from fedloupe_client.ingest import ingest

    with speaking(as_json):
        config, protocol = load_site(home), load_study(study)
        with Progress(*_bars().columns, TextColumn("left"), TimeRemainingColumn(), console=console) as bars:
            tasks: dict[str, TaskID] = {}

            def show(done: int, total: int, what: str) -> None:
                name = "cases" if what.startswith("case ") else what
                if name not in tasks:
                    tasks[name] = bars.add_task(name, total=total, visible=not as_json)
                bars.update(tasks[name], completed=done, total=total)

            report = ingest(config, protocol, home, progress=show, workers=count, verify=verify)
    if as_json:
        say_json(report.model_dump(mode="json"))
        return
    console.print(f"[bold]{report.site}[/]: " + ", ".join(f"{n} {status}" for status, n in report.statuses.items()))
    columns = ("kind", "case", "status", "code", "what", "do")
    problems = Table(*columns, title="cases that need attention, most urgent first", title_justify="left")
    for kind, group in report.findings.items():
        for record in group:
            problems.add_row(kind, record.case, record.status, record.code, record.reason, record.remedy)
        problems.add_section()
    if problems.row_count:
        console.print(problems)
        console.print(f"Local names of these cases: {home / 'ingest-local.csv'} (stays here)", style="dim")
    for note in report.notes:
        console.print(f"note: {note}", style="yellow")


@app.command("check")
def check_command(
    home: Home,
    study: StudyFile,
    as_json: Json = False,
    workers: Annotated[int | None, typer.Option(min=1, help="processes; the machine's cores if not given")] = None,
) -> None:
    """Is this site ready for the study? Looks at machine, connection, every case and a dry round; says what to fix.

    Derives features and crops and keeps them: the first round does not wait for it. Nothing leaves, nothing is spent.
    The page HOME/preflight/check.html has local names and stays here. Exit code 0: ready; 1: not ready.
    """
    from fedloupe_client.preflight import preflight, write_page
    from fedloupe_client.preflight.terminal import say_result
    from fedloupe_client.processes import available_cores

    with speaking(as_json):
        protocol = load_study(study)
        with _bars() as bars:
            tasks: dict[str, TaskID] = {}

            def progress(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bars.add_task(what, total=None, visible=not as_json)
                bars.update(tasks[what], completed=done, total=total)

            seen = preflight(home, protocol, workers=workers or available_cores(), progress=progress)
        page = write_page(seen, home, study)
    if as_json:
        say_json(seen.result.model_dump(mode="json"))
    else:
        say_result(seen.result, page)
    if not seen.result.ready:
        raise typer.Exit(1)


@app.command("quality")
def quality_command(
    home: Home,
    study: StudyFile,
    as_json: Json = False,
    workers: Annotated[int | None, typer.Option(min=1, help="processes; the machine's cores if not given")] = None,
) -> None:
    """Which features repeat on this site's own training patients, under the study's perturbations. Nothing leaves.

    The features of perturbed cases are kept, so that the coordinator's question is answered at once. The whole table
    goes to HOME/quality/STUDY.json.
    """
    from fedloupe_client.processes import available_cores
    from fedloupe_client.quality import own_quality
    from fedloupe_client.quality.terminal import say_quality

    with speaking(as_json):
        config, protocol = load_site(home), load_study(study)
        with _bars() as bars:
            task = bars.add_task("cases", total=None, visible=not as_json)

            def progress(done: int, total: int, _case: str) -> None:
                bars.update(task, completed=done, total=total)

            found, path = own_quality(
                home, protocol, config.site, workers=workers or available_cores(), progress=progress
            )
    if as_json:
        say_json(found.model_dump(mode="json"))
    else:
        say_quality(found, path)


@app.command("predict")
def predict_command(
    home: Home,
    study: StudyFile,
    cases: Annotated[
        list[str], typer.Argument(help="pseudonyms or the hospital's own names of cases", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """What the study's released model says of single patients, and how far to believe it. Research use only.

    One page a case, HOME/predictions/CASE.html; it has local names and stays here, like everything this reads. Outside
    the range of the training patients it says so and predicts nothing.
    """
    import SimpleITK as sitk
    import torch

    from fedloupe_client.predicting import embed_cohort, find_case, open_model, predict_case, write_prediction
    from fedloupe_client.predicting.terminal import say_prediction

    torch.set_num_threads(1)  # the numbers must not depend on the machine
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    results = []
    with speaking(as_json):
        frozen = open_model(home, load_study(study))
        records = [find_case(frozen, name) for name in cases]
        embedded = embed_cohort(frozen)
        for record in records:
            predicted = predict_case(frozen, embedded, record)
            page = write_prediction(frozen, predicted)
            results.append(predicted.result)
            if not as_json:
                say_prediction(predicted.result, page)
    if as_json:
        say_json([result.model_dump(mode="json") for result in results])


@app.command("start")
def start_command(
    home: Home,
    socket: Socket = None,
    group: Annotated[
        bool, typer.Option("--group", help="the socket is for this user's group too: the courier is another user of it")
    ] = False,
    log: Log = "words",
) -> None:
    """Run the site process: answers approved requests on a Unix socket, opens no network. Ctrl-C stops it."""
    import SimpleITK as sitk
    import torch

    from fedloupe_client.joining import finish
    from fedloupe_client.site.desk import Desk
    from fedloupe_client.site.server import serve
    from fedloupe_client.site.serving import serving
    from fedloupe_client.site.site import Site

    set_up(log)
    torch.set_num_threads(1)  # the numbers must not depend on the machine
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    with speaking():
        finish(home)  # a kit whose installation a crash interrupted
        load_site(home)  # nothing is made in a folder that is no home
        with serving(home):
            site = Site(home)
            desk = Desk(site.enter, site.progress, site.tell, site.again)
            mode = 0o660 if group else 0o600
            server = serve(desk, socket or home / "site.sock", mode=mode, noted=site.gate.note_bundle)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: server.stop())
            console.print(f"{site.name}: listening on {socket or home / 'site.sock'}", highlight=False)
            server.wait()
            desk.join()  # the home is served, and locked, until the last piece of work is done


if __name__ == "__main__":
    app()
