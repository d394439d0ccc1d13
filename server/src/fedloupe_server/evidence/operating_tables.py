"""Decisions at the frozen threshold: shares with their intervals, and the patients behind them.

operating(results), counts(results)        # Tables
"""

from __future__ import annotations

from fedloupe.metrics import Confusion, Share
from fedloupe_server.evidence import formats
from fedloupe_server.evidence.drawing import Cell
from fedloupe_server.evidence.results import Results, Scores
from fedloupe_server.evidence.tables import Table

MEASURES = {
    "accuracy": "Accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "PPV",
    "npv": "NPV",
}


def confusion(scores: Scores) -> Confusion | None:
    """Patients by prediction and outcome, from sensitivity and specificity; None where no threshold was given."""
    if scores.sensitivity is None or scores.specificity is None:
        return None
    negatives = scores.patients - scores.positives
    tp, tn = round(scores.sensitivity * scores.positives), round(scores.specificity * negatives)
    return Confusion(tp=tp, fp=negatives - tn, tn=tn, fn=scores.positives - tp)


def operating(results: Results) -> Table:
    """Accuracy, sensitivity, specificity and, at each site's own event rate, predictive values; Wilson intervals."""
    rows, numbers = [], []
    for site in results.sites:
        decided = confusion(site.federated)
        shares: list[Share | None] = [getattr(decided, name) if decided else None for name in MEASURES]
        rows.append((site.site, *(_shown(share) for share in shares)))
        numbers.append((site.site, *(value for share in shares for value in _values(share))))
    return Table(
        f"Decisions at the frozen threshold of {results.threshold:.2f}, in per cent (95 % interval after Wilson)",
        ("Site", *MEASURES.values()),
        tuple(rows),
        _apart(results),
        ("site", *(f"{name}{end}" for name in MEASURES for end in ("", "_low", "_high"))),
        tuple(numbers),
    )


def counts(results: Results) -> Table:
    """Patients by outcome and decision; without rows where no site was given a threshold."""
    told = [(s, decided) for s in results.sites if (decided := confusion(s.federated))]
    numbers = tuple((s.site, s.federated.patients, s.federated.positives, c.tp, c.fn, c.fp, c.tn) for s, c in told)
    return Table(
        "The patients behind these shares",
        ("Site", "Patients", "Events", "True positive", "False negative", "False positive", "True negative"),
        tuple(tuple(str(cell) for cell in row) for row in numbers),
        frozenset(i for i, (s, _) in enumerate(told) if s.role == "validate"),
        ("site", "patients", "events", "true_positive", "false_negative", "false_positive", "true_negative"),
        numbers,
    )


def _shown(share: Share | None) -> str:
    if share is None:
        return formats.ABSENT
    return f"{100 * share.value:.0f} ({100 * share.low:.0f} to {100 * share.high:.0f})"


def _values(share: Share | None) -> tuple[Cell, ...]:
    return (None, None, None) if share is None else (share.value, share.low, share.high)


def _apart(results: Results) -> frozenset[int]:
    return frozenset(i for i, s in enumerate(results.sites) if s.role == "validate")
