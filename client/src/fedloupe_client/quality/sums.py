"""A site's terms of the federation's judgement: each function returns sums over training patients, nothing else."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloupe.errors import FedLoupeError
from fedloupe.metrics import RepeatSums, repeat_sums
from fedloupe.models import standardise
from fedloupe.study import Study
from fedloupe_client.dataset import Cohort

Floats = NDArray[np.float64]


class NoSuchFeature(FedLoupeError):
    """A request names feature columns that the site does not have."""

    code = "FL-610"
    title = "a request names features that the site does not have"


def chosen_rows(cohort: Cohort, study: Study) -> NDArray[np.int64]:
    """Training patients whose versions are derived: at most `quality.patients`, the same at every call."""
    assert study.quality is not None, "only a study with `quality` chooses"
    train = cohort.rows("train")

    def key(row: int) -> bytes:
        return hashlib.sha256(f"{study.seed}|quality|{cohort.cases[row]}".encode()).digest()

    order = sorted(train.tolist(), key=key)[: study.quality.patients]
    return np.array(sorted(order), dtype=np.int64)


def stability(versions: Floats, mean: NDArray[Any], scale: NDArray[Any]) -> RepeatSums:
    """Sums over the chosen patients from which the intraclass correlation follows.

    Args:
        versions: (n, p, k), NaN where missing.
        mean: (p) pooled mean.
        scale: (p) pooled standard deviation. Values are centred and scaled by both, which changes no correlation
            and keeps the digits; those of a feature of scale 0 are left out.
    """
    safe = np.where(scale > 0, scale, np.nan)
    return repeat_sums((versions - mean[None, :, None]) / safe[None, :, None])


def redundancy(
    cohort: Cohort, mean: NDArray[Any], scale: NDArray[Any], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> tuple[Floats, Floats, Floats]:
    """Sums over all training patients from which correlations follow, of z-scores as a model sees them (`standardise`).

    Args:
        cohort: the site's patients.
        mean: (p) pooled mean.
        scale: (p) pooled standard deviation.
        rows: (a) positions of features.
        columns: (b) likewise.

    Returns:
        (a, b) patients in whom both features are present, (a, b) their summed products, (b) summed values.

    Raises:
        NoSuchFeature: a position is none.
    """
    known = cohort.features.shape[1]
    if not all(((places >= 0) & (places < known)).all() for places in (rows, columns)):
        raise NoSuchFeature(
            f"positions beyond the {known} features", remedy="run the same FedLoupe version and study everywhere"
        )
    features = cohort.features[cohort.rows("train")]
    scores, there = standardise(features, mean, scale), np.isfinite(features).astype(np.float64)
    pairs = there[:, rows].T @ there[:, columns]
    return pairs, scores[:, rows].T @ scores[:, columns], scores[:, columns].sum(axis=0)
