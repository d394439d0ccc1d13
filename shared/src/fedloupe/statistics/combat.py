"""ComBat over hospitals from sums (Johnson, Li & Rabinovic 2007; Fortin 2018; over sites as in Chen 2022, d-ComBat).

    y_if = level_f + x_i beta_f + spread_f (gamma_bf + sqrt(delta_bf) e_if)      patient i of batch b, feature f

Only beta, level and spread couple the batches. With values centred in each batch (Frisch & Waugh 1933) they are plain
sums over batches, so no batch's mean need be shown. gamma and delta of a batch are worked out, and stay, where its
patients are (`fedloupe.statistics.shifts`). Features come as scores, pooled mean 0 and SD 1, so that one fixed-point
format serves all. A missing value leaves its patient out for that feature alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloupe.statistics import ring
from fedloupe.statistics.ring import Words

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
CONSTANT = 1e-9
"""Spread of scores up to which a feature does not vary beside batches and covariates."""


@dataclass(frozen=True)
class CrossProducts:
    """First sums, over the batches of a site: p features, q covariates.

    Attributes:
        count: (p) int64 patients with the feature.
        cross: (p, q, q, 6): X'X of covariates centred in each batch, over patients with the feature.
        moment: (p, q, 6): X'y likewise.
    """

    count: NDArray[np.int64]
    cross: Words
    moment: Words

    @classmethod
    def of(cls, scores: Floats, covariates: Floats, batches: Codes) -> CrossProducts:
        """A site's term.

        Args:
            scores: (n, p), NaN where missing.
            covariates: (n, q), without missing values.
            batches: (n) batch of each patient.
        """
        p, q = scores.shape[1], covariates.shape[1]
        cross, moment = np.zeros((p, q, q)), np.zeros((p, q))
        parts = list(_centred(scores, covariates, batches))
        for j in range(q):
            moment[:, j] = _summed([x[j] * y for y, x, _ in parts], p)
            for k in range(j, q):
                cross[:, j, k] = cross[:, k, j] = _summed([x[j] * x[k] for _, x, _ in parts], p)
        return cls(np.isfinite(scores).sum(axis=0).astype(np.int64), ring.encode(cross), ring.encode(moment))


@dataclass(frozen=True)
class Residuals:
    """Second sums, over the batches of a site.

    Attributes:
        count: (p) int64 patients with the feature.
        total: (p, 6): sum of y - x beta.
        square: (p, 6): sum of squares of y - x beta about the batch's own mean.
    """

    count: NDArray[np.int64]
    total: Words
    square: Words

    @classmethod
    def of(cls, scores: Floats, covariates: Floats, batches: Codes, beta: Floats) -> Residuals:
        """A site's term; arguments as for `CrossProducts.of`, `beta` (p, q)."""
        p, q = scores.shape[1], covariates.shape[1]
        squares = []
        for y, x, there in _centred(scores, covariates, batches):
            fitted = sum((x[j] * beta[:, j] for j in range(q)), start=np.zeros(y.shape))
            squares.append(np.where(there, y - fitted, 0.0) ** 2)
        left = np.nan_to_num(scores - _explained(covariates, beta), nan=0.0)
        return cls(
            np.isfinite(scores).sum(axis=0).astype(np.int64),
            ring.encode(ring.summed(left)),
            ring.encode(_summed(squares, p)),
        )


def slopes(parts: Sequence[CrossProducts]) -> Floats:
    """beta (p, q) from all sites' first sums; the shortest solution where covariates are collinear."""
    cross, moment = (ring.decode(ring.add(*(getattr(p, name) for p in parts))) for name in ("cross", "moment"))
    found: Floats = np.einsum("pjk,pk->pj", np.linalg.pinv(cross, hermitian=True), moment)
    return found


def level_and_spread(parts: Sequence[Residuals]) -> tuple[Floats, Floats]:
    """Grand mean and residual standard deviation, (p) each, from all sites' second sums.

    The mean weights each batch by its patients; the variance is divided by n, as in the paper. 0 where nobody has the
    feature. With a reference batch the sums are that batch's alone.
    """
    count = np.sum([p.count for p in parts], axis=0)
    total, square = (ring.decode(ring.add(*(getattr(p, name) for p in parts))) for name in ("total", "square"))
    some = np.maximum(count, 1)
    return total / some, np.sqrt(square / some)


@dataclass(frozen=True)
class Harmoniser:
    """What all sites share, frozen once fitted.

    Attributes:
        centre: (p) pooled mean of the feature as measured; `scale` (p) its SD, 0 where constant.
        beta: (p, q) slopes of the covariates; `level`, `spread` (p): grand mean and residual SD; all of scores.
        prior: (0), (2) or (4): mean and variance of gamma, then of delta, over batches and features; for batches that
            were not fitted.
    """

    centre: Floats
    scale: Floats
    beta: Floats
    level: Floats
    spread: Floats
    prior: Floats

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name."""
        return dict(vars(self))

    @property
    def shaped(self) -> bool:
        """Whether the arrays fit each other."""
        p = self.centre.shape
        fits = len(p) == 1 and all(a.shape == p for a in (self.scale, self.level, self.spread))
        return fits and self.beta.ndim == 2 and self.beta.shape[:1] == p and self.prior.shape in ((0,), (2,), (4,))

    @property
    def usable(self) -> NDArray[np.bool_]:
        """(p) features that vary; the others are left as they are."""
        return np.asarray((self.scale > 0) & (self.spread > CONSTANT))

    def standardised(self, features: Floats, covariates: Floats) -> Floats:
        """(n, p) what remains of features beside level and covariates, in units of `spread`; NaN where not usable."""
        use = self.usable
        scores = to_scores(features, self.centre, self.scale) - self.level - _explained(covariates, self.beta)
        return np.where(use, scores / np.where(use, self.spread, 1.0), np.nan)

    def adjust(self, features: Floats, covariates: Floats, gamma: Floats, delta: Floats) -> Floats:
        """Features (n, p) without the batch's shift and scale, in the units of measurement; missing stays missing.

        Args:
            features: as measured.
            covariates: (n, q).
            gamma: (p) shift of the patients' batch in units of `spread`.
            delta: (p) its variance relative to the pooled one.
        """
        left = (self.standardised(features, covariates) - gamma) / np.sqrt(delta)
        scores = left * self.spread + self.level + _explained(covariates, self.beta)
        return np.where(self.usable, scores * self.scale + self.centre, features)


def to_scores(features: Floats, centre: Floats, scale: Floats) -> Floats:
    """(n, p) features about the pooled mean in pooled standard deviations; constants 0, missing stays missing."""
    known = np.where(np.isfinite(features), features, np.nan)
    return (known - centre) / np.where(scale > 0, scale, 1.0) * (scale > 0)


def _centred(
    scores: Floats, covariates: Floats, batches: Codes
) -> Iterator[tuple[Floats, list[Floats], NDArray[np.bool_]]]:
    """Of each batch: scores (n_b, p) and each covariate (n_b, p), centred over patients with the feature, 0 without."""
    for batch in np.unique(batches):
        rows = batches == batch
        there = np.isfinite(scores[rows])
        count = np.maximum(there.sum(axis=0), 1)
        y = np.where(there, scores[rows], 0.0)
        y = np.where(there, y - ring.summed(y) / count, 0.0)
        centred = []
        for column in covariates[rows].T:
            x = np.where(there, column[:, None], 0.0)
            centred.append(np.where(there, x - ring.summed(x) / count, 0.0))
        yield y, centred, there


def _explained(covariates: Floats, beta: Floats) -> Floats:
    """(n, p) X beta; each patient's numbers are the same whoever else is in the table, which BLAS does not promise."""
    none = np.zeros((len(covariates), len(beta)))
    return sum((covariates[:, j, None] * beta[:, j] for j in range(beta.shape[1])), start=none)


def _summed(parts: Sequence[Floats], width: int) -> Floats:
    return ring.summed(np.concatenate([np.zeros((0, width)), *parts]))
