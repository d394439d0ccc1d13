"""From the cases that hospitals looked at to those that trained, tuned and evaluated, as a drawing.

chart(results)      # a Figure, or None where a study asks for no evidence
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from fedloupe_server.evidence import formats
from fedloupe_server.evidence.cohort_tables import ALL, candidates
from fedloupe_server.evidence.drawing import EXTERNAL, FEDERATED, GRID, INK, SOFT, Cell, Drawing, Figure
from fedloupe_server.evidence.reasons import reason
from fedloupe_server.evidence.results import Results, SiteResult

WIDTH, BETWEEN, HALF, BOX, LINE, PAD = 720, 20, 350, 50, 18, 14
MIDDLE, RIGHT = HALF / 2, HALF + BETWEEN
LETTERS = 52  # of a reason, a line
ROLES = {
    "train": ("that trained", FEDERATED, ("training", "tuning", "evaluation", "events")),
    "validate": ("that only validated", EXTERNAL, ("evaluation", "events")),
}
HEADER = ("site", "role", "looked_at", "left_out", "used", "training", "tuning", "evaluation", "events")


@dataclass(frozen=True)
class _Counts:
    """Cases of a site, or of several."""

    looked_at: int
    left_out: int
    training: int
    tuning: int
    evaluation: int
    events: int

    @classmethod
    def of(cls, site: SiteResult) -> _Counts:
        left = sum(site.excluded.values())
        return cls(candidates(site), left, site.train, site.tune, site.test, site.positives)

    def __add__(self, other: _Counts) -> _Counts:
        return _Counts(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def used(self) -> int:
        return self.training + self.tuning + self.evaluation

    @property
    def cells(self) -> tuple[int, ...]:
        """As in `HEADER`, from `looked_at` on."""
        return self.looked_at, self.left_out, self.used, self.training, self.tuning, self.evaluation, self.events


def chart(results: Results) -> Figure | None:
    """All hospitals' cases from above to below, what was left out and why at the side, each hospital at the foot."""
    if not results.evidence:
        return None
    counts = {site.site: _Counts.of(site) for site in results.sites}
    total = reduce(_Counts.__add__, counts.values())
    left = sum((Counter(site.excluded) for site in results.sites), Counter[str]())
    reasons = [line for code, n in sorted(left.items()) for line in textwrap.wrap(f"{n:,} {reason(code)}", LETTERS)]
    groups = {role: [s.site for s in results.sites if s.role == role] for role in ROLES}
    groups = {role: names for role, names in groups.items() if names}
    beside = PAD + LINE * (1 + len(reasons)) + 6
    used_at = BOX + max(44, beside + 24)
    foot_at = used_at + BOX + 40
    foot = max(PAD + LINE * (3 + len(names)) + 6 for names in groups.values())
    event = f"{total.events:,} with the event ({formats.percent(total.events / total.used)})"
    drawing = Drawing("flow", WIDTH, foot_at + foot + 1, "Flow of cases", _told(total, groups, counts))

    _box(drawing, 0, 0, BOX, f"{total.looked_at:,} cases looked at", f"at {_hospitals(len(counts))}")
    _arrow(drawing, MIDDLE, BOX, used_at)
    branch = BOX + 12 + beside / 2
    drawing.line(MIDDLE, branch, RIGHT - 5, branch, SOFT)
    drawing.polygon(_head(RIGHT, branch, sideways=True), SOFT)
    _box(drawing, RIGHT, BOX + 12, beside, f"{total.left_out:,} left out", *reasons)
    _box(drawing, 0, used_at, BOX, f"{total.used:,} cases used", event)

    fork = used_at + BOX + 16
    drawing.line(MIDDLE, used_at + BOX, MIDDLE, fork, SOFT)
    for number, (role, names) in enumerate(groups.items()):
        x = number * RIGHT
        drawing.line(MIDDLE, fork, x + MIDDLE, fork, SOFT)
        _arrow(drawing, x + MIDDLE, fork, foot_at)
        _foot(drawing, x, foot_at, foot, role, {name: counts[name] for name in names})
    roles = {site.site: site.role for site in results.sites}
    rows: list[tuple[Cell, ...]] = [(name, roles[name], *found.cells) for name, found in counts.items()]
    return Figure("flow", drawing.render(), HEADER, (*rows, (ALL, None, *total.cells)))


def _foot(drawing: Drawing, x: float, y: float, height: float, role: str, counts: dict[str, _Counts]) -> None:
    """The hospitals of one role, a line each, and their sum."""
    words, colour, columns = ROLES[role]
    drawing.rect(x + 0.5, y, HALF - 1, height, "#ffffff", SOFT, 4)
    drawing.text(x + PAD, y + PAD + 6, f"{_hospitals(len(counts))} {words}", colour, 13, weight=600)
    right = [x + HALF - PAD - 60 * place for place in reversed(range(len(columns)))]
    head = y + PAD + 6 + LINE
    for place, column in zip(right, columns, strict=True):
        drawing.text(place, head, column, SOFT, 11, "end")
    lines = [*counts.items(), ("together", reduce(_Counts.__add__, counts.values()))]
    for number, (name, found) in enumerate(lines, start=1):
        last = number == len(lines)
        base = head + LINE * number
        if last:
            drawing.line(x + PAD, base - 13, x + HALF - PAD, base - 13, GRID)
        drawing.text(x + PAD, base, name, INK, 12, weight=600 if last else 400, most=17)
        for place, column in zip(right, columns, strict=True):
            drawing.text(place, base, f"{getattr(found, column):,}", INK, 12, "end", 600 if last else 400)


def _box(drawing: Drawing, x: float, y: float, height: float, title: str, *lines: str) -> None:
    drawing.rect(x + 0.5, y + 0.5, HALF - 1, height - 1, "#ffffff", SOFT, 4)
    drawing.text(x + PAD, y + PAD + 6, title, INK, 13, weight=600)
    for number, line in enumerate(lines, start=1):
        drawing.text(x + PAD, y + PAD + 6 + LINE * number, line, SOFT, 12)


def _arrow(drawing: Drawing, x: float, top: float, bottom: float) -> None:
    drawing.line(x, top, x, bottom - 5, SOFT)
    drawing.polygon(_head(x, bottom), SOFT)


def _head(x: float, y: float, sideways: bool = False) -> list[tuple[float, float]]:
    """An arrow's head with its tip at x, y."""
    return [(x, y), (x - 7, y - 4), (x - 7, y + 4)] if sideways else [(x, y), (x - 4, y - 7), (x + 4, y - 7)]


def _hospitals(count: int) -> str:
    return formats.count(count, "hospital")


def _told(total: _Counts, groups: Mapping[str, Sequence[str]], counts: Mapping[str, _Counts]) -> str:
    """The drawing for those who do not see it."""
    said = [f"{total.looked_at} cases looked at, {total.left_out} left out, {total.used} used"]
    for role, names in groups.items():
        for name in names:
            found = counts[name]
            shown = ", ".join(f"{getattr(found, column)} {column}" for column in ROLES[role][2])
            said.append(f"{name}: {shown}")
    return "; ".join(said)
