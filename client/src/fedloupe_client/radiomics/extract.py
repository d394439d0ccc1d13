"""One case in, one row of the feature table out.

row = extract_case({"t2w": t2w, "adc": None}, mask, 2.0, settings, {"t2w": "zscore", "adc": "physical"})
row.values          # float64, aligned with feature_table(settings, ["t2w", "adc"])
row.reasons         # {"adc": "missing sequence"}: why some are NaN
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedloupe.features import FEATURES, Family, FeatureSettings, Intensity
from fedloupe_client.radiomics.errors import GridMismatch, IntensityUnknown, NonFiniteIntensity
from fedloupe_client.radiomics.families import Block, image_features, settle
from fedloupe_client.radiomics.filters import filter_responses
from fedloupe_client.radiomics.kernel import Floats
from fedloupe_client.radiomics.region import Region, make_region
from fedloupe_client.radiomics.shape import shape_features

Image = NDArray[np.float32] | NDArray[np.float64]

# A response whose range is below this share of the image's largest magnitude is what float32 rounding leaves.
NOISE = 1e-6


@dataclass(frozen=True)
class Extraction:
    """A case's features.

    Attributes:
        values: float64, aligned with `fedloupe.features.feature_table` of the same settings and sequences;
            finite or NaN, never infinite.
        reasons: why values are NaN, by the part of the name that they share: `adc` (missing sequence),
            `t2w|log_3mm|glcm` or `shape`. Empty when all values are present.
    """

    values: Floats
    reasons: Mapping[str, str]


def extract_case(
    images: Mapping[str, Image | None],
    mask: NDArray[np.bool_],
    spacing_mm: float,
    settings: FeatureSettings,
    intensity: Mapping[str, Intensity],
) -> Extraction:
    """All features of one case.

    Args:
        images: sequence name to float (z, y, x) or None where missing, in the study's order, all on the mask's
            grid: resampled, normalised and cropped to the mask plus a margin of at least
            `log_truncate` times the largest sigma (otherwise filters see the reflected edge).
        mask: bool (z, y, x), the tumour.
        spacing_mm: isotropic voxel size.
        settings: the study's frozen feature settings.
        intensity: sequence name to the kind of its intensities, which picks the discretisation of the original.

    Raises:
        GridMismatch: shapes differ, or the spacing is not positive.
        EmptyRegion: the mask holds no voxel.
        NonFiniteIntensity: NaN or infinity inside the mask.
        IntensityUnknown: a sequence's kind is not given.
    """
    if mask.ndim != 3 or not (np.isfinite(spacing_mm) and spacing_mm > 0):
        raise GridMismatch(
            f"mask {mask.shape} at {spacing_mm} mm is not a volume", where="mask", remedy="give (z, y, x) and mm"
        )
    region = make_region(np.ascontiguousarray(mask, dtype=np.bool_), float(spacing_mm))
    reasons: dict[str, str] = {}
    columns: list[Floats] = []
    if settings.shape:
        shape = settle("shape", shape_features(region.inside, region.spacing_mm))
        columns.append(shape.values)
        if shape.reason:
            reasons["shape"] = shape.reason
    for sequence, image in images.items():
        if sequence not in intensity:
            raise IntensityUnknown(
                f"no intensity kind for `{sequence}`", where=sequence, remedy="name it in the study's sequences"
            )
        if image is None:
            reasons[sequence] = "missing sequence"
            width = sum(len(FEATURES[family]) for family in settings.families)
            columns.append(np.full(width * len(settings.filters), np.nan))
            continue
        crop = _checked(sequence, image, mask, region)
        for filter_name, blocks in _sequence_blocks(crop, region, settings, intensity[sequence]):
            for family, block in blocks.items():
                columns.append(block.values)
                if block.reason:
                    reasons[f"{sequence}|{filter_name}|{family}"] = block.reason
    return Extraction(np.concatenate(columns) if columns else np.empty(0), reasons)


def _checked(sequence: str, image: Image, mask: NDArray[np.bool_], region: Region) -> Floats:
    if image.shape != mask.shape:
        raise GridMismatch(
            f"image {image.shape} and mask {mask.shape} differ",
            where=sequence,
            remedy="resample both to the common grid",
        )
    # float32 in one place: platforms differ in the last bits of float64, which must not move a voxel over a bin edge.
    crop = np.ascontiguousarray(image, dtype=np.float32).astype(np.float64)
    if not np.isfinite(crop[region.box][region.inside]).all():
        raise NonFiniteIntensity(
            "NaN or infinite voxels inside the mask", where=sequence, remedy="check that the image covers the tumour"
        )
    return crop


def _sequence_blocks(
    crop: Floats, region: Region, settings: FeatureSettings, kind: Intensity
) -> Iterator[tuple[str, Mapping[Family, Block]]]:
    noise = NOISE * float(np.abs(crop[np.isfinite(crop)]).max())
    original = crop[region.box][region.inside]
    yield "original", image_features(original, region, getattr(settings.discretisation, kind), settings, 0.0)
    for name, response in filter_responses(crop, region.box, region.spacing_mm, settings):
        values = response[region.inside].astype(np.float32).astype(np.float64)
        yield name, image_features(values, region, settings.discretisation.response, settings, noise)
