"""Forest plots of any measure: sites with intervals, pooled diamonds, prediction bars, on a linear or a log scale.

chart("slope", "Calibration slope", lines, Axis.around("Calibration slope", lines, 1.0, (-0.5, 3.0)))     # a Figure
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log, sqrt

from fedloupe_server.evidence import formats
from fedloupe_server.evidence.drawing import FAINT, FEDERATED, GRID, INK, SOFT, Cell, Drawing, Figure

WIDTH, LEFT, RIGHT, TOP, ROW = 720, 236, 548, 34, 27
HEADER = ("row", "kind", "patients", "events", "estimate", "low", "high")


@dataclass(frozen=True)
class Line:
    """One row. `kind`: square (sized by patients), diamond, bar (interval only), note (words only) or heading."""

    kind: str
    label: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    patients: int | None = None
    events: int | None = None
    colour: str = FEDERATED
    note: str = ""
    bold: bool = False


@dataclass(frozen=True)
class Axis:
    """A scale with its ticks; `reference` is dashed. `log`: equal factors are equal lengths."""

    title: str
    low: float
    high: float
    ticks: tuple[float, ...]
    reference: float | None = None
    log: bool = False

    @classmethod
    def around(
        cls, title: str, lines: Iterable[Line], reference: float, most: tuple[float, float], log: bool = False
    ) -> Axis:
        """Wide enough for every estimate and for its interval up to `most`; longer ones get an arrow."""
        told = [line for line in lines if line.low is not None and line.high is not None]
        centres = [line.estimate for line in told if line.estimate is not None]
        low = min([reference, *centres, *(max(line.low or 0, most[0]) for line in told)])
        high = max([reference, *centres, *(min(line.high or 0, most[1]) for line in told)])
        if log:
            ticks = _octaves(low, high)
        else:
            step = next((s for s in (0.1, 0.2, 0.5, 1, 2, 5) if (high - low) / s <= 7), 10.0)
            ticks = tuple(round(n * step, 10) for n in range(floor(low / step + 1e-9), ceil(high / step - 1e-9) + 1))
        return cls(title, ticks[0], ticks[-1], ticks, reference, log)

    def __call__(self, value: float) -> float:
        """Pixels, held within the scale."""
        return min(max(self.beyond(value), LEFT), RIGHT)

    def beyond(self, value: float) -> float:
        """Pixels, also outside the scale."""
        if self.log:
            share = (log(max(value, 1e-9)) - log(self.low)) / (log(self.high) - log(self.low))
        else:
            share = (value - self.low) / (self.high - self.low)
        return LEFT + (RIGHT - LEFT) * share


def chart(
    name: str, title: str, lines: Sequence[Line], axis: Axis, counts: str = "Events / patients", measure: str = ""
) -> Figure:
    """The plot, and every row but headings as numbers."""
    bottom = TOP + ROW * len(lines)
    told = "; ".join(f"{x.label}: {_shown(x)}" for x in lines if x.estimate is not None)
    drawing = Drawing(name, WIDTH, bottom + 44, title, told)
    for tick in axis.ticks:
        x, reference = axis(tick), tick == axis.reference
        drawing.line(x, TOP - 6, x, bottom + 4, FAINT if reference else GRID, 1, "3 3" if reference else "")
        drawing.text(x, bottom + 19, f"{tick:g}".replace("-", "−"), SOFT, 11.5, "middle")
    if axis.reference is not None and axis.reference not in axis.ticks:
        drawing.line(axis(axis.reference), TOP - 6, axis(axis.reference), bottom + 4, FAINT, 1, "3 3")
    drawing.text((LEFT + RIGHT) / 2, bottom + 37, axis.title, SOFT, 11.5, "middle")
    drawing.text(LEFT - 14, TOP - 14, counts, SOFT, 11.5, "end")
    drawing.text(RIGHT + 24, TOP - 14, f"{measure or 'Estimate'} (95 % interval)", SOFT, 11.5)
    largest = max((x.patients or 1) for x in lines)
    for number, line in enumerate(lines):
        _row(drawing, axis, line, TOP + ROW * number + ROW / 2, largest)
    rows: list[tuple[Cell, ...]] = [
        (x.label, x.kind, x.patients, x.events, x.estimate, x.low, x.high) for x in lines if x.kind != "heading"
    ]
    return Figure(name, drawing.render(), HEADER, tuple(rows))


def _shown(line: Line) -> str:
    if line.note or line.low is None or line.high is None:
        return line.note or formats.ABSENT
    return formats.signed_interval(line.estimate, line.low, line.high)


def _row(drawing: Drawing, axis: Axis, line: Line, y: float, largest: int) -> None:
    if line.kind == "heading":
        drawing.text(0, y + 6, line.label, SOFT, 12, weight=600)
        return
    weight = 600 if line.bold else 400
    drawing.text(0, y + 4.5, line.label, INK, 13.5, weight=weight, most=22)
    if line.patients is not None:
        counts = f"{line.events} / {line.patients}" if line.events is not None else f"{line.patients}"
        drawing.text(LEFT - 14, y + 4.5, counts, SOFT, 11.5, "end")
    drawing.text(RIGHT + 24, y + 4.5, _shown(line), INK if line.estimate is not None else SOFT, 13, weight=weight)
    if line.low is None or line.high is None:
        return
    low, high = axis(line.low), axis(line.high)
    if line.estimate is None:
        drawing.rect(low, y - 3.5, high - low, 7, "#d5dbe2", round_=3.5)
        return
    x = axis(line.estimate)
    if line.kind == "diamond":
        left, right = _end(axis, line.low, x, y), _end(axis, line.high, x, y)
        drawing.polygon([*left, (x, y - 7), *reversed(right), (x, y + 7)], line.colour)
        return
    half = 3 + 4 * sqrt((line.patients or 0) / largest)
    drawing.line(low, y, high, y, line.colour, 1.75)
    for cut, end, way in ((line.low < axis.low, low, 1), (line.high > axis.high, high, -1)):
        if cut:
            drawing.polygon([(end - 2 * way, y), (end + 6 * way, y - 4), (end + 6 * way, y + 4)], line.colour)
    drawing.rect(x - half, y - half, 2 * half, 2 * half, line.colour)


def _end(axis: Axis, end: float, x: float, y: float) -> list[tuple[float, float]]:
    """A diamond's tip, or the edge along which the scale cuts it off, lower corner first."""
    seen, true = axis(end), axis.beyond(end)
    if seen == true:
        return [(seen, y)]
    half = 7 * (true - seen) / (true - x)
    return [(seen, y + half), (seen, y - half)]


def _octaves(low: float, high: float) -> tuple[float, ...]:
    """Powers of two, or of the root of two where these are few, around a range."""
    first, last = floor(log(low, 2) + 1e-9), ceil(log(high, 2) - 1e-9)
    if last - first > 2:
        return tuple(2.0**n for n in range(first, last + 1))
    fine = (0.25, 0.33, 0.5, 0.67, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
    below, above = max([t for t in fine if t <= low], default=0.25), min([t for t in fine if t >= high], default=4.0)
    return tuple(t for t in fine if below <= t <= above)
