"""Small multiples, one square a site: ROC curves from score histograms, and calibration by risk groups.

roc(results), calibration(results)       # each a Figure
"""

from __future__ import annotations

from math import sqrt

from fedloupe_server.evidence import formats
from fedloupe_server.evidence.drawing import EXTERNAL, FAINT, FEDERATED, GRID, INK, SOFT, Drawing, Figure
from fedloupe_server.evidence.results import Results, Scores, SiteResult

COLUMNS, SIDE, GAP, LEFT, TOP, CELL = 4, 138, 46, 40, 40, 212
WIDTH = LEFT + COLUMNS * SIDE + (COLUMNS - 1) * GAP + 6


def roc_points(scores: Scores) -> list[tuple[float, float, float]] | None:
    """(threshold, 1 - specificity, sensitivity) at every bin edge, from strictest to laxest.

    Where the site's policy merged bins, the curve runs straight through them. None where the histograms do not add up
    to the patients, for the curve would then be another one.
    """
    positives, negatives = scores.positives_by_score, scores.negatives_by_score
    if abs(sum(positives) - scores.positives) + abs(sum(negatives) - scores.patients + scores.positives) > 1e-3:
        return None
    if not (sum(positives) and sum(negatives)):
        return None
    bins = len(positives)
    return [
        (edge / bins, sum(negatives[edge:]) / sum(negatives), sum(positives[edge:]) / sum(positives))
        for edge in range(bins, -1, -1)
    ]


def roc(results: Results) -> Figure:
    """ROC of the federated model at each site; the dot is the frozen threshold."""
    drawing, corners = _grid(
        "roc", "ROC curve of the federated model at each site", results, "1 − specificity", "Sensitivity"
    )
    rows: list[tuple[str | int | float | None, ...]] = []
    for site, (x0, y0) in zip(results.sites, corners, strict=True):
        drawing.line(x0, y0 + SIDE, x0 + SIDE, y0, FAINT, 1, "3 3")
        points = roc_points(site.federated)
        if points is None:
            drawing.text(x0 + SIDE / 2, y0 + SIDE / 2 - 4, "histogram withheld", SOFT, 11.5, "middle")
            drawing.text(x0 + SIDE / 2, y0 + SIDE / 2 + 12, "by the site's policy", SOFT, 11.5, "middle")
            continue
        colour = _colour(site)
        drawing.polyline([(x0 + SIDE * f, y0 + SIDE * (1 - t)) for _, f, t in points], colour, 2)
        if site.federated.sensitivity is not None and site.federated.specificity is not None:
            x, y = x0 + SIDE * (1 - site.federated.specificity), y0 + SIDE * (1 - site.federated.sensitivity)
            drawing.circle(x, y, 4.5, "#ffffff", colour, 2)
        drawing.text(x0 + SIDE - 6, y0 + SIDE - 8, f"AUC {formats.auc(site.federated.auc)}", INK, 12, "end", 600)
        rows += [(site.site, threshold, false, true) for threshold, false, true in points]
    return Figure("roc", drawing.render(), ("site", "threshold", "one_minus_specificity", "sensitivity"), tuple(rows))


def calibration(results: Results) -> Figure:
    """Observed against predicted by risk group; the disc's area is the number of patients."""
    drawing, corners = _grid(
        "calibration", "Calibration of the federated model at each site", results, "Predicted", "Observed"
    )
    largest = max((n for s in results.sites for *_, n in s.federated.calibration), default=1)
    rows: list[tuple[str | int | float | None, ...]] = []
    for site, (x0, y0) in zip(results.sites, corners, strict=True):
        drawing.line(x0, y0 + SIDE, x0 + SIDE, y0, FAINT, 1, "3 3")
        groups = site.federated.calibration
        if not groups:
            drawing.text(x0 + SIDE / 2, y0 + SIDE / 2, "too few patients", SOFT, 11.5, "middle")
        points = [(x0 + SIDE * p, y0 + SIDE * (1 - o)) for p, o, _ in groups]
        if len(points) > 1:
            drawing.polyline(points, _colour(site), 1.25)
        for (x, y), (*_, n) in zip(points, groups, strict=True):
            drawing.circle(x, y, 6.5 * sqrt(n / largest), _colour(site), "#ffffff", 1)
        rows += [(site.site, predicted, observed, n) for predicted, observed, n in groups]
    return Figure("calibration", drawing.render(), ("site", "mean_predicted", "observed", "patients"), tuple(rows))


def _colour(site: SiteResult) -> str:
    return EXTERNAL if site.role == "validate" else FEDERATED


def _grid(
    name: str, title: str, results: Results, below: str, beside: str
) -> tuple[Drawing, list[tuple[float, float]]]:
    """Empty squares with titles and axes, and each one's upper left corner."""
    lines = -(-len(results.sites) // COLUMNS)
    told = "; ".join(f"{s.site}: AUC {formats.auc(s.federated.auc)}" for s in results.sites)
    drawing = Drawing(name, WIDTH, CELL * lines + 18, title, told)
    corners: list[tuple[float, float]] = []
    for number, site in enumerate(results.sites):
        x0 = LEFT + (number % COLUMNS) * (SIDE + GAP)
        y0 = TOP + (number // COLUMNS) * CELL
        corners.append((x0, y0))
        scores = site.federated
        tail = " · external" if site.role == "validate" else ""
        drawing.text(x0, y0 - 22, site.site, INK, 13, weight=600, most=19)
        drawing.text(x0, y0 - 8, f"{formats.count(scores.positives, 'event')} in {scores.patients}{tail}", SOFT, 11)
        for half in (0, 0.5, 1):
            drawing.line(x0 + SIDE * half, y0, x0 + SIDE * half, y0 + SIDE, GRID)
            drawing.line(x0, y0 + SIDE * half, x0 + SIDE, y0 + SIDE * half, GRID)
            drawing.text(x0 + SIDE * half, y0 + SIDE + 14, f"{half:g}", SOFT, 10.5, "middle")
            drawing.text(x0 - 6, y0 + SIDE * (1 - half) + 4, f"{half:g}", SOFT, 10.5, "end")
        drawing.text(x0 + SIDE / 2, y0 + SIDE + 29, below, SOFT, 11, "middle")
        if number % COLUMNS == 0:
            drawing.text(x0 - 28, y0 + SIDE / 2, beside, SOFT, 11, "middle", turn=-90)
    return drawing, corners
