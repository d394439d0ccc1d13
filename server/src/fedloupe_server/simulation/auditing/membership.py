"""Can the released model tell who trained it? Membership inference by the loss threshold (Yeom 2018), on one machine.

    found = membership(run_dir, homes)
    found.pooled.auc               # 0.5: no better than guessing

At each training site the attack ranks its own patients by the model's loss: those who trained against those who tested,
whom nothing was fitted to. It is the simplest attack, and what it finds a better one finds too; that it finds nothing
proves little. Run where a study was run on one machine; a hospital's patients are nobody else's to ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from fedloupe.errors import FedLoupeError
from fedloupe.metrics import delong
from fedloupe.models import Preparation
from fedloupe.study import Study
from fedloupe_client.dataset import load_cohort
from fedloupe_client.training.evaluation import probabilities
from fedloupe_server.federation.journal import Journal
from fedloupe_server.simulation.scoring import modelled, trained_models

FALSE_ALARMS = 0.05
"""Share of those who did not train that may be called members, for `caught`."""


class NothingToAttack(FedLoupeError):
    """The run, or the patients behind it, are not where they are said to be."""

    code = "FL-715"
    title = "there is no finished run to attack"


@dataclass(frozen=True)
class Attack:
    """One ranking of members against others.

    Attributes:
        members: patients who trained; `others`, who tested.
        auc: that a member has the smaller loss, with its 95 % interval (DeLong).
        caught: share of members found where at most 5 % of others are called members; None with fewer than 19 others.
    """

    members: int
    others: int
    auc: float
    low: float
    high: float
    caught: float | None

    @classmethod
    def of(cls, members: NDArray[np.float64], others: NDArray[np.float64]) -> Attack:
        """From losses."""
        losses = np.concatenate([members, others])
        truth = np.repeat([1, 0], [len(members), len(others)])
        area = delong(truth, rankdata(-losses) / len(losses))  # it reads ranks alone
        # below the k-th smallest of n others, a further one falls with probability k / (n + 1)
        k = int(FALSE_ALARMS * (len(others) + 1))
        caught = float((members < np.sort(others)[k - 1]).mean()) if k else None
        return cls(len(members), len(others), area.auc, area.low, area.high, caught)


@dataclass(frozen=True)
class Membership:
    """The attack at each training site, and on all of them together."""

    sites: dict[str, Attack]
    pooled: Attack


def membership(run_dir: Path, homes: Mapping[str, Path], study: Study) -> Membership:
    """Attack a finished run's federated model.

    Args:
        run_dir: of the run.
        homes: home by site.
        study: as it was run.

    Raises:
        NothingToAttack: no finished run, one of a drawing study, or a training site without a home.
    """
    if study.segmentation is not None:
        raise NothingToAttack(
            "its model draws tumours", where=str(run_dir), remedy="name the run of a study that predicts an outcome"
        )
    if not (run_dir / "results.json").exists():
        raise NothingToAttack(
            "the run is not finished", where=str(run_dir), remedy="finish it with the command that began it"
        )
    if missing := [site for site in study.train_sites if not (homes.get(site) and homes[site].is_dir())]:
        raise NothingToAttack(
            f"no home of {', '.join(missing)}",
            where=str(run_dir),
            remedy="name a run whose sites' homes are still where `fedloupe run`, `compare` or `demo` made them",
        )
    preparation = Preparation.read(Journal(run_dir).preparation_path)
    assert preparation is not None, "a finished run has its preparation"
    _, weights = trained_models(run_dir)["federated"]
    found: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    for site in study.train_sites:
        cohort = modelled(study, site, load_cohort(homes[site], study, site), homes[site], run_dir)
        rows = [cohort.rows(split) for split in ("train", "test")]
        scores = [probabilities(study, cohort, preparation, "transformer", weights, own) for own in rows]
        losses = [_loss(cohort.labels[own], score) for own, score in zip(rows, scores, strict=True)]
        found[site] = (losses[0], losses[1])
    return Membership(
        sites={site: Attack.of(*pair) for site, pair in found.items()},
        pooled=Attack.of(*(np.concatenate(side) for side in zip(*found.values(), strict=True))),
    )


def _loss(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n) negative log-likelihood of each patient's outcome."""
    return np.asarray(-np.log(np.clip(np.where(labels == 1, scores, 1 - scores), 1e-12, 1)), dtype=np.float64)
