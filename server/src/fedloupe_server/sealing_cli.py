"""`fedloupe freeze, validate`: a fitted run under its seal, and hospitals that validate it later.

fedloupe run FILE --until frozen    fit and seal; no site that only validates hears of it
fedloupe freeze RUN                 seal a fitted run, or check that it is what was sealed
fedloupe validate RUN FILE          open further hospitals with what was sealed
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedloupe.study import load_study
from fedloupe.terminal import console, say_json, speaking
from fedloupe_server.saying import say_outcome

if TYPE_CHECKING:
    from fedloupe.freezing import Seal

Json = Annotated[bool, typer.Option("--json", help="one JSON document instead of words")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="a run's folder", show_default=False)]
Key = Annotated[
    Path | None, typer.Option(help="the coordinator's key; coordinator.key beside RUN if not given", show_default=False)
]


def freeze_command(folder: Run, key: Key = None, as_json: Json = False) -> None:
    """Seal a fitted run, or check that it is what was sealed: exit code 0 where it is."""
    from fedloupe.signing import Signer
    from fedloupe_server.federation.freezing import KEY
    from fedloupe_server.federation.frozen import freeze_run

    with speaking(as_json):
        seal = freeze_run(folder, Signer.load(key or folder.resolve().parent / KEY))
    say_seal(seal, as_json)


def validate_command(
    folder: Run,
    file: Annotated[Path, typer.Argument(help="the sealed study with further sites", show_default=False)],
    data: Annotated[
        Path | None,
        typer.Option(envvar="FEDLOUPE_DATA", help="folder below which the sites' data lie", show_default=False),
    ] = None,
    sites: Annotated[
        Path | None, typer.Option(help="where each site's data are; FILE's .sites.yaml if not given")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the new run; RUN-validated if not given")] = None,
    as_json: Json = False,
) -> None:
    """Validate a sealed run at the sites that only validate and have not yet: on one machine, nothing is fitted."""
    from fedloupe_server.simulation.showing import Screen, validate_files

    with speaking(as_json), Screen(quiet=as_json) as screen:
        study, sites_file = load_study(file), sites or file.with_suffix(".sites.yaml")
        new = out or folder.with_name(f"{folder.resolve().name}-validated")
        outcome = validate_files(folder, study, sites_file, data, new, screen=screen)
    say_outcome(outcome, as_json)


def say_seal(seal: Seal, as_json: bool, then: str = "") -> None:
    """What is sealed, by whom, and who may not validate it."""
    from fedloupe.signing import spoken

    if as_json:
        say_json(
            {
                **{"digest": seal.digest, "run": seal.run, "study": seal.study, "fingerprint": seal.fingerprint},
                **{"coordinator": spoken(seal.coordinator), "contributed": list(seal.contributed)},
                "models": sorted(seal.models),
            }
        )
        return
    lines = (
        ("sealed", seal.digest),
        ("run", f"{seal.run}, study {seal.study} {seal.fingerprint[:12]}"),
        ("signed by", spoken(seal.coordinator)),
        ("models", ", ".join(sorted(seal.models))),
        ("contributed", f"{', '.join(seal.contributed)}; these cannot validate it"),
    )
    for name, value in lines:
        console.print(f"{name:12} {value}", highlight=False, soft_wrap=True)
    if then:
        console.print(f"{'next':12} {then}", highlight=False, soft_wrap=True)


def add_to(app: typer.Typer) -> None:
    """Give these commands to `fedloupe`."""
    app.command("freeze")(freeze_command)
    app.command("validate")(validate_command)
