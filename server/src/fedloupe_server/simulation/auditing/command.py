"""`fedloupe audit`: what is attacked, and what is said of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from fedloupe.errors import FedLoupeError
from fedloupe.features import feature_table, parse_settings
from fedloupe.models import group_order
from fedloupe.privacy import Spend
from fedloupe.study import DpSgd, Study, load_study, sees_group
from fedloupe.terminal import console
from fedloupe_client.training.private import planned_spend
from fedloupe_server.simulation.auditing.canaries import CONFIDENCE, CanaryAudit, audit_canaries
from fedloupe_server.simulation.auditing.inversion import Inversion, invert
from fedloupe_server.simulation.auditing.membership import Membership, NothingToAttack, membership
from fedloupe_server.simulation.demo import demo_study


class NotPrivate(FedLoupeError):
    """The study promises no epsilon, so there is none to audit."""

    code = "FL-714"
    title = "there is no epsilon to audit"


@dataclass(frozen=True)
class Audited:
    """A study's mechanism under attack."""

    study: str
    spend: Spend
    canaries: tuple[CanaryAudit, ...]
    inversion: Inversion

    @property
    def broken(self) -> bool:
        """A canary run proved more than epsilon allows."""
        return any(run.broken for run in self.canaries)


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
    found = tuple(audit_canaries(spend, privacy, canaries=canaries, seed=seed) for seed in range(1, runs + 1))
    inversion = invert(chosen, _groups(chosen), noise=spend.noise_multiplier, clip=privacy.clip)
    return Audited(chosen.study, spend, found, inversion)


def attacked(run_dir: Path) -> Membership:
    """Membership inference on a finished run of this machine; its sites' homes lie beside it, in `sites`.

    Raises:
        NothingToAttack: see there.
        JournalDamaged: the run's study cannot be read.
    """
    file, sites = run_dir / "study.json", run_dir.parent / "sites"
    if not file.exists():
        raise NothingToAttack(
            "no `study.json`", where=str(run_dir), remedy="name the folder of a run, such as demo/seed-1/demo-rectal"
        )
    study = load_study(file)
    return membership(run_dir, {site: sites / site for site in study.train_sites}, study)


def _groups(study: Study) -> tuple[str, ...]:
    if study.radiomics.source == "table":
        return ("table",)
    if study.radiomics.source == "none":
        return ()
    columns = feature_table(parse_settings(study.radiomics.settings), [s.name for s in study.sequences]).groups
    return tuple(group for group in group_order(columns) if sees_group(study, group))


def content_of(found: Audited) -> dict[str, Any]:
    """An audit as plain values: JSON's."""
    return {
        "study": found.study,
        "spend": asdict(found.spend),
        "broken": found.broken,
        "confidence": CONFIDENCE,
        "canaries": [asdict(run) for run in found.canaries],
        "inversion": asdict(found.inversion),
    }


def membership_content(found: Membership) -> dict[str, Any]:
    """The attack as plain values: JSON's."""
    return {"pooled": asdict(found.pooled), "sites": {site: asdict(one) for site, one in found.sites.items()}}


def say_membership(found: Membership, name: str) -> None:
    """In words, to the terminal."""
    table = Table("site", "trained", "tested", "AUC (95 %)", "found at 5 % false alarms", title=f"{name}: who trained?")
    for site, one in {**found.sites, "all": found.pooled}.items():
        interval = f"{one.auc:.3f} ({one.low:.3f}-{one.high:.3f})"
        table.add_row(site, str(one.members), str(one.others), interval, f"{one.caught:.1%}")
    console.print(table)
    console.print(
        "Loss threshold: members are guessed by the model's smaller loss. 0.5 and 5 % are what guessing gives; the "
        "simplest attack finding little is no proof of privacy.",
        highlight=False,
    )


def say(found: Audited) -> None:
    """In words, to the terminal."""
    spend, back = found.spend, found.inversion
    console.print(
        f"[bold]{found.study}[/]: noise {spend.noise_multiplier:.4g}, sampling {spend.sampling_rate:.4g}, "
        f"{spend.steps} steps in all",
        highlight=False,
    )
    table = Table("canaries", "guesses", "right", "epsilon proven", "epsilon promised", "", title="canary audit")
    for run in found.canaries:
        said = "[red]BROKEN[/]" if run.broken else "below"
        numbers = (run.canaries, run.guesses, run.right)
        table.add_row(*map(str, numbers), f"{run.empirical:.2f}", f"{run.formal:.2f}", said)
    console.print(table)
    console.print(
        f"Proven at {CONFIDENCE:.0%} confidence, at delta {found.canaries[0].delta:g}. Below is no proof of privacy.\n"
        f"Inversion of one patient's gradient, {back.values} values: without noise all come back, to {back.error:.1e}; "
        f"of a batch's mean, correlation {back.batch:.2f} with the nearest patient; clipped and with this study's "
        f"noise {back.noisy:+.2f}.",
        highlight=False,
    )
