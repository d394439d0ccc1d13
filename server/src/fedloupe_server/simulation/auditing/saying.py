"""`fedloupe audit`: what is said of its attacks, in words and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.table import Table

from fedloupe.terminal import console
from fedloupe_server.simulation.auditing.canaries import LEVEL
from fedloupe_server.simulation.auditing.command import Audited
from fedloupe_server.simulation.auditing.likelihood import Rehearsal
from fedloupe_server.simulation.auditing.membership import Membership, Ranked
from fedloupe_server.simulation.auditing.ranking import FALSE_ALARMS, Attack, Caught
from fedloupe_server.simulation.auditing.updates import HOSPITALS, Row, Seen

TRAINING = {"sgd": "plain SGD", "own": "as the study trains"}


def mechanism_content(found: Audited) -> dict[str, Any]:
    """An audit as plain values: JSON's."""
    return {
        "study": found.study,
        "spend": asdict(found.spend),
        "broken": found.broken,
        "level": LEVEL,
        "canaries": [asdict(run) | {"tells": run.tells} for run in found.canaries],
        "sampling": asdict(found.sampling) | {"broken": found.sampling.broken},
        "inversion": asdict(found.inversion) if found.inversion else None,
        "updates": [asdict(row) for row in found.updates],
    }


def say_mechanism(found: Audited) -> None:
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
    drawn = found.sampling
    console.print(
        f"{'[red]BROKEN[/]: sampling' if drawn.broken else 'Sampling'}: {drawn.drawn:.4f} of {drawn.patients} patients "
        f"drawn in a step, {drawn.promised:.4f} priced; spread of batches {drawn.sizes:.2f} and of patients' turns "
        f"{drawn.turns:.2f}, 1 with a coin for each.",
        highlight=False,
    )
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
    _say_updates(found.updates)


def _say_updates(rows: tuple[Row, ...]) -> None:
    columns = ("patients", "training", "no protection", f"sum of {HOSPITALS} alike", "DP-SGD")
    table = Table(*columns, title="inversion of a hospital's update of a round")
    for row in rows:
        cells = [_seen(one) for one in (row.alone, row.summed, row.private)]
        table.add_row(str(row.patients), TRAINING[row.training], *cells)
    console.print(table)
    console.print(
        "Correlation of the guess with the patient most like it of all behind what is seen, two standard errors (by "
        "chance). With secure sums the server sees the sum alone.",
        highlight=False,
    )


def _seen(one: Seen) -> str:
    return f"{one.likeness:.2f} ± {2 * one.error:.2f} ({one.chance:.2f})"


def membership_content(found: Membership) -> dict[str, Any]:
    """The attack as plain values: JSON's."""
    return {
        "loss": _ranked(found.loss),
        "likelihood": None if found.likelihood is None else _ranked(found.likelihood),
        "rehearsal": None if found.rehearsal is None else _attack(found.rehearsal),
        "promises": {site: promise.content() for site, promise in found.promises.items()},
        "broken": found.broken,
    }


def say_membership(found: Membership, name: str) -> None:
    """In words, to the terminal."""
    _say_ranked(found.loss, f"{name}: who trained? Loss threshold")
    if found.likelihood is not None:
        _say_ranked(found.likelihood, f"{name}: who trained? Likelihood ratio")
    few = [f"{share:.0%}" for share in FALSE_ALARMS if share not in found.loss.pooled.caught]
    text = "Guessing gives 0.5, and as many as false alarms. The intervals say how little so few patients can show. "
    if few:
        text += f"At {' and '.join(few)} false alarms so few who did not train show nothing. "
    console.print(text + "An attack that finds little is no proof of privacy.", highlight=False)
    if found.rehearsal is not None:
        once = found.rehearsal
        shares = ", ".join(f"{_share(one)} at {share:.0%}" for share, one in once.caught.items())
        console.print(
            f"Each of the {once.shadows} shadows attacked by the others, {once.patients} patients, in some and not in "
            f"others: area {once.auc:.3f} ({once.low:.3f}-{once.high:.3f}); found {shares} false alarms. This is what "
            "training like this gives away on average, of which the released model is one case.",
            highlight=False,
        )
    promise = found.promise
    if promise is None:
        console.print("No formal privacy guarantee: nothing bounds what another attack finds.", highlight=False)
        return
    shares = ", ".join(f"{promise.caught(share):.1%} at {share:.0%}" for share in FALSE_ALARMS)
    console.print(
        f"Epsilon {promise.epsilon:.2f} (delta {promise.delta:g}) allows any attack an area of {promise.auc:.3f} at "
        f"most, and to find {shares} false alarms.",
        highlight=False,
    )
    if found.broken:
        console.print("[red]BROKEN[/]: more was found than epsilon allows.")


def _say_ranked(ranked: Ranked, title: str) -> None:
    columns = ("site", "trained", "not", "AUC (95 %)", *(f"found at {share:.0%}" for share in FALSE_ALARMS))
    table = Table(*columns, title=title)
    for site, one in {**ranked.sites, "all": ranked.pooled}.items():
        caught = [_share(one.caught[share]) if share in one.caught else "-" for share in FALSE_ALARMS]
        interval = f"{one.auc:.3f} ({one.low:.3f}-{one.high:.3f})"
        table.add_row(site, str(one.members), str(one.others), interval, *caught)
    console.print(table)


def _share(one: Caught) -> str:
    return f"{one.share:.1%} ({one.low:.1%}-{one.high:.1%})"


def _ranked(ranked: Ranked) -> dict[str, Any]:
    return {"pooled": _attack(ranked.pooled), "sites": {site: _attack(one) for site, one in ranked.sites.items()}}


def _attack(found: Attack | Rehearsal) -> dict[str, Any]:
    return asdict(found) | {"caught": {f"{share:g}": asdict(one) for share, one in found.caught.items()}}
