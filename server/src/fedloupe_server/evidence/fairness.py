"""Does the model do as well in one group of patients as in another? Levels side by side, and how far apart they are.

table(results), gaps(results), words(results)      # Tables or None, sentences
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, groupby
from math import sqrt

from fedloupe.metrics import Interval, wilson
from fedloupe_server.evidence import formats
from fedloupe_server.evidence.drawing import Cell
from fedloupe_server.evidence.results import Results
from fedloupe_server.evidence.subgroups import Level, levels, shown
from fedloupe_server.evidence.tables import Table

COLUMNS = (
    "variable", "level", "sites", "patients", "events", "sensitivity", "sensitivity_low", "sensitivity_high",
    "specificity", "specificity_low", "specificity_high", "predicted", "observed", "auc", "auc_low", "auc_high",
)  # fmt: skip


@dataclass(frozen=True)
class Gap:
    """The largest difference of a share between two levels of a variable, with its 95 % interval."""

    variable: str
    measure: str
    more: str
    less: str
    value: float
    low: float
    high: float


def called(level: Level, measure: str) -> tuple[int, int]:
    """Rightly called patients and all of that outcome, added over sites; `sensitivity` or `specificity`."""
    right, whole = 0, 0
    for _, s in level.at:
        n = s.positives if measure == "sensitivity" else s.patients - s.positives
        right, whole = right + round(getattr(s, measure) * n), whole + n
    return right, whole


def predicted(level: Level) -> tuple[float, float]:
    """Mean probability and event rate, over the patients of all sites."""
    return sum(s.predicted * s.patients for _, s in level.at) / level.patients, level.events / level.patients


def table(results: Results) -> Table | None:
    """Every level of a variable that has at least two: shares over the patients of all sites that show it."""
    found = _compared(results)
    if not found:
        return None
    rows: list[tuple[str, ...]] = []
    numbers: list[tuple[Cell, ...]] = []
    for level in found:
        expected, observed = predicted(level)
        shares = [called(level, measure) for measure in ("sensitivity", "specificity")]
        limits = [wilson(*share) for share in shares]
        rows.append(
            (
                f"{level.variable}: {shown(level.level)}",
                str(len(level.at)),
                f"{level.events} / {level.patients}",
                *(_cell(share, limit) for share, limit in zip(shares, limits, strict=True)),
                formats.percent(expected),
                formats.percent(observed),
                formats.with_interval(level.auc, level.low, level.high),
            )
        )
        both = [v for (right, n), x in zip(shares, limits, strict=True) for v in (right / n, x.low, x.high)]
        counts = (len(level.at), level.patients, level.events)
        auc = (level.auc, level.low, level.high)
        numbers.append((level.variable, level.level, *counts, *both, expected, observed, *auc))
    return Table(
        f"The federated model by group at the frozen threshold of {results.threshold:.2f}, over all sites that show it "
        "(training and external together)",
        (
            "Group",
            "Sites",
            "Events / patients",
            "Sensitivity",
            "Specificity",
            "Predicted",
            "Observed",
            "AUC (95 % interval)",
        ),
        tuple(rows),
        columns=COLUMNS,
        numbers=tuple(numbers),
    )


def largest(results: Results) -> list[Gap]:
    """For each variable and share, the two levels that lie furthest apart."""
    found = []
    for variable, group in groupby(_compared(results), key=lambda level: level.variable):
        members = list(group)
        for measure in ("sensitivity", "specificity"):
            gaps = [_gap(variable, measure, one, other) for one, other in combinations(members, 2)]
            found.append(max(gaps, key=lambda gap: gap.value))
    return found


def gaps(results: Results) -> Table | None:
    """The largest gaps with their intervals."""
    found = largest(results)
    if not found:
        return None
    return Table(
        "Largest gap between two groups of a variable (95 % interval, Newcombe), in points of per cent",
        ("Variable", "Share", "Higher in", "Lower in", "Gap"),
        tuple(
            (
                g.variable,
                g.measure,
                shown(g.more),
                shown(g.less),
                f"{100 * g.value:.0f} ({formats.number(100 * g.low, 0)} to {formats.number(100 * g.high, 0)})",
            )
            for g in found
        ),
        columns=("variable", "measure", "higher_in", "lower_in", "gap", "low", "high"),
        numbers=tuple((g.variable, g.measure, g.more, g.less, g.value, g.low, g.high) for g in found),
    )


def words(results: Results) -> list[str]:
    """The largest gap, and what numbers of this size cannot say."""
    found = largest(results)
    if not found:
        return []
    widest = max(found, key=lambda gap: gap.value)
    said = [
        f"The largest gap is in {widest.measure}: {100 * widest.value:.0f} points between {shown(widest.more)} and "
        f"{shown(widest.less)} ({widest.variable}; 95 % interval {formats.number(100 * widest.low, 0)} to "
        f"{formats.number(100 * widest.high, 0)}).",
        "Small groups can neither exclude nor prove a difference: an interval that includes 0 does not show that "
        "groups are treated alike, and of several gaps the largest is partly chance, so its interval is too narrow.",
        "Patients of training and of external hospitals are taken together here, for few hospitals show a group.",
        "Sites show different groups, so a gap between groups can also be one between hospitals; the table of "
        "subgroups by site shows which.",
    ]
    return said


def newcombe(one: tuple[int, int], other: tuple[int, int]) -> Interval:
    """95 % interval of the difference of two independent shares (count, n): Newcombe, Stat Med 1998;17:873, no. 10."""
    p, q = one[0] / one[1], other[0] / other[1]
    a, b = wilson(*one), wilson(*other)
    return Interval(
        p - q - sqrt((p - a.low) ** 2 + (b.high - q) ** 2), p - q + sqrt((a.high - p) ** 2 + (q - b.low) ** 2)
    )


def _compared(results: Results) -> list[Level]:
    """Levels of the variables of which the study asks fairness, where two have patients of both outcomes."""
    asked = {group.name for group in results.evidence.subgroups if group.fairness} if results.evidence else set()
    told = [x for x in levels(results) if x.variable in asked]
    found = [x for x in told if all(called(x, m)[1] for m in ("sensitivity", "specificity"))]
    often = [level.variable for level in found]
    return [level for level in found if often.count(level.variable) > 1]


def _gap(variable: str, measure: str, one: Level, other: Level) -> Gap:
    a, b = called(one, measure), called(other, measure)
    if a[0] / a[1] < b[0] / b[1]:
        one, other, a, b = other, one, b, a
    interval = newcombe(a, b)
    return Gap(variable, measure, one.level, other.level, a[0] / a[1] - b[0] / b[1], interval.low, interval.high)


def _cell(share: tuple[int, int], limit: Interval) -> str:
    return f"{100 * share[0] / share[1]:.0f} ({100 * limit.low:.0f} to {100 * limit.high:.0f})"
