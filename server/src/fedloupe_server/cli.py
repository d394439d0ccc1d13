"""`fedloupe`: what a coordinator and a newcomer type.

fedloupe demo                       the whole thing on a generated, synthetic cohort
fedloupe study check FILE           is this study valid?
fedloupe study fingerprint FILE     what hospitals approve
fedloupe provision FILE             found a federation: authority, certificates, keys, signed study, app bundle
fedloupe enrol|rotate|revoke FED    a hospital comes in, gets a new certificate, goes
fedloupe sites FED                  where each site stands, and whose certificate runs out
fedloupe start FED                  run the study with its hospitals, and go on after any crash
fedloupe status|logs|health FED     one look: the run, every site, who is missing and why
fedloupe run FILE                   a study on one machine, from the sites' data to the report
fedloupe freeze RUN                 seal a fitted run, or check that it is what was sealed
fedloupe validate RUN FILE          further hospitals validate what was sealed
fedloupe compare FILE               architectures, and federated against pooled and local, over several seeds
fedloupe report RUN                 write the evidence pack of a finished run again
fedloupe audit mechanism|membership attacks: is epsilon what it says, can a model tell who trained it?
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fedloupe.study import Study, load_study
from fedloupe.terminal import console, keep_to_installed, say_json, speaking
from fedloupe_server.audit_cli import app as audit_app
from fedloupe_server.provision_cli import app as provision_app
from fedloupe_server.saying import say_outcome, say_pack
from fedloupe_server.sealing_cli import add_to as add_sealing
from fedloupe_server.sealing_cli import say_seal
from fedloupe_server.service_cli import add_to as add_service

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
    help="FedLoupe for the coordinator: studies, runs, evidence. Research use only, not a medical device.",
)
study_app = typer.Typer(no_args_is_help=True, help="Look at a study file.")
app.add_typer(study_app, name="study")
app.add_typer(audit_app, name="audit")
app.add_typer(provision_app)
add_service(app)
add_sealing(app)


@app.callback()
def every_command() -> None:
    """Before each command."""
    keep_to_installed()


Json = Annotated[bool, typer.Option("--json", help="one JSON document instead of words")]
StudyFile = Annotated[Path, typer.Argument(help="the study's YAML", show_default=False)]
Fresh = Annotated[bool, typer.Option("--fresh", help="forget an earlier run in this folder instead of continuing it")]


@study_app.command("check")
def study_check(file: StudyFile, as_json: Json = False) -> None:
    """Validate a study; every wrong key is named with what it accepts."""
    from fedloupe_server.federation.planning import privacy_lines

    with speaking(as_json):
        study = load_study(file)
        privacy = privacy_lines(study)
    if as_json:
        say_json({"valid": True, "study": study.study, "fingerprint": study.fingerprint})
        return
    console.print(f"[bold]{study.title}[/] is valid", highlight=False)
    console.print(
        f"  endpoint     {study.endpoint.name}\n  train        {', '.join(study.train_sites)}", highlight=False
    )
    console.print(f"  validate     {', '.join(study.validate_sites) or '-'}", highlight=False)
    for line in privacy:
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    console.print(f"  fingerprint  {study.fingerprint}", highlight=False)


@study_app.command("fingerprint")
def study_fingerprint(file: StudyFile, as_json: Json = False) -> None:
    """Print the fingerprint: blind to key order and comments, different for anything that matters."""
    with speaking(as_json):
        study = load_study(file)
    if as_json:
        say_json({"study": study.study, "fingerprint": study.fingerprint})
    else:
        print(study.fingerprint)


@app.command("demo")
def demo(
    seed: Annotated[int, typer.Option(help="of the patients, the splits and the training")] = 1,
    out: Annotated[Path | None, typer.Option(help="folder of the run; demo/seed-SEED if not given")] = None,
    epsilon: Annotated[float | None, typer.Option(help="train under DP-SGD with this epsilon a site")] = None,
    scale: Annotated[float, typer.Option(help="size of the hospitals; 0.25 for a quick look")] = 1.0,
    deployed: Annotated[
        bool, typer.Option("--deployed", help="real Flower processes over TLS instead of one process")
    ] = False,
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Six SYNTHETIC hospitals, from generated DICOM and NIfTI to an externally validated model and its report."""
    from fedloupe_server.simulation.showing import Screen, demo_run

    with speaking(as_json), Screen(quiet=as_json) as screen:
        folder = out or Path("demo") / (f"seed-{seed}" + (f"-epsilon-{epsilon:g}" if epsilon else ""))
        outcome = demo_run(
            folder, seed=seed, epsilon=epsilon, scale=scale, deployed=deployed, fresh=fresh, screen=screen
        )
    _show(outcome, as_json)


@app.command("run")
def run(
    file: StudyFile,
    data: Annotated[
        Path | None,
        typer.Option(envvar="FEDLOUPE_DATA", help="folder below which the sites' data lie", show_default=False),
    ] = None,
    sites: Annotated[
        Path | None, typer.Option(help="where each site's data are; STUDY.sites.yaml if not given")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the run; runs/STUDY if not given")] = None,
    until: Annotated[
        Literal["frozen"] | None, typer.Option(help="frozen: fit and seal, and open no site that only validates")
    ] = None,
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Run a study on one machine: every site with its own home, gate and model, through Flower's in-process Grid."""
    from fedloupe_server.simulation.showing import Screen, freeze_files, run_files

    with speaking(as_json), Screen(quiet=as_json) as screen:
        study: Study = load_study(file)
        sites_file, folder = sites or file.with_suffix(".sites.yaml"), out or Path("runs") / study.study
        if until == "frozen":
            seal = freeze_files(study, sites_file, data, folder, fresh=fresh, screen=screen)
        else:
            outcome = run_files(study, sites_file, data, folder, fresh=fresh, screen=screen)
    if until == "frozen":
        say_seal(seal, as_json, f"`fedloupe run {file}` opens the sites that only validate")
    else:
        _show(outcome, as_json)


@app.command("compare")
def compare(
    file: StudyFile,
    data: Annotated[
        Path | None,
        typer.Option(envvar="FEDLOUPE_DATA", help="folder below which the sites' data lie", show_default=False),
    ] = None,
    sites: Annotated[
        Path | None, typer.Option(help="where each site's data are; STUDY.sites.yaml if not given")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder; runs/STUDY-compared if not given")] = None,
    seeds: Annotated[str, typer.Option(help="seeds as 1,2,3, or how many, counted from the study's own")] = "3",
    architectures: Annotated[str, typer.Option(help="transformer,cnn,gcn; those the study can form if not given")] = "",
    design: Annotated[
        str | None, typer.Option(help="split, kfold or leave-one-site-out; the first with validate-only sites")
    ] = None,
    folds: Annotated[int, typer.Option(help="of kfold", min=2, max=20)] = 5,
    modalities: Annotated[bool, typer.Option("--modalities", help="compare sets of inputs instead")] = False,
    jobs: Annotated[int | None, typer.Option(help="processes; one a core if not given", min=1)] = None,
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Which architecture, and was federation worth it? Over several seeds, on one machine, with paired intervals."""
    from fedloupe_server.comparing import comparison_tables
    from fedloupe_server.simulation.showing import Screen, compare_files
    from fedloupe_server.simulation.variants import plan_of

    with speaking(as_json), Screen(quiet=as_json) as screen:
        study = load_study(file)
        plan = plan_of(
            study, seeds=seeds, architectures=architectures, design=design, folds=folds, modalities=modalities
        )
        sites_file, folder = sites or file.with_suffix(".sites.yaml"), out or Path("runs") / f"{study.study}-compared"
        compared = compare_files(study, sites_file, data, folder, plan, jobs=jobs, fresh=fresh, screen=screen)
    if as_json:
        say_json(compared.comparison.model_dump(mode="json"))
        return
    for table in comparison_tables(compared.comparison, compared.costs):
        console.print(table)
    console.print(f"page    {folder / 'comparison.md'}", highlight=False, soft_wrap=True)


@app.command("report")
def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="a run's folder", show_default=False)],
    as_json: Json = False,
) -> None:
    """Write the evidence pack of a finished run into RUN/pack: report, figures, tables, model, checklists."""
    from fedloupe_server.pack import write_pack

    with speaking(as_json):
        pack = write_pack(folder)
    say_pack(pack, as_json)


def _show(outcome: object, as_json: bool) -> None:
    from fedloupe_server.simulation.local import Drawn, Outcome
    from fedloupe_server.simulation.showing import drawing_table

    if isinstance(outcome, Drawn):
        if as_json:
            say_json({**outcome.card.model_dump(mode="json"), "folder": str(outcome.folder)})
            return
        console.print(drawing_table(outcome.card))
        console.print(f"model   {outcome.card.model}", highlight=False, soft_wrap=True)
        console.print(f"folder  {outcome.folder}", highlight=False, soft_wrap=True)
        return
    assert isinstance(outcome, Outcome)
    say_outcome(outcome, as_json)


if __name__ == "__main__":
    app()
