"""What a statistician sees first: each feature and clinical value over all training sites, and against the outcome.

rows = describe(names, summary, counts)           # one `Variable` a column
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from fedloupe.messages import SummaryReply
from fedloupe.statistics import Moments, correlation, ring
from fedloupe.statistics.sketch import quantiles

QUANTILES = {"p05": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95}


@dataclass(frozen=True)
class Variable:
    """One column over the training patients of all sites; None where too few have a value.

    Attributes:
        patients: with a value, at sites whose policy shows it; missing: without, or not shown.
        mean, sd: exact, rounded once; sd with n - 1.
        p05, p25, median, p75, p95: from the sketch; see `fedloupe.statistics.sketch` for their error.
        correlation: Pearson's with the outcome as 0 and 1, over sites that tell of patients with and without it.
        correlated: patients behind it.
    """

    name: str
    patients: int
    missing: int
    mean: float | None
    sd: float | None
    p05: float | None
    p25: float | None
    median: float | None
    p75: float | None
    p95: float | None
    correlation: float | None
    correlated: int


def describe(names: Sequence[str], summary: SummaryReply, counts: NDArray[np.int64]) -> tuple[Variable, ...]:
    """One row a column.

    Args:
        names: of the m columns.
        summary: summed over sites.
        counts: (m, buckets) patients by bucket about the pooled mean, summed over sites.
    """
    moments, patients = Moments(summary.count, summary.total, summary.square), summary.patients
    mean, sd = moments.mean, moments.sd
    found = quantiles(counts, mean, sd, tuple(QUANTILES.values()))
    rows = []
    for i, name in enumerate(names):
        n = int(moments.count[i])
        with_outcome, correlated = _with_outcome(summary, i)
        rows.append(
            Variable(
                name=name,
                patients=n,
                missing=patients - n,
                mean=_known(mean[i] if n else np.nan),
                sd=_known(sd[i] if n > 1 else np.nan),
                **{key: _known(value) for key, value in zip(QUANTILES, found[i], strict=True)},
                correlation=_known(with_outcome),
                correlated=correlated,
            )
        )
    return tuple(rows)


def table(rows: Sequence[Variable]) -> str:
    """The rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Variable)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def _with_outcome(summary: SummaryReply, i: int) -> tuple[float, int]:
    """Correlation with the outcome, and patients behind it; an outcome of 0 and 1 is its own square."""
    n, events = int(summary.told_count[i]), int(summary.event_count[i])
    arrays = (summary.told_total, summary.told_square, summary.event_total)
    total, square, event_total = (int(ring.unpack(array[i : i + 1])[0]) for array in arrays)
    unit = 1 << ring.FRACTION
    return correlation(n, (total, events * unit), (square, events * unit**2), event_total * unit), n


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
