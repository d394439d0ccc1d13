"""Small multiples: one square a site, all with the same two scales.

panes = Panes("roc", "ROC curves", [Pane("north", "40 events in 120")], UNIT, UNIT, "1 − specificity", "Sensitivity")
panes.trace(0, [(0, 0), (0.2, 0.7), (1, 1)], FEDERATED); svg = panes.drawing.render()
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fedloupe_server.evidence import formats
from fedloupe_server.evidence.drawing import EXTERNAL, FAINT, FEDERATED, GRID, INK, SOFT, Drawing
from fedloupe_server.evidence.results import Results, SiteResult

Points = Sequence[tuple[float, float]]
COLUMNS, SIDE, GAP, LEFT, TOP, CELL = 4, 138, 46, 40, 40, 212
WIDTH = LEFT + COLUMNS * SIDE + (COLUMNS - 1) * GAP + 6


@dataclass(frozen=True)
class Ticks:
    """A scale from `low` to `high` with what is written along it."""

    low: float
    high: float
    marks: tuple[float, ...]


UNIT = Ticks(0, 1, (0, 0.5, 1))


@dataclass(frozen=True)
class Pane:
    """What stands above one square, the colour of its curve, and its own names of the axes where it has any."""

    title: str
    under: str
    colour: str = FEDERATED
    below: str = ""
    beside: str = ""

    @classmethod
    def of(cls, site: SiteResult) -> Pane:
        """A site, its events and patients; external sites in their colour."""
        scores = site.federated
        tail = " · external" if site.role == "validate" else ""
        return cls(site.site, f"{formats.count(scores.positives, 'event')} in {scores.patients}{tail}", colour_of(site))


def colour_of(site: SiteResult) -> str:
    """The colour of a site's role."""
    return EXTERNAL if site.role == "validate" else FEDERATED


def told(results: Results) -> str:
    """Every site's AUC, for those who do not see the picture."""
    return "; ".join(f"{s.site}: AUC {formats.auc(s.federated.auc)}" for s in results.sites)


class Panes:
    """Empty squares with titles and axes; `side` and `columns` as told, pixels."""

    def __init__(
        self,
        name: str,
        title: str,
        panes: Sequence[Pane],
        across: Ticks,
        up: Ticks,
        below: str,
        beside: str,
        description: str = "",
        columns: int = COLUMNS,
        side: float = SIDE,
    ) -> None:
        self.across, self.up, self.side, self.panes = across, up, side, tuple(panes)
        cell, wide = side + CELL - SIDE, (WIDTH - LEFT - 6 - columns * side) / max(columns - 1, 1)
        lines = -(-len(panes) // columns)
        self.drawing = Drawing(name, WIDTH, cell * lines + 18, title, description or title)
        self._corners = [(LEFT + (n % columns) * (side + wide), TOP + (n // columns) * cell) for n in range(len(panes))]
        for number, (pane, (x0, y0)) in enumerate(zip(panes, self._corners, strict=True)):
            self.drawing.text(x0, y0 - 22, pane.title, INK, 13, weight=600, most=round(side / 7.3))
            self.drawing.text(x0, y0 - 8, pane.under, SOFT, 11)
            for mark in across.marks:
                x, _ = self.at(number, mark, up.low)
                self.drawing.line(x, y0, x, y0 + side, GRID)
                self.drawing.text(x, y0 + side + 14, f"{mark:g}", SOFT, 10.5, "middle")
            for mark in up.marks:
                _, y = self.at(number, across.low, mark)
                self.drawing.line(x0, y, x0 + side, y, GRID)
                self.drawing.text(x0 - 6, y + 4, f"{mark:g}".replace("-", "−"), SOFT, 10.5, "end")
            self.drawing.text(x0 + side / 2, y0 + side + 29, pane.below or below, SOFT, 11, "middle")
            if number % columns == 0 or pane.beside:
                self.drawing.text(x0 - 28, y0 + side / 2, pane.beside or beside, SOFT, 11, "middle", turn=-90)

    def at(self, number: int, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point in square `number`."""
        x0, y0 = self._corners[number]
        right = (x - self.across.low) / (self.across.high - self.across.low)
        risen = (y - self.up.low) / (self.up.high - self.up.low)
        return x0 + self.side * right, y0 + self.side * (1 - risen)

    def trace(
        self, number: int, points: Points, stroke: str, width: float = 1.75, dash: str = "", faint: bool = False
    ) -> None:
        """A line through points; what leaves the square upwards or downwards is cut off there."""
        for part in _inside(points, self.up.low, self.up.high):
            if len(part) > 1:
                self.drawing.polyline([self.at(number, *p) for p in part], stroke, width, dash, 0.55 if faint else 1)

    def band(self, number: int, lower: Points, upper: Points, fill: str) -> None:
        """The area between two lines, held within the square."""
        edge = [*lower, *reversed(upper)]
        held = [(x, min(max(y, self.up.low), self.up.high)) for x, y in edge]
        self.drawing.polygon([self.at(number, *p) for p in held], fill, 0.16)

    def diagonal(self, number: int) -> None:
        """The dashed line on which both axes agree."""
        low, high = max(self.across.low, self.up.low), min(self.across.high, self.up.high)
        self.drawing.line(*self.at(number, low, low), *self.at(number, high, high), FAINT, 1, "3 3")

    def note(self, number: int, *lines: str) -> None:
        """Words in the middle of a square without a curve."""
        x0, y0 = self._corners[number]
        for place, line in enumerate(lines):
            self.drawing.text(x0 + self.side / 2, y0 + self.side / 2 - 4 + 16 * place, line, SOFT, 11.5, "middle")

    def corner(self, number: int, content: str, top: bool = False) -> None:
        """Words in the lower right corner of a square, or the upper right one."""
        x0, y0 = self._corners[number]
        self.drawing.text(x0 + self.side - 6, y0 + (16 if top else self.side - 8), content, INK, 12, "end", 600)


def _inside(points: Points, low: float, high: float) -> list[list[tuple[float, float]]]:
    """The parts of a line with low <= y <= high, ends interpolated."""
    parts: list[list[tuple[float, float]]] = [[]]
    for (x1, y1), (x2, y2) in pairwise(points):
        cuts = sorted({0.0, 1.0, *((e - y1) / (y2 - y1) for e in (low, high) if (y1 - e) * (y2 - e) < 0)})
        for start, end in pairwise(cuts):
            middle = y1 + (y2 - y1) * (start + end) / 2
            if low <= middle <= high:
                one, other = ((x1 + (x2 - x1) * c, y1 + (y2 - y1) * c) for c in (start, end))
                parts[-1] += [other] if parts[-1] else [one, other]
            elif parts[-1]:
                parts.append([])
    return parts
