"""A comparison on one machine: every variant through homes, gates and Flower's in-process Grid, several at a time.

comparison = compare_study(study, homes, Path("runs/x-compared"), Plan(seeds=(1, 2)), jobs=2, tell=..., progress=...)

Variants share nothing but the sites' homes: what is derived from images is made once, each process loads the patients
once. What a variant has finished stays; the same call goes on from there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from fedloupe import __version__
from fedloupe.study import Study, parse_study
from fedloupe_client.dataset import load_cohort
from fedloupe_client.gate import approve
from fedloupe_client.processes import one_thread_each
from fedloupe_server.comparing import Comparison, Costs, Fit, Setting, compare
from fedloupe_server.federation.journal import Journal, write_atomic
from fedloupe_server.simulation.cohort import CohortSpec
from fedloupe_server.simulation.preparing import Tell, prepare_sites
from fedloupe_server.simulation.scoring import (
    Held,
    Meter,
    check_same_patients,
    finished,
    read_scores,
    run_variant,
    trained_models,
)
from fedloupe_server.simulation.variants import Plan, Variant, design_of, groups_of, variants
from fedloupe_server.simulation.working import one_thread

RUNS = "runs"
Progress = Callable[[int, int, str, float], None]


@dataclass(frozen=True)
class Compared:
    """A finished comparison, and what training each group took."""

    comparison: Comparison
    costs: dict[str, Costs]


def compare_study(
    study: Study,
    homes: Mapping[str, Path],
    folder: Path,
    plan: Plan,
    *,
    tell: Tell,
    progress: Progress,
    jobs: int | None = None,
    cohort: tuple[Path, CohortSpec] | None = None,
) -> Compared:
    """Prepare the sites once, run what is missing, compare, and write `comparison.json` and `costs.json`.

    Args:
        study: the study that variants are made of.
        homes: home by site.
        folder: of the comparison; an interrupted one goes on in it.
        plan: what to compare.
        tell: told (site, stage, done, total) while sites prepare.
        progress: told (done, total, variant, seconds left) after each variant.
        jobs: processes; all cores where None.
        cohort: folder and specification of a synthetic cohort to generate first.

    Raises:
        NotCompared, PlanInvalid: see there.
        AnotherStudy: the folder holds variants of another study, or other folds.
        FedLoupeError: a site's or a run's; what other variants finished stays.
    """
    todo = variants(study, plan)
    whole = _whole(study)
    prepare_sites(whole, homes, tell, cohort=cohort, workers=jobs)
    for home in homes.values():
        for variant in todo:
            approve(home, variant.study, by="one-machine comparison")
    folder.mkdir(parents=True, exist_ok=True)
    for variant in todo:  # a folder that an edited study made is another comparison's
        Journal(folder / RUNS / variant.name).open_for(variant.study)
    missing = [variant for variant in todo if not finished(variant, homes, folder / RUNS)]
    _run_all(whole, homes, folder, missing, len(todo), min(jobs or os.cpu_count() or 1, len(missing)), progress)
    groups = tuple(groups_of(study, plan))
    setting = Setting(
        study=study.study,
        title=study.title,
        synthetic=study.synthetic,
        fingerprint=study.fingerprint,
        version=__version__,
        kind="inputs" if plan.modalities else "architectures",
        design=design_of(study, plan),
        folds=plan.folds if design_of(study, plan) == "kfold" else None,
        seeds=plan.seeds,
        groups=groups,
        reference=groups[0],
        rounds=study.training.rounds,
        local_epochs=study.training.local_epochs,
    )
    fits = [Fit(v.group, v.seed, v.part, read_scores(homes, v)) for v in todo]
    check_same_patients(fits)
    comparison = compare(setting, fits, {g: _parameters(todo, g, folder) for g in groups})
    costs = {g: _costs([v for v in todo if v.group == g], folder) for g in groups}
    write_atomic(folder / "comparison.json", (comparison.model_dump_json(indent=1) + "\n").encode())
    text = "{" + ", ".join(f'"{group}": {cost.model_dump_json()}' for group, cost in costs.items()) + "}\n"
    write_atomic(folder / "costs.json", text.encode())
    return Compared(comparison, costs)


def _whole(study: Study) -> Study:
    """The study whose patients are loaded: every input, so that each variant can see what it needs."""
    content = study.model_dump(mode="json")
    content["model"] = {key: value for key, value in content["model"].items() if key != "inputs"}
    return parse_study(content, study.study)


def _parameters(todo: Sequence[Variant], group: str, folder: Path) -> int:
    first = next(variant for variant in todo if variant.group == group)
    return int(trained_models(folder / RUNS / first.name)["federated"][1].size)


def _costs(own: Sequence[Variant], folder: Path) -> Costs:
    meters = [Meter.at(folder / RUNS / variant.name).seconds for variant in own]
    mean = {kind: sum(m.get(kind, 0.0) for m in meters) / len(meters) for kind in ("federated", "local", "pooled")}
    return Costs(**{kind: round(seconds, 3) for kind, seconds in mean.items()})


def _run_all(
    whole: Study,
    homes: Mapping[str, Path],
    folder: Path,
    missing: Sequence[Variant],
    total: int,
    jobs: int,
    progress: Progress,
) -> None:
    """Share the missing variants out to processes: whoever is free takes the next; one job needs no process."""
    done, began = total - len(missing), time.monotonic()

    def tell(name: str) -> None:
        nonlocal done
        done += 1
        left = (time.monotonic() - began) / (done - total + len(missing)) * (total - done)
        progress(done, total, name, left)

    if jobs <= 1:
        alone: Queue[Variant] = Queue()
        for variant in missing:
            alone.put(variant)
        _work(whole.canonical, homes, folder, alone, tell)
        return
    context = get_context("spawn")
    with one_thread_each(), context.Manager() as manager, ProcessPoolExecutor(jobs, mp_context=context) as pool:
        waiting: Queue[Variant] = manager.Queue()
        told: Queue[str] = manager.Queue()
        for variant in missing:
            waiting.put(variant)
        work = [pool.submit(_work, whole.canonical, dict(homes), folder, waiting, told.put) for _ in range(jobs)]
        running = set(work)
        while running:
            over, running = wait(running, timeout=0.2)
            while (name := _next(told)) is not None:
                tell(name)
            if any(future.exception() for future in over):
                while _next(waiting) is not None:  # the others finish what they are at
                    pass
        for future in work:
            future.result()


def _next(queue: Queue[Any]) -> Any:
    """The queue's next item, None where it is empty."""
    try:
        return queue.get_nowait()
    except Empty:
        return None


def _work(
    canonical: str,
    homes: Mapping[str, Path],
    folder: Path,
    waiting: Queue[Variant],
    tell: Callable[[str], None],
) -> None:
    """One process: patients of all sites once, then variant after variant."""
    one_thread(folder / "sites.log")
    if waiting.empty():
        return
    whole = Study.model_validate_json(canonical)
    held = {site: Held(home, load_cohort(home, whole, site)) for site, home in homes.items()}
    while (variant := _next(waiting)) is not None:
        run_variant(variant, held, folder / RUNS)
        tell(variant.name)
