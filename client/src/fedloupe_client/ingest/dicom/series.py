"""DICOM volumes: check a series' geometry, read its pixels.

    headers = read_headers(path)                # see `headers`
    grid = series_grid(slices)                  # or the reason why these slices are no volume
    image = read_volume(grid)                   # float32, rescaled (PS3.3 C.11.1), on the slices' own grid

Positions and orientations are Image Position and Image Orientation (Patient), PS3.3 C.7.6.2.1.1, in mm (LPS).
"""

# mypy: disable-error-code="no-untyped-call"
# (SimpleITK ships wrappers without types)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from fedloupe_client.ingest.dicom.headers import IMAGES, OBJECTS, Slice, read_headers
from fedloupe_client.ingest.files import openable
from fedloupe_client.ingest.formats.volumes import build
from fedloupe_client.ingest.problems import (
    FileUnreadable,
    GantryTilt,
    MixedOrientation,
    RepeatedPosition,
    SeriesRefused,
    TooFewSlices,
    UnevenSlices,
)

__all__ = ["IMAGES", "OBJECTS", "Grid", "Slice", "on_grid", "read_headers", "read_stacks", "read_volume", "series_grid"]


@dataclass(frozen=True)
class Grid:
    """Slices in order along their normal, and the grid they span."""

    slices: tuple[Slice, ...]
    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    direction: tuple[float, ...]

    def close_to(self, other: Grid) -> bool:
        """The same volume in space, within 1e-3."""
        return bool(
            len(self.slices) == len(other.slices)
            and self.slices[0].matrix == other.slices[0].matrix
            and np.allclose(self.origin, other.origin, rtol=0, atol=1e-3)
            and np.allclose(self.spacing, other.spacing, rtol=0, atol=1e-3)
            and np.allclose(self.direction, other.direction, rtol=0, atol=1e-3)
        )


def series_grid(slices: list[Slice]) -> Grid:
    """The regular grid of one series' slices.

    Raises:
        TooFewSlices, MixedOrientation, RepeatedPosition, GantryTilt, UnevenSlices: each its own reason.
        SeriesRefused: colour, several matrix sizes, or no position in space.
    """
    where = f"{slices[0].path.parent}, series {slices[0].series}"
    if any(len(s.spacing) != 2 or len(s.orientation) != 6 or len(s.position) != 3 for s in slices):
        raise SeriesRefused("slices have no position in space", where=where, remedy="export the original series")
    orientation = np.array([s.orientation for s in slices])
    if not np.isfinite(np.array([(*s.orientation, *s.position, *s.spacing) for s in slices])).all():
        raise SeriesRefused("positions are not numbers", where=where, remedy="export the original series")
    if np.abs(orientation - orientation[0]).max() > 1e-3:
        raise MixedOrientation(
            "slices have different orientations",
            where=where,
            remedy="name the right series under `series` in site.yaml",
        )
    in_plane = np.array([s.spacing for s in slices])
    differ = len({s.matrix for s in slices}) > 1 or np.abs(in_plane - in_plane[0]).max() > 1e-4
    if differ or slices[0].matrix[2] != 1 or not (in_plane > 0).all():
        raise SeriesRefused(
            "slices differ in size, or hold colours", where=where, remedy="export the original series, not a screenshot"
        )
    if len(slices) < 3:
        raise TooFewSlices(f"the series has {len(slices)} slices", where=where, remedy="export the whole series")
    row, column = orientation.mean(0)[:3], orientation.mean(0)[3:]
    if max(abs(np.linalg.norm(row) - 1), abs(np.linalg.norm(column) - 1), abs(row @ column)) > 1e-2:
        raise SeriesRefused(
            "rows and columns are not at right angles", where=where, remedy="export the original series"
        )
    row = row / np.linalg.norm(row)
    column = column - (row @ column) * row  # headers round: an image's axes must be orthonormal to float precision
    column = column / np.linalg.norm(column)
    normal = np.cross(row, column)
    positions = np.array([s.position for s in slices])
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    steps = np.diff(positions @ normal)
    if steps.min() < 0.01:
        raise RepeatedPosition(
            f"{len(slices)} slices lie at {1 + int((steps >= 0.01).sum())} positions",
            where=where,
            remedy="export each phase, echo or b-value as its own series",
        )
    length = steps.sum()
    shift = (positions[-1] - positions[0]) - length * normal
    if np.linalg.norm(shift) > 0.01 * length:
        raise GantryTilt(
            f"slices shift by {np.linalg.norm(shift):.1f} mm over {length:.0f} mm",
            where=where,
            remedy="export a series resampled to straight slices",
        )
    step = float(length / len(steps))
    line = positions[0] + np.linspace(0, 1, len(positions))[:, None] * (positions[-1] - positions[0])
    aside = np.linalg.norm((positions - line) @ np.stack([row, column], axis=1), axis=1)
    if aside.max() > max(0.05, 0.01 * length):  # as much as a tilt may be
        raise UnevenSlices(
            f"a slice lies {aside.max():.1f} mm beside the line of the others",
            where=where,
            remedy="a header may be damaged: export the whole series again",
        )
    if np.abs(steps - step).max() > max(0.05, 0.01 * step):
        raise UnevenSlices(
            f"slices lie {steps.min():.2f} to {steps.max():.2f} mm apart",
            where=where,
            remedy="a slice may be missing: export the whole series again",
        )
    down, right = slices[0].spacing
    return Grid(
        slices=tuple(slices[i] for i in order),
        origin=tuple(float(v) for v in positions[0]),
        spacing=(right, down, step),
        direction=tuple(float(v) for v in np.stack([row, column, normal], axis=1).ravel()),
    )


def read_volume(grid: Grid) -> sitk.Image:
    """The rescaled pixels of a checked series; float32.

    Raises:
        FileMissing, PermissionRefused, FileUnreadable: a file vanished, is not permitted, or does not decode.
    """
    return on_grid(read_stacks([grid])[0], grid)


def read_stacks(grids: Sequence[Grid], real_world: bool = False) -> NDArray[np.float32]:
    """The values of several volumes of one size, `(T, z, y, x)`; each file is decoded once.

    Args:
        grids: checked volumes, such as the time points of a series.
        real_world: put stored values through the Real World Value Mapping where there is one, not the rescale.

    Raises:
        FileMissing, PermissionRefused, FileUnreadable: a file vanished, is not permitted, or does not decode.
    """
    paths = list(dict.fromkeys(s.path for grid in grids for s in grid.slices))
    for path in paths:
        openable(path)
    first = grids[0].slices[0]
    try:
        if first.frame is None:
            stacks = np.stack([_read_files([s.path for s in grid.slices]) for grid in grids])
        else:
            decoded = {path: sitk.GetArrayFromImage(sitk.ReadImage(str(path), sitk.sitkFloat32)) for path in paths}
            stacks = np.stack([[decoded[s.path][s.frame or 0] for s in grid.slices] for grid in grids])
    except (RuntimeError, IndexError, ValueError) as error:
        raise FileUnreadable(
            "the pixels of a series cannot be decoded",
            where=f"{paths[0].parent}: {str(error).strip().splitlines()[-1][:300]}",
            remedy="export the series again",
        ) from None
    for stack, grid in zip(stacks, grids, strict=True):
        for plane, s in zip(stack, grid.slices, strict=True):
            applied = s.first_rescale or s.rescale
            wanted = s.real_world if real_world and s.real_world else s.rescale
            if wanted != applied:
                plane[:] = _rescaled(plane, applied, wanted)
    return stacks


def _read_files(paths: list[Path]) -> NDArray[np.float32]:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in paths])
    reader.SetOutputPixelType(sitk.sitkFloat32)
    array: NDArray[np.float32] = sitk.GetArrayFromImage(reader.Execute())
    return array


def _rescaled(
    plane: NDArray[np.float32], applied: tuple[float, float], wanted: tuple[float, float]
) -> NDArray[np.float64]:
    """Values under another slope and intercept, by way of the stored integers.

    GDCM puts every frame of a file through the first frame's rescale, though each may have its own (PS3.3
    C.7.6.16.2.9), and knows no real-world mapping.
    """
    stored = np.rint((plane.astype(np.float64) - applied[1]) / applied[0])
    return stored * wanted[0] + wanted[1]


def on_grid(array: NDArray[Any], grid: Grid) -> sitk.Image:
    """Values `(z, y, x)` as an image on a series' grid."""
    rows, columns, _ = grid.slices[0].matrix
    like = sitk.Image(columns, rows, len(grid.slices), sitk.sitkUInt8)
    like.SetOrigin(grid.origin)
    like.SetSpacing(grid.spacing)
    like.SetDirection(grid.direction)
    return build(array, like)
