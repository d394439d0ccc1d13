"""One-machine runs as a person sees them: a bar a site while data are prepared, a bar for the rounds, a small table.

with Screen() as screen:
    outcome = demo_run(Path("demo/seed-1"), seed=1, screen=screen)
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from rich import box
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from fedloupe.drawing import DrawingCard
from fedloupe.freezing import Seal
from fedloupe.study import Study
from fedloupe.terminal import console
from fedloupe_server.comparing import comparison_page
from fedloupe_server.evidence import formats, private
from fedloupe_server.evidence.loading import load_results
from fedloupe_server.evidence.results import Results
from fedloupe_server.evidence.summary import summary_table
from fedloupe_server.federation.events import Event
from fedloupe_server.federation.frozen import check_stops_sealed
from fedloupe_server.federation.journal import write_atomic
from fedloupe_server.federation.validating import to_validate
from fedloupe_server.hub.deployment import run_deployed
from fedloupe_server.pack import write_pack
from fedloupe_server.simulation.compare import Compared, compare_study
from fedloupe_server.simulation.demo import demo_cohort, demo_homes, demo_study
from fedloupe_server.simulation.local import Drawn, Outcome, draw_here, freeze_here, run_here, validate_here
from fedloupe_server.simulation.phantoms import public_preparation
from fedloupe_server.simulation.preparing import prepare_sites
from fedloupe_server.simulation.sites import sites_of
from fedloupe_server.simulation.variants import Plan, variants

DEPLOYED_TIMEOUT_S = 3600.0


class Screen:
    """Progress bars: one a site while it prepares, one a stage of the run; silent where `quiet`."""

    def __init__(self, quiet: bool = False) -> None:
        columns = (TextColumn("[bold]{task.description:14}"), BarColumn(16), MofNCompleteColumn(), TimeElapsedColumn())
        note = TextColumn("[dim]{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
        self._bars = Progress(*columns, note, console=console, disable=quiet)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def tell(self, site: str, stage: str, done: int, total: int) -> None:
        """A site's preparation went on."""
        self._update(site, done, total, stage)

    def observe(self, event: Event) -> None:
        """A run went on."""
        self._update(event.stage, event.done, event.total, event.note)

    def say(self, text: str) -> None:
        """One line above the bars."""
        if not self._bars.disable:
            self._bars.console.print(text, highlight=False, style="dim")

    def _update(self, name: str, done: int, total: int, note: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, note=note)
        self._bars.update(self._tasks[name], completed=done, total=total, note=note)


def demo_run(
    folder: Path,
    *,
    seed: int,
    screen: Screen,
    epsilon: float | None = None,
    scale: float = 1.0,
    deployed: bool = False,
    fresh: bool = False,
) -> Outcome:
    """Generate the synthetic hospitals, run the demo study on them, write the report.

    Args:
        folder: everything of the demo; an interrupted one goes on in it.
        seed: of patients, splits and training.
        screen: shows what happens.
        epsilon: DP-SGD with this budget a site, or None.
        scale: of the hospitals' sizes.
        deployed: real Flower processes over TLS on this machine instead of one process.
        fresh: start over.
    """
    study = demo_study(seed, epsilon)
    spec = demo_cohort(seed, scale)
    if fresh and folder.exists():
        shutil.rmtree(folder)
    cohort, run_dir = folder / "synthetic-hospitals", folder / (f"{study.study}-deployed" if deployed else study.study)
    homes = demo_homes(study, cohort, spec, folder / ("deployed-sites" if deployed else "sites"))
    _prepare_publicly(study, run_dir, folder, screen)
    if not deployed:
        return run_here(study, homes, run_dir, tell=screen.tell, observer=screen.observe, cohort=(cohort, spec))
    prepare_sites(study, homes, screen.tell, cohort=(cohort, spec))
    file = folder / "study.json"
    write_atomic(file, (study.canonical + "\n").encode())
    run_deployed(
        file,
        homes,
        run_dir,
        folder / "processes",
        site_command=lambda home, socket: [
            sys.executable, "-P", "-m", "fedloupe_client.cli", "start", str(home), "--socket", str(socket)
        ],
        progress=screen.say,
        timeout_s=DEPLOYED_TIMEOUT_S,
    )  # fmt: skip
    results = load_results(run_dir)
    return Outcome(results, write_pack(run_dir))


def run_files(
    study: Study, sites_file: Path, data: Path | None, folder: Path, *, fresh: bool, screen: Screen
) -> Outcome | Drawn:
    """Run a study whose sites' data lie on this machine, or are generated there; raises as `sites_of` does.

    A synthetic study whose hospitals are generated gets its public preparation, if it needs one, from phantoms.
    """
    homes, cohort = sites_of(study, sites_file, data, folder, fresh=fresh)
    if cohort:
        _prepare_publicly(study, folder / study.study, folder, screen)
    run = run_here if study.segmentation is None else draw_here
    return run(study, homes, folder / study.study, tell=screen.tell, observer=screen.observe, cohort=cohort)


def freeze_files(
    study: Study, sites_file: Path, data: Path | None, folder: Path, *, fresh: bool, screen: Screen
) -> Seal:
    """As `run_files`, until the run is sealed; raises NotSealable for a drawing study."""
    check_stops_sealed(study)
    homes, cohort = sites_of(study, sites_file, data, folder, fresh=fresh)
    if cohort:
        _prepare_publicly(study, folder / study.study, folder, screen)
    return freeze_here(study, homes, folder / study.study, tell=screen.tell, observer=screen.observe, cohort=cohort)


def validate_files(
    run_dir: Path, study: Study, sites_file: Path, data: Path | None, out: Path, *, screen: Screen
) -> Outcome:
    """Validate a sealed run at the sites of a study that have not validated it yet, in homes beside the run's.

    Raises:
        NotSealable, SealBroken: see there, before anything is prepared.
        NoData, SitesInvalid, GeneratedForReal: see `sites_of`.
    """
    asked = to_validate(run_dir, study, out)
    homes, cohort = sites_of(study, sites_file, data, run_dir.resolve().parent)
    return validate_here(
        study,
        {site: homes[site] for site in asked},
        run_dir,
        out,
        tell=screen.tell,
        observer=screen.observe,
        cohort=cohort,
    )


def _prepare_publicly(study: Study, run_dir: Path, folder: Path, screen: Screen) -> None:
    """Write the public preparation of a synthetic study that needs one and has none yet."""
    path = run_dir / "public-preparation.safetensors"
    if study.training.preparation != "public" or path.exists():
        return
    screen.say("public preparation from synthetic phantoms")
    write_atomic(path, public_preparation(study, folder / "phantoms", screen.tell).to_bytes())


def compare_files(
    study: Study,
    sites_file: Path,
    data: Path | None,
    folder: Path,
    plan: Plan,
    *,
    jobs: int | None,
    fresh: bool,
    screen: Screen,
) -> Compared:
    """Compare variants of a study on this machine; `comparison.md` in the folder has the tables.

    Raises:
        NoData, SitesInvalid, GeneratedForReal: see `sites_of`.
        NotCompared, PlanInvalid: see there.
    """
    variants(study, plan)  # what is wrong with the plan shows before anything is prepared
    homes, cohort = sites_of(study, sites_file, data, folder, fresh=fresh)

    def progress(done: int, total: int, name: str, left_s: float) -> None:
        screen.say(f"{done}/{total}  {name}  {left_s / 60:.0f} min left" if done < total else f"{done}/{total}  {name}")

    compared = compare_study(study, homes, folder, plan, tell=screen.tell, progress=progress, jobs=jobs, cohort=cohort)
    write_atomic(folder / "comparison.md", comparison_page(compared.comparison, compared.costs).encode())
    return compared


def drawing_table(card: DrawingCard) -> Table:
    """How well a drawing model drew, by site; mean (SD) of the Dice."""
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title=f"{'SYNTHETIC data: ' if card.synthetic else ''}{card.title}",
        title_justify="left",
        caption="Dice against the site's own masks, mean (SD); own: the site's own model; ext.: never trained. "
        "Research use only, not a medical device",
        caption_justify="left",
    )
    for name in ("site", "n", "own", "federated (SD)"):
        table.add_column(name, justify="left" if name == "site" else "right", no_wrap=True)
    for site in card.sites:
        name = f"{site.site} (ext.)" if site.role == "validate" else site.site
        table.add_row(name, str(site.patients), _number(site.own_mean), f"{site.mean:.2f} ({site.sd:.2f})")
    for name, why in card.unscored.items():
        table.add_row(name, "-", "-", why)
    return table


def result_table(results: Results) -> Table:
    """The small table at the end of a run; pooled and external rows apart."""
    title = f"{'SYNTHETIC data: ' if results.synthetic else ''}{results.title}"
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        padding=(0, 1, 0, 0),  # eight columns in eighty characters
        title=title,
        title_justify="left",
        caption=_caption(results),
        caption_justify="left",
    )
    for name in ("site", "n", "events", "local", "federated (95 %)", "logistic"):
        table.add_column(
            name,
            justify="left" if name == "site" else "right",
            no_wrap=name in ("site", "federated (95 %)"),
            min_width=8 if name == "logistic" else None,
        )
    personal = any(site.personal for site in results.sites)
    if personal:
        table.add_column("personal", justify="right")
    further = sorted({label for site in results.sites for label in site.baselines})
    for name in further:
        table.add_column(name, justify="right")
    if results.synthetic:
        table.add_column("oracle", justify="right")
    spends = any(site.epsilon is not None for site in results.sites)  # record-level: a number for each site
    if spends:
        table.add_column("epsilon", justify="right")
    previous: str = "train"
    for row in summary_table(results):
        if row.role != previous:
            table.add_section()
        previous = row.role
        name = f"{row.site} (ext.)" if row.role == "validate" else row.site
        cells = [name, str(row.n), str(row.events), _number(row.local_auc)]
        cells += [f"{row.auc:.2f} ({row.low:.2f}-{row.high:.2f})", _number(row.logistic_auc)]
        cells += [_number(row.personal_auc)] if personal else []
        cells += [_number(row.baselines.get(name)) for name in further]
        cells += [_number(row.oracle_auc)] if results.synthetic else []
        cells += [_number(row.epsilon)] if spends else []
        table.add_row(*cells)
    for fold in results.left_out:
        logistic = _number(fold.logistic.auc if fold.logistic else None)
        scores = fold.federated
        if fold is results.left_out[0]:
            table.add_section()
        cells = [f"without {fold.site}", str(scores.patients), str(scores.positives), "-"]
        cells += [f"{scores.auc:.2f} ({scores.auc_low:.2f}-{scores.auc_high:.2f})", logistic]
        cells += ["-"] if personal else []
        cells += [_number(fold.baselines[name].auc if name in fold.baselines else None) for name in further]
        table.add_row(*cells)
    return table


def _caption(results: Results) -> str:
    said = (
        f"AUC; local: the site's own model; ext.: never trained. {private.in_short(results)}; research use only, not a "
        "medical device"
    )
    if (account := results.client_level) is None:
        return said
    few = private.too_few(account.noise_multiplier, results.parameters, account.hospitals)
    spent = f"epsilon {formats.epsilon(account.epsilon)} spent by this run; no protection against the coordinator"
    return f"{said}. {spent}." + (f" {few}" if few else "")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
