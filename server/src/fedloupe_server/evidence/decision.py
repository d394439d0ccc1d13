"""Decision curves: does acting on the model do more good than treating everybody, or nobody?

curves(results)                     # Figure: one square a site
benefits(results), words(results)   # Table at a few thresholds, sentences

From the 20-bin histograms of scores: the bins' edges, every 0.05, are the thresholds. `study.evidence.decision`
declares their range before any result is known.
"""

from __future__ import annotations

from math import ceil, floor

from fedloupe.metrics import NetBenefit, decision_curve
from fedloupe_server.evidence import formats
from fedloupe_server.evidence.drawing import INK, SOFT, Cell, Figure
from fedloupe_server.evidence.panels import adds_up
from fedloupe_server.evidence.panes import Pane, Panes, Ticks, colour_of, told
from fedloupe_server.evidence.results import Results, Scores
from fedloupe_server.evidence.tables import Table

FEW = 5
"""Thresholds in the table, spread over the declared range."""


def points(results: Results, scores: Scores) -> tuple[NetBenefit, ...]:
    """Net benefit at each threshold of the declared range; nothing where the histograms do not add up."""
    if results.evidence is None or not adds_up(scores):
        return ()
    bins = len(scores.positives_by_score)
    edges = [edge / bins for edge in range(bins + 1)]
    # Shares of patients in spread bins as multiples of 2^-20, whose sums are exact: nobody is counted one and a bit.
    positives, negatives = (
        [round(n * 2**20) / 2**20 for n in row] for row in (scores.positives_by_score, scores.negatives_by_score)
    )
    return decision_curve(positives, negatives, edges, *results.evidence.decision)


def curves(results: Results) -> Figure | None:
    """Net benefit of the model, of treating everybody and of treating nobody, over threshold probability."""
    found = {s.site: points(results, s.federated) for s in results.sites}
    if results.evidence is None or not any(found.values()):
        return None
    low, high = results.evidence.decision
    top = max(max(p.model, p.treat_all) for line in found.values() for p in line)
    up = ceil(top * 10 + 1e-9) / 10
    across = Ticks(
        low,
        high,
        tuple(t / 10 for t in range(ceil(low * 10 - 1e-9), floor(high * 10 + 1e-9) + 1, 1 if high - low < 0.35 else 2)),
    )
    panes = Panes(
        "decision",
        "Decision curve of the federated model at each site",
        [Pane.of(s) for s in results.sites],
        across,
        Ticks(-0.1, up, tuple(t / 10 for t in range(-1, round(up * 10) + 1))),
        "Threshold probability",
        "Net benefit",
        told(results),
    )
    rows: list[tuple[Cell, ...]] = []
    for number, site in enumerate(results.sites):
        line = found[site.site]
        if not line:
            panes.note(number, "histogram withheld", "by the site's policy")
            continue
        panes.drawing.line(*panes.at(number, low, 0), *panes.at(number, high, 0), INK, 1)
        panes.trace(number, [(p.threshold, p.treat_all) for p in line], SOFT, 1.5, "5 3")
        panes.trace(number, [(p.threshold, p.model) for p in line], colour_of(site), 2.25)
        if low <= results.threshold <= high:
            x, y = panes.at(number, results.threshold, -0.1)
            panes.drawing.line(x, y, x, y - 9, INK, 1.5)
        rows += [(site.site, p.threshold, p.model, p.treat_all, p.treat_none) for p in line]
    return Figure(
        "decision", panes.drawing.render(), ("site", "threshold", "model", "treat_all", "treat_none"), tuple(rows)
    )


def benefits(results: Results) -> Table | None:
    """Net benefit of the model, and of treating everybody, at a few thresholds; per 100 patients."""
    found = [(s, points(results, s.federated)) for s in results.sites]
    thresholds = sorted({p.threshold for _, line in found for p in line})
    if not thresholds:
        return None
    step = max(1, (len(thresholds) - 1) / (FEW - 1))
    some = sorted({thresholds[min(round(n * step), len(thresholds) - 1)] for n in range(FEW)})
    shown = [(s, {p.threshold: p for p in line}) for s, line in found if line]
    return Table(
        "Net benefit of the model, in true positives for 100 patients (in brackets: of treating everybody)",
        ("Site", *(f"at {t:.2f}" for t in some)),
        tuple(
            (
                s.site,
                *(
                    f"{formats.number(100 * line[t].model, 1)} ({formats.number(100 * line[t].treat_all, 1)})"
                    for t in some
                ),
            )
            for s, line in shown
        ),
        frozenset(i for i, (s, _) in enumerate(shown) if s.role == "validate"),
        ("site", "threshold", "model", "treat_all", "standardized_model", "standardized_treat_all"),
        tuple(
            (s.site, p.threshold, p.model, p.treat_all, p.standardized, p.standardized_all)
            for s, line in shown
            for p in line.values()
        ),
    )


def words(results: Results) -> list[str]:
    """What net benefit weighs, what the curves rest on, and where the model is not worth acting on."""
    found = {s.site: points(results, s.federated) for s in results.sites}
    if results.evidence is None or not any(found.values()):
        return []
    low, high = results.evidence.decision
    said = [
        "Net benefit counts true positives, less false ones weighted by the odds of the threshold: at a threshold of "
        "0.20 one needless treatment weighs a quarter of a missed one (Vickers and Elkin 2006). The model is worth "
        "acting on where its curve is above both others.",
        f"The range, {low:g} to {high:g}, was declared before any result. Thresholds are the edges of the sites' score "
        "bins, every 0.05; where a site's policy merged bins, their patients are spread evenly over them, and there "
        "the curve is smoother than the truth.",
    ]
    under = {
        name: [p.threshold for p in line if p.model < max(p.treat_all, p.treat_none) - 1e-12]
        for name, line in found.items()
    }
    beaten = [f"{name} (at {_spread(cuts)})" for name, cuts in under.items() if cuts]
    if beaten:
        said.append(f"Below treating everybody or nobody: {formats.listed(beaten)}.")
    else:
        said.append("Nowhere in this range is it below treating everybody or nobody.")
    if without := [name for name, line in found.items() if not line]:
        said.append(f"No curve for {formats.listed(without)}, whose policy withholds the histogram.")
    return [*said, "The curves have no intervals: with few patients they are rough."]


def _spread(cuts: list[float]) -> str:
    return (
        f"{cuts[0]:.2f}"
        if len(cuts) == 1
        else f"{formats.count(len(cuts), 'threshold')} from {cuts[0]:.2f} to {cuts[-1]:.2f}"
    )
