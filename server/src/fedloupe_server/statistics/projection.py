"""Principal components by a randomised subspace iteration over sums (Halko, Martinsson & Tropp 2011, alg. 4.4).

Each pass sends Omega (p, k) and sums the sites' X'X Omega; no site's covariance exists anywhere. The last pass gives
the Rayleigh-Ritz eigenpairs of the pooled covariance within the subspace, group by group.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fedloupe.models import group_order

PASSES = 3
OVERSAMPLING = 8


def first_probe(columns: tuple[str, ...], components: int, seed: int) -> NDArray[np.float32]:
    """Gaussian Omega (p, components + oversampling), orthonormal within each group."""
    width = components + OVERSAMPLING
    normal = np.random.default_rng([seed, 1]).standard_normal((len(columns), width))
    return next_probe(normal, columns)


def next_probe(sketch: NDArray[np.float64], columns: tuple[str, ...]) -> NDArray[np.float32]:
    """Orthonormal basis of each group's sketch, (p, k); zero columns where a group has fewer features than k."""
    probe = np.zeros_like(sketch)
    for rows in _groups(columns):
        basis, _ = np.linalg.qr(sketch[rows])
        probe[np.ix_(rows, np.arange(basis.shape[1]))] = basis
    return probe.astype(np.float32)


def principal_projection(
    probe: NDArray[np.float32], sketch: NDArray[np.float64], columns: tuple[str, ...], components: int, patients: float
) -> NDArray[np.float32]:
    """Loadings (p, components): each group's principal components, scaled so that its first has unit variance.

    Full whitening would blow the weak components, mostly noise, up to the size of the strong ones: on the synthetic
    cohort it cost 0.03 of external AUC (benchmarks/README.md).

    Args:
        probe: orthonormal Q (p, k) of the last pass.
        sketch: the summed X'X Q.
        columns: group of each feature.
        components: kept a group; columns beyond a group's rank are zero.
        patients: patients behind the sums.
    """
    projection = np.zeros((len(columns), components))
    for rows in _groups(columns):
        basis = probe[rows].astype(np.float64)
        ritz = basis.T @ sketch[rows] / max(patients - 1, 1)
        values, vectors = np.linalg.eigh((ritz + ritz.T) / 2)
        order = np.argsort(values)[::-1][:components]
        kept = order[values[order] > 1e-6 * max(values.max(), 1e-12)]
        loadings = basis @ vectors[:, kept]
        loadings *= np.where(loadings.sum(axis=0) < 0, -1.0, 1.0)  # a sign that does not depend on the solver
        projection[np.ix_(rows, np.arange(len(kept)))] = loadings / np.sqrt(max(values.max(), 1e-12))
    return projection.astype(np.float32)


def _groups(columns: tuple[str, ...]) -> Iterator[NDArray[np.int64]]:
    names = np.array(columns)
    for group in group_order(columns):
        yield np.flatnonzero(names == group).astype(np.int64)
