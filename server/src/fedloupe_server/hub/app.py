"""The ServerApp that the code-free bundle names: reads its job from coordinator-local paths and runs the study.

    flwr run configs/app lab --run-config 'task="study" study="/x/study.yaml" run-dir="/x/run" work="/x/work"'

`work` holds `job.json` (`fedloupe_server.hub.job`) and receives `server.json` (that this process lives), `progress.log`
and `outcome.json`, for who started the run.
`task="freeze"` runs the study until it is sealed, `task="validate"` opens further sites with a run that was sealed, and
`task="ping"` is the preflight: it says hello to every site and writes `run-dir/ping.json`.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

import fedloupe
from fedloupe.errors import FedLoupeError
from fedloupe.messages import Failure, HelloReply, HelloRequest, MessageRefused, decode, encode
from fedloupe.signing import Signer
from fedloupe.study import Study, load_study
from fedloupe_server.federation.exchange import Exchange, ask_once
from fedloupe_server.federation.opening import name_run
from fedloupe_server.hub.grid import GridExchange, hasten
from fedloupe_server.hub.job import Job, JobInvalid, read_job
from fedloupe_server.hub.processes import began

PING_TIMEOUT_S = 120.0

app = ServerApp()


class Unforeseen(FedLoupeError):
    """The run failed with an error that is not a user's."""

    code = "FL-723"
    title = "the run failed unexpectedly"


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the job; whatever happens, `work/outcome.json` says how it ended."""
    config = {key: str(value) for key, value in context.run_config.items()}
    work = Path(config.get("work", ""))
    if not work.is_absolute():
        raise JobInvalid("`work` is not an absolute path", where=str(work), remedy="start runs with `fedloupe`")
    _write(work / "server.json", {"pid": os.getpid(), "began": began(os.getpid())})
    try:
        _run(grid, config, work)
    except Exception as error:  # recorded for the person who waits, then raised again
        known = error if isinstance(error, FedLoupeError) else Unforeseen(repr(error), remedy="read the executor's log")
        _write(
            work / "outcome.json",
            {"state": "failed", "code": known.code, "title": known.title, "message": str(known)},
        )
        raise
    _write(work / "outcome.json", {"state": "completed"})


def _run(grid: Grid, config: Mapping[str, str], work: Path) -> None:
    def observe(line: str) -> None:
        with (work / "progress.log").open("a", encoding="utf-8") as log:
            log.write(line + "\n")

    hasten()
    study, run_dir = load_study(Path(config["study"])), Path(config["run-dir"])
    job = read_job(work)
    if job.keeper is not None:
        threading.Thread(target=_end_with_keeper, args=(job,), daemon=True).start()
    key = job.signer()
    exchange = GridExchange(grid, job.table, key=key, observer=observe)
    run_dir.mkdir(parents=True, exist_ok=True)
    if job.name is not None:
        name_run(run_dir, job.name)
    match config["task"]:
        case "study" | "freeze" | "validate" as task:
            _work(task, study, exchange, run_dir, job, key, observe)
        case "ping":
            _write(run_dir / "ping.json", ping(study, exchange))
        case other:
            raise JobInvalid(f"task `{other}`", remedy="use `study`, `freeze`, `validate` or `ping`")


def _work(
    task: str,
    study: Study,
    exchange: Exchange,
    run_dir: Path,
    job: Job,
    key: Signer,
    observe: Callable[[str], None],
) -> None:
    """Fit, seal or validate; a pause for a site that is missing is told, and lasts as long as it takes."""
    from fedloupe_server.federation import Event, draw_study, freeze_study, run_study, validate_run
    from fedloupe_server.pack import write_pack

    def step(event: Event) -> None:
        observe(f"{event.stage} {event.done}/{event.total} {event.note}".rstrip())

    if task == "freeze":
        seal = freeze_study(study, exchange, run_dir, observer=step, patient=True, key=key)
        observe(f"sealed {seal.digest}")
        return
    if task == "validate":
        if job.sealed is None:
            raise JobInvalid("no sealed run is named", remedy="start runs with `fedloupe`")
        validate_run(job.sealed, study, exchange, run_dir, observer=step, patient=True, key=key)
    elif study.segmentation is None:
        run_study(study, exchange, run_dir, observer=step, patient=True, key=key)
    else:
        draw_study(study, exchange, run_dir, observer=step, patient=True, key=key)
        return
    for note in write_pack(run_dir).notes:
        observe(note)


def _end_with_keeper(job: Job, every_s: float = 2.0) -> None:
    """Nothing is written by who is looked after by nobody: the journal holds all that a later start needs."""
    while job.kept:
        time.sleep(every_s)
    os._exit(1)


def ping(study: Study, exchange: Exchange, timeout_s: float = PING_TIMEOUT_S) -> dict[str, str]:
    """Say hello to every site of the study.

    Returns:
        By site: `ready: N patients`, the code and title of the site's refusal, or `silent`.
    """
    requests = {
        site.name: encode(
            HelloRequest(version=fedloupe.__version__, fingerprint=study.fingerprint, run="ping", site=site.name)
        )
        for site in study.sites
    }
    replies = ask_once(exchange, requests, timeout_s)
    return {site: _read(replies[site]) if site in replies else "silent" for site in requests}


def _read(blob: bytes) -> str:
    try:
        reply = decode(blob)
    except MessageRefused as error:
        return f"{error.code} {error.title}"
    if isinstance(reply, HelloReply):
        return f"ready: {reply.train + reply.tune + reply.test} patients"
    if isinstance(reply, Failure):
        return f"{reply.code} {reply.title}"
    return f"unexpected answer `{reply.kind}`"


def _write(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON so that a reader sees all of it or nothing."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    part.replace(path)
