"""What a line refitted at a site would change: fitted on some of its scored patients, judged on the others.

recalibration(results), words(results)       # Table or None, sentences
"""

from __future__ import annotations

from fedloupe.assessing import Fit
from fedloupe_server.evidence import formats
from fedloupe_server.evidence.drawing import Cell
from fedloupe_server.evidence.results import Results
from fedloupe_server.evidence.tables import Table

KINDS = {"none": "as shipped", "intercept": "intercept moved", "line": "intercept and slope"}
COLUMNS = (
    "site", "fit", "fitted", "judged", "events_judged", "intercept", "slope_of_line", "in_the_large", "in_the_large_se",
    "slope", "slope_se", "observed_expected", "brier",
)  # fmt: skip


def recalibration(results: Results) -> Table | None:
    """Before and after at each site, on the same judging patients; None where no site has one."""
    rows: list[tuple[str, ...]] = []
    numbers: list[tuple[Cell, ...]] = []
    apart: list[int] = []
    for site in results.sites:
        by = site.assessed.recalibration if site.assessed else None
        if by is None:
            continue
        for fit in by.fits:
            if site.role == "validate":
                apart.append(len(rows))
            first = fit.kind == "none"
            rows.append(
                (
                    site.site,
                    KINDS[fit.kind],
                    formats.ABSENT if first else str(by.fitted),
                    f"{by.positives} / {by.judged}",
                    formats.with_error(fit.in_the_large, fit.in_the_large_se),
                    formats.with_error(fit.slope, fit.slope_se),
                    f"{fit.observed:.2f}",
                    f"{fit.brier:.3f}",
                )
            )
            numbers.append((site.site, *_numbers(fit, by.fitted, by.judged, by.positives)))
    if not rows:
        return None
    return Table(
        "Calibration before and after a line refitted at the site (± standard error); right: 0, 1 and 1",
        (
            "Site",
            "Probabilities",
            "Fitted on",
            "Judged on (events / patients)",
            "In the large",
            "Slope",
            "O/E",
            "Brier",
        ),
        tuple(rows),
        frozenset(apart),
        COLUMNS,
        tuple(numbers),
    )


def words(results: Results) -> list[str]:
    """Where the line comes from, what remains the headline, and where it helped or did not."""
    told = [(s.site, s.assessed.recalibration) for s in results.sites if s.assessed and s.assessed.recalibration]
    if not told:
        return []
    share = f" ({formats.percent(results.evidence.recalibration)})" if results.evidence else ""
    said = [
        f"At each site a random share{share} of the scored patients refits a line through the model's log-odds, and "
        "the others judge it: first as shipped, then with the intercept moved, then with intercept and slope. The "
        "headline everywhere else stays the model as shipped; nothing recalibrated was used for it.",
        "Neither line changes who ranks above whom, so the AUC stays as it is.",
    ]
    better = [name for name, by in told if by.fits[2].brier < by.fits[0].brier]
    worse = [name for name, by in told if by.fits[2].brier >= by.fits[0].brier]
    said.append(
        "With intercept and slope the Brier score of the judging patients falls at "
        + formats.count(len(better), "site")
        + (f" ({formats.listed(better)})" if better else "")
        + (f" and does not at {formats.listed(worse)}" if worse else "")
        + ". With this few patients a fall or a rise can be chance."
    )
    without = [s.site for s in results.sites if s.assessed and s.assessed.recalibration is None]
    if without:
        said.append(f"Too few patients for it at {formats.listed(without)}.")
    return said


def _numbers(fit: Fit, fitted: int, judged: int, positives: int) -> tuple[Cell, ...]:
    line = (fit.in_the_large, fit.in_the_large_se, fit.slope, fit.slope_se)
    return (fit.kind, fitted, judged, positives, *fit.line, *line, fit.observed, fit.brier)
