"""IBSI-1's CT phantom, configuration C: a real lung tumour at 2 mm, fixed bins of 25 HU, 3D merged.

The resampling here follows IBSI's preprocessing and belongs to the test; the engine sees its result only.
"""

from __future__ import annotations

import csv
import gzip
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from scipy import ndimage

from fedloupe.features import FEATURES, BinSize, FeatureSettings
from fedloupe_client.radiomics.families import image_features
from fedloupe_client.radiomics.region import make_region
from fedloupe_client.radiomics.shape import shape_features

SUFFIX = {"glcm": "_3D_comb", "glrlm": "_3D_comb", "glszm": "_3D", "gldzm": "_3D", "ngtdm": "_3D", "ngldm": "_3D"}


def _read(archive: Path) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
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


def _centred_grid(volume: np.ndarray, spacing: tuple[float, float, float], to: float) -> np.ndarray:
    """Trilinear on an isotropic grid with the same centre (IBSI: align by centre)."""
    axes = []
    for size, step in zip(volume.shape, spacing, strict=True):
        count = int(np.ceil(size * step / to))
        axes.append((size - 1) / 2 + (np.arange(count) - (count - 1) / 2) * to / step)
    return ndimage.map_coordinates(volume, np.meshgrid(*axes, indexing="ij"), order=1, mode="nearest")


@pytest.fixture(scope="module")
def computed(real_data) -> dict[str, float]:
    image, mask, spacing = _read(real_data / "images" / "ibsi" / "ibsi_1_ct_radiomics_phantom_dicom.tar.xz")
    hounsfield = np.round(_centred_grid(image, spacing, 2.0))
    # Every third slice lies half way between two of the mask's: rounding must not decide such ties.
    morphological = _centred_grid(mask.astype(float), spacing, 2.0) >= 0.5 - 1e-6
    intensity = morphological & (hounsfield >= -1000) & (hounsfield <= 400)
    whole = make_region(morphological, 2.0)
    region = make_region(intensity, 2.0)
    # Re-segmentation takes voxels out of the intensity mask; IBSI measures zone distances in the other mask.
    box = ndimage.distance_transform_cdt(np.pad(morphological, 1), metric="taxicab")[1:-1, 1:-1, 1:-1]
    region = replace(region, distance=box[intensity].astype(np.int64))
    values = hounsfield[region.box][region.inside]
    blocks = image_features(values, region, BinSize(origin=-1000, width=25, limit=56), FeatureSettings(), 0.0)
    found = {f.ibsi_tag: v for f, v in zip(FEATURES["shape"], shape_features(whole.inside, 2.0), strict=True)}
    for family, block in blocks.items():
        for feature, value in zip(FEATURES[family], block.values, strict=True):
            found[feature.ibsi_tag + SUFFIX.get(family, "")] = value
    return found


@pytest.mark.data
class TestConfigurationC:
    def test_every_feature_is_within_the_consensus_tolerance(self, computed, real_data):
        with (real_data / "images" / "ibsi" / "ibsi_1_chest_config_c.csv").open() as lines:
            rows = {row["tag"]: row for row in csv.DictReader(lines, delimiter=";")}
        missed, compared = [], 0
        for tag, value in computed.items():
            reference, tolerance = (float(rows[tag][key]) for key in ("reference value", "tolerance"))
            compared += 1
            if not abs(float(f"{value:.3g}") - reference) <= tolerance + 1e-9 * abs(reference):
                missed.append(f"{tag}: {value:.4g}, consensus {reference:g} +- {tolerance:g}")
        assert not missed
        assert compared == 157
