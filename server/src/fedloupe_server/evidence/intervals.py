"""Charts with one row a site: forest plots with intervals, and own model against federated.

forest(results), external(results), left_out(results), benefit(results)     # each a Figure or None
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, sqrt

from fedloupe.metrics import pool_auc
from fedloupe_server.evidence import baselines, formats
from fedloupe_server.evidence.drawing import (
    EXTERNAL,
    FAINT,
    FEDERATED,
    GRID,
    INK,
    LOCAL,
    LOGISTIC,
    SOFT,
    Drawing,
    Figure,
)
from fedloupe_server.evidence.results import Results, Scores

WIDTH, LEFT, RIGHT, TOP, ROW = 720, 236, 548, 34, 27
HEADER = ("row", "model", "patients", "events", "auc", "low", "high", "best_possible")


@dataclass(frozen=True)
class Row:
    """One line of an interval chart. `kind`: square (sized by patients), diamond, bar (interval only) or heading."""

    kind: str
    label: str
    model: str = ""
    colour: str = FEDERATED
    patients: int | None = None
    events: int | None = None
    auc: float | None = None
    low: float = 0.0
    high: float = 1.0
    best: float | None = None

    @classmethod
    def of(cls, label: str, model: str, scores: Scores, colour: str) -> Row:
        """A square from one model's scores at one site."""
        return cls(
            kind="square",
            label=label,
            model=model,
            colour=colour,
            patients=scores.patients,
            events=scores.positives,
            auc=scores.auc,
            low=scores.auc_low,
            high=scores.auc_high,
            best=scores.reference_auc,
        )


def forest(results: Results) -> Figure:
    """The federated model at every site, the pooled mean, the prediction interval; validate-only sites apart."""
    rows = [Row("heading", "Training sites, test patients")]
    rows += [Row.of(s.site, "federated", s.federated, FEDERATED) for s in results.sites if s.role == "train"]
    if pooled := results.pooled:
        rows.append(
            Row("diamond", "Pooled", "federated", INK, pooled.patients, None, pooled.auc, pooled.low, pooled.high)
        )
        if pooled.prediction_low is not None and pooled.prediction_high is not None:
            rows.append(
                Row("bar", "Expected at a new site", "", SOFT, low=pooled.prediction_low, high=pooled.prediction_high)
            )
    if apart := [s for s in results.sites if s.role == "validate"]:
        rows.append(Row("heading", "External sites (never trained)"))
        rows += [Row.of(s.site, "federated", s.federated, EXTERNAL) for s in apart]
    return _chart("forest", "AUC of the federated model at each site", rows)


def external(results: Results) -> Figure | None:
    """At each validate-only site: the federated model, the baselines and every training site's own model."""
    rows: list[Row] = []
    for site in (s for s in results.sites if s.role == "validate"):
        rows.append(Row("heading", site.site))
        rows.append(Row.of("Federated", "federated", site.federated, EXTERNAL))
        rows += [Row.of(baselines.NAMES[x], x, s, LOGISTIC) for x, s in baselines.scored(site).items()]
        rows += [Row.of(f"Own model of {local_name(s)}", s.label, s, LOCAL) for s in site.local_elsewhere]
    return _chart("external", "AUC of every model at the external site", rows) if rows else None


def left_out(results: Results) -> Figure | None:
    """Leave-one-site-out: each fold's federated model and baselines on the site left out."""
    if not results.left_out:
        return None
    rows: list[Row] = []
    for fold in results.left_out:
        rows.append(Row.of(f"{fold.site} left out", "federated", fold.federated, FEDERATED))
        rows += [Row.of(f"{fold.site}, {x}", x, s, LOGISTIC) for x, s in baselines.scored(fold).items()]
    for model in ("federated", *baselines.labels(results)):
        every = [{"federated": f.federated, **baselines.scored(f)} for f in results.left_out]
        if scores := [at[model] for at in every if model in at and at[model].poolable]:
            mean = pool_auc([(s.auc, s.auc_se, s.patients) for s in scores])
            label = "Pooled" if model == "federated" else f"Pooled, {model}"
            rows.append(Row("diamond", label, model, INK, mean.patients, None, mean.auc, mean.low, mean.high))
    return _chart("left_out", "AUC at each site when it was left out of training", rows)


def benefit(results: Results) -> Figure | None:
    """Dumbbells: each training site's own model against the federated one, on the same test patients."""
    pairs = [(s.site, s.local, s.federated) for s in results.sites if s.local]
    if not pairs:
        return None
    lowest = min(min(a.auc, b.auc) for _, a, b in pairs)
    scale = _Scale(min(0.5, floor(lowest * 10) / 10))
    height = TOP + ROW * len(pairs) + 44
    drawing = Drawing(
        "benefit",
        WIDTH,
        height,
        "AUC of each site's own model and of the federated model",
        "; ".join(f"{n}: own {formats.auc(a.auc)}, federated {formats.auc(b.auc)}" for n, a, b in pairs),
    )
    _axis(drawing, scale, TOP + ROW * len(pairs))
    drawing.text(RIGHT + 24, TOP - 14, "Own → federated", SOFT, 11.5)
    for number, (name, own, federated) in enumerate(pairs):
        y = TOP + ROW * number + ROW / 2
        a, b = scale(own.auc), scale(federated.auc)
        gain = formats.gain(federated.auc, own.auc)
        drawing.text(0, y + 4.5, name, INK, 13.5, most=22)
        drawing.text(LEFT - 14, y + 4.5, f"{own.patients} tested", SOFT, 11.5, "end")
        drawing.line(a, y, b, y, FEDERATED if gain > 0 else LOCAL, 3)
        if federated.reference_auc is not None:
            best = scale(federated.reference_auc)
            drawing.line(best, y - 7, best, y + 7, INK, 1.5)
        drawing.circle(a, y, 5.5, "#ffffff", LOCAL, 2.25)
        drawing.circle(b, y, 6, FEDERATED)
        drawing.text(RIGHT + 24, y + 4.5, f"{formats.auc(own.auc)} → {formats.auc(federated.auc)}", INK, 13)
        drawing.text(WIDTH, y + 4.5, formats.difference(gain), INK, 13, "end", 600)
    rows = tuple((n, a.patients, a.positives, a.auc, b.auc, b.auc - a.auc, b.reference_auc) for n, a, b in pairs)
    header = ("site", "patients", "events", "own_auc", "federated_auc", "difference", "best_possible")
    return Figure("benefit", drawing.render(), header, rows)


def local_name(scores: Scores) -> str:
    """The site whose own model this is, from the label `local-<site>`."""
    return scores.label.removeprefix("local-")


@dataclass(frozen=True)
class _Scale:
    """AUC to pixels, from `start` to 1."""

    start: float

    def __call__(self, value: float) -> float:
        return LEFT + (RIGHT - LEFT) * (max(value, self.start) - self.start) / (1 - self.start)


def _axis(drawing: Drawing, scale: _Scale, bottom: float) -> None:
    for tenth in range(round(scale.start * 10), 11):
        x = scale(tenth / 10)
        chance = tenth == 5
        drawing.line(x, TOP - 6, x, bottom + 4, FAINT if chance else GRID, 1, "3 3" if chance else "")
        drawing.text(x, bottom + 19, f"{tenth / 10:.1f}", SOFT, 11.5, "middle")
    drawing.text((LEFT + RIGHT) / 2, bottom + 37, "AUC (dashed: chance)", SOFT, 11.5, "middle")


def _chart(name: str, title: str, rows: list[Row]) -> Figure:
    scale = _Scale(min(0.4, floor(min(r.low for r in rows if r.kind != "heading") * 10) / 10))
    bottom = TOP + ROW * len(rows)
    told = [r for r in rows if r.auc is not None]
    drawing = Drawing(
        name,
        WIDTH,
        bottom + 44,
        title,
        "; ".join(f"{r.label}: {formats.with_interval(r.auc, r.low, r.high)}" for r in told if r.auc is not None),
    )
    _axis(drawing, scale, bottom)
    drawing.text(LEFT - 14, TOP - 14, "Events / patients", SOFT, 11.5, "end")
    drawing.text(RIGHT + 24, TOP - 14, "AUC (95 % interval)", SOFT, 11.5)
    largest = max((r.patients or 1) for r in rows)
    for number, row in enumerate(rows):
        _row(drawing, scale, row, TOP + ROW * number + ROW / 2, largest)
    return Figure(
        name,
        drawing.render(),
        HEADER,
        tuple(
            (r.label, r.model, r.patients, r.events, r.auc, r.low, r.high, r.best) for r in rows if r.kind != "heading"
        ),
    )


def _row(drawing: Drawing, scale: _Scale, row: Row, y: float, largest: int) -> None:
    if row.kind == "heading":
        drawing.text(0, y + 6, row.label, SOFT, 12, weight=600)
        return
    low, high = scale(row.low), scale(row.high)
    drawing.text(0, y + 4.5, row.label, INK, 13.5, weight=600 if row.kind == "diamond" else 400, most=22)
    if row.patients is not None:
        counts = f"{row.events} / {row.patients}" if row.events is not None else f"{row.patients}"
        drawing.text(LEFT - 14, y + 4.5, counts, SOFT, 11.5, "end")
    if row.auc is None:
        drawing.rect(low, y - 3.5, high - low, 7, "#d5dbe2", round_=3.5)
        drawing.text(RIGHT + 24, y + 4.5, f"({formats.interval(row.low, row.high)})", SOFT, 13)
        return
    x = scale(row.auc)
    if row.kind == "diamond":
        drawing.polygon([(low, y), (x, y - 7), (high, y), (x, y + 7)], row.colour)
    else:
        half = 3 + 4 * sqrt((row.patients or 0) / largest)
        drawing.line(low, y, high, y, row.colour, 1.75)
        drawing.rect(x - half, y - half, 2 * half, 2 * half, row.colour)
    if row.best is not None:
        best = scale(row.best)
        drawing.line(best, y - 7, best, y + 7, INK, 1.5)
    weight = 600 if row.kind == "diamond" else 400
    drawing.text(RIGHT + 24, y + 4.5, formats.with_interval(row.auc, row.low, row.high), INK, 13, weight=weight)
