"""`fedloupe audit`: what is attacked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedloupe.errors import FedLoupeError
from fedloupe.privacy import Spend
from fedloupe.study import DpSgd, Study, load_study
from fedloupe_client.training.private import planned_spend
from fedloupe_server.federation.planning import groups_of
from fedloupe_server.simulation.auditing.canaries import LEVEL, CanaryAudit, audit_canaries
from fedloupe_server.simulation.auditing.inversion import Inversion, invert
from fedloupe_server.simulation.auditing.membership import Membership, NothingToAttack, membership
from fedloupe_server.simulation.auditing.sampling import LEVEL as SAMPLING_LEVEL
from fedloupe_server.simulation.auditing.sampling import SamplingAudit, audit_sampling
from fedloupe_server.simulation.auditing.shadows import Tell
from fedloupe_server.simulation.auditing.updates import Row, invert_updates
from fedloupe_server.simulation.demo import demo_study


class NotPrivate(FedLoupeError):
    """The study promises no record-level epsilon, so there is none to audit."""

    code = "FL-714"
    title = "there is no record-level epsilon to audit"


@dataclass(frozen=True)
class Audited:
    """A study's mechanism under attack."""

    study: str
    spend: Spend
    canaries: tuple[CanaryAudit, ...]
    sampling: SamplingAudit
    inversion: Inversion | None
    updates: tuple[Row, ...]

    @property
    def broken(self) -> bool:
        """A canary run proved more than epsilon allows, or patients are not drawn as it is priced."""
        return any(run.broken for run in self.canaries) or self.sampling.broken


def audited(study: Study | None, epsilon: float, canaries: int, runs: int) -> Audited:
    """Attack a study's mechanism; the demo's at this epsilon where there is none.

    Raises:
        NotPrivate: the study has another privacy than DP-SGD.
    """
    chosen = demo_study(1, epsilon=epsilon) if study is None else study
    privacy = chosen.privacy
    if not isinstance(privacy, DpSgd):
        raise NotPrivate(
            f"`privacy.mode` is `{privacy.mode}`",
            where=chosen.study,
            remedy="audit a study with `privacy.mode: dp-sgd`",
        )
    one = planned_spend(chosen, privacy)
    spend = Spend(one.noise_multiplier, one.sampling_rate, one.steps * chosen.training.rounds)
    level = (LEVEL - SAMPLING_LEVEL) / runs
    found = tuple(
        audit_canaries(spend, privacy, canaries=canaries, seed=seed, level=level) for seed in range(1, runs + 1)
    )
    groups = groups_of(chosen)
    return Audited(
        study=chosen.study,
        spend=spend,
        canaries=found,
        sampling=audit_sampling(spend, privacy),
        inversion=invert(chosen, groups, noise=spend.noise_multiplier, clip=privacy.clip),
        updates=invert_updates(chosen, groups, privacy),
    )


def attacked(
    run_dir: Path, sites: Path | None = None, *, shadows: int = 0, seed: int = 1, tell: Tell = lambda done, total: None
) -> Membership:
    """Membership inference on a finished run of this machine.

    Args:
        run_dir: of the run.
        sites: folder of its sites' homes; None: where `run`, `demo` (beside the run) and `compare` (above it) put them.
        shadows: models to compare with; 0: the loss threshold alone.
        seed: of who trains which shadow.
        tell: told (done, total) after each shadow.

    Raises:
        NothingToAttack: see there.
        StudyUnreadable, StudyInvalid: of the run's `study.json`.
    """
    file = run_dir / "study.json"
    if not file.exists():
        raise NothingToAttack(
            "no `study.json`", where=str(run_dir), remedy="name the folder of a run, such as demo/seed-1/demo-rectal"
        )
    study = load_study(file)
    beside = "deployed-sites" if run_dir.name.endswith("-deployed") else "sites"
    places = (run_dir.parent / beside, run_dir.parent.parent / "sites")
    folder = sites or next((place for place in places if place.is_dir()), places[0])
    homes = {site: folder / site for site in study.train_sites}
    return membership(run_dir, homes, study, shadows=shadows, seed=seed, tell=tell)
