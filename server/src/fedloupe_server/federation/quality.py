"""The federation agrees which features enter the model: two kinds of sums, one list, `quality.json` in the journal.

agreed = agree_quality(study, talk, sites, names, mean, scale, journal, observer)
scale = np.where(agreed.kept, scale, 0.0)            # a feature of scale 0 contributes to nothing from here on
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from fedloupe.errors import FedLoupeError
from fedloupe.messages import RedundancyReply, RedundancyRequest, StabilityReply, StabilityRequest
from fedloupe.metrics import RepeatSums
from fedloupe.quality import Verdict, judge, verdicts
from fedloupe.study import Quality, Study
from fedloupe_server.federation.conversation import Conversation
from fedloupe_server.federation.events import Event, Observer
from fedloupe_server.federation.journal import Journal, JournalDamaged, write_atomic
from fedloupe_server.statistics.quality import AgreedQuality, Greedy, blocks, without_redundant

Floats = NDArray[np.float64]
FILE = "quality.json"
STAGE = "feature quality"


class NothingStable(FedLoupeError):
    """No feature passes the study's own rule."""

    code = "FL-745"
    title = "no feature is repeatable enough"


def read_quality(journal: Journal) -> AgreedQuality | None:
    """The list that was agreed before, or None.

    Raises:
        JournalDamaged: the file is not one.
    """
    path = journal.folder / FILE
    if not path.exists():
        return None
    try:
        return AgreedQuality.model_validate_json(path.read_bytes())
    except ValidationError:
        raise JournalDamaged(
            "the list of features cannot be read",
            where=str(path),
            remedy="restore it, or delete it and preparation.safetensors: the list is then agreed again",
        ) from None


def agree_quality(
    study: Study,
    talk: Conversation,
    sites: tuple[str, ...],
    names: tuple[str, ...],
    mean: Floats,
    scale: Floats,
    journal: Journal,
    observer: Observer,
) -> AgreedQuality:
    """Agree on the features and keep the list; one that was agreed before holds.

    Args:
        study: with `quality`.
        talk: to the sites.
        sites: training sites of this fit.
        names: p feature columns.
        mean: (p) pooled over their training patients.
        scale: (p) likewise; 0 where constant.
        journal: of this fit.
        observer: told of every exchange.

    Raises:
        SiteRefused, WrongAnswer: of an exchange.
        NothingStable: every feature is dropped.
        JournalDamaged: the list on disk is not one of these features.
    """
    assert study.quality is not None, "only a study with `quality` agrees"
    if (found := read_quality(journal)) is not None:
        if tuple(v.name for v in found.features) != names:
            raise JournalDamaged(
                "the list is one of other features", where=str(journal.folder / FILE), remedy="start a new run"
            )
        return found
    judged, patients = _stable(study.quality, talk, sites, names, mean, scale, observer)
    kept = sum(verdict.kept for verdict in judged)
    if kept == 0:
        reasons = sorted({verdict.why for verdict in judged})
        raise NothingStable(
            f"all {len(names)} features are dropped: {', '.join(reasons)}",
            where=talk.run,
            remedy="lower `quality.minimum_icc` in a new study, use gentler perturbations, or bring more patients",
        )
    if study.quality.redundancy is not None:
        greedy = Greedy(study.quality.redundancy)
        for done, block in enumerate(blocks(judged)):
            observer(Event(STAGE, 1 + done, 2 + done, f"correlations of {len(block)} of {kept} features"))
            total = _correlations(talk, sites, mean, scale, greedy.earlier, block)
            patients = total.patients
            greedy.judge(block, total)
        judged = without_redundant(judged, greedy)
    agreed = AgreedQuality(
        sites=talk.sums.sites,
        patients=patients,
        minimum_icc=study.quality.minimum_icc,
        redundancy=study.quality.redundancy,
        features=judged,
    )
    write_atomic(journal.folder / FILE, agreed.content)
    observer(Event(STAGE, 1, 1, f"{int(agreed.kept.sum())} of {len(names)} features kept"))
    return agreed


def _stable(
    quality: Quality,
    talk: Conversation,
    sites: tuple[str, ...],
    names: tuple[str, ...],
    mean: Floats,
    scale: Floats,
    observer: Observer,
) -> tuple[tuple[Verdict, ...], int]:
    """The verdicts before redundancy, and the training patients behind them (0 where no site was asked)."""
    constant = scale <= 0
    if not quality.perturbations:
        flat = zip(names, constant, strict=True)
        return tuple(Verdict(name=name, patients=0, why="constant" if is_ else "") for name, is_ in flat), 0
    observer(Event(STAGE, 0, 2, "asking how features repeat; sites perturb their cases"))
    total = talk.sums.all(sites, lambda header: StabilityRequest(**header, mean=mean, scale=scale), StabilityReply)
    versions = 1 + len(quality.perturbations)
    shapes = ((len(names),), (len(names), versions), (len(names), versions * (versions + 1) // 2))
    _check_shapes(talk, (total.count, total.total, total.product), shapes)
    sums = RepeatSums(total.count, total.total, total.product)
    return verdicts(names, judge(sums, quality), constant), total.patients


def _correlations(
    talk: Conversation,
    sites: tuple[str, ...],
    mean: Floats,
    scale: Floats,
    earlier: NDArray[np.int64],
    block: NDArray[np.int64],
) -> RedundancyReply:
    def ask(header: dict[str, Any]) -> RedundancyRequest:
        return RedundancyRequest(**header, mean=mean, scale=scale, earlier=earlier, block=block)

    total = talk.sums.all(sites, ask, RedundancyReply)
    table = (len(earlier) + len(block), len(block))
    _check_shapes(talk, (total.pairs, total.product, total.total), (table, table, (len(block),)))
    return total


def _check_shapes(talk: Conversation, arrays: tuple[Any, ...], shapes: tuple[tuple[int, ...], ...]) -> None:
    if any(array.shape != shape for array, shape in zip(arrays, shapes, strict=True)):
        raise talk.wrong_answer("the sites", "answered with arrays of another shape")
