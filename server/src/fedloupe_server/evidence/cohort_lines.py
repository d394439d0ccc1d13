"""The lines of every site's Table 1 side by side: which variables and levels there are, what each site shows, and sums.

sheet = Sheet.of(results)
sheet.cell(Column("north", "evaluation"), "sex", "women")     # a `Described`, WITHHELD, or None: not said at all
sheet.pooled("evaluation", "sex", "women")                    # over the sites that show it
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from typing import Literal, NamedTuple

from fedloupe.assessing import Described, Part
from fedloupe.study import Evidence
from fedloupe.study.levels import named_levels
from fedloupe_server.evidence.assessed import CohortTable
from fedloupe_server.evidence.results import Results, SiteResult

WITHHELD: Literal["withheld"] = "withheld"
_FIRST = ("outcome", "grade")
_LAST = ("sequence ", "interval ")


class Column(NamedTuple):
    """The patients of one part of one site."""

    site: str
    part: Part


@dataclass(frozen=True)
class Sheet:
    """Lines by column, variable and level. A grade's variable bears its scale: grades of two scales are not alike.

    Attributes:
        columns: of the sites that sent a table, in the report's order.
        rows: variables, and the levels of each; None for a number, and for a variable that no site shows.
        lines: by column and variable, then by level.
        withheld: variables of which a site shows not everything.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, str | None], ...]
    lines: dict[tuple[Column, str], dict[str | None, Described]]
    withheld: dict[str, frozenset[str]]

    @classmethod
    def of(cls, results: Results) -> Sheet:
        """What the sites of a run sent."""
        lines: dict[tuple[Column, str], dict[str | None, Described]] = {}
        withheld, columns = {}, []
        for site, table in with_tables(results):
            parts: tuple[Part, ...] = ("development", "evaluation") if site.role == "train" else ("evaluation",)
            columns += [Column(site.site, part) for part in parts]
            withheld[site.site] = frozenset(_named(name, table) for name in table.withheld)
            for line in table.lines:
                here = lines.setdefault((Column(site.site, line.part), _named(line.variable, table)), {})
                here[line.level] = line
        return cls(tuple(columns), _rows(lines, withheld, results.evidence), lines, withheld)

    @property
    def variables(self) -> tuple[str, ...]:
        """Each once, in order."""
        return tuple(dict.fromkeys(variable for variable, _ in self.rows))

    def cell(self, column: Column, variable: str, level: str | None) -> Described | Literal["withheld"] | None:
        """What a site shows of a variable's level; a level that nobody is in may have no line of its own."""
        here = self._of_kind(column, variable, number=level is None)
        if level in here:
            return here[level]
        if self.complete(column, variable) and level is not None:
            first = next(iter(here.values()))
            return first.model_copy(update={"level": level, "count": 0})
        return WITHHELD if variable in self.withheld[column.site] else None

    def complete(self, column: Column, variable: str) -> bool:
        """Whether a site shows every patient of a variable with levels, in that part."""
        here = self._of_kind(column, variable, number=False)
        return bool(here) and sum(line.count or 0 for line in here.values()) == next(iter(here.values())).patients

    def known(self, column: Column, variable: str) -> Described | Literal["withheld"] | None:
        """Any line of the variable: it says how many patients have a value, and how many have none."""
        here = self.lines.get((column, variable), {})
        if here:
            return next(iter(here.values()))
        return WITHHELD if variable in self.withheld[column.site] else None

    def pooled(self, part: Part, variable: str, level: str | None) -> Described | None:
        """One part of all sites that show this, added up exactly; None where none does."""
        cells = [self.cell(column, variable, level) for column in self.columns if column.part == part]
        return pool(cell for cell in cells if isinstance(cell, Described))

    def counts(self, columns: Iterable[Column], variable: str) -> dict[str, int]:
        """Patients by level over those of these columns that show all of them."""
        found: dict[str, int] = {}
        for column in columns:
            if self.complete(column, variable):
                for level, line in self._of_kind(column, variable, number=False).items():
                    found[level or ""] = found.get(level or "", 0) + (line.count or 0)
        return found

    def _of_kind(self, column: Column, variable: str, *, number: bool) -> dict[str | None, Described]:
        here = self.lines.get((column, variable), {})
        return {level: line for level, line in here.items() if (level is None) == number}


def with_tables(results: Results) -> list[tuple[SiteResult, CohortTable]]:
    """The sites that sent a table."""
    return [(site, site.cohort) for site in results.sites if site.cohort is not None]


def pool(lines: Iterable[Described]) -> Described | None:
    """The same line of several groups of patients as that of all of them; mean and SD as of the pooled values."""
    some = list(lines)
    if not some:
        return None
    first, patients = some[0], sum(line.patients for line in some)
    totals = {"patients": patients, "missing": sum(line.missing for line in some)}
    if first.level is not None:
        return first.model_copy(update={**totals, "count": sum(line.count or 0 for line in some)})
    told = [(line.patients, line.mean, line.sd or 0.0) for line in some if line.mean is not None]
    mean = sum(n * m for n, m, _ in told) / patients if patients else None
    squares = sum((n - 1) * s**2 + n * (m - mean) ** 2 for n, m, s in told) if mean is not None else 0.0
    return first.model_copy(
        update={**totals, "mean": mean, "sd": sqrt(squares / (patients - 1)) if patients > 1 else None}
    )


def _named(variable: str, table: CohortTable) -> str:
    return f"grade ({table.scale})" if variable == "grade" and table.scale else variable


def _rows(
    lines: dict[tuple[Column, str], dict[str | None, Described]],
    withheld: dict[str, frozenset[str]],
    evidence: Evidence | None,
) -> tuple[tuple[str, str | None], ...]:
    found: dict[str, dict[str | None, None]] = {}
    for (_, variable), here in lines.items():
        found.setdefault(variable, {}).update(dict.fromkeys(here))
    for names in withheld.values():
        for variable in sorted(names):
            found.setdefault(variable, {})
    named = {group.name: named_levels(group) for group in evidence.subgroups} if evidence else {}
    ordered = sorted(found, key=_rank)  # stable: the study's own variables stay in the order in which they came
    return tuple((name, level) for name in ordered for level in _in_order(found[name], named.get(name, ())) or [None])


def _in_order(levels: Iterable[str | None], named: tuple[str, ...]) -> list[str | None]:
    """A number first, then the levels as the study names them; a line that only says that nobody is known is none."""
    some = list(levels)
    if None in some and len(some) > 1 and not named:
        some.remove(None)
    return sorted(some, key=lambda level: (level is not None, named.index(level) if level in named else len(named)))


def _rank(variable: str) -> int:
    for place, name in enumerate(_FIRST):
        if variable.split(" (", maxsplit=1)[0] == name:
            return place
    return next((3 + place for place, start in enumerate(_LAST) if variable.startswith(start)), 2)
