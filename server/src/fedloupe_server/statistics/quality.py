"""Which features a federation keeps, from sums over sites: those that repeat, and of each redundant group the best one.

The greedy rule goes from the most repeatable feature to the least (equal ones in column order) and keeps a feature
unless its correlation with one that is kept already reaches the study's limit. It asks in blocks for a block's
correlations with itself and with what is kept; no more are needed, and the result is that of the whole matrix.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from fedloupe.messages import RedundancyReply
from fedloupe.quality import MINIMUM_PATIENTS, Row, Verdict, by_family, by_filter

BLOCK = 256
Floats = NDArray[np.float64]


class AgreedQuality(BaseModel):
    """`quality.json`: every feature of the study, and why it stays or goes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sites: tuple[str, ...]
    patients: int  # training patients behind it
    minimum_icc: float
    redundancy: float | None
    features: tuple[Verdict, ...]

    @property
    def content(self) -> bytes:
        """The file."""
        return (self.model_dump_json(indent=1) + "\n").encode()

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def kept(self) -> NDArray[np.bool_]:
        """(p) who enters the model."""
        return np.array([verdict.kept for verdict in self.features], dtype=np.bool_)


class QualitySummary(BaseModel):
    """What `results.json` and the report say of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    digest: str  # SHA-256 of quality.json, frozen with the preparation
    patients: int
    perturbed: int  # of them behind an intraclass correlation, at most
    minimum_icc: float
    redundancy: float | None
    reasons: dict[str, int]  # features dropped, by reason
    by_filter: tuple[Row, ...]
    by_family: tuple[Row, ...]

    @classmethod
    def of(cls, agreed: AgreedQuality) -> QualitySummary:
        """The summary of an agreed list."""
        reasons = [verdict.why for verdict in agreed.features if verdict.why]
        return cls(
            digest=agreed.digest,
            patients=agreed.patients,
            perturbed=max((verdict.patients for verdict in agreed.features), default=0),
            minimum_icc=agreed.minimum_icc,
            redundancy=agreed.redundancy,
            reasons={why: reasons.count(why) for why in sorted(set(reasons))},
            by_filter=by_filter(agreed.features, agreed.minimum_icc),
            by_family=by_family(agreed.features, agreed.minimum_icc),
        )


def blocks(found: Sequence[Verdict]) -> Iterator[NDArray[np.int64]]:
    """Positions of the features that are not dropped yet, most repeatable first, `BLOCK` at a time."""
    left = [place for place, verdict in enumerate(found) if verdict.kept]
    order = sorted(left, key=lambda place: -(found[place].icc or 0.0))  # a stable sort: ties stay in column order
    for start in range(0, len(order), BLOCK):
        yield np.array(order[start : start + BLOCK], dtype=np.int64)


@dataclass
class Greedy:
    """The features kept so far.

    Attributes:
        limit: absolute correlation from which two features are redundant.
        kept: their positions.
        dropped: by position: the kept feature that it resembles most, and their correlation.
    """

    limit: float
    kept: list[int] = field(default_factory=list)
    dropped: dict[int, tuple[int, float]] = field(default_factory=dict)
    _total: list[float] = field(default_factory=list)
    _spread: list[float] = field(default_factory=list)

    @property
    def earlier(self) -> NDArray[np.int64]:
        """`kept` as a request wants it."""
        return np.array(self.kept, dtype=np.int64)

    def judge(self, block: NDArray[np.int64], sums: RedundancyReply) -> None:
        """Decide on a block, in its order.

        Args:
            block: positions asked about, together with `earlier`.
            sums: over all sites.
        """
        pairs, total = sums.pairs, sums.total
        rows = np.concatenate([self._total, total])
        covariance = sums.product - np.outer(rows, total) / sums.patients
        before = len(self.kept)
        spread = np.sqrt(np.clip(np.diagonal(covariance[before:]), 0.0, None))
        size = np.outer(np.concatenate([self._spread, spread]), spread)
        known = (size > 0) & (pairs >= MINIMUM_PATIENTS)
        correlation = np.where(known, covariance / np.where(known, size, 1.0), 0.0)
        rivals = list(range(before))
        for place, feature in enumerate(block.tolist()):
            found = correlation[rivals, place]
            strongest = int(np.argmax(np.abs(found))) if rivals else -1
            if rivals and abs(found[strongest]) >= self.limit:
                rival = rivals[strongest]
                like = self.kept[rival] if rival < before else int(block[rival - before])
                self.dropped[feature] = (like, float(found[strongest]))
            else:
                rivals.append(before + place)
        for rival in rivals[before:]:
            self.kept.append(int(block[rival - before]))
            self._total.append(float(total[rival - before]))
            self._spread.append(float(spread[rival - before]))


def without_redundant(found: Sequence[Verdict], greedy: Greedy) -> tuple[Verdict, ...]:
    """The verdicts, with what the greedy rule dropped."""
    changed = list(found)
    for place, (like, correlation) in greedy.dropped.items():
        changes = {"why": "redundant", "like": found[like].name, "correlation": round(correlation, 6)}
        changed[place] = found[place].model_copy(update=changes)
    return tuple(changed)
