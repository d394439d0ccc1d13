"""Precision to expect, printed before any result: what the numbers of patients alone allow to be said.

precision(results), words(results)      # Table, sentences
"""

from __future__ import annotations

from math import sqrt

from fedloupe.metrics import hanley_mcneil_se
from fedloupe.metrics.discrimination import Z95
from fedloupe_server.evidence import formats
from fedloupe_server.evidence.results import Results, SiteResult
from fedloupe_server.evidence.tables import Table

AUC, SHARE = 0.75, 0.8
"""Assumed of every site, so that no result enters what is printed before it."""
ENOUGH = 100
"""Patients with the event, and without it, below which a validation is called small (Vergouwe et al., J Clin Epidemiol
2005;58:475; Collins et al., Stat Med 2016;35:214)."""


def precision(results: Results) -> Table:
    """Half-widths of 95 % intervals: AUC (Hanley-McNeil), sensitivity and specificity (Wilson), at assumed values."""
    rows, numbers = [], []
    for site in results.sites:
        patients, events = site.federated.patients, site.federated.positives
        others = patients - events
        halves = (Z95 * hanley_mcneil_se(AUC, events, others), half_width(SHARE, events), half_width(SHARE, others))
        few = [name for name, n in (("events", events), ("others", others)) if n < ENOUGH]
        mark = f"{formats.listed(few)} below {ENOUGH}" if few else formats.ABSENT
        rows.append((site.site, str(events), str(others), *(f"±{half:.2f}" for half in halves), mark))
        numbers.append((site.site, events, others, *halves, int(bool(few))))
    return Table(
        f"Half-width of the 95 % interval to expect, if the AUC is {AUC} and sensitivity and specificity are {SHARE}",
        ("Site", "Events", "Others", "AUC", "Sensitivity", "Specificity", "Few patients"),
        tuple(rows),
        frozenset(i for i, s in enumerate(results.sites) if s.role == "validate"),
        ("site", "events", "others", "auc_half_width", "sensitivity_half_width", "specificity_half_width", "few"),
        tuple(numbers),
    )


def half_width(share: float, patients: int) -> float:
    """Half of Wilson's 95 % interval of a share in `patients`: z sqrt(p (1 - p) / n + z^2 / 4n^2) / (1 + z^2 / n)."""
    if not patients:
        return 0.5
    square = Z95**2 / patients
    return Z95 * sqrt(share * (1 - share) / patients + square / (4 * patients)) / (1 + square)


def words(results: Results) -> list[str]:
    """What can be known of single sites, and where it is little."""
    halves = [Z95 * hanley_mcneil_se(AUC, *_both(s)) for s in results.sites]
    low, high = f"{min(halves):.2f}", f"{max(halves):.2f}"
    between = f"±{low}" if low == high else f"±{low} to ±{high}"
    said = [f"With these numbers of patients a site's AUC can be known to {between}, were it {AUC}."]
    few = [s.site for s in results.sites if min(_both(s)) < ENOUGH]
    if few:
        where = "reached at no site" if len(few) == len(results.sites) else f"not reached at {formats.listed(few)}"
        said.append(f"{ENOUGH} patients with and {ENOUGH} without the event, a common rule, are {where}.")
    return said


def _both(site: SiteResult) -> tuple[int, int]:
    return site.federated.positives, site.federated.patients - site.federated.positives
