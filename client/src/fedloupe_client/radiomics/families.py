"""All feature families of one image: voxel values in, one block a family out, each complete or with its reason.

blocks = image_features(values, region, rule, settings, constant_below=0.0)
blocks |= original_features(image, region, VolumeBinNumber(), volume_mm3, settings)
"""

from __future__ import annotations

import numpy as np

from fedloupe.features import BinNumber, BinSize, Family, FeatureSettings, OriginalFamily
from fedloupe_client.radiomics.aggregate import Textures
from fedloupe_client.radiomics.block import Block, absent, settle
from fedloupe_client.radiomics.discretise import discretise
from fedloupe_client.radiomics.intensity import firstorder_features
from fedloupe_client.radiomics.kernel import Floats
from fedloupe_client.radiomics.local import local_features
from fedloupe_client.radiomics.region import Region
from fedloupe_client.radiomics.spatial import spatial_features
from fedloupe_client.radiomics.volume import volume_features

AROUND = "non-finite voxels around the tumour"


def image_features(
    values: Floats, region: Region, rule: BinNumber | BinSize, settings: FeatureSettings, constant_below: float
) -> dict[Family | OriginalFamily, Block]:
    """All families of `settings.families` for one image.

    Args:
        values: float64 (N), the region's voxels in raster order.
        region: the mask, planar where `settings.planar`.
        rule: how to discretise.
        settings: families, aggregation and NGLDM alpha.
        constant_below: a range at or below this is rounding noise, not signal.

    Returns:
        A block for each family asked for.
    """
    if not np.isfinite(values).all():
        return {family: absent(family, AROUND) for family in settings.families}
    constant = bool(np.ptp(values) <= constant_below)
    blocks: dict[Family | OriginalFamily, Block] = {}
    if "firstorder" in settings.families:
        blocks["firstorder"] = settle(
            "firstorder", firstorder_features(np.full_like(values, values[0]) if constant else values)
        )
    grey_families = [family for family in settings.families if family != "firstorder"]
    if constant:
        return blocks | {family: absent(family, "constant intensity") for family in grey_families}
    levels = discretise(values, rule)
    if levels.min() == levels.max():
        return blocks | {family: absent(family, "one grey level") for family in grey_families}
    textures = Textures(levels, region, settings.aggregation, settings.ngldm_alpha)
    return blocks | {family: textures.block(family) for family in grey_families}


def original_features(
    image: Floats, region: Region, rule: BinNumber | BinSize, volume_mm3: float, settings: FeatureSettings
) -> dict[Family | OriginalFamily, Block]:
    """The families of `settings.original_families`, which mean nothing for a filter's response.

    Args:
        image: float64 (z, y, x), the crop: local peaks look beyond the region.
        region: the mask.
        rule: bins of the intensity-volume histogram.
        volume_mm3: of the region's mesh.
        settings: which families.
    """
    values = image[region.box][region.inside]
    blocks: dict[Family | OriginalFamily, Block] = {}
    for family in settings.original_families:
        if not np.isfinite(values).all():
            blocks[family] = absent(family, AROUND)
        elif family == "spatial":
            blocks[family] = settle(family, spatial_features(values, region, volume_mm3))
        elif family == "local":
            # The sphere of a voxel at the border reads beyond the region.
            peaks = local_features(image, region)
            blocks[family] = settle(family, peaks) if np.isfinite(peaks).all() else absent(family, AROUND)
        elif np.ptp(values) == 0:
            blocks[family] = absent(family, "constant intensity")
        else:
            blocks[family] = settle(family, volume_features(values, rule))
    return blocks
