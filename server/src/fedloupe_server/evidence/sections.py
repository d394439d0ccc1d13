"""The report's sections in their order, and every figure and table that stands in one of them.

draw(results)["forest"], tabulate(results)["sites"]      # by name: what is empty for these results is not there

A section's body is `templates/sections/<id>.html`; where it renders to nothing, or where there is no such file, the
report has no such section.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fedloupe.study import Study
from fedloupe_server.evidence import (
    baselines,
    before,
    cohort_shift,
    cohort_tables,
    decision,
    fairness,
    flow_chart,
    grades,
    intervals,
    journey,
    making,
    meta,
    operating_tables,
    paired,
    panels,
    pooled_curves,
    predicting,
    recalibration,
    scanners,
    smooth,
    subgroups,
    tables,
)
from fedloupe_server.evidence.drawing import Figure
from fedloupe_server.evidence.results import Results
from fedloupe_server.evidence.tables import Table


@dataclass(frozen=True)
class Section:
    """Anchor, heading, and the shorter name in the list of contents."""

    id: str
    title: str
    contents: str = ""

    @property
    def short(self) -> str:
        """What the list of contents calls it."""
        return self.contents or self.title


SECTIONS = (
    Section("glance", "At a glance"),
    Section("precision", "Precision to expect", "Precision"),
    Section("sites", "Sites and patients", "Sites"),
    Section("flow", "Cohort flow"),
    Section("table-1", "Table 1"),
    Section("missing", "Missing data"),
    Section("labels", "Outcome and labels", "Labels"),
    Section("splits", "Splits"),
    Section("development", "Development and evaluation patients", "Development"),
    Section("preprocessing", "Preprocessing"),
    Section("features", "Features"),
    Section("model", "Model"),
    Section("discrimination", "Discrimination"),
    Section("operating", "Decisions at the frozen threshold", "Decisions"),
    Section("calibration", "Calibration"),
    Section("recalibration", "Recalibration"),
    Section("decision", "Decision curves"),
    Section("heterogeneity", "Between hospitals"),
    Section("pooled-curves", "Pooled curves"),
    Section("subgroups", "Subgroups"),
    Section("fairness", "Fairness"),
    Section("multiclass", "Grades beside the binary endpoint", "Grades"),
    Section("external", "External validation"),
    Section("benefit", "Own model or federated"),
    Section("baselines", "Baselines"),
    Section("left-out", "Leave one site out"),
    Section("scanners", "Scanners"),
    Section("predictions", "Single predictions"),
    Section("privacy", "Privacy"),
    Section("rounds", "Rounds"),
    Section("limits", "Limits"),
    Section("provenance", "Provenance"),
    Section("not-recomputable", "What cannot be recomputed without the sites", "Not recomputable"),
)

FIGURES: dict[str, Callable[[Results], Figure | None]] = {
    "flow": flow_chart.chart,
    "forest": intervals.forest,
    "roc": panels.roc,
    "calibration": smooth.calibration,
    "decision": decision.curves,
    "forest_slope": meta.slope,
    "forest_in_the_large": meta.in_the_large,
    "forest_observed_expected": meta.observed_expected,
    "pooled_curves": pooled_curves.curves,
    "subgroups": subgroups.forest,
    "external": intervals.external,
    "benefit": intervals.benefit,
    "left_out": intervals.left_out,
    "rounds": journey.rounds,
}
TABLES: dict[str, Callable[[Results], Table | None]] = {
    "precision": before.precision,
    "sites": tables.sites,
    "features": lambda results: tables.quality(results.quality) if results.quality else None,
    "discrimination": smooth.discrimination,
    "operating": operating_tables.operating,
    "counts": operating_tables.counts,
    "calibration": tables.calibration,
    "recalibration": recalibration.recalibration,
    "net_benefit": decision.benefits,
    "heterogeneity": meta.heterogeneity,
    "pooled_calibration": pooled_curves.calibration,
    "subgroups": subgroups.by_site,
    "fairness": fairness.table,
    "fairness_gaps": fairness.gaps,
    "grades": grades.grades,
    "concordance": grades.concordance,
    "paired": paired.compared,
    "paired_means": paired.pooled,
    "baselines": lambda results: baselines.table(results) if any(s.baselines for s in results.sites) else None,
    "left_out": baselines.left_out,
    "left_out_calibration": meta.left_out,
    "scanners": scanners.unseen,
    "calibrated": predicting.calibrated,
    "covered": predicting.covered,
    "privacy": tables.privacy,
    "provenance": tables.provenance,
    "flow": lambda results: cohort_tables.flow(results) if results.evidence else None,
    "table_1": cohort_tables.table_one,
    "missing": cohort_tables.missing,
    "development": cohort_shift.development_against_evaluation,
    "sites_apart": cohort_shift.site_heterogeneity,
    "not_recomputable": making.unrepeatable,
}
STUDIED: dict[str, Callable[[Study, Results], Table | None]] = {
    "labels": cohort_tables.labels,
    "splits": cohort_tables.splits,
    "declared": lambda study, _: making.declared(study),
}
"""Tables for which the study is needed as well."""


def draw(results: Results) -> dict[str, Figure]:
    """The figures that these results have something to show in, by name."""
    drawn = {name: figure(results) for name, figure in FIGURES.items()}
    return {name: figure for name, figure in drawn.items() if figure}


def tabulate(results: Results, study: Study | None = None) -> dict[str, Table]:
    """The tables that these results, and the study where it is at hand, have something to show in, by name."""
    made = {name: table(results) for name, table in TABLES.items()}
    if study is not None:
        made |= {name: table(study, results) for name, table in STUDIED.items()}
    return {name: table for name, table in made.items() if table and table.rows}
