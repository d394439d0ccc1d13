"""A dry round on this site's data with the study's own model: how long one will take here, and how much memory.

    result = rehearse(home, study, "north")           # Rehearsal, or the RehearsalFailed that says why not

It runs in a process of its own for a minute at most. Weights are thrown away, nothing leaves, and under differential
privacy the private path runs without its ledger: nothing is published, so nothing is spent.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedloupe.errors import FedLoupeError
from fedloupe.models import Schema, build_model, build_unet, flatten
from fedloupe.privacy import Spend
from fedloupe.study import DpSgd, Study
from fedloupe_client.dataset import Cohort, load_cohort
from fedloupe_client.preflight.baseline import own_preparation
from fedloupe_client.preflight.findings import Frozen, RehearsalFailed
from fedloupe_client.training import drawing
from fedloupe_client.training.evaluation import probabilities
from fedloupe_client.training.local import device, train_round
from fedloupe_client.training.private import planned_spend, train_round_privately

LIMIT_S = 60.0
STARTED = b"*"
START_S = 300.0
"""For the process to start, which a busy machine can make slow, and which no round pays again."""
MEASURED_S = 20.0
"""A round that will take less than this is run whole; a longer one is extrapolated from two small steps."""


class Rehearsal(Frozen):
    """What a round will take on this machine, where nothing else runs.

    Attributes:
        work: `train`, `train privately` or `validate`.
        patients: that take part.
        seconds: of one round's work here (a validate-only site: of scoring all its patients).
        study_seconds: of all the study's work here, about: every round of every fold that this site trains in, its own
            model (one request, as long as all rounds), its personal model (a validate-only site: of all scorings).
        measured: a whole round was run; else `seconds` is extrapolated.
        peak_bytes: memory of the process, with cohort and model.
        device: where the model ran.
    """

    work: str
    patients: int
    seconds: float
    study_seconds: float
    measured: bool
    peak_bytes: int
    device: str


def rehearse(home: Path, study: Study, site: str, *, limit_s: float = LIMIT_S) -> Rehearsal | RehearsalFailed:
    """Run a dry round in a spawned process; a script calls this under `if __name__ == "__main__"`.

    Args:
        home: the site's home, derived for the study.
        study: the study.
        site: this site's name.
        limit_s: seconds after its start at which it is ended.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, home, study.canonical, site), daemon=True)
    process.start()
    theirs.close()
    timely, said = True, ""
    try:
        for limit in (START_S, limit_s):  # first the sign that everything is loaded, then the answer
            if timely := ours.poll(limit):
                said = ours.recv_bytes().decode()
            else:
                process.kill()
                break
    except EOFError:
        said = ""
    process.join()
    if not timely:
        return _failed(f"a dry round did not end within {limit_s:.0f} s")
    if said:
        return Rehearsal.model_validate_json(said[1:]) if said[0] == "+" else _failed(said[1:])
    if process.exitcode == -9:
        return _failed("the system ended the process (signal 9), as it does where memory runs out")
    return _failed(f"the process ended by itself with exit code {process.exitcode}; its words are above")


def _failed(what: str) -> RehearsalFailed:
    return RehearsalFailed(
        what,
        remedy="use a machine with more memory or a GPU; if that does not help, send the text of this command to the "
        "FedLoupe maintainers",
    )


def _child(pipe: Pipe, home: Path, study: str, site: str) -> None:
    torch.set_num_threads(1)  # as the site process does
    pipe.send_bytes(STARTED)
    try:
        said = "+" + dry_round(home, Study.model_validate_json(study), site).model_dump_json()
    except FedLoupeError as error:
        said = f"-{error.title}: {error.what}"
    pipe.send_bytes(said.encode())
    pipe.close()


@dataclass(frozen=True)
class _Plan:
    """A small step, the whole round, and how many steps the round is worth."""

    work: str
    patients: int
    step: Callable[[], object]
    whole: Callable[[], object]
    steps: float


def dry_round(home: Path, study: Study, site: str) -> Rehearsal:
    """Time one round in this process; see `rehearse`.

    Raises:
        FedLoupeError: what a round of this study would meet here.
    """
    make = _plan if study.segmentation is None else _drawing_plan
    plan = make(study, site, load_cohort(home, study, site))
    plan.step()  # the first step also compiles and allocates
    seconds = _timed(plan.step) * plan.steps
    measured = seconds < MEASURED_S
    if measured:
        seconds = _timed(plan.whole)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Rehearsal(
        work=plan.work,
        patients=plan.patients,
        seconds=round(seconds, 3),
        study_seconds=round(seconds * rounds_of(study, site), 3),
        measured=measured,
        peak_bytes=peak,
        device=str(device()),
    )


def rounds_of(study: Study, site: str) -> float:
    """All the work of a study at this site, in rounds of local training; at a validate-only site in scorings."""
    local = study.evaluation.local_baseline and not study.private
    if study.role(site) == "validate":
        elsewhere = local and study.evaluation.local_models == "everywhere"
        return 1 + (len(study.train_sites) if elsewhere else 0)
    folds = len(study.train_sites) - 1 if study.evaluation.leave_one_site_out else 0
    own = study.personalisation
    more = own.epochs / study.training.local_epochs if own is not None and own.method == "fine-tune" else 0
    return study.training.rounds * (1 + folds + local) + more


def _plan(study: Study, site: str, cohort: Cohort) -> _Plan:
    preparation = own_preparation(cohort, study)
    weights = flatten(build_model(study, Schema.of(study, cohort.feature_groups)))
    if study.role(site) == "validate":
        rows = cohort.rows("test")
        few = rows[: study.training.batch_size]

        def score(rows: NDArray[np.int64]) -> object:
            return probabilities(study, cohort, preparation, "transformer", weights, rows)

        return _Plan("validate", len(rows), lambda: score(few), lambda: score(rows), len(rows) / len(few))
    rows = cohort.rows("train")
    if isinstance(study.privacy, DpSgd):
        privacy, spend = study.privacy, planned_spend(study, study.privacy)

        def privately(spend: Spend) -> object:
            return train_round_privately(
                study, site, cohort, preparation, weights, number=1, privacy=privacy, spend=spend
            )

        one = replace(spend, steps=1)
        return _Plan("train privately", len(rows), lambda: privately(one), lambda: privately(spend), spend.steps)
    few = rows[: study.training.batch_size]
    once, part = _small(study, cohort, few)
    return _Plan(
        "train",
        len(rows),
        lambda: train_round(once, site, part, preparation, weights, number=1),
        lambda: train_round(study, site, cohort, preparation, weights, number=1),
        study.training.local_epochs * len(rows) / len(few),
    )


def _drawing_plan(study: Study, site: str, cohort: Cohort) -> _Plan:
    weights = flatten(build_unet(study))
    if study.role(site) == "validate":
        rows = cohort.rows("test")
        few = rows[: study.training.batch_size]

        def draw(rows: NDArray[np.int64]) -> object:
            return drawing.dices(study, cohort, weights, rows)

        return _Plan("validate", len(rows), lambda: draw(few), lambda: draw(rows), len(rows) / len(few))
    rows = cohort.rows("train")
    few = rows[: study.training.batch_size]
    once, part = _small(study, cohort, few)
    return _Plan(
        "train",
        len(rows),
        lambda: drawing.train_round(once, site, part, weights, number=1),
        lambda: drawing.train_round(study, site, cohort, weights, number=1),
        study.training.local_epochs * len(rows) / len(few),
    )


def _small(study: Study, cohort: Cohort, few: NDArray[np.int64]) -> tuple[Study, Cohort]:
    """One epoch, on these patients alone."""
    part = replace(cohort, split=np.where(np.isin(np.arange(len(cohort.cases)), few), "train", "held"))
    return study.model_copy(update={"training": study.training.model_copy(update={"local_epochs": 1})}), part


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
