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
from fedloupe_server.simulation.auditing.canaries import LEVEL, CanaryAudit, audit_canaries
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
    inversion: Inversion | None

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
    found = tuple(
        audit_canaries(spend, privacy, canaries=canaries, seed=seed, level=LEVEL / runs) for seed in range(1, runs + 1)
    )
    inversion = invert(chosen, _groups(chosen), noise=spend.noise_multiplier, clip=privacy.clip)
    return Audited(chosen.study, spend, found, inversion)


def attacked(run_dir: Path, sites: Path | None = None) -> Membership:
    """Membership inference on a finished run of this machine.

    Args:
        run_dir: of the run.
        sites: folder of its sites' homes; None: where `run`, `demo` (beside the run) and `compare` (above it) put them.

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
    return membership(run_dir, {site: folder / site for site in study.train_sites}, study)


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
        "level": LEVEL,
        "canaries": [asdict(run) | {"tells": run.tells} for run in found.canaries],
        "inversion": asdict(found.inversion) if found.inversion else None,
    }


def membership_content(found: Membership) -> dict[str, Any]:
    """The attack as plain values: JSON's."""
    return {"pooled": asdict(found.pooled), "sites": {site: asdict(one) for site, one in found.sites.items()}}


def say_membership(found: Membership, name: str) -> None:
    """In words, to the terminal."""
    table = Table("site", "trained", "tested", "AUC (95 %)", "found at 5 % false alarms", title=f"{name}: who trained?")
    for site, one in {**found.sites, "all": found.pooled}.items():
        interval = f"{one.auc:.3f} ({one.low:.3f}-{one.high:.3f})"
        table.add_row(
            site, str(one.members), str(one.others), interval, "-" if one.caught is None else f"{one.caught:.1%}"
        )
    console.print(table)
    console.print(
        "Loss threshold: members are guessed by the model's smaller loss. Guessing gives 0.5, and at most 5 % (a site "
        "with fewer than 19 tested shows none). The simplest attack finding little is no proof of privacy.",
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
    columns = ("canaries", "guesses", "right", "epsilon proven", "at most", "epsilon promised", "")
    table = Table(*columns, title="canary audit")
    for run in found.canaries:
        said = "[red]BROKEN[/]" if run.broken else "below" if run.tells else "cannot tell"
        numbers = (run.canaries, run.guesses, run.right)
        bounds = (run.empirical, run.ceiling, run.formal)
        table.add_row(*map(str, numbers), *(f"{bound:.2f}" for bound in bounds), said)
    console.print(table)
    console.print(
        f"A sound mechanism is called broken by chance in {LEVEL:.0%} of audits at most; delta "
        f"{found.canaries[0].delta:g}. Below is no proof of privacy.",
        highlight=False,
    )
    if not found.canaries[0].tells:
        console.print(
            "[yellow]This epsilon allows that every canary is told apart[/]: no fault could show. Audit the same build "
            "at a smaller epsilon, or plant more canaries."
        )
    if back is None:
        console.print("Its linear path reads too few values for an inversion to say anything.")
        return
    console.print(
        f"Inversion of one patient's gradient, {back.values} values: without noise all come back, to {back.error:.1e}. "
        f"Correlation with the patient most like it, of a batch's mean {back.batch:.2f} (by chance "
        f"{back.batch_by_chance:.2f}); of one clipped gradient with this study's noise {back.noisy:.2f} (by chance "
        f"{back.noisy_by_chance:.2f}).",
        highlight=False,
    )
