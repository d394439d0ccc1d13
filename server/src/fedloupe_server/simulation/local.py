"""A whole study on one machine: prepare every site, run the rounds through Flower's in-process Grid, write the report.

outcome = run_here(study, homes, Path("runs/sarcoma"), tell=..., observer=...)
outcome.report                      # Path of report.html
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedloupe.drawing import DrawingCard
from fedloupe.freezing import Seal
from fedloupe.study import Study
from fedloupe_client.ingest import load_store
from fedloupe_server.evidence.results import Results
from fedloupe_server.federation import Exchange, Observer, draw_study, run_study
from fedloupe_server.federation.drawing import FOLDER
from fedloupe_server.federation.events import silent
from fedloupe_server.federation.run import freeze_study
from fedloupe_server.federation.validating import validate_run
from fedloupe_server.hub.inprocess import inprocess_exchange
from fedloupe_server.pack import Pack, write_pack
from fedloupe_server.simulation.cohort import CohortSpec
from fedloupe_server.simulation.enrolling import enrol_here
from fedloupe_server.simulation.preparing import Tell, prepare_sites
from fedloupe_server.simulation.working import working_sites


@dataclass(frozen=True)
class Outcome:
    """A finished run."""

    results: Results
    pack: Pack

    @property
    def report(self) -> Path:
        """The pack's page."""
        return self.pack.page


@dataclass(frozen=True)
class Drawn:
    """A finished run of a drawing study: the model's card, and the folder that hospitals get."""

    card: DrawingCard
    folder: Path


def run_here(
    study: Study,
    homes: Mapping[str, Path],
    run_dir: Path,
    *,
    tell: Tell,
    observer: Observer = silent,
    cohort: tuple[Path, CohortSpec] | None = None,
    workers: int | None = None,
) -> Outcome:
    """Prepare, run, report.

    Args:
        study: the study.
        homes: each site's home with its `site.yaml`.
        run_dir: the run's folder; an interrupted run goes on in it.
        tell: told (site, stage, done, total) while sites prepare.
        observer: told of every step of the rounds.
        cohort: folder and specification of a synthetic cohort to generate first.
        workers: processes for preparation and for the sites; all cores where None.
    """
    with _sites(study, homes, run_dir, tell, cohort, workers) as exchange:
        results = run_study(study, exchange, run_dir, observer=observer)
    return Outcome(results, write_pack(run_dir))


def freeze_here(
    study: Study,
    homes: Mapping[str, Path],
    run_dir: Path,
    *,
    tell: Tell,
    observer: Observer = silent,
    cohort: tuple[Path, CohortSpec] | None = None,
    workers: int | None = None,
) -> Seal:
    """Prepare the training sites, fit and seal; arguments as in `run_here`, which goes on from there."""
    training = {site: homes[site] for site in study.train_sites}
    with _sites(study, training, run_dir, tell, cohort, workers) as exchange:
        return freeze_study(study, exchange, run_dir, observer=observer)


def validate_here(
    study: Study,
    homes: Mapping[str, Path],
    run_dir: Path,
    out: Path,
    *,
    tell: Tell,
    observer: Observer = silent,
    cohort: tuple[Path, CohortSpec] | None = None,
    workers: int | None = None,
) -> Outcome:
    """Prepare the sites of these homes, open them with a sealed run, report; arguments as in `validate_run`."""
    with _sites(study, homes, run_dir, tell, cohort, workers) as exchange:
        results = validate_run(run_dir, study, exchange, out, observer=observer)
    return Outcome(results, write_pack(out))


def draw_here(
    study: Study,
    homes: Mapping[str, Path],
    run_dir: Path,
    *,
    tell: Tell,
    observer: Observer = silent,
    cohort: tuple[Path, CohortSpec] | None = None,
    workers: int | None = None,
) -> Drawn:
    """Prepare and run a drawing study; arguments as in `run_here`."""
    with _sites(study, homes, run_dir, tell, cohort, workers) as exchange:
        card = draw_study(study, exchange, run_dir, observer=observer)
    return Drawn(card, run_dir / FOLDER)


@contextmanager
def _sites(
    study: Study,
    homes: Mapping[str, Path],
    run_dir: Path,
    tell: Tell,
    cohort: tuple[Path, CohortSpec] | None,
    workers: int | None,
) -> Iterator[Exchange]:
    """Every site prepared, approved and answering."""
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    prepare_sites(study, homes, tell, cohort=cohort, workers=workers)
    loads = {name: len(load_store(home).ready) * (study.role(name) == "train") for name, home in homes.items()}
    count = workers or os.cpu_count() or 1
    with working_sites(homes, loads, workers=count, log=run_dir.parent / "sites.log") as handlers:
        yield inprocess_exchange(handlers, at_once=count, key=enrol_here(homes, run_dir.parent))
