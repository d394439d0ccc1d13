"""What a run's pack answers of a checklist, and METRICS' score of it.

An item is evidenced where the pack has all that its rule names; otherwise a person must answer it, or it is not met.
Nothing else can make an item evidenced, so what only a person knows (ethics, funding, involvement) never is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from fedloupe_server.evidence.checklists.keys import Key
from fedloupe_server.evidence.checklists.lists import AnyOf, Checklist, Condition, Item

Status = Literal["evidenced", "person", "not-met", "not-applicable"]
CONDITIONS: frozenset[Condition] = frozenset(get_args(Condition))
CATEGORIES = ((80, "excellent"), (60, "good"), (40, "moderate"), (20, "low"), (0, "very low"))
"""METRICS' quality categories by the percentage at which each begins (Kocak 2024)."""


@dataclass(frozen=True)
class FilledItem:
    """One item with its answer."""

    item: Item
    section: str
    status: Status
    where: tuple[str, ...] = ()  # file#anchor, where evidenced
    note: str = ""  # what a person must answer or check, or what is missing


@dataclass(frozen=True)
class Filled:
    """A checklist, filled in for one run."""

    checklist: Checklist
    items: tuple[FilledItem, ...]


@dataclass(frozen=True)
class Score:
    """METRICS' score of a pre-filled list; what a person must answer counts as `no`, the tool's own default."""

    evidenced: float  # weight
    applicable: float  # weight of the items that apply

    @property
    def percent(self) -> float:
        """In [0, 100], to one decimal as the tool prints it."""
        return round(100 * self.evidenced / self.applicable, 1) if self.applicable else 0.0

    @property
    def category(self) -> str:
        """Quality category of the printed percentage."""
        return next(name for begin, name in CATEGORIES if self.percent >= begin)


def fill(checklist: Checklist, evidence: Mapping[Key, str], conditions: Collection[Condition] = CONDITIONS) -> Filled:
    """Fill a checklist in.

    Args:
        checklist: of `load`.
        evidence: for each key that this run's pack shows, where: `report.html#flow`.
        conditions: METRICS' conditions that the study fulfils; they touch no other checklist.

    Raises:
        ValueError: an unknown key, a location that is empty, or an unknown condition.
    """
    if strange := sorted(set(evidence) - set(Key)):
        raise ValueError(f"unknown keys {strange}")
    if nowhere := sorted(key for key, where in evidence.items() if not where.strip("#")):
        raise ValueError(f"no location for {nowhere}")
    if unknown := sorted(set(conditions) - CONDITIONS):
        raise ValueError(f"unknown conditions {unknown}")
    return Filled(
        checklist,
        tuple(
            _answer(item, section.title, evidence, frozenset(conditions))
            for section in checklist.sections
            for item in section.items
        ),
    )


def counts(filled: Filled) -> dict[Status, int]:
    """How many items have each status, in the order of `Status`."""
    return {status: sum(i.status == status for i in filled.items) for status in get_args(Status)}


def score(filled: Filled) -> Score:
    """METRICS' score: weight of the evidenced items over the weight of those that apply.

    Raises:
        ValueError: the checklist has no weights.
    """
    if not filled.checklist.weighted:
        raise ValueError(f"{filled.checklist.name} has no weights")
    return Score(_weight(filled, ("evidenced",)), _weight(filled, ("evidenced", "person", "not-met")))


def _weight(filled: Filled, statuses: tuple[Status, ...]) -> float:
    return sum(i.item.weight or 0.0 for i in filled.items if i.status in statuses)


def _answer(item: Item, section: str, known: Mapping[Key, str], conditions: frozenset[Condition]) -> FilledItem:
    if not conditions.issuperset(item.when):
        lacking = ", ".join(condition for condition in item.when if condition not in conditions)
        return FilledItem(item, section, "not-applicable", note=f"The study has none of: {lacking}.")
    if not item.evidence:
        return FilledItem(item, section, "person", note=item.person or "")
    found, missing = [], []
    for need in item.evidence:
        keys = need.any if isinstance(need, AnyOf) else (need,)
        places = [known[key] for key in keys if key in known]
        found += places
        if not places:
            missing.append(" or ".join(f"{key.meaning} ({key.home.rstrip('#')})" for key in keys))
    if not missing:
        return FilledItem(item, section, "evidenced", tuple(dict.fromkeys(found)), item.note or "")
    lacking = f"This run's pack does not show: {'; '.join(missing)}."
    if item.person:
        return FilledItem(item, section, "person", note=f"{item.person} {lacking}")
    return FilledItem(item, section, "not-met", note=lacking)
