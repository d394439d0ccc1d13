"""Does the ledger add up? Every epsilon again from the recorded mechanisms, by two accountants.

found = recount(home)
found.sound                       # True
found.total.prv, found.total.renyi
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedloupe.privacy import Spend, epsilon, renyi_epsilon
from fedloupe_client.gate.ledger import Ledger, LedgerEntry
from fedloupe_client.gate.policy import load_policy

AGREES = 1e-3
"""How far a recorded epsilon may lie from the recomputed one: processors round differently."""
PRV_ERROR = 0.01
"""What the PRV accountant adds to its bound for its own grid."""


@dataclass(frozen=True, slots=True)
class Epsilon:
    """The same spends by two accountants, at one delta.

    Attributes:
        prv: tight, what the ledger goes by (Gopi, Lee & Wutschitz 2021).
        renyi: a looser upper bound from other formulas; `prv` must not lie above it by more than its own error.
    """

    prv: float
    renyi: float

    @classmethod
    def of(cls, spends: tuple[Spend, ...], delta: float) -> Epsilon:
        """Both, of all these spends together."""
        return cls(epsilon(spends, delta), renyi_epsilon(spends, delta))

    @property
    def apart(self) -> float:
        """How much higher the looser bound lies, as a share of the tight one; 0 where nothing was spent."""
        return self.renyi / self.prv - 1 if self.prv else 0.0


@dataclass(frozen=True, slots=True)
class Recount:
    """What a ledger holds and what is wrong with it.

    Attributes:
        rows: oldest first.
        delta: at which epsilon is told, the policy's.
        budget: the policy's.
        total: of all rows.
        studies: of each study's rows alone, by fingerprint.
        head: number and SHA-256 of the record's last line, to compare with a copy; -1 where nothing was spent.
        problems: in words, empty where everything fits.
    """

    rows: tuple[LedgerEntry, ...]
    delta: float
    budget: float
    total: Epsilon
    studies: dict[str, Epsilon]
    head: tuple[int, str]
    problems: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Nothing is wrong."""
        return not self.problems


def recount(home: Path, *, every_row: bool = True, progress: Callable[[int, int], None] = lambda *_: None) -> Recount:
    """The ledger's rows against their record, and every epsilon again.

    Args:
        home: the site's home folder.
        every_row: also what each row brought the total to, when it was written.
        progress: called with (rows done, rows).

    Raises:
        LedgerDamaged: nothing can be read.
        PolicyInvalid: see there.
    """
    policy, ledger = load_policy(home), Ledger(home)
    problems = [f"line {found.line} of the record: {found.what}" for found in ledger.record.problems()]
    rows = ledger.entries()
    if every_row:
        problems += _recorded(ledger, rows, progress)
    spends = tuple(row.spend for row in rows)
    total = Epsilon.of(spends, policy.delta)
    if total.prv > total.renyi + PRV_ERROR:
        problems.append(f"the accountants disagree: {total.prv:.4f} lies above the bound {total.renyi:.4f}")
    if total.prv > policy.epsilon_budget:
        problems.append(f"spent {total.prv:.4f}, the policy's budget is {policy.epsilon_budget:g}")
    names = dict.fromkeys(row.study for row in rows)
    head = ledger.record.head()
    return Recount(
        rows=rows,
        delta=policy.delta,
        budget=policy.epsilon_budget,
        total=total,
        studies={n: Epsilon.of(tuple(r.spend for r in rows if r.study == n), policy.delta) for n in names},
        head=(head.sequence, head.sha256),
        problems=tuple(problems),
    )


def _recorded(ledger: Ledger, rows: tuple[LedgerEntry, ...], progress: Callable[[int, int], None]) -> list[str]:
    """What is wrong with the epsilons that were written down when the rows were."""
    wrong = []
    lines = [line for line in ledger.record.lines() if line["event"] == "intended"]
    for number, line in enumerate(lines, start=1):
        progress(number, len(lines))
        if line["epsilon"] is None:  # from before there was a record
            continue
        spends = tuple(row.spend for row in rows[:number])
        again = Epsilon.of(spends, line["delta"])
        if abs(again.prv - line["epsilon"]) > AGREES:
            wrong.append(f"row {number}: the record says {line['epsilon']:.4f}, its mechanisms give {again.prv:.4f}")
        if again.prv > again.renyi + PRV_ERROR:
            wrong.append(f"row {number}: {again.prv:.4f} lies above the second accountant's bound {again.renyi:.4f}")
        if line["epsilon"] > line["budget"]:
            wrong.append(f"row {number}: {line['epsilon']:.4f} was beyond the budget of {line['budget']:g}")
    return wrong
