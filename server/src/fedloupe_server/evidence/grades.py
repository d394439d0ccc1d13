"""The site's own scale beside the binary endpoint: how the model's probability lies in each grade.

grades(results), concordance(results)        # Tables or None
words(results)
"""

from __future__ import annotations

from scipy.special import expit, logit

from fedloupe.metrics.discrimination import Z95
from fedloupe_server.evidence import formats
from fedloupe_server.evidence.drawing import Cell
from fedloupe_server.evidence.results import Results
from fedloupe_server.evidence.tables import Table


def grades(results: Results) -> Table | None:
    """Per site and grade: patients, mean probability, share called positive; None where no site shows grades."""
    told = [(s, g) for s in results.sites if s.assessed for g in s.assessed.grades]
    if not told:
        return None
    return Table(
        f"The binary model in each grade: mean probability, and share at or above {results.threshold:.2f}",
        ("Site", "Scale", "Grade", "Patients", "Mean probability", "Called positive"),
        tuple(
            (
                s.site,
                (s.cohort.scale if s.cohort else None) or formats.ABSENT,
                g.grade,
                str(g.patients),
                formats.percent(g.predicted),
                formats.percent(g.called),
            )
            for s, g in told
        ),
        frozenset(i for i, (s, _) in enumerate(told) if s.role == "validate"),
        ("site", "scale", "grade", "patients", "mean_probability", "called"),
        tuple(
            (s.site, s.cohort.scale if s.cohort else None, g.grade, g.patients, g.predicted, g.called) for s, g in told
        ),
    )


def concordance(results: Results) -> Table | None:
    """Concordance of grades and probabilities with its 95 % interval on the logit scale, beside the binary AUC."""
    rows: list[tuple[str, ...]] = []
    numbers: list[tuple[Cell, ...]] = []
    apart: list[int] = []
    for site in results.sites:
        if site.assessed is None or site.assessed.concordance is None or site.assessed.concordance_se is None:
            continue
        if site.role == "validate":
            apart.append(len(rows))
        value, se, auc = site.assessed.concordance, site.assessed.concordance_se, site.federated.auc
        low, high = limits(value, se)
        rows.append((site.site, formats.with_interval(value, low, high), formats.auc(auc)))
        numbers.append((site.site, value, se, low, high, auc))
    if not rows:
        return None
    return Table(
        "Concordance over all pairs of patients with different grades, beside the AUC of the binary endpoint",
        ("Site", "Concordance (95 % interval)", "AUC, binary"),
        tuple(rows),
        frozenset(apart),
        ("site", "concordance", "se", "low", "high", "auc_binary"),
        tuple(numbers),
    )


def limits(value: float, se: float) -> tuple[float, float]:
    """95 % interval of a share of pairs: normal on the logit scale; at 0 or 1 on its own, held within [0, 1]."""
    if not 0 < value < 1:
        return max(0.0, value - Z95 * se), min(1.0, value + Z95 * se)
    half = Z95 * se / (value * (1 - value))
    return float(expit(logit(value) - half)), float(expit(logit(value) + half))


def words(results: Results) -> list[str]:
    """What is compared, and where a scale does not show."""
    if not any(s.assessed and (s.assessed.grades or s.assessed.concordance is not None) for s in results.sites):
        return []
    said = [
        "The model predicts the binary endpoint alone. Where a site declares a scale of several grades, this is how "
        "its probability lies in each of them. Concordance: of two patients with different grades, how often the one "
        "with the better response has the higher probability, ties half; 0.5 is chance.",
        "Grades of different scales are not the same thing, so they are not pooled over sites.",
    ]
    silent = [s.site for s in results.sites if s.assessed and not s.assessed.grades]
    if silent:
        said.append(f"No grades are shown for {formats.listed(silent)}: none are declared, or groups are too small.")
    return said
