"""Decision curves: is acting on the model better than treating everybody, or nobody?

positives, negatives = score_histogram(labels, scores, bins=100)      # may be summed over sites
decision_curve(positives, negatives, np.arange(101) / 100, 0.05, 0.5)

A threshold of 0.2 says that one needless treatment is as bad as a quarter of a missed one: 0.2 / (1 - 0.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fedloupe.metrics.checks import CountsInvalid


@dataclass(frozen=True)
class NetBenefit:
    """Net benefit at one threshold probability, in true positives a patient.

    Attributes:
        threshold: in (0, 1); whoever reaches it is treated.
        model, treat_all, treat_none: net benefit of each strategy; the last is 0.
        standardized, standardized_all: the first two over the event rate, at most 1 (Kerr et al., J Clin Oncol
            2016;34:2534); None without an event.
    """

    threshold: float
    model: float
    treat_all: float
    treat_none: float
    standardized: float | None
    standardized_all: float | None


def net_benefit(tp: float, fp: float, patients: float, threshold: float) -> float:
    """TP/n - FP/n p/(1 - p), p the threshold (Vickers & Elkin, Med Decis Making 2006;26:565).

    Raises:
        CountsInvalid: `patients` not above 0, more predicted positive than that, or `threshold` outside [0, 1).
    """
    if not (patients > 0 and tp >= 0 and fp >= 0 and tp + fp <= patients and 0 <= threshold < 1):
        raise CountsInvalid(
            f"{tp} true and {fp} false positives of {patients} patients at threshold {threshold}",
            remedy="count each patient once, and take a threshold from 0 to below 1",
        )
    return (tp - fp * threshold / (1 - threshold)) / patients


def decision_curve(
    positives_by_bin: ArrayLike, negatives_by_bin: ArrayLike, edges: ArrayLike, low: float, high: float
) -> tuple[NetBenefit, ...]:
    """Net benefit at every edge from `low` to `high`, exactly that of single patients: the edges are the thresholds.

    Args:
        positives_by_bin, negatives_by_bin: (bins) patients with and without the event, as `score_histogram` counts
            them: whoever reaches a bin's lower edge is in that bin or above.
        edges: (bins + 1) ascending, in [0, 1].
        low, high: declared range of thresholds; edges at 0 and 1 are left out.

    Raises:
        CountsInvalid: counts below 0 or of nobody, or not one more edge than bins, ascending.
    """
    positives, negatives = (np.asarray(row, dtype=np.float64) for row in (positives_by_bin, negatives_by_bin))
    cuts = np.asarray(edges, dtype=np.float64)
    if not (
        positives.ndim == 1
        and positives.size > 0
        and positives.shape == negatives.shape
        and cuts.shape == (positives.size + 1,)
        and (np.diff(cuts) > 0).all()
        and min(positives.min(), negatives.min()) >= 0
        and (positives + negatives).sum() > 0
    ):
        raise CountsInvalid(
            f"{positives.size} and {negatives.size} bins with {cuts.size} edges",
            remedy="use `score_histogram`'s counts",
        )
    events, patients = float(positives.sum()), float((positives + negatives).sum())
    rows = []
    for place in range(positives.size):
        threshold = float(cuts[place])
        if not (0 < threshold < 1 and low - 1e-9 <= threshold <= high + 1e-9):
            continue
        model = net_benefit(float(positives[place:].sum()), float(negatives[place:].sum()), patients, threshold)
        everyone = net_benefit(events, patients - events, patients, threshold)
        scaled = [value * patients / events if events else None for value in (model, everyone)]
        rows.append(NetBenefit(threshold, model, everyone, 0.0, *scaled))
    return tuple(rows)
