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
from scipy.special import expit

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
        caught: share of members found where 5 % of the others are called members.
    """

    members: int
    others: int
    auc: float
    low: float
    high: float
    caught: float

    @classmethod
    def of(cls, members: NDArray[np.float64], others: NDArray[np.float64]) -> Attack:
        """From losses."""
        losses = np.concatenate([members, others])
        truth = np.repeat([1, 0], [len(members), len(others)])
        ranks = np.argsort(np.argsort(-losses, kind="stable")) / max(1, len(losses) - 1)  # `delong` reads ranks alone
        ranks = np.array([ranks[losses == loss].mean() for loss in losses])  # equal losses rank alike
        area = delong(truth, ranks)
        limit = np.quantile(others, FALSE_ALARMS)
        return cls(len(members), len(others), area.auc, area.low, area.high, float((members < limit).mean()))


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
        NothingToAttack: no finished run, or a training site without a home.
    """
    missing = [site for site in study.train_sites if not (homes.get(site) and homes[site].is_dir())]
    if missing or not (run_dir / "results.json").exists():
        raise NothingToAttack(
            f"no homes of {', '.join(missing)}" if missing else "the run is not finished",
            where=str(run_dir),
            remedy="name a run that `fedloupe run`, `compare` or `demo` finished on this machine, beside its `sites`",
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
    odds = np.log(np.clip(scores, 1e-12, 1)) - np.log(np.clip(1 - scores, 1e-12, 1))
    return np.asarray(-np.log(np.clip(expit(np.where(labels == 1, odds, -odds)), 1e-300, 1)), dtype=np.float64)
