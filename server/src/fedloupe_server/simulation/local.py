"""A whole study on one machine: prepare every site, run the rounds through Flower's in-process Grid, write the report.

outcome = run_here(study, homes, Path("runs/sarcoma"), tell=..., observer=...)
outcome.report                      # Path of report.html
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from fedloupe.study import Study
from fedloupe_client.site.site import Site
from fedloupe_server.evidence.report import write_report
from fedloupe_server.evidence.results import Results
from fedloupe_server.federation import Observer, run_study
from fedloupe_server.federation.events import silent
from fedloupe_server.hub.inprocess import inprocess_exchange
from fedloupe_server.simulation.cohort import CohortSpec
from fedloupe_server.simulation.preparing import Tell, prepare_sites


@dataclass(frozen=True)
class Outcome:
    """A finished run."""

    results: Results
    report: Path


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
        workers: processes for preparation; all cores where None.
    """
    torch.set_num_threads(1)  # the numbers must not depend on how many cores there are
    _log_to(run_dir.parent / "sites.log")
    prepare_sites(study, homes, tell, cohort=cohort, workers=workers)
    sites = {name: Site(home) for name, home in homes.items()}
    exchange = inprocess_exchange({name: site.handle for name, site in sites.items()})
    results = run_study(study, exchange, run_dir, observer=observer)
    return Outcome(results, write_report(results, run_dir))


def _log_to(path: Path) -> None:
    """Keep the sites' own words, which may name cases, out of the terminal and in a file beside their homes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    log = logging.getLogger("fedloupe_client")
    for other in list(log.handlers):
        log.removeHandler(other)
        other.close()
    log.addHandler(handler)
    log.propagate = False
