"""What sites said of the frozen model and of their patients in a study with `evidence`; part of `results.json`."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from fedloupe.assessing import Described, Graded, Paired, Recalibration, Subset
from fedloupe.messages import AssessReply, CohortReply, ScoresReply


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Assessed(_Frozen):
    """A model on one split of one site; fields as in `fedloupe.assessing.AssessReply`.

    `curve` holds the points of the smooth calibration curve: predicted, observed, its 95 % limits; empty where none
    could be fitted.
    """

    label: str
    split: str
    patients: int
    positives: int
    low: float
    high: float
    expected: float | None
    centre: float | None
    spread: float | None
    in_the_large: float | None
    in_the_large_se: float | None
    slope: float | None
    slope_se: float | None
    curve: tuple[tuple[float, float, float, float], ...]
    recalibration: Recalibration | None
    paired: tuple[Paired, ...]
    subgroups: tuple[Subset, ...]
    grades: tuple[Graded, ...]
    concordance: float | None
    concordance_se: float | None
    withheld: tuple[str, ...]

    @classmethod
    def of(cls, reply: AssessReply) -> Assessed:
        """What a site replied."""
        fields = _fields(cls, reply)
        fields["curve"] = tuple(tuple(float(v) for v in point) for point in np.asarray(reply.curve).T)
        return cls.model_validate(fields)


class CohortTable(_Frozen):
    """The patients of a site; fields as in `fedloupe.assessing.CohortReply`."""

    candidates: int
    patients: int
    shared: int
    scale: str | None
    splits: str
    lines: tuple[Described, ...]
    withheld: tuple[str, ...]

    @classmethod
    def of(cls, reply: CohortReply) -> CohortTable:
        """What a site replied."""
        return cls.model_validate(_fields(cls, reply))


class PooledScores(_Frozen):
    """Histograms of test patients' scores, added over training sites; bins of equal width in probability."""

    label: str
    sites: tuple[str, ...]
    patients: int
    positives: int
    positives_by_score: tuple[float, ...]
    negatives_by_score: tuple[float, ...]

    @classmethod
    def of(cls, total: ScoresReply, label: str, sites: tuple[str, ...]) -> PooledScores:
        """A sum over these sites."""
        return cls(
            label=label,
            sites=sites,
            patients=total.patients,
            positives=total.positives,
            positives_by_score=tuple(round(float(v), 6) for v in total.positives_by_score),
            negatives_by_score=tuple(round(float(v), 6) for v in total.negatives_by_score),
        )


def _fields(kind: type[BaseModel], reply: object) -> dict[str, Any]:
    return {name: getattr(reply, name) for name in kind.model_fields}
