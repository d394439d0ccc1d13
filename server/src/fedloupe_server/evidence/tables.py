"""The report's tables: header and rows of formatted cells, nothing about their look.

sites(results), calibration(results), provenance(results)
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

from fedloupe.metrics import log_observed_expected
from fedloupe.metrics.discrimination import Z95
from fedloupe_server.evidence import formats, private
from fedloupe_server.evidence.assessed import Assessed
from fedloupe_server.evidence.drawing import Cell, rows_as_csv
from fedloupe_server.evidence.results import Results, Scores, SiteResult
from fedloupe_server.evidence.summary import mean_elsewhere
from fedloupe_server.statistics.quality import QualitySummary

AUC = ("auc", "low", "high")
SITE = ("site", "role", "train", "tune", "test", "events", "excluded", "masks_drawn")


@dataclass(frozen=True)
class Table:
    """A table; the first cell of each row is its header. `apart` holds the row numbers of validate-only sites.

    `columns` and `numbers` are the same table, or a longer one, as numbers for a file.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    apart: frozenset[int] = frozenset()
    columns: tuple[str, ...] = ()
    numbers: tuple[tuple[Cell, ...], ...] = ()

    @property
    def csv(self) -> str:
        """`columns` and `numbers`, not rounded, empty where a value is absent; without them the cells as shown."""
        return rows_as_csv(self.columns or self.header, self.numbers if self.columns else self.rows, exact=True)


def sites(results: Results) -> Table:
    """Who took part, with how many patients, and each model's AUC; columns that are empty everywhere are left out."""
    header = (
        "Site",
        "Role",
        "Train / tune / test",
        "Events",
        "Excluded",
        "Masks drawn by a model",
        "Own model",
        "Federated (95 % interval)",
        "Personal (95 % interval)",
        "Logistic",
        "Best possible",
        "Epsilon, record-level",
    )
    rows = [
        (
            s.site,
            "trains" if s.role == "train" else "external",
            f"{s.train} / {s.tune} / {s.test}",
            str(s.positives),
            str(sum(s.excluded.values())),
            _drawn(s),
            _own(s),
            formats.with_interval(s.federated.auc, s.federated.auc_low, s.federated.auc_high),
            formats.with_interval(s.personal.auc, s.personal.auc_low, s.personal.auc_high)
            if s.personal
            else formats.ABSENT,
            formats.auc(s.logistic.auc if s.logistic else None),
            formats.auc(s.federated.reference_auc),
            formats.epsilon(s.epsilon),
        )
        for s in results.sites
    ]
    keep = [i for i in range(len(header)) if any(row[i] != formats.ABSENT for row in rows)]
    models = ("federated", "own", "personal", "logistic")
    return Table(
        "Sites, patients and AUC of each model",
        tuple(header[i] for i in keep),
        tuple(tuple(row[i] for i in keep) for row in rows),
        _apart(results),
        (*SITE, *(f"{model}_{column}" for model in models for column in AUC), "best_possible", "epsilon"),
        tuple(
            (
                *(s.site, s.role, s.train, s.tune, s.test, s.positives, sum(s.excluded.values()), s.drawn),
                *(value for scores in (s.federated, s.local, s.personal, s.logistic) for value in auc_values(scores)),
                s.federated.reference_auc,
                s.epsilon,
            )
            for s in results.sites
        ),
    )


def auc_values(scores: Scores | None) -> tuple[Cell, ...]:
    """The columns `AUC` of one model."""
    return (scores.auc, scores.auc_low, scores.auc_high) if scores else (None, None, None)


def quality(found: QualitySummary) -> Table:
    """How many features of each filter, and then of each family, were offered, repeat, and entered the model."""
    parts = (("Image", found.by_filter), ("Family", found.by_family))
    return Table(
        "Features offered, repeatable and kept",
        ("Features", "Offered", "Repeatable", "Kept", "Median ICC"),
        tuple(
            (f"{part}: {row.group}", str(row.offered), str(row.stable), str(row.kept), formats.auc(row.median))
            for part, rows in parts
            for row in rows
        ),
        columns=("by", "group", "offered", "repeatable", "kept", "median_icc"),
        numbers=tuple(
            (part.lower(), row.group, row.offered, row.stable, row.kept, row.median)
            for part, rows in parts
            for row in rows
        ),
    )


def calibration(results: Results) -> Table:
    """Mean prediction and outcome, how they agree in height and spread, and the Brier score."""
    rows, numbers = [], []
    for s in results.sites:
        rate, told = s.federated.positives / s.federated.patients, s.assessed
        shown = sum(n for *_, n in s.federated.calibration)
        whole = shown == s.federated.patients
        grouped = sum(p * n for p, _, n in s.federated.calibration) / shown if whole else None
        predicted = told.expected if told else grouped
        found = ratio(told) if told else None
        alone = f"{rate / predicted:.1f}" if predicted else formats.ABSENT
        large = (told.in_the_large, told.in_the_large_se) if told else (s.federated.in_the_large, None)
        slope = (told.slope, told.slope_se) if told else (s.federated.slope, None)
        rows.append(
            (
                s.site,
                formats.percent(predicted),
                formats.percent(rate),
                formats.signed_interval(*found) if found else alone,
                formats.with_error(*large),
                formats.with_error(*slope),
                f"{s.federated.brier:.2f}",
                f"{rate * (1 - rate):.2f}",
            )
        )
        o_e = found or (rate / predicted if predicted else None, None, None)
        numbers.append((s.site, predicted, rate, *o_e, *large, *slope, s.federated.brier, rate * (1 - rate)))
    return Table(
        "Mean prediction and outcome; intercept at slope 1 and slope with their standard errors",
        (
            *("Site", "Predicted", "Observed", "O/E (95 % interval)", "In the large", "Slope"),
            *("Brier score", "Brier of the event rate alone"),
        ),
        tuple(rows),
        _apart(results),
        (
            *("site", "predicted", "observed", "observed_expected", "low", "high", "in_the_large", "in_the_large_se"),
            *("slope", "slope_se", "brier", "brier_of_the_event_rate"),
        ),
        tuple(numbers),
    )


def ratio(told: Assessed) -> tuple[float, float, float] | None:
    """Observed over expected events at a site, with its 95 % interval (normal on the log scale)."""
    if not told.expected:
        return None
    expected = told.expected * told.patients
    centre, se = log_observed_expected(told.positives, expected, told.patients)
    value = told.positives / expected
    return value, min(value, exp(centre - Z95 * se)), max(value, exp(centre + Z95 * se))


def privacy(results: Results) -> Table:
    """The guarantee, what was added up how, and epsilon by site where training was private at record level."""
    sums = "added up securely" if results.aggregation == "secure" else "received from each hospital, then added up"
    rows = [
        ("Formal guarantee", private.in_short(results)),
        ("Weights and fitted statistics", sums),
        ("Hospitals' own models", "left them" if results.local_models == "everywhere" else "stayed there"),
    ]
    if results.client_level:
        rows.append(("Epsilon of all rounds", formats.epsilon(results.client_level.epsilon)))
    planned = results.planned_epsilon
    allowed = "" if planned is None else f" of {formats.epsilon(planned)} allowed"
    rows += [
        (f"Epsilon spent by {s.site}", f"{formats.epsilon(s.epsilon)}{allowed}")
        for s in results.sites
        if s.epsilon is not None
    ]
    return Table("Privacy of this run", ("What", "How"), tuple(rows))


def provenance(results: Results) -> Table:
    """What made these numbers; digests in full, so that they can be checked."""
    rows = [
        ("Run", results.run),
        ("Study", results.study),
        ("FedLoupe", results.version),
        ("Study fingerprint", results.fingerprint),
        ("Seed", str(results.seed)),
        ("Strategy", results.strategy),
        ("Privacy", private.in_short(results)),
        ("Rounds", str(len(results.rounds))),
        ("Parameters of the model", f"{results.parameters:,}"),
        ("Features", f"{results.features:,}"),
        ("Preparation", f"{results.preparation} ({results.preparation_origin})"),
        ("Frozen: weights, preparation, threshold", results.frozen),
    ]
    if results.client_level:
        rows.append(("Noise multiplier, over the clipping bound", f"{results.client_level.noise_multiplier:g}"))
    if results.harmonised:
        rows.append(("Harmonisation", results.harmonised.harmoniser))
    if results.predicted:
        rows.append(("Calibration, sets and range", results.predicted.digest))
    if results.rounds:
        rows.append(("Weights after the last round", results.rounds[-1].weights))
    rows += [(f"Data of {s.site} (keyed digest)", s.data_digest) for s in results.sites]
    rows += [(f"Model that drew masks at {s.site}", s.drawn_by) for s in results.sites if s.drawn_by]
    return Table("Provenance", ("Item", "Value"), tuple(rows))


def _own(site: SiteResult) -> str:
    if site.role == "validate":
        mean = mean_elsewhere(site)
        return formats.ABSENT if mean is None else f"{formats.auc(mean)} (mean of {len(site.local_elsewhere)})"
    return formats.auc(site.local.auc if site.local else None)


def _drawn(site: SiteResult) -> str:
    return f"{site.drawn} ({formats.short(site.drawn_by)})" if site.drawn and site.drawn_by else formats.ABSENT


def _apart(results: Results) -> frozenset[int]:
    return frozenset(i for i, s in enumerate(results.sites) if s.role == "validate")
