"""Across hospitals: what to expect on average and at a new one, by random-effects meta-analysis of site results.

heterogeneity(results)                                              # Table
slope(results), in_the_large(results), observed_expected(results)   # Figures: forest plots
words(results)                                                      # what the prediction interval means

Test patients of training sites are one group, patients of validate-only sites another, sites left out a third; they are
never mixed here. All need `assess` replies (`study.evidence`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fedloupe.metrics import pool_auc, pool_observed_expected, random_effects
from fedloupe.metrics.discrimination import Z95
from fedloupe_server.evidence import formats
from fedloupe_server.evidence.assessed import Assessed
from fedloupe_server.evidence.drawing import EXTERNAL, FEDERATED, INK, SOFT, Cell, Figure
from fedloupe_server.evidence.forests import Axis, Line, chart
from fedloupe_server.evidence.results import LeftOut, Results, SiteResult
from fedloupe_server.evidence.tables import Table, ratio

GROUPS = {"train": "training sites", "validate": "external sites", "left": "sites left out"}
"""The folds of leave-one-site-out are a group of their own: all patients of sites that a model was fitted without."""
Place = SiteResult | LeftOut
COLUMNS = (
    "measure", "sites_of", "sites", "estimate", "low", "high", "prediction_low", "prediction_high", "tau2", "tau2_of",
    "i2",
)  # fmt: skip


@dataclass(frozen=True)
class Across:
    """One measure pooled over a group of sites; `tau2` on the scale named; prediction limits from three sites on."""

    sites: int
    estimate: float
    low: float
    high: float
    prediction_low: float | None
    prediction_high: float | None
    tau2: float
    scale: str
    i2: float


def heterogeneity(results: Results) -> Table | None:
    """AUC, O/E, slope and calibration in the large over each group of sites; None without `evidence`."""
    if not any(s.assessed for s in results.sites):
        return None
    rows: list[tuple[str, ...]] = []
    numbers: list[tuple[Cell, ...]] = []
    apart: list[int] = []
    for label, pool in MEASURES.items():
        for role, group in GROUPS.items():
            found = pool(places(results, role))
            if found is None:
                continue
            if role == "validate":
                apart.append(len(rows))
            rows.append(
                (
                    f"{label}, {group}",
                    str(found.sites),
                    f"{formats.number(found.estimate)} ({formats.number(found.low)} to {formats.number(found.high)})",
                    _range(found),
                    f"{found.tau2:.3f} ({found.scale})",
                    formats.percent(found.i2),
                )
            )
            limits = (found.low, found.high, found.prediction_low, found.prediction_high)
            numbers.append((label, group, found.sites, found.estimate, *limits, found.tau2, found.scale, found.i2))
    return Table(
        "Random-effects means over sites (95 % interval after Hartung and Knapp), and what to expect at a new site",
        ("Measure", "Sites", "Mean (95 % interval)", "95 % prediction interval", "tau² (scale)", "I²"),
        tuple(rows),
        frozenset(apart),
        COLUMNS,
        tuple(numbers),
    )


def places(results: Results, role: str) -> list[Place]:
    """The sites of a group; no fold where none was assessed."""
    if role == "left":
        return [fold for fold in results.left_out if fold.assessed]
    return [s for s in results.sites if s.role == role]


def left_out(results: Results) -> Table | None:
    """Calibration at each site that the model was fitted without; None where no fold was assessed."""
    told = [(fold.site, fold.assessed) for fold in results.left_out if fold.assessed]
    if not told:
        return None
    ratios = [ratio(a) for _, a in told]
    return Table(
        "Calibration at each site, all its patients, of models that were fitted without it (± standard error)",
        ("Site left out", "Events / patients", "In the large", "Slope", "O/E (95 % interval)"),
        tuple(
            (
                site,
                f"{a.positives} / {a.patients}",
                formats.with_error(a.in_the_large, a.in_the_large_se),
                formats.with_error(a.slope, a.slope_se),
                formats.signed_interval(*found) if found else formats.ABSENT,
            )
            for (site, a), found in zip(told, ratios, strict=True)
        ),
        columns=(
            *("site", "patients", "events", "in_the_large", "in_the_large_se", "slope", "slope_se"),
            *("observed_expected", "low", "high"),
        ),
        numbers=tuple(
            (
                *(site, a.patients, a.positives, a.in_the_large, a.in_the_large_se, a.slope, a.slope_se),
                *(found or (None, None, None)),
            )
            for (site, a), found in zip(told, ratios, strict=True)
        ),
    )


def words(results: Results) -> list[str]:
    """What the intervals mean, and which sites are missing where."""
    if not any(s.assessed for s in results.sites):
        return []
    said = [
        "The interval of a mean says how well the average over hospitals like these is known. The prediction interval "
        "says what a single new hospital like these may find, and is at least as wide: hospitals may differ by more "
        "than chance.",
        "It needs at least three sites, and with few of them it is itself rough.",
        "A slope of 1, an intercept of 0 (calibration in the large) and an O/E of 1 are right. A slope below 1: risks "
        "are too extreme. An O/E above 1: more events than predicted.",
    ]
    few = [group for role, group in GROUPS.items() if 0 < len(places(results, role)) < 3]
    if few:
        said.append(f"For the {formats.listed(few)} there is none: they are fewer than three.")
    if places(results, "left"):
        said.append("Models of sites left out share training patients, so the intervals of these means are too narrow.")
    none = [s.site for s in results.sites if s.assessed and s.assessed.slope is None]
    if none:
        said.append(f"No finite slope fits best at {formats.listed(none)}, which the means of slopes leave out.")
    silent = [s.site for s in results.sites if s.assessed is None]
    if silent:
        said.append(f"Without an assessment, and left out of all but the AUC: {formats.listed(silent)}.")
    return said


def slope(results: Results) -> Figure | None:
    """Forest plot of calibration slopes."""
    lines = _lines(results, "Slope", lambda a: _normal(a.slope, a.slope_se), "no finite slope")
    return _forest("forest_slope", "Calibration slope", lines, 1.0, (-0.5, 3.0))


def in_the_large(results: Results) -> Figure | None:
    """Forest plot of calibration in the large."""
    lines = _lines(results, "In the large", lambda a: _normal(a.in_the_large, a.in_the_large_se), "not computed")
    return _forest("forest_in_the_large", "Calibration in the large, intercept at slope 1", lines, 0.0, (-2.0, 2.0))


def observed_expected(results: Results) -> Figure | None:
    """Forest plot of observed over expected events, on a log scale."""
    lines = _lines(results, "O/E", ratio, "no events expected")
    title = "Observed over expected events"
    return _forest("forest_observed_expected", title, lines, 1.0, (0.25, 4.0), log=True)


def _normal(value: float | None, se: float | None) -> tuple[float, float, float] | None:
    return None if value is None or se is None else (value, value - Z95 * se, value + Z95 * se)


def _lines(
    results: Results, measure: str, of: Callable[[Assessed], tuple[float, float, float] | None], absent: str
) -> list[Line]:
    lines: list[Line] = []
    for role, heading in (("train", "Training sites, test patients"), ("validate", "External sites (never trained)")):
        sites = places(results, role)
        if not any(s.assessed for s in sites):
            continue
        lines.append(Line("heading", heading))
        for site in sites:
            if site.assessed is None:
                continue
            told = of(site.assessed)
            patients, events = site.assessed.patients, site.assessed.positives
            if told:
                colour = EXTERNAL if role == "validate" else FEDERATED
                lines.append(Line("square", site.site, *told, patients, events, colour))
            else:
                lines.append(Line("note", site.site, patients=patients, events=events, note=absent))
        if mean := MEASURES[measure](sites):
            lines.append(Line("diamond", "Pooled", mean.estimate, mean.low, mean.high, colour=INK, bold=True))
            if mean.prediction_low is not None:
                low, high = mean.prediction_low, mean.prediction_high
                lines.append(Line("bar", "Expected at a new site", None, low, high, colour=SOFT))
    return lines


def _forest(
    name: str, title: str, lines: list[Line], reference: float, most: tuple[float, float], log: bool = False
) -> Figure | None:
    if not any(line.estimate is not None for line in lines):
        return None
    right = f"{reference:g} is right"
    axis = Axis.around(
        f"{title} (dashed: {right}{'; equal factors, equal lengths' if log else ''})", lines, reference, most, log
    )
    return chart(name, f"{title} of the federated model at each site", lines, axis)


def _auc(sites: list[Place]) -> Across | None:
    known = [(f.auc, f.auc_se, f.patients) for s in sites if (f := s.federated).poolable]
    if len(known) < 2:
        return None
    m = pool_auc(known)
    return Across(m.sites, m.auc, m.low, m.high, m.prediction_low, m.prediction_high, m.tau2, "logit", m.i2)


def _ratio(sites: list[Place]) -> Across | None:
    told = [(a.positives, a.expected * a.patients, a.patients) for s in sites if (a := s.assessed) and a.expected]
    if len(told) < 2:
        return None
    m = pool_observed_expected(told)
    return Across(m.sites, m.ratio, m.low, m.high, m.prediction_low, m.prediction_high, m.tau2, "log", m.i2)


def _own_scale(told: list[tuple[float | None, float | None]]) -> Across | None:
    known = [(value, se) for value, se in told if value is not None and se]
    if len(known) < 2:
        return None
    m = random_effects([value for value, _ in known], [se for _, se in known])
    return Across(m.sites, m.estimate, m.low, m.high, m.prediction_low, m.prediction_high, m.tau2, "own scale", m.i2)


def _range(found: Across) -> str:
    if found.prediction_low is None or found.prediction_high is None:
        return formats.ABSENT
    return f"{formats.number(found.prediction_low)} to {formats.number(found.prediction_high)}"


MEASURES: dict[str, Callable[[list[Place]], Across | None]] = {
    "AUC": _auc,
    "O/E": _ratio,
    "Slope": lambda sites: _own_scale([(a.slope, a.slope_se) for s in sites if (a := s.assessed)]),
    "In the large": lambda sites: _own_scale([(a.in_the_large, a.in_the_large_se) for s in sites if (a := s.assessed)]),
}
