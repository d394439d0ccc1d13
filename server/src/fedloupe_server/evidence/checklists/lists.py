"""A checklist as data: its source, its items under their official numbers, and for each the rule by which it is filled.

    - item: "23a"
      asks: performance with intervals, for key subgroups too
      evidence: [discrimination, {any: [subgroups, fairness]}]   # all needed; of `any` one
      why: one sentence on why these files answer the item
      note: what remains for a person, where something does
      person: what a person must answer                          # alone, or where the evidence is missing

Texts are short paraphrases; the official wording stands in the source.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fedloupe_server.evidence.checklists.keys import Key

NAMES = ("tripod-ai", "tripod-cluster", "claim", "clear", "metrics")
"""The checklists, in the order in which a pack shows them."""

Condition = Literal["segmentation", "automated-segmentation", "hand-crafted", "tabular", "end-to-end"]
"""METRICS' conditions 1 to 5: what a study has; an item whose conditions it lacks does not apply."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AnyOf(_Frozen):
    """Keys of which one is enough."""

    any: tuple[Key, ...] = Field(min_length=2)


class Item(_Frozen):
    """One line of a checklist."""

    item: str = Field(description="official number")
    asks: str = Field(description="what it asks, in our words")
    person: str | None = Field(default=None, description="what a person must answer")
    evidence: tuple[Key | AnyOf, ...] = ()
    why: str | None = Field(default=None, description="why the evidence answers the item")
    note: str | None = Field(default=None, description="what remains for a person beside the evidence")
    weight: float | None = Field(default=None, gt=0, lt=1)
    when: tuple[Condition, ...] = ()

    @model_validator(mode="after")
    def _has_a_rule(self) -> Self:
        if not self.evidence and not self.person:
            raise ValueError(f"item {self.item}: neither `evidence` nor `person`")
        if bool(self.evidence) != bool(self.why):
            raise ValueError(f"item {self.item}: `why` goes with `evidence`, and with nothing else")
        return self


class Section(_Frozen):
    """Items under one heading."""

    title: str
    items: tuple[Item, ...] = Field(min_length=1)


class Checklist(_Frozen):
    """A published checklist."""

    name: str
    title: str
    version: str
    citation: str
    doi: str
    licence: str
    checked: str = Field(description="against what the items were compared, and how far")
    sections: tuple[Section, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _numbered_and_weighed(self) -> Self:
        items = self.items
        if len({i.item for i in items}) != len(items):
            raise ValueError("a number is given twice")
        if len({i.weight is None for i in items}) > 1:
            raise ValueError("either every item has a weight or none")
        return self

    @property
    def items(self) -> tuple[Item, ...]:
        """Every item, in order."""
        return tuple(item for section in self.sections for item in section.items)

    @property
    def weighted(self) -> bool:
        """Whether the checklist gives a score."""
        return self.items[0].weight is not None


@cache
def load(name: str) -> Checklist:
    """The checklist of that name.

    Args:
        name: one of `NAMES`.

    Raises:
        ValueError: no checklist has this name.
    """
    if name not in NAMES:
        raise ValueError(f"no checklist {name!r}: {', '.join(NAMES)}")
    text = files(__package__ or "").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return Checklist.model_validate(yaml.safe_load(text))
