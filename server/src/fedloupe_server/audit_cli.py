"""`fedloupe audit`: attacks on FedLoupe's own promises.

fedloupe audit mechanism [STUDY]      canaries against a private study's epsilon, inversion of its updates; no data
fedloupe audit membership RUN         can the model of a run on this machine tell who trained it? --shadows 16: LiRA too
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedloupe.study import load_study
from fedloupe.terminal import console, say_json, speaking

app = typer.Typer(no_args_is_help=True, help="Attack what is promised: epsilon, gradients, membership.")
Json = Annotated[bool, typer.Option("--json", help="one JSON document instead of words")]
DEMO_EPSILON = 3.0


@app.command("mechanism")
def mechanism(
    file: Annotated[
        Path | None, typer.Argument(help="a study with `privacy.mode: dp-sgd`; the demo's if not given")
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option(help=f"of the demo's study, {DEMO_EPSILON:g} if not given; not with a file")
    ] = None,
    canaries: Annotated[int, typer.Option(min=100, help="planted patients; more prove more")] = 1000,
    runs: Annotated[int, typer.Option(min=1, help="canary runs, each with other coins and noise")] = 3,
    as_json: Json = False,
) -> None:
    """Plant canaries in a private study's own mechanism, and invert its gradients and updates. Needs no data.

    Canaries test the code that samples, clips and adds noise, as installed here; a bound below epsilon is no proof of
    privacy, one above it is proof of a fault. Exit code 1: a fault was found. Whether one could be is said: a large
    epsilon allows that everybody is told apart.
    """
    from fedloupe_server.simulation.auditing import command, saying

    if file is not None and epsilon is not None:
        raise typer.BadParameter("a study has its own epsilon: give one of the two")
    with speaking(as_json):
        study = load_study(file) if file else None
        found = command.audited(study, epsilon or DEMO_EPSILON, canaries, runs)
    if as_json:
        say_json(saying.mechanism_content(found))
    else:
        saying.say_mechanism(found)
    if found.broken:
        raise typer.Exit(1)


@app.command("membership")
def membership(
    run: Annotated[Path, typer.Argument(help="folder of a finished run on this machine", show_default=False)],
    sites: Annotated[
        Path | None, typer.Option(help="folder of its sites' homes; looked for beside the run if not given")
    ] = None,
    shadows: Annotated[
        int | None, typer.Option(min=4, help="attack by likelihood ratio as well, with so many shadow models; try 16")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="of who trains which shadow; another shows what is its chance")] = 1,
    as_json: Json = False,
) -> None:
    """Who trained the released model, and who did not? By its loss, and with --shadows beside models trained alike.

    Exit code 1: more was found than a private run's epsilon allows.
    """
    from fedloupe_server.simulation.auditing import command, saying

    def tell(done: int, total: int) -> None:
        if not as_json:
            console.print(f"shadow {done} of {total}", style="dim", highlight=False)

    with speaking(as_json):
        found = command.attacked(run, sites, shadows=shadows or 0, seed=seed, tell=tell)
    if as_json:
        say_json(saying.membership_content(found))
    else:
        saying.say_membership(found, run.name)
    if found.broken:
        raise typer.Exit(1)
