"""Reporting checklists, filled in as far as a run's pack answers them; the rest waits for a person.

from fedloupe_server.evidence.checklists import NAMES, fill, load, markdown
filled = fill(load("tripod-ai"), {Key.FLOW: "report.html#flow"})
(pack / "tripod-ai.md").write_text(markdown(filled))
"""

from __future__ import annotations

from fedloupe_server.evidence.checklists.filling import (
    Filled,
    FilledItem,
    Score,
    Status,
    counts,
    fill,
    score,
)
from fedloupe_server.evidence.checklists.keys import Key
from fedloupe_server.evidence.checklists.lists import NAMES, Checklist, Condition, Item, Section, load
from fedloupe_server.evidence.checklists.rendering import markdown, summary, to_json

__all__ = [
    "NAMES",
    "Checklist",
    "Condition",
    "Filled",
    "FilledItem",
    "Item",
    "Key",
    "Score",
    "Section",
    "Status",
    "counts",
    "fill",
    "load",
    "markdown",
    "score",
    "summary",
    "to_json",
]
