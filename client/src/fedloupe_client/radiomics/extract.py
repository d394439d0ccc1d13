"""One case in, one row of the feature table out.

row = extract_case({"t2w": t2w, "adc": None}, mask, 2.0, settings, {"t2w": "zscore", "adc": "physical"})
row.values          # float64, aligned with feature_table(settings, ["t2w", "adc"])
row.reasons         # {"adc": "missing sequence"}: why some are NaN
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fedloupe.features import FeatureSettings, Intensity, blocks, feature_table
from fedloupe_client.radiomics.block import Block, absent, settle
from fedloupe_client.radiomics.errors import GridMismatch, IntensityUnknown, NonFiniteIntensity
from fedloupe_client.radiomics.families import image_features, original_features
from fedloupe_client.radiomics.filters import filter_responses
from fedloupe_client.radiomics.kernel import Floats
from fedloupe_client.radiomics.region import Region, Spacing, make_region
from fedloupe_client.radiomics.separable import Box
from fedloupe_client.radiomics.shape import mesh_volume, shape_features

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


@dataclass(frozen=True)
class _Part:
    """A region whose features are wanted: the tumour (`suffix` "") or its rim, None where no voxel is in it."""

    suffix: str
    region: Region | None
    volume_mm3: float


@dataclass
class _Row:
    """The row as it grows."""

    columns: list[Floats] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, key: str, block: Block) -> None:
        self.columns.append(block.values)
        if block.reason:
            self.reasons[key] = block.reason

    def lack(self, key: str, families: list[str], reason: str) -> None:
        """Whole blocks that share one reason."""
        self.columns.extend(absent(family, reason).values for family in families)
        self.reasons[key] = reason


def extract_case(
    images: Mapping[str, Image | None],
    mask: NDArray[np.bool_],
    spacing_mm: float | Spacing,
    settings: FeatureSettings,
    intensity: Mapping[str, Intensity],
) -> Extraction:
    """All features of one case.

    Args:
        images: sequence name to float (z, y, x) or None where missing, in the study's order, all on the mask's
            grid: resampled, normalised and cropped to the mask plus a margin of at least
            `log_truncate` times the largest sigma (otherwise filters see the reflected edge).
        mask: bool (z, y, x), the tumour.
        spacing_mm: voxel size, of each edge or (z, y, x). In the plane voxels are square; along z they may differ
            where the settings' aggregation is 2D or 2.5D.
        settings: the study's frozen feature settings.
        intensity: sequence name to the kind of its intensities, which picks the discretisation of the original.

    Raises:
        GridMismatch: shapes differ, or the spacing is not positive or not as the aggregation needs it.
        EmptyRegion: the mask holds no voxel.
        NonFiniteIntensity: NaN or infinity inside the mask.
        IntensityUnknown: a sequence's kind is not given.
        FeatureSettingsInvalid: a difference names a sequence that is not there.
    """
    spacing = _spacing(mask, spacing_mm, settings)
    mask = np.ascontiguousarray(mask, dtype=np.bool_)
    tumour = make_region(mask, spacing, planar=settings.planar)
    row = _Row()
    if settings.shape:
        row.add("shape", settle("shape", shape_features(tumour.outline, spacing)))
    parts = list(_parts(mask, tumour, settings))
    crops = {name: _checked(name, image, mask, tumour, intensity) for name, image in images.items()}
    for name, crop in crops.items():
        if crop is None:
            row.lack(name, [family for _ in parts for _, family in blocks(settings)], "missing sequence")
        else:
            _sequence(row, name, crop, parts, settings, intensity[name])
    for later, earlier in settings.delta:
        _difference(row, f"{later}:{earlier}", crops.get(later), crops.get(earlier), parts[0], settings)
    values = np.concatenate(row.columns) if row.columns else np.empty(0)
    if len(values) != len(feature_table(settings, images)):
        raise RuntimeError("the engine and the feature table disagree on the columns")
    return Extraction(values, row.reasons)


def _spacing(mask: NDArray[np.bool_], spacing_mm: float | Spacing, settings: FeatureSettings) -> Spacing:
    spacing = np.broadcast_to(np.asarray(spacing_mm, dtype=float), 3)
    if mask.ndim != 3 or not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise GridMismatch(
            f"mask {mask.shape} at {spacing_mm} mm is not a volume", where="mask", remedy="give (z, y, x) and mm"
        )
    z, y, x = spacing.tolist()
    if y != x or not (z == y or settings.planar):
        raise GridMismatch(
            f"voxels of {z:g} x {y:g} x {x:g} mm do not suit `aggregation: {settings.aggregation}`",
            where="spacing",
            remedy="resample to cubes, or to squares in the plane with a 2D or 2.5D aggregation",
        )
    return z, y, x


def _parts(mask: NDArray[np.bool_], tumour: Region, settings: FeatureSettings) -> Iterator[_Part]:
    measured = "spatial" in settings.original_families
    yield _Part("", tumour, mesh_volume(tumour.outline, tumour.spacing_mm) if measured else np.nan)
    if settings.rim_mm is None:
        return
    away = ndimage.distance_transform_edt(~mask, sampling=tumour.spacing_mm)
    shell = ~mask & (away <= settings.rim_mm)
    if not shell.any():
        yield _Part(f"|{settings.rim}", None, np.nan)
        return
    rim = make_region(shell, tumour.spacing_mm, planar=settings.planar)
    yield _Part(f"|{settings.rim}", rim, mesh_volume(rim.outline, rim.spacing_mm) if measured else np.nan)


def _checked(
    sequence: str,
    image: Image | None,
    mask: NDArray[np.bool_],
    region: Region,
    intensity: Mapping[str, Intensity],
) -> Floats | None:
    if sequence not in intensity:
        raise IntensityUnknown(
            f"no intensity kind for `{sequence}`", where=sequence, remedy="name it in the study's sequences"
        )
    if image is None:
        return None
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


def _sequence(
    row: _Row, name: str, crop: Floats, parts: list[_Part], settings: FeatureSettings, kind: Intensity
) -> None:
    """All parts of one sequence; filters run once, over the box of the largest."""
    found: dict[str, dict[str, Block]] = {part.suffix: {} for part in parts}
    regions = [(part, part.region) for part in parts if part.region is not None]
    for part, region in regions:
        original = crop[region.box][region.inside]
        calm = image_features(original, region, getattr(settings.discretisation, kind), settings, 0.0)
        calm |= original_features(crop, region, getattr(settings.volume_histogram, kind), part.volume_mm3, settings)
        found[part.suffix] |= {f"original|{family}": block for family, block in calm.items()}
    noise = NOISE * float(np.abs(crop[np.isfinite(crop)]).max())
    wide = _hull([region.box for _, region in regions])
    spacing = parts[0].region.spacing_mm[1] if parts[0].region else 1.0
    for filter_name, response in filter_responses(crop, wide, spacing, settings):
        for part, region in regions:
            place = tuple(slice(b.start - w.start, b.stop - w.start) for b, w in zip(region.box, wide, strict=True))
            values = response[place][region.inside].astype(np.float32).astype(np.float64)
            responses = image_features(values, region, settings.discretisation.response, settings, noise)
            found[part.suffix] |= {f"{filter_name}|{family}": block for family, block in responses.items()}
    for part in parts:
        if part.region is None:
            row.lack(name + part.suffix, [family for _, family in blocks(settings)], "no voxel in the rim")
            continue
        for filter_name, family in blocks(settings):
            key = f"{filter_name}|{family}"
            row.add(f"{name}{part.suffix}|{key}", found[part.suffix][key])


def _difference(
    row: _Row, name: str, later: Floats | None, earlier: Floats | None, part: _Part, settings: FeatureSettings
) -> None:
    """Features of the original difference image, whose intensities are arbitrary like a filter's response."""
    families = [family for filter_name, family in blocks(settings) if filter_name == "original"]
    if later is None or earlier is None or part.region is None:
        row.lack(name, list(families), "missing sequence")
        return
    image = (later - earlier).astype(np.float32).astype(np.float64)
    noise = NOISE * float(np.abs(later[np.isfinite(later)]).max())
    values = image[part.region.box][part.region.inside]
    found = image_features(values, part.region, settings.discretisation.response, settings, noise)
    found |= original_features(image, part.region, settings.volume_histogram.zscore, part.volume_mm3, settings)
    for family in families:
        row.add(f"{name}|original|{family}", found[family])


def _hull(boxes: list[Box]) -> Box:
    """The smallest box that holds all."""
    z, y, x = (slice(min(b[a].start for b in boxes), max(b[a].stop for b in boxes)) for a in range(3))
    return z, y, x
