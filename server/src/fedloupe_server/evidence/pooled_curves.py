"""ROC and calibration of all training sites' test patients together, from histograms that were added up.

curves(results)                    # Figure: two squares, the sites' own curves in grey behind
calibration(results)               # Table: risk groups of the pooled histogram
words(results)                     # with the bound of the error that bins make
"""

from __future__ import annotations

from fedloupe.metrics import HistogramAuc, histogram_auc, histogram_calibration, histogram_roc
from fedloupe_server.evidence import formats
from fedloupe_server.evidence.drawing import FAINT, INK, Cell, Figure
from fedloupe_server.evidence.panels import roc_points
from fedloupe_server.evidence.panes import UNIT, Pane, Panes
from fedloupe_server.evidence.results import Results, SiteResult
from fedloupe_server.evidence.tables import Table

HEADER = ("curve", "of", "x", "y", "low", "high", "patients")


def auc(results: Results) -> HistogramAuc | None:
    """AUC of the summed histograms and the most by which bins can have moved it."""
    return histogram_auc(*_histograms(results)) if _usable(results) else None


def curves(results: Results) -> Figure | None:
    """Pooled curves in ink with the sites' in grey; x and y as the axes say."""
    pooled, found = results.pooled_scores, auc(results)
    if pooled is None or found is None:
        return None
    sites = formats.count(len(pooled.sites), "site")
    under = f"{formats.count(pooled.positives, 'event')} in {pooled.patients:,} · {sites}"
    panes = Panes(
        "pooled_curves",
        "ROC curve and calibration of the training sites' test patients together",
        [
            Pane("ROC", under, below="1 − specificity", beside="Sensitivity"),
            Pane("Calibration", under, below="Predicted", beside="Observed"),
        ],
        UNIT,
        UNIT,
        "",
        "",
        f"AUC of the histogram {formats.auc(found.auc)}",
        columns=2,
        side=296,
    )
    members = [s for s in results.sites if s.site in pooled.sites]
    rows: list[tuple[Cell, ...]] = []
    for number in (0, 1):
        panes.diagonal(number)
    for site in members:
        rows += _site(panes, site)
    line = histogram_roc(*_histograms(results))
    panes.trace(0, line, INK, 2.25)
    panes.corner(0, f"AUC {formats.auc(found.auc)}")
    rows += [("roc", "pooled", x, y, None, None, None) for x, y in line]
    groups = histogram_calibration(*_histograms(results)).groups
    for group in groups:
        x, low = panes.at(1, group.predicted, group.low)
        _, high = panes.at(1, group.predicted, group.high)
        panes.drawing.line(x, low, x, high, INK, 1.5)
    panes.trace(1, [(g.predicted, g.observed) for g in groups], INK, 2.25)
    for group in groups:
        panes.drawing.circle(*panes.at(1, group.predicted, group.observed), 4, INK, "#ffffff", 1)
    rows += [("calibration", "pooled", g.predicted, g.observed, g.low, g.high, g.patients) for g in groups]
    return Figure("pooled_curves", panes.drawing.render(), HEADER, tuple(rows))


def calibration(results: Results) -> Table | None:
    """Risk groups of the pooled histogram with Wilson intervals."""
    if not _usable(results):
        return None
    found = histogram_calibration(*_histograms(results))
    return Table(
        f"Pooled calibration by risk group (predicted within {found.error:.3f}; 95 % interval after Wilson)",
        ("Predicted", "Observed (95 % interval)", "Patients"),
        tuple(
            (f"{g.predicted:.2f}", formats.with_interval(g.observed, g.low, g.high), str(g.patients))
            for g in found.groups
        ),
        columns=("predicted", "observed", "low", "high", "patients"),
        numbers=tuple((g.predicted, g.observed, g.low, g.high, g.patients) for g in found.groups),
    )


def words(results: Results) -> list[str]:
    """What the pooled curves are, how exact, and what they are not."""
    pooled, found = results.pooled_scores, auc(results)
    if pooled is None or found is None:
        return []
    bins = len(pooled.positives_by_score)
    added = (
        "securely, so that nobody saw a single site's" if results.aggregation == "secure" else "from each site's own"
    )
    said = [
        "These curves stand beside the sites' own, never instead of them: they mix differences between hospitals into "
        "discrimination, and large hospitals count for more.",
        f"Histograms of {bins} score bins were added up over {formats.count(len(pooled.sites), 'training site')} "
        f"{added}. Their AUC is {found.auc:.3f}; that of the patients themselves lies within {found.bound:.4f} of it, "
        "whatever the scores within a bin.",
    ]
    if results.pooled:
        said.append(f"The random-effects mean of the sites' AUCs, the headline, is {formats.auc(results.pooled.auc)}.")
    return said


def _site(panes: Panes, site: SiteResult) -> list[tuple[Cell, ...]]:
    """A site's own curves in grey: ROC from its 20 bins, calibration smooth or by risk group."""
    rows: list[tuple[Cell, ...]] = []
    if points := roc_points(site.federated):
        panes.trace(0, [(f, t) for _, f, t in points], FAINT, 1.25)
        rows += [("roc", site.site, f, t, None, None, None) for _, f, t in points]
    smooth = [(p, o) for p, o, *_ in site.assessed.curve] if site.assessed else []
    line = smooth or [(p, o) for p, o, _ in site.federated.calibration]
    if len(line) > 1:
        panes.trace(1, line, FAINT, 1.25)
    return rows + [("calibration", site.site, p, o, None, None, None) for p, o in line]


def _histograms(results: Results) -> tuple[tuple[float, ...], tuple[float, ...]]:
    pooled = results.pooled_scores
    return (pooled.positives_by_score, pooled.negatives_by_score) if pooled else ((), ())


def _usable(results: Results) -> bool:
    """Whether there are histograms with patients of both outcomes."""
    positives, negatives = _histograms(results)
    return sum(positives) > 0 and sum(negatives) > 0
