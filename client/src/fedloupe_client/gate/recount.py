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
from fedloupe_client.gate.chain import Line
from fedloupe_client.gate.ledger import Ledger, LedgerEntry
from fedloupe_client.gate.policy import load_policy

AGREES = 1e-3
"""How far a recorded epsilon may lie from the recomputed one: processors round differently."""
FAR = 100.0
"""Up to here `Epsilon.wrong` also judges from below."""
PRV_ERROR = 0.02
"""What the PRV accountant may say of hardly anything: 0.013, from its own grid."""


@dataclass(frozen=True, slots=True)
class Epsilon:
    """The same spends by two accountants, at one delta.

    Attributes:
        prv: tight, what the ledger goes by (Gopi, Lee & Wutschitz 2021).
        renyi: a looser upper bound from other formulas. Up to `FAR` of it, `prv` lies between a third of it, less one,
            and itself plus `PRV_ERROR`, for 630 mechanisms from noise 0.4 up. An accountant that tells a little too
            little is not caught by this.
    """

    prv: float
    renyi: float

    @classmethod
    def of(cls, spends: tuple[Spend, ...], delta: float) -> Epsilon:
        """Both, of all these spends together."""
        return cls(epsilon(spends, delta), renyi_epsilon(spends, delta))

    @property
    def wrong(self) -> str:
        """Why the two cannot both be right; empty where they can."""
        if self.prv > self.renyi + PRV_ERROR:
            return f"{self.prv:.4f} lies above the second accountant's bound {self.renyi:.4f}"
        if self.renyi < FAR and self.prv < self.renyi / 3 - 1:
            return f"{self.prv:.4f} lies too far below the second accountant's bound {self.renyi:.4f}"
        return ""

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
        unchecked: rows from before there was a record: no hash and no epsilon was written down with them.
        problems: in words, empty where everything fits.
    """

    rows: tuple[LedgerEntry, ...]
    delta: float
    budget: float
    total: Epsilon
    studies: dict[str, Epsilon]
    head: tuple[int, str]
    unchecked: int
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
    policy = load_policy(home)
    rows, record = Ledger(home).look()
    intended = [line for line in record.lines if line["event"] == "intended"]
    problems = _recorded(intended, rows, progress) if every_row else []
    spends = tuple(row.spend for row in rows)
    total = Epsilon.of(spends, policy.delta)
    if total.wrong:
        problems.append(f"the accountants disagree: {total.wrong}")
    if total.prv > policy.epsilon_budget:
        problems.append(f"spent {total.prv:.4f}, the policy's budget is {policy.epsilon_budget:g}")
    names = dict.fromkeys(row.study for row in rows)
    return Recount(
        rows=rows,
        delta=policy.delta,
        budget=policy.epsilon_budget,
        total=total,
        studies={n: Epsilon.of(tuple(r.spend for r in rows if r.study == n), policy.delta) for n in names},
        head=(record.head.sequence, record.head.sha256),
        unchecked=len(rows) - sum(line["epsilon"] is not None for line in intended),
        problems=tuple(problems),
    )


def _recorded(intended: list[Line], rows: tuple[LedgerEntry, ...], progress: Callable[[int, int], None]) -> list[str]:
    """What is wrong with the epsilons that were written down when the rows were."""
    wrong = []
    for number, line in enumerate(intended, start=1):
        progress(number, len(intended))
        if line["epsilon"] is None:
            continue
        again = Epsilon.of(tuple(row.spend for row in rows[:number]), line["delta"])
        if abs(again.prv - line["epsilon"]) > AGREES:
            wrong.append(f"row {number}: the record says {line['epsilon']:.4f}, its mechanisms give {again.prv:.4f}")
        if again.wrong:
            wrong.append(f"row {number}: {again.wrong}")
        if line["epsilon"] > line["budget"]:
            wrong.append(f"row {number}: {line['epsilon']:.4f} was beyond the budget of {line['budget']:g}")
    return wrong
