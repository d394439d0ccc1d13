"""Texture families of one discretised image, with their matrices merged or their features averaged as IBSI names it.

    textures = Textures(levels, region, aggregation="merged_3d", alpha=0)
    textures.block("glcm")

| aggregation | matrices over | merged | then averaged | IBSI |
|---|---|---|---|---|
| averaged_2d | slices, 4 directions | none | slices and directions | BTW3 |
| slice_merged_2d | slices, 4 directions | directions of a slice | slices | SUJT |
| direction_merged_25d | slices, 4 directions | slices of a direction | directions | JJUI |
| merged_25d | slices, 4 directions | all | - | ZW7Z |
| averaged_3d | volume, 13 directions | none | directions | ITBB |
| merged_3d | volume, 13 directions | all | - | IAZD |

Zones, dependences and neighbourhood differences have no directions: by slice, by slice merged, or in the volume.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from fedloupe.features import FEATURES, Aggregation, Family
from fedloupe_client.radiomics.block import Block, absent, settle
from fedloupe_client.radiomics.counts import count_pairs_and_runs, count_surroundings, find_zones, tabulate
from fedloupe_client.radiomics.intensity import histogram_features
from fedloupe_client.radiomics.kernel import Floats, Ints
from fedloupe_client.radiomics.region import Region, Voxels
from fedloupe_client.radiomics.texture import emphasis_features, glcm_features, ngtdm_features


class Textures:
    """The matrices of one discretised image, each counted once at the first family that asks for it."""

    def __init__(self, levels: Ints, region: Region, aggregation: Aggregation, alpha: int) -> None:
        """Hold on to what will be counted.

        Args:
            levels: (N) grey levels from 1, of which at least two occur.
            region: planar where the aggregation is 2D or 2.5D.
            aggregation: see the module.
            alpha: largest difference of dependent grey levels.
        """
        self.levels = levels
        self.highest = int(levels.max())
        self.longest = max(region.inside.shape)
        self.alpha = alpha
        self.parts = list(region.by_slice()) if aggregation.endswith("_2d") else [region.whole]
        self.by_direction = aggregation in ("averaged_2d", "direction_merged_25d", "averaged_3d")

    def block(self, family: Family) -> Block:
        """One family, or why it is absent.

        Where features are averaged, a matrix without any count takes no part, nor does one for which a feature is not
        defined (a slice of one grey level has no correlation).
        """
        if family == "histogram":
            return settle(family, histogram_features(self.levels, self.highest))
        rows = np.array([row[: len(FEATURES[family])] for row in self._features(family)])
        if not len(rows):
            return absent(family, "no two voxels touch")
        if len(rows) == 1:
            return settle(family, rows[0])
        defined = np.isfinite(rows)
        with np.errstate(invalid="ignore"):
            return settle(family, np.where(defined, rows, 0).sum(axis=0) / defined.sum(axis=0))

    def _features(self, family: Family) -> Iterator[Floats]:
        """The features of each matrix that has counts."""
        match family:
            case "glcm":
                yield from (glcm_features(glcm) for glcm, _, _ in self._directed if glcm.any())
            case "glrlm":
                lengths = np.arange(1, self.longest + 1)
                yield from (emphasis_features(glrlm, lengths, possible) for _, glrlm, possible in self._directed)
            case "ngldm":
                for part, (ngldm, _, _) in zip(self.parts, self._surroundings, strict=True):
                    yield emphasis_features(ngldm, np.arange(1, ngldm.shape[1] + 1), len(part))
            case "ngtdm":
                yield from (ngtdm_features(valid, sums) for _, valid, sums in self._surroundings if valid.any())
            case "glszm" | "gldzm":
                for part, (grey, size, nearest) in zip(self.parts, self._zones, strict=True):
                    counts, values = tabulate(grey, size if family == "glszm" else nearest, self.highest)
                    yield emphasis_features(counts, values, len(part))
            case _:
                raise ValueError(f"{family} is not a texture")

    def _of(self, part: Voxels) -> Ints:
        return self.levels[part.start : part.stop]

    @cached_property
    def _directed(self) -> list[tuple[Ints, Ints, int]]:
        """GLCM, GLRLM and the number of possible runs, for each part and direction or set of directions."""
        found = []
        for part in self.parts:
            count = part.directions
            columns = [[d, d + count] for d in range(count)] if self.by_direction else [slice(None)]
            for column in columns:
                near = np.ascontiguousarray(part.neighbours[:, column])
                matrices = count_pairs_and_runs(self._of(part), near, self.highest, self.longest)
                found.append((*matrices, near.shape[1] // 2 * len(part)))
        return found

    @cached_property
    def _surroundings(self) -> list[tuple[Ints, Ints, Floats]]:
        return [count_surroundings(self._of(part), part.neighbours, self.highest, self.alpha) for part in self.parts]

    @cached_property
    def _zones(self) -> list[tuple[Ints, Ints, Ints]]:
        return [find_zones(self._of(part), part.neighbours, part.distance) for part in self.parts]
