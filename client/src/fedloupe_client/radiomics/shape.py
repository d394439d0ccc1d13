"""Shape features of the mask, once a case (IBSI morphology, HCUG).

    shape_features(region.outline, region.spacing_mm)        # 21

Left out: oriented-box and enclosing-ellipsoid densities, for which IBSI has no consensus value. What needs the image
besides the mask is in `spatial`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist
from skimage.measure import marching_cubes

from fedloupe_client.radiomics.kernel import Floats
from fedloupe_client.radiomics.region import Spacing


def shape_features(inside: NDArray[np.bool_], spacing_mm: float | Spacing) -> Floats:
    """Shape of a non-empty mask that fills its bounding box.

    Args:
        inside: bool (z, y, x).
        spacing_mm: voxel size, of each edge or (z, y, x).

    Returns:
        (21) in the order of `fedloupe.features`: mm, mm2, mm3 or ratios. The mesh is the 0.5 level of marching
        cubes. A flat mask has a least axis of 0 and, with it, no ellipsoid density (NaN or infinity).
    """
    spacing = np.broadcast_to(np.asarray(spacing_mm, dtype=float), 3)
    corners, faces = _mesh(inside, spacing)
    a, b, c = (corners[faces[:, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    volume = _enclosed(corners, faces)
    area = float(np.sqrt(np.einsum("ij,ij->i", cross, cross)).sum()) / 2
    sphere = (36 * np.pi * volume**2) ** (1 / 3)  # surface of the sphere of this volume
    hull = ConvexHull(corners)
    box = np.array(inside.shape) * spacing
    major, minor, least = _axis_lengths(inside, spacing)
    ellipsoid_volume = np.pi / 6 * major * minor * least
    ellipsoid_area = _ellipsoid_area(major / 2, minor / 2, least / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.array(
            [
                volume,
                inside.sum() * spacing.prod(),
                area,
                area / volume,
                volume / (np.sqrt(np.pi) * area**1.5),
                36 * np.pi * volume**2 / area**3,
                area / sphere,
                sphere / area,
                area / sphere - 1,
                pdist(corners[hull.vertices]).max(),
                major,
                minor,
                least,
                np.divide(minor, major),
                np.divide(least, major),
                volume / box.prod(),
                area / (2 * (box[0] * box[1] + box[0] * box[2] + box[1] * box[2])),
                np.divide(volume, ellipsoid_volume),
                np.divide(area, ellipsoid_area),
                volume / hull.volume,
                area / hull.area,
            ]
        )


def mesh_volume(inside: NDArray[np.bool_], spacing_mm: Spacing) -> float:
    """Volume (mm3) within the mesh of a non-empty mask (IBSI RNU0), the first of `shape_features`."""
    return _enclosed(*_mesh(inside, np.asarray(spacing_mm)))


def _mesh(inside: NDArray[np.bool_], spacing: Floats) -> tuple[Floats, NDArray[np.int32]]:
    """Corners (mm) and triangles."""
    padded = np.pad(inside, 1).astype(np.float32)
    corners, faces, _, _ = marching_cubes(padded, 0.5, spacing=tuple(spacing))  # type: ignore[no-untyped-call]
    return corners.astype(np.float64), faces


def _enclosed(corners: Floats, faces: NDArray[np.int32]) -> float:
    a, b, c = (corners[faces[:, k]] for k in range(3))
    return abs(float(np.einsum("ij,ij->", a, np.cross(b, c)))) / 6


def _axis_lengths(inside: NDArray[np.bool_], spacing: Floats) -> tuple[np.float64, np.float64, np.float64]:
    """Major, minor and least axis (mm): 4 sqrt of the eigenvalues of the voxels' covariance, normalised by N - 1."""
    points = np.argwhere(inside) * spacing
    if len(points) < 2:
        return np.float64(np.nan), np.float64(np.nan), np.float64(np.nan)
    # Rounding leaves eigenvalues of a flat mask a hair off zero.
    eigenvalues = np.linalg.eigvalsh(np.cov(points.T))
    eigenvalues[eigenvalues < 1e-9 * eigenvalues[2]] = 0
    least, minor, major = 4 * np.sqrt(eigenvalues)
    return major, minor, least


def _ellipsoid_area(a: float, b: float, c: float) -> float:
    """Surface that IBSI (RDD2) gives an ellipsoid with semi-axes a >= b >= c > 0: a Legendre series to degree 20.

    With alpha^2 = 1 - b^2/a^2 and beta^2 = 1 - c^2/a^2, the terms (alpha beta)^v P_v((alpha^2 + beta^2) / (2 alpha
    beta)) are polynomials: Bonnet's recursion, multiplied through, needs no division and so survives equal axes.
    (The series is the consensus, not the true surface: it is 4 % below it on the digital phantom.)
    """
    alpha2, beta2 = 1 - (b / a) ** 2, 1 - (c / a) ** 2
    half, squared = (alpha2 + beta2) / 2, alpha2 * beta2
    before, term, total = 0.0, 1.0, 1.0
    for degree in range(1, 21):
        before, term = term, ((2 * degree - 1) * half * term - (degree - 1) * squared * before) / degree
        total += term / (1 - 4 * degree**2)
    return 4 * np.pi * a * b * total
