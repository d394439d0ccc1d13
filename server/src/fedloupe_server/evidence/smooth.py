"""Calibration and discrimination at each site: smooth curves with bands, and both intervals of the AUC side by side.

calibration(results)               # Figure
discrimination(results)            # Table
words(results)                     # what the curve is, and where none could be fitted
"""

from __future__ import annotations

from math import sqrt

from fedloupe_server.evidence import formats
from fedloupe_server.evidence.drawing import FAINT, Cell, Figure
from fedloupe_server.evidence.panes import UNIT, Pane, Panes, colour_of, told
from fedloupe_server.evidence.results import Results, SiteResult
from fedloupe_server.evidence.tables import Table

HEADER = ("site", "kind", "predicted", "observed", "low", "high", "patients")


def calibration(results: Results) -> Figure:
    """Observed against predicted: the smooth curve with its 95 % band, and risk groups as discs behind it."""
    panes = Panes(
        "calibration",
        "Calibration of the federated model at each site",
        [Pane.of(site) for site in results.sites],
        UNIT,
        UNIT,
        "Predicted",
        "Observed",
        told(results),
    )
    largest = max((n for s in results.sites for *_, n in s.federated.calibration), default=1)
    rows: list[tuple[Cell, ...]] = []
    for number, site in enumerate(results.sites):
        groups, curve, colour = site.federated.calibration, _curve(site), colour_of(site)
        panes.diagonal(number)
        if not groups and not curve:
            panes.note(number, "too few patients")
        if len(groups) > 1 and not curve:
            panes.trace(number, [(p, o) for p, o, _ in groups], colour, 1.25)
        for predicted, observed, n in groups:
            x, y = panes.at(number, predicted, observed)
            panes.drawing.circle(x, y, 6.5 * sqrt(n / largest), FAINT if curve else colour, "#ffffff", 1)
        if curve:
            panes.band(number, [(p, low) for p, _, low, _ in curve], [(p, high) for p, *_, high in curve], colour)
            panes.trace(number, [(p, o) for p, o, *_ in curve], colour, 2)
        rows += [(site.site, "group", p, o, None, None, n) for p, o, n in groups]
        rows += [(site.site, "curve", p, o, low, high, None) for p, o, low, high in curve]
    return Figure("calibration", panes.drawing.render(), HEADER, tuple(rows))


def words(results: Results) -> list[str]:
    """What the discs and the line are; which sites have no line."""
    said = [
        "Discs are risk groups of about equal size, merged where a group would fall below the site's smallest cell; a "
        "disc's area follows the number of patients. On the dashed line predicted and observed agree."
    ]
    shown = [s for s in results.sites if s.assessed]
    if not shown:
        return said
    said.append(
        "Line and band: a smooth curve fitted at the site to all scored patients, with its 95 % interval, over the "
        "range where most of them lie."
    )
    if without := [s.site for s in results.sites if not _curve(s)]:
        said.append(f"No curve could be fitted at {formats.listed(without)}.")
    return said


def discrimination(results: Results) -> Table | None:
    """AUC at each site with the interval after DeLong and that of the bootstrap; None without `evidence`."""
    if not any(s.assessed for s in results.sites):
        return None
    rows, numbers = [], []
    for site in results.sites:
        s, more = site.federated, site.assessed
        low, high = (more.low, more.high) if more else (None, None)
        rows.append(
            (
                site.site,
                str(s.patients),
                str(s.positives),
                formats.auc(s.auc),
                formats.interval(s.auc_low, s.auc_high),
                formats.interval(low, high),
                f"±{(s.auc_high - s.auc_low) / 2:.2f}",
            )
        )
        numbers.append((site.site, s.patients, s.positives, s.auc, s.auc_se, s.auc_low, s.auc_high, low, high))
    resamples = f", {results.evidence.resamples:,} resamples" if results.evidence else ""
    return Table(
        f"AUC of the federated model at each site, with two 95 % intervals: DeLong, and bootstrap{resamples}",
        ("Site", "Patients", "Events", "AUC", "DeLong", "Bootstrap", "Half-width"),
        tuple(rows),
        frozenset(i for i, s in enumerate(results.sites) if s.role == "validate"),
        ("site", "patients", "events", "auc", "se", "delong_low", "delong_high", "bootstrap_low", "bootstrap_high"),
        tuple(numbers),
    )


def _curve(site: SiteResult) -> tuple[tuple[float, float, float, float], ...]:
    return site.assessed.curve if site.assessed else ()
