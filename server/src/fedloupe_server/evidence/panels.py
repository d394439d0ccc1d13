"""ROC curves from score histograms, one square a site.

roc(results)                 # a Figure
roc_points(scores)           # what it draws of one site
"""

from __future__ import annotations

from fedloupe_server.evidence import formats
from fedloupe_server.evidence.drawing import Cell, Figure
from fedloupe_server.evidence.panes import UNIT, Pane, Panes, colour_of, told
from fedloupe_server.evidence.results import Results, Scores


def roc_points(scores: Scores) -> list[tuple[float, float, float]] | None:
    """(threshold, 1 - specificity, sensitivity) at every bin edge, from strictest to laxest.

    Where the site's policy merged bins, the curve runs straight through them. None where the histograms do not add up
    to the patients, for the curve would then be another one.
    """
    positives, negatives = scores.positives_by_score, scores.negatives_by_score
    if not adds_up(scores):
        return None
    bins = len(positives)
    return [
        (edge / bins, sum(negatives[edge:]) / sum(negatives), sum(positives[edge:]) / sum(positives))
        for edge in range(bins, -1, -1)
    ]


def roc(results: Results) -> Figure:
    """ROC of the federated model at each site; the ring is the frozen threshold."""
    panes = Panes(
        "roc",
        "ROC curve of the federated model at each site",
        [Pane.of(site) for site in results.sites],
        UNIT,
        UNIT,
        "1 − specificity",
        "Sensitivity",
        told(results),
    )
    rows: list[tuple[Cell, ...]] = []
    for number, site in enumerate(results.sites):
        points = roc_points(site.federated)
        if points is None:
            panes.note(number, "histogram withheld", "by the site's policy")
            continue
        panes.diagonal(number)
        panes.trace(number, [(f, t) for _, f, t in points], colour_of(site), 2)
        if site.federated.sensitivity is not None and site.federated.specificity is not None:
            x, y = panes.at(number, 1 - site.federated.specificity, site.federated.sensitivity)
            panes.drawing.circle(x, y, 4.5, "#ffffff", colour_of(site), 2)
        panes.corner(number, f"AUC {formats.auc(site.federated.auc)}")
        rows += [(site.site, threshold, false, true) for threshold, false, true in points]
    header = ("site", "threshold", "one_minus_specificity", "sensitivity")
    return Figure("roc", panes.drawing.render(), header, tuple(rows))


def adds_up(scores: Scores) -> bool:
    """Whether the histograms hold all patients of both outcomes: a site's policy may have withheld cells."""
    positives, negatives = sum(scores.positives_by_score), sum(scores.negatives_by_score)
    missing = abs(positives - scores.positives) + abs(negatives - scores.patients + scores.positives)
    return missing <= 1e-3 and positives > 0 and negatives > 0
