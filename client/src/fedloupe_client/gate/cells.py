"""Cells of patients that are large enough to show: counted, merged with their neighbours, or refused.

positives, negatives = coarsen(positives, negatives, cell=5)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from fedloupe_client.gate.errors import CellTooSmall

Group = tuple[float, float, int]
_Record = TypeVar("_Record", bound=BaseModel)


def changed(record: _Record, **values: object) -> _Record:
    """A validated copy with other values (`model_copy` would not validate)."""
    fields = {name: getattr(record, name) for name in type(record).model_fields}
    return type(record).model_validate({**fields, **values})


def check_cells(patients: int, positives: int, cell: int, what: str) -> None:
    """Enough patients with and without the event.

    Raises:
        CellTooSmall: fewer than `cell` of either.
    """
    for group, size in (("with", positives), ("without", patients - positives)):
        if size < cell:
            raise CellTooSmall(
                f"{size} patients {group} the event in {what}, the policy asks {cell}",
                remedy="bring more cases, or let the security officer lower `minimum_cell` in policy.yaml",
            )


def coarsen(
    positives: NDArray[Any], negatives: NDArray[Any], cell: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two score histograms in bins so wide that no cell is small.

    Neighbouring bins are merged, alike in both, until each merged bin holds of each outcome nobody or at least `cell`
    patients; its count is then spread evenly over the bins that it replaces. Totals stay as they are.

    Args:
        positives: (bins) whole numbers, >= 0.
        negatives: (bins) likewise.
        cell: smallest count that may be shown.
    """

    def small(start: int, stop: int) -> bool:
        return any(0 < int(counts[start:stop].sum()) < cell for counts in (positives, negatives))

    edges = [0]
    for stop in range(1, len(positives) + 1):
        if not small(edges[-1], stop):
            edges.append(stop)
    if edges[-1] < len(positives):
        edges.append(len(positives))
    while len(edges) > 2 and small(edges[-2], edges[-1]):
        del edges[-2]
    sizes = np.diff(edges)
    wide = [np.repeat(np.add.reduceat(counts, edges[:-1]) / sizes, sizes) for counts in (positives, negatives)]
    return wide[0], wide[1]


def merge_groups(groups: Sequence[Group], cell: int) -> tuple[Group, ...]:
    """Risk groups of at least `cell` patients: a smaller one joins its successor, the last its predecessor.

    Args:
        groups: mean predicted, observed rate, patients; in the order of risk.
        cell: smallest group that may be shown.
    """
    merged: list[Group] = []
    for group in groups:
        if merged and merged[-1][2] < cell:
            merged[-1] = _join(merged[-1], group)
        else:
            merged.append(group)
    if len(merged) > 1 and merged[-1][2] < cell:
        last = merged.pop()
        merged[-1] = _join(merged[-1], last)
    return tuple(group for group in merged if group[2] >= cell)


def _join(a: Group, b: Group) -> Group:
    size = a[2] + b[2]
    if size == 0:
        return a
    return ((a[0] * a[2] + b[0] * b[2]) / size, (a[1] * a[2] + b[1] * b[2]) / size, size)
