"""The model in groups of patients that the study declared before validation.

forest(results)                         # Figure: AUC of each level, pooled over the sites that show it
by_site(results)                        # Table: every site's own numbers
words(results)                          # what was pooled, and what was withheld

A level is pooled over all sites that show it, training and external together, for few do; the table names them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fedloupe.assessing import Subset
from fedloupe.metrics import pool_auc
from fedloupe_server.evidence import formats
from fedloupe_server.evidence.drawing import FEDERATED, INK, Figure
from fedloupe_server.evidence.forests import Axis, Line, chart
from fedloupe_server.evidence.results import Results
from fedloupe_server.evidence.tables import Table

COLUMNS = (
    "variable", "level", "site", "patients", "events", "auc", "se", "low", "high", "sensitivity", "specificity",
    "predicted", "observed",
)  # fmt: skip


@dataclass(frozen=True)
class Level:
    """One level of one variable, at every site that shows it; `auc` with its interval is the random-effects mean."""

    variable: str
    level: str
    at: tuple[tuple[str, Subset], ...]
    auc: float
    low: float
    high: float

    @property
    def patients(self) -> int:
        """At all of these sites."""
        return sum(s.patients for _, s in self.at)

    @property
    def events(self) -> int:
        """Of these patients."""
        return sum(s.positives for _, s in self.at)


def levels(results: Results) -> list[Level]:
    """Every level that a site shows; variables and levels in the study's order."""
    found: dict[tuple[str, str], list[tuple[str, Subset]]] = {}
    for site in results.sites:
        for subset in site.assessed.subgroups if site.assessed else ():
            found.setdefault((subset.variable, subset.level), []).append((site.site, subset))
    variables = _order(results, [variable for variable, _ in found])
    told = []
    for variable in variables:
        names = [level for name, level in found if name == variable]
        for level in _levels(results, variable, names):
            at = found[variable, level]
            told.append(Level(variable, level, tuple(at), *_pooled([subset for _, subset in at])))
    return told


def forest(results: Results) -> Figure | None:
    """AUC by variable and level; a square stands for one site alone, a diamond for a mean over sites."""
    found = levels(results)
    if not found:
        return None
    lines: list[Line] = []
    for place, level in enumerate(found):
        if place == 0 or found[place - 1].variable != level.variable:
            lines.append(Line("heading", level.variable))
        several = len(level.at) > 1
        name = f"{shown(level.level)} ({formats.count(len(level.at), 'site')})"
        lines.append(
            Line(
                "diamond" if several else "square",
                name,
                level.auc,
                level.low,
                level.high,
                level.patients,
                level.events,
                INK if several else FEDERATED,
            )
        )
    axis = Axis.around("AUC (dashed: chance)", lines, 0.5, (0.3, 1.0))
    return chart("subgroups", "AUC of the federated model in each subgroup", lines, axis, measure="AUC")


def by_site(results: Results) -> Table | None:
    """Every level at every site that shows it."""
    found = levels(results)
    if not found:
        return None
    each = [(level, site, s) for level in found for site, s in level.at]
    external = {s.site for s in results.sites if s.role == "validate"}
    return Table(
        "The federated model in each subgroup at each site",
        (
            "Group",
            "Site",
            "Events / patients",
            "AUC (95 % interval)",
            "Sensitivity",
            "Specificity",
            "Predicted / observed",
        ),
        tuple(
            (
                f"{level.variable}: {shown(level.level)}",
                site,
                f"{s.positives} / {s.patients}",
                formats.with_interval(s.auc, s.low, s.high),
                formats.percent(s.sensitivity),
                formats.percent(s.specificity),
                f"{formats.percent(s.predicted)} / {formats.percent(s.positives / s.patients)}",
            )
            for level, site, s in each
        ),
        frozenset(i for i, (_, site, _) in enumerate(each) if site in external),
        COLUMNS,
        tuple(
            (
                *(level.variable, level.level, site, s.patients, s.positives, s.auc, s.auc_se, s.low, s.high),
                *(s.sensitivity, s.specificity, s.predicted, s.positives / s.patients),
            )
            for level, site, s in each
        ),
    )


def shown(level: str) -> str:
    """A level as readers see it: `60-<70` as 60 to <70, `>=70` as ≥70."""
    return level.replace("-<", " to <").replace(">=", "≥")


def words(results: Results) -> list[str]:
    """How levels are pooled, and which variables sites withheld."""
    told = [s for s in results.sites if s.assessed and (s.assessed.subgroups or s.assessed.withheld)]
    if not told:
        return []
    said = [
        "Groups were declared before validation. A level is pooled over every site that shows it, training and "
        "external sites together, by random effects on logit(AUC); a level that one site alone shows keeps that "
        "site's interval."
    ]
    held: dict[str, list[str]] = {}
    for site in told:
        for name in site.assessed.withheld if site.assessed else ():
            held.setdefault(name, []).append(site.site)
    if held:
        lists = [f"{name} at {formats.listed(sites)}" for name, sites in held.items()]
        said.append(f"Withheld, because a group would have shown few patients: {'; '.join(lists)}.")
    return said


def _pooled(subsets: Sequence[Subset]) -> tuple[float, float, float]:
    known = [s for s in subsets if 0 < s.auc_se < 1 and 1 < s.positives < s.patients - 1]
    if len(known) < 2:
        one = (known or subsets)[0]
        return one.auc, one.low, one.high
    mean = pool_auc([(s.auc, s.auc_se, s.patients) for s in known])
    return mean.auc, mean.low, mean.high


def _order(results: Results, found: Sequence[str]) -> list[str]:
    declared = [group.name for group in results.evidence.subgroups] if results.evidence else []
    return [name for name in dict.fromkeys([*declared, *found]) if name in found]


def _levels(results: Results, variable: str, found: Sequence[str]) -> list[str]:
    """In the order declared; of cuts from low to high; else by name."""
    groups = {group.name: group for group in results.evidence.subgroups} if results.evidence else {}
    declared = list(groups[variable].levels) if variable in groups else []
    return sorted(
        found, key=lambda level: (declared.index(level) if level in declared else len(declared), *_cut(level))
    )


def _cut(level: str) -> tuple[float, str]:
    """`<60` before `60-<70` before `>=70`; a word by itself."""
    if level.startswith("<"):
        return float("-inf"), level
    number = re.match(r"(?:>=)?(-?\d+(?:\.\d+)?)(?:-<|$)", level)
    return (float(number[1]) if number else float("-inf")), level
