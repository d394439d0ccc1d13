"""IBSI-1's CT phantom, a real lung tumour, in configurations A, B and C, and how well the engine agrees.

The preprocessing follows IBSI's and belongs to the tests; the engine sees its result only. Phantom: CC BY-NC 3.0.
"""

from __future__ import annotations

import csv
import gzip
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from scipy import ndimage

from fedloupe.features import (
    FEATURES,
    ORIGINAL_FAMILIES,
    Aggregation,
    BinNumber,
    BinSize,
    FeatureSettings,
    VolumeBinSize,
)
from fedloupe_client.radiomics.conformance.phantom import Consensus, consensus, ibsi_tag
from fedloupe_client.radiomics.families import image_features, original_features
from fedloupe_client.radiomics.region import make_region
from fedloupe_client.radiomics.shape import shape_features

PLANAR: tuple[Aggregation, ...] = ("averaged_2d", "slice_merged_2d", "direction_merged_25d", "merged_25d")
SPATIAL: tuple[Aggregation, ...] = ("averaged_3d", "merged_3d")


@dataclass(frozen=True)
class Configuration:
    """What IBSI prescribes: new voxel size or None along (z, y, x), range of HU, bins, aggregations."""

    spacing_mm: tuple[float | None, float | None, float | None]
    hounsfield: tuple[float, float]
    bins: BinNumber | BinSize
    volume_bins: VolumeBinSize
    aggregations: tuple[Aggregation, ...]


CONFIGURATIONS = {
    "a": Configuration(
        (None, None, None),
        (-500, 400),
        BinSize(origin=-500, width=25, limit=37),
        VolumeBinSize(origin=-500.5, width=1, limit=901),
        PLANAR,
    ),
    "b": Configuration(
        (None, 2.0, 2.0),
        (-500, 400),
        BinNumber(bins=32),
        VolumeBinSize(origin=-500.5, width=1, limit=901),
        PLANAR,
    ),
    "c": Configuration(
        (2.0, 2.0, 2.0),
        (-1000, 400),
        BinSize(origin=-1000, width=25, limit=56),
        VolumeBinSize(origin=-1000, width=2.5, limit=560),
        SPATIAL,
    ),
}


def read_phantom(archive: Path) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """CT in HU, mask, and spacing, all (z, y, x) with z upwards."""
    slices = {}
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            if member.name.endswith(".dcm") and "/image/" in member.name:
                data = pydicom.dcmread(io.BytesIO(tar.extractfile(member).read()))
                pixels = data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)
                slices[float(data.ImagePositionPatient[2])] = pixels
                in_plane = [float(value) for value in data.PixelSpacing]
            elif member.name.endswith("mask.nii.gz"):
                mask_bytes = tar.extractfile(member).read()
    positions = sorted(slices)
    image = np.stack([slices[position] for position in positions])
    nifti = nibabel.Nifti1Image.from_bytes(gzip.decompress(mask_bytes))
    # DICOM's x and y point left and backwards, NIfTI's right and forwards.
    canonical = nibabel.as_closest_canonical(nifti)
    mask = np.asarray(canonical.dataobj).transpose(2, 1, 0)[:, ::-1, ::-1] > 0
    return image, mask, (round(positions[1] - positions[0], 3), *in_plane)


def _centred_grid(
    volume: np.ndarray, spacing: tuple[float, float, float], to: tuple[float | None, float | None, float | None]
) -> np.ndarray:
    """Linear interpolation on a grid with the same centre (IBSI: align by centre); None leaves an axis alone."""
    axes = []
    for size, step, new in zip(volume.shape, spacing, to, strict=True):
        if new is None:
            axes.append(np.arange(size, dtype=float))
            continue
        count = int(np.ceil(size * step / new))
        axes.append((size - 1) / 2 + (np.arange(count) - (count - 1) / 2) * new / step)
    return ndimage.map_coordinates(volume, np.meshgrid(*axes, indexing="ij"), order=1, mode="nearest")


def computed(
    phantom: tuple[np.ndarray, np.ndarray, tuple[float, float, float]], configuration: Configuration
) -> dict[str, float]:
    """Every feature of the engine in every aggregation of the configuration, by IBSI's tag."""
    image, mask, spacing = phantom
    hounsfield = np.round(_centred_grid(image, spacing, configuration.spacing_mm))
    # In C every third slice lies half way between two of the mask's: rounding must not decide such ties.
    outline = _centred_grid(mask.astype(float), spacing, configuration.spacing_mm) >= 0.5 - 1e-6
    low, high = configuration.hounsfield
    intensity = outline & (hounsfield >= low) & (hounsfield <= high)
    new = tuple(old if to is None else to for old, to in zip(spacing, configuration.spacing_mm, strict=True))
    found: dict[str, float] = {}
    for aggregation in configuration.aggregations:
        settings = FeatureSettings(aggregation=aggregation, original_families=ORIGINAL_FAMILIES)
        region = make_region(intensity, new, planar=settings.planar, outline=outline)
        shape = shape_features(region.outline, new)
        blocks = image_features(hounsfield[region.box][region.inside], region, configuration.bins, settings, 0.0)
        blocks |= original_features(hounsfield, region, configuration.volume_bins, shape[0], settings)
        values = {"shape": shape} | {family: block.values for family, block in blocks.items()}
        found |= {
            ibsi_tag(family, feature.ibsi_tag, aggregation): float(value)
            for family, row in values.items()
            for feature, value in zip(FEATURES[family], row, strict=True)
        }
    return found


def reference(folder: Path, name: str) -> dict[str, Consensus]:
    """Consensus values of a configuration by tag; image diagnostics and features without a value are left out."""
    families = {tag: item.family for tag, item in consensus().items()}
    with (folder / f"ibsi_1_chest_config_{name}.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines, delimiter=";") if row["tag"] in families]
    return {
        row["tag"]: Consensus(families[row["tag"]], float(row["reference value"]), float(row["tolerance"]))
        for row in rows
        if row["reference value"]
    }
