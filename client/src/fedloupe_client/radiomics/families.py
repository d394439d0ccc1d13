"""All feature families of one image: voxel values in, one block a family out, each complete or with its reason.

    blocks = image_features(values, region, rule, settings, constant_below=0.0)
    blocks["glcm"].values, blocks["glcm"].reason

A family that is not defined for this region is NaN and says why; its neighbours are not touched.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedloupe.features import FEATURES, BinNumber, BinSize, Family, FeatureSettings
from fedloupe_client.radiomics.counts import count_neighbourhoods, find_zones, tabulate
from fedloupe_client.radiomics.discretise import discretise
from fedloupe_client.radiomics.intensity import firstorder_features, histogram_features
from fedloupe_client.radiomics.kernel import Floats, Ints
from fedloupe_client.radiomics.region import DIRECTIONS, Region
from fedloupe_client.radiomics.texture import emphasis_features, glcm_features, ngtdm_features


@dataclass(frozen=True)
class Block:
    """One family's features: float64 `values` without infinities, and why some are NaN (None: none is)."""

    values: Floats
    reason: str | None = None


def absent(family: str, reason: str) -> Block:
    """A family that is not defined at all."""
    return Block(np.full(len(FEATURES[family]), np.nan), reason)


def settle(family: str, values: Floats) -> Block:
    """Values as computed, with NaN for what is not finite, and a reason that names those features."""
    undefined = ~np.isfinite(values)
    if not undefined.any():
        return Block(values)
    names = ", ".join(feature.name for feature, flag in zip(FEATURES[family], undefined, strict=True) if flag)
    return Block(np.where(undefined, np.nan, values), f"undefined for this region: {names}")


def image_features(
    values: Floats, region: Region, rule: BinNumber | BinSize, settings: FeatureSettings, constant_below: float
) -> dict[Family, Block]:
    """All families of `settings.families` for one image.

    Args:
        values: float64 (N), the region's voxels in raster order.
        region: the mask.
        rule: how to discretise.
        settings: families and NGLDM alpha.
        constant_below: a range at or below this is rounding noise, not signal.

    Returns:
        A block for each family asked for.
    """
    if not np.isfinite(values).all():
        return {family: absent(family, "non-finite voxels around the tumour") for family in settings.families}
    constant = bool(np.ptp(values) <= constant_below)
    blocks: dict[Family, Block] = {}
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
    textures = _Textures(levels, region, settings.ngldm_alpha)
    for family in grey_families:
        blocks[family] = textures.block(family)
    return blocks


class _Textures:
    """The matrices of one discretised image, counted once, and the features of each family."""

    def __init__(self, levels: Ints, region: Region, alpha: int) -> None:
        self.levels = levels
        self.voxels = region.voxels
        self.highest = int(levels.max())
        self.longest = max(region.inside.shape)
        self.glcm, self.glrlm, self.ngldm, self.valid, self.differences = count_neighbourhoods(
            levels, region.neighbours, self.highest, self.longest, alpha
        )
        self.grey, self.size, self.nearest = find_zones(levels, region.neighbours, region.distance)

    def block(self, family: Family) -> Block:
        if family in ("glcm", "ngtdm") and not self.valid.any():
            return absent(family, "no two voxels touch")
        return settle(family, self._features(family))

    def _features(self, family: Family) -> Floats:
        match family:
            case "histogram":
                return histogram_features(self.levels, self.highest)
            case "glcm":
                return glcm_features(self.glcm)
            case "ngtdm":
                return ngtdm_features(self.valid, self.differences)
            case _:
                counts, values, possible = self._emphasis_matrix(family)
                return emphasis_features(counts, values, possible)[: len(FEATURES[family])]

    def _emphasis_matrix(self, family: Family) -> tuple[Ints, Ints, int]:
        """Counts by grey level and value, the values, and how many elements there could be."""
        match family:
            case "glrlm":
                return self.glrlm, np.arange(1, self.longest + 1), DIRECTIONS * self.voxels
            case "glszm":
                return *tabulate(self.grey, self.size, self.highest), self.voxels
            case "gldzm":
                return *tabulate(self.grey, self.nearest, self.highest), self.voxels
            case "ngldm":
                return self.ngldm, np.arange(1, self.ngldm.shape[1] + 1), self.voxels
        raise ValueError(f"{family} is not computed from a matrix of grey level against value")
