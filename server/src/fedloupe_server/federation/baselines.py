"""What the federated model must beat, fitted on the same sites' training patients.

beta = logistic_baseline(study, talk, sites, width, journal)
others = further_baselines(study, talk, sites, width, features, journal, observer, stage)     # that the study asks for
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloupe.messages import Architecture, NewtonReply, NewtonRequest
from fedloupe.models import Penalty
from fedloupe.study import Study, clinical_inputs
from fedloupe_server.federation.conversation import Conversation
from fedloupe_server.federation.events import Observer
from fedloupe_server.federation.growing import grow_trees
from fedloupe_server.federation.journal import Journal, JournalDamaged, read_tensors, write_tensors
from fedloupe_server.statistics.logistic import fit_logistic


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline as sites are asked to score it.

    Attributes:
        label: its name in requests and results.
        architecture: how to read the weights.
        weights: its parameters.
    """

    label: str
    architecture: Architecture
    weights: NDArray[Any]


def logistic_baseline(
    study: Study,
    talk: Conversation,
    sites: tuple[str, ...],
    width: int,
    journal: Journal,
    kept: NDArray[np.int64] | None = None,
    label: str = "logistic",
) -> NDArray[np.float64]:
    """(width) coefficients of the study's logistic regression, kept in the journal under `label`.

    Args:
        study: its penalty.
        talk: with these sites.
        sites: whose training patients count.
        width: intercept, components and clinical values.
        journal: of the run or fold.
        kept: coefficients that take part; None: all.
        label: of the file.

    Raises:
        NotConverged, SiteRefused, JournalDamaged: see there.
    """

    def ask(step: int, beta: NDArray[np.float64]) -> list[NewtonReply]:
        return [talk.sums.all(sites, lambda header: NewtonRequest(**header, step=step, beta=beta), NewtonReply)]

    path = journal.folder / f"{label}.safetensors"
    if (found := read_tensors(path)) is not None:
        if "beta" not in found[0] or found[0]["beta"].shape != (width,):
            raise JournalDamaged(
                "not the coefficients of this model",
                where=str(path),
                remedy="restore it, or delete it: its step is then repeated",
            )
        return found[0]["beta"]
    penalty = Penalty(study.evaluation.ridge, study.evaluation.l1_ratio)
    beta = fit_logistic(ask, width, penalty, kept, where=f"{talk.run}, {label}", over=lambda: talk.sums.sites)
    write_tensors(path, {"beta": beta})
    return beta


def further_baselines(
    study: Study,
    talk: Conversation,
    sites: tuple[str, ...],
    width: int,
    features: int,
    journal: Journal,
    observer: Observer,
    stage: str,
) -> tuple[Baseline, ...]:
    """The baselines beyond logistic regression on everything; none where the study asks for none.

    Clinical values alone need nothing new of the sites: the sums of a model without components are a part of the sums
    of the whole one at coefficients that are zero for the components.
    """
    found = []
    if study.evaluation.clinical_baseline:
        clinical = np.array([0, *range(width - len(clinical_inputs(study)), width)])
        beta = logistic_baseline(study, talk, sites, width, journal, clinical, "clinical")
        found.append(Baseline("clinical", "logistic", beta))
    if study.evaluation.trees:
        trees = grow_trees(study, study.evaluation.trees, talk, sites, features, journal, observer, stage)
        found.append(Baseline("trees", "trees", trees))
    return tuple(found)
