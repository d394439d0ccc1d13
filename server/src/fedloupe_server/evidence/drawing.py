"""SVG drawn by hand: few elements, real text, the same bytes for the same numbers, readable alone or inside a page.

drawing = Drawing("forest", 720, 300, "Forest plot", "north 0.83, ...")
drawing.line(10, 10, 90, 10); svg = drawing.render()
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

INK, SOFT, FAINT, GRID = "#1f2a37", "#5b6776", "#aab3be", "#e6eaee"
FEDERATED, EXTERNAL, LOCAL, LOGISTIC, ABSENT_SITE = "#0b6e75", "#7a3e9d", "#b4690e", "#5b6776", "#c2410c"
Cell = str | int | float | None
FONT = "'Source Sans 3','Helvetica Neue',Helvetica,Arial,sans-serif"


@dataclass(frozen=True)
class Figure:
    """A figure, and the numbers it shows as a table."""

    name: str
    svg: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def csv(self) -> str:
        """The numbers as CSV; four decimals, empty where a value is absent."""
        return rows_as_csv(self.header, self.rows)


def rows_as_csv(header: Sequence[str], rows: Iterable[Sequence[Cell]], exact: bool = False) -> str:
    """CSV; a number with a fraction in four decimals, or `exact`: in as many as bring back the same number."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(
        [(repr(float(v)) if exact else f"{v:.4f}") if isinstance(v, float) else v for v in row] for row in rows
    )
    return out.getvalue()


@dataclass
class Drawing:
    """An SVG under construction; coordinates in pixels from the upper left."""

    name: str
    width: float
    height: float
    title: str
    description: str
    _parts: list[str] = field(default_factory=list)

    def line(
        self, x1: float, y1: float, x2: float, y2: float, stroke: str = INK, width: float = 1, dash: str = ""
    ) -> None:
        """A straight line; `dash` as in stroke-dasharray."""
        self._add("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=stroke, stroke_width=width, stroke_dasharray=dash)

    def rect(
        self, x: float, y: float, width: float, height: float, fill: str, stroke: str = "", round_: float = 0
    ) -> None:
        """A rectangle."""
        self._add("rect", x=x, y=y, width=width, height=height, fill=fill, stroke=stroke, rx=round_ or "")

    def circle(self, x: float, y: float, radius: float, fill: str, stroke: str = "", width: float = 1.5) -> None:
        """A disc, or a ring with a white `fill`."""
        self._add("circle", cx=x, cy=y, r=radius, fill=fill, stroke=stroke, stroke_width=width if stroke else "")

    def polygon(self, points: list[tuple[float, float]], fill: str, opacity: float = 1) -> None:
        """A filled polygon."""
        self._add("polygon", points=_points(points), fill=fill, fill_opacity=f"{opacity:g}" if opacity < 1 else "")

    def polyline(
        self, points: list[tuple[float, float]], stroke: str, width: float = 1.75, dash: str = "", opacity: float = 1
    ) -> None:
        """A line through points; `dash` as in stroke-dasharray."""
        self._add(
            "polyline",
            points=_points(points),
            fill="none",
            stroke=stroke,
            stroke_width=width,
            stroke_linejoin="round",
            stroke_dasharray=dash,
            stroke_opacity=f"{opacity:g}" if opacity < 1 else "",
        )

    def text(
        self,
        x: float,
        y: float,
        content: str,
        fill: str = INK,
        size: float = 13,
        anchor: str = "start",
        weight: int = 400,
        turn: float | None = None,
        most: int = 200,
    ) -> None:
        """Text with its baseline at y; `anchor` start, middle or end; `turn` in degrees; cut to `most` letters."""
        shown = content if len(content) <= most else f"{content[: most - 8]}…{content[-7:]}"
        attributes = _attributes(
            x=x,
            y=y,
            fill=fill,
            font_size=size,
            text_anchor=anchor if anchor != "start" else "",
            font_weight=weight if weight != 400 else "",
            transform="" if turn is None else f"rotate({_number(turn)} {_number(x)} {_number(y)})",
        )
        self._parts.append(f"<text{attributes}>{escape(shown)}</text>")

    def render(self) -> str:
        """The finished SVG, with title and description for screen readers."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_number(self.width)} {_number(self.height)}" '
            f'width="{_number(self.width)}" height="{_number(self.height)}" role="img" '
            f'aria-labelledby="{self.name}-title {self.name}-description" font-family="{FONT}">\n'
            f'<title id="{self.name}-title">{escape(self.title)}</title>\n'
            f'<desc id="{self.name}-description">{escape(self.description)}</desc>\n'
            + "\n".join(self._parts)
            + "\n</svg>\n"
        )

    def _add(self, tag: str, **attributes: str | float) -> None:
        self._parts.append(f"<{tag}{_attributes(**attributes)}/>")


def _attributes(**attributes: str | float) -> str:
    written = (
        (key.replace("_", "-"), value if isinstance(value, str) else _number(value))
        for key, value in attributes.items()
    )
    return "".join(f' {key}="{escape(value)}"' for key, value in written if value != "")


def _points(points: list[tuple[float, float]]) -> str:
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in points)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
