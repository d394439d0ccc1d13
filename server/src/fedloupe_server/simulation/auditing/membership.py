"""Can the released model tell who trained it? Membership inference on a finished run, on one machine.

    found = membership(run_dir, homes, study)                   # by the loss threshold (Yeom 2018)
    found = membership(run_dir, homes, study, shadows=16)       # and by likelihood ratio (LiRA; Carlini 2022)
    found.loss.pooled.auc, found.likelihood.pooled.auc          # 0.5: no better than guessing

At each training site the attack ranks its own patients: those who trained against those who tuned or tested, on whom
no weight depends. The loss threshold calls a member whose outcome the model is surer of; it is the simplest attack, and
that it finds nothing proves little. The likelihood ratio compares with shadow models, which only somebody with these
patients' data can train: more than most attackers have. Run where a study was run on one machine; a hospital's patients
are nobody else's to ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedloupe.errors import FedLoupeError
from fedloupe.models import Preparation
from fedloupe.study import ClientDp, Study
from fedloupe_client.dataset import Cohort, load_cohort
from fedloupe_client.gate import load_policy
from fedloupe_server.federation.journal import Journal
from fedloupe_server.simulation.auditing.likelihood import Rehearsal, likelihood_ratio, rehearse
from fedloupe_server.simulation.auditing.ranking import Attack, Promise
from fedloupe_server.simulation.auditing.shadows import Tell, confidence_of, train_shadows
from fedloupe_server.simulation.scoring import modelled, trained_models

Floats = NDArray[np.float64]


class NothingToAttack(FedLoupeError):
    """The run, or the patients behind it, are not where they are said to be."""

    code = "FL-715"
    title = "there is no finished run to attack"


@dataclass(frozen=True)
class Ranked:
    """One attack at each training site, and on all of them together."""

    sites: dict[str, Attack]
    pooled: Attack

    @classmethod
    def of(cls, suspicion: Mapping[str, Floats], members: Mapping[str, NDArray[np.bool_]]) -> Ranked:
        """From each patient's suspicion, by site."""
        sites = {site: Attack.of(own[members[site]], own[~members[site]]) for site, own in suspicion.items()}
        every, inside = (np.concatenate(list(part.values())) for part in (suspicion, members))
        return cls(sites, Attack.of(every[inside], every[~inside]))


@dataclass(frozen=True)
class Membership:
    """What was found.

    Attributes:
        loss: by the loss threshold.
        likelihood: by likelihood ratio; None without shadows, `rehearsal` likewise.
        promises: what each private site's epsilon allows; `promise` the weakest of them. None without.
    """

    loss: Ranked
    likelihood: Ranked | None
    rehearsal: Rehearsal | None
    promises: dict[str, Promise]

    @property
    def promise(self) -> Promise | None:
        """Of the site with the largest epsilon."""
        return max(self.promises.values(), key=lambda one: one.epsilon, default=None)

    @property
    def broken(self) -> bool:
        """An attack on all sites together found more than the weakest promise allows."""
        attacks = [ranked.pooled for ranked in (self.loss, self.likelihood) if ranked is not None]
        return self.promise is not None and any(self.promise.broken_by(attack) for attack in attacks)


def membership(
    run_dir: Path,
    homes: Mapping[str, Path],
    study: Study,
    *,
    shadows: int = 0,
    seed: int = 1,
    tell: Tell = lambda done, total: None,
) -> Membership:
    """Attack a finished run's federated model.

    Args:
        run_dir: of the run.
        homes: home by site.
        study: as it was run.
        shadows: models to compare with; 0: the loss threshold alone.
        seed: of who trains which shadow.
        tell: told (done, total) after each shadow.

    Raises:
        NothingToAttack: no finished run, one of a drawing or a client-level study, or a training site without a home.
    """
    cohorts, preparation = _behind(run_dir, homes, study)
    _, weights = trained_models(run_dir)["federated"]
    members = {site: np.isin(cohort.split, ("train", "all")) for site, cohort in cohorts.items()}
    released = {site: confidence_of(study, cohort, preparation, weights) for site, cohort in cohorts.items()}
    likelihood = rehearsal = None
    if shadows:
        trained = train_shadows(study, cohorts, preparation, shadows, seed=seed, tell=tell)
        suspicion = {
            site: likelihood_ratio(released[site], own.confidence, own.inside) for site, own in trained.items()
        }
        likelihood = Ranked.of(suspicion, members)
        confidence = np.concatenate([own.confidence for own in trained.values()], axis=1)
        rehearsal = rehearse(confidence, np.concatenate([own.inside for own in trained.values()], axis=1), seed)
    spent = Journal(run_dir).rounds()[-1].epsilon
    promises = {
        site: Promise(spent[site], load_policy(homes[site]).delta) for site in study.train_sites if site in spent
    }
    return Membership(Ranked.of(released, members), likelihood, rehearsal, promises)


def _behind(run_dir: Path, homes: Mapping[str, Path], study: Study) -> tuple[dict[str, Cohort], Preparation]:
    """The training sites' patients as the run's model saw them, and its preparation."""
    if study.segmentation is not None:
        raise NothingToAttack(
            "its model draws tumours", where=str(run_dir), remedy="name the run of a study that predicts an outcome"
        )
    if isinstance(study.privacy, ClientDp):
        raise NothingToAttack(
            "its privacy is client-level, of whole hospitals: this attack asks for single patients",
            where=str(run_dir),
            remedy="name the run of a study without privacy, or with `privacy.mode: dp-sgd`",
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
    loaded = {site: load_cohort(homes[site], study, site) for site in study.train_sites}
    return {site: modelled(study, site, own, homes[site], run_dir) for site, own in loaded.items()}, preparation
