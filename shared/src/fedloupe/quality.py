"""Which features repeat: the judgement that a federation, or a site for itself, makes from summed versions.

judged = judge(sums, study.quality)          # intraclass correlations, and who reaches `minimum_icc`
rows = by_filter(verdicts)                   # offered, stable, kept
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from fedloupe.metrics import Intraclass, RepeatSums, intraclass, mean_correlation
from fedloupe.study import Quality

MINIMUM_PATIENTS = 10
"""A feature is not judged on fewer patients: of two versions, the interval of 0.75 is already over 0.6 wide."""


@dataclass(frozen=True)
class Judged:
    """What summed versions say about p features.

    Attributes:
        count: (p) patients with all versions.
        repeat: one-way correlation over the versions that should measure the same; NaN without any.
        settings: (p) mean correlation over grey levels; NaN without any.
        kinds: correlation of each kind of perturbation alone, by kind; bins: `settings`.
        why: (p) "" where a feature is stable; else `few patients`, `unstable` or `grey levels`.
    """

    count: NDArray[np.float64]
    repeat: Intraclass
    settings: NDArray[np.float64]
    kinds: dict[str, NDArray[np.float64]]
    why: tuple[str, ...]


def judge(sums: RepeatSums, quality: Quality) -> Judged:
    """Intraclass correlations of summed versions, and the study's rule.

    Repeats are judged by ICC(1,1), where a shift common to all patients counts: the next contour or scan has it or has
    it not. Grey levels are judged by ICC(3,1) of scaled versions: the study fixes them, and with twice the levels a
    contrast is four times as large, so that only the standing of patients among each other matters.

    Args:
        sums: over patients; versions as `quality` counts them.
        quality: the study's section.
    """
    nothing = np.full(len(sums.count), np.nan)
    unknown = Intraclass(nothing, nothing, nothing)
    repeat = intraclass(sums.of(quality.repeats), "one-way") if len(quality.repeats) > 1 else unknown
    settings = mean_correlation(sums.of(quality.settings)) if len(quality.settings) > 1 else nothing
    kinds: dict[str, NDArray[np.float64]] = {}
    for kind in dict.fromkeys(change.kind for change in quality.perturbations):
        same = [i for i, change in enumerate(quality.perturbations, start=1) if change.kind == kind]
        kinds[kind] = settings if kind == "bins" else intraclass(sums.of((0, *same)), "one-way").value
    why = np.full(len(sums.count), "", dtype="U12")
    if len(quality.settings) > 1:
        why[~(settings >= quality.minimum_icc)] = "grey levels"
    if len(quality.repeats) > 1:
        why[~(repeat.value >= quality.minimum_icc)] = "unstable"
    if quality.perturbations:
        why[sums.count < MINIMUM_PATIENTS] = "few patients"
    return Judged(sums.count, repeat, settings, kinds, tuple(str(text) for text in why))


class Verdict(BaseModel):
    """One feature. Numbers are None where there are none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    patients: int  # behind the correlations
    icc: float | None = None  # one-way, over pose, contour and noise
    low: float | None = None  # 95 % interval
    high: float | None = None
    kinds: dict[str, float] = {}  # each kind of perturbation alone
    why: str = ""  # "" where kept; else constant, few patients, unstable, grey levels, redundant
    like: str | None = None  # redundant: the kept feature that says it
    correlation: float | None = None  # with that one

    @property
    def kept(self) -> bool:
        """Enters the model."""
        return not self.why

    @property
    def stable(self) -> bool:
        """Repeats, whether or not another feature says the same."""
        return self.why in ("", "redundant")


def verdicts(names: Sequence[str], judged: Judged, constant: NDArray[np.bool_]) -> tuple[Verdict, ...]:
    """A verdict a feature, before redundancy.

    Args:
        names: p.
        judged: from `judge`.
        constant: (p) without spread over all training patients.
    """
    rows = zip(names, judged.count, judged.repeat.value, judged.repeat.low, judged.repeat.high, strict=True)
    return tuple(
        Verdict(
            name=name,
            patients=int(count),
            icc=_known(icc),
            low=_known(low),
            high=_known(high),
            kinds={kind: found for kind, v in judged.kinds.items() if (found := _known(v[place])) is not None},
            why="constant" if constant[place] else judged.why[place],
        )
        for place, (name, count, icc, low, high) in enumerate(rows)
    )


def _known(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


class Row(BaseModel):
    """Features that share a filter or a family."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    group: str
    offered: int
    stable: int
    kept: int
    median: float | None  # of their icc
    kinds: dict[str, float]  # share that reaches the study's minimum under each kind alone


def by_filter(found: Sequence[Verdict], minimum: float) -> tuple[Row, ...]:
    """Rows by the image that a feature is of: original, log_2mm, wavelet_LLH; shape; table for other names."""
    return _rows(found, minimum, lambda parts: parts[1] if len(parts) == 4 else _apart(parts))


def by_family(found: Sequence[Verdict], minimum: float) -> tuple[Row, ...]:
    """Rows by family: shape, firstorder, glcm, ..."""
    return _rows(found, minimum, lambda parts: parts[2] if len(parts) == 4 else _apart(parts))


def _apart(parts: list[str]) -> str:
    return parts[0] if len(parts) == 2 else "table"


def _rows(found: Sequence[Verdict], minimum: float, key: Callable[[list[str]], str]) -> tuple[Row, ...]:
    groups: dict[str, list[Verdict]] = {}
    for verdict in found:
        groups.setdefault(key(verdict.name.split("|")), []).append(verdict)
    return tuple(
        Row(
            group=group,
            offered=len(members),
            stable=sum(v.stable for v in members),
            kept=sum(v.kept for v in members),
            median=_known(np.median(known)) if (known := [v.icc for v in members if v.icc is not None]) else None,
            kinds={
                kind: round(float(np.mean([v.kinds.get(kind, -np.inf) >= minimum for v in members])), 4)
                for kind in dict.fromkeys(kind for v in members for kind in v.kinds)
            },
        )
        for group, members in groups.items()
    )
