# mypy: disable-error-code="no-untyped-call"
# (SimpleITK ships wrappers without types)
"""The field that a drawing study's network sees: a cube about the centre of the first sequence, blind to any tumour.

region = field_region(reference, spacing_mm=3.0, edge=64)
images = field_images(volumes, study.sequences, study.imaging, region)      # (C, D, H, W)
mask = field_mask(region, tumour, case)                                     # (D, H, W)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from fedloupe.study import Imaging, Sequence
from fedloupe_client.imaging.cropping import scaled
from fedloupe_client.imaging.normalising import intensity_scale, without_shading
from fedloupe_client.imaging.problems import ImageFlat, TumourOutside
from fedloupe_client.imaging.resampling import mask_onto, onto, upright

WITHIN = 0.9
"""Share of a tumour that must lie in the field for a network to learn from it."""


def field_region(reference: sitk.Image, *, spacing_mm: float, edge: int) -> sitk.Image:
    """The field as an empty image: `edge` voxels a side, the reference's centre, its direction as `upright` has it."""
    middle = reference.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in reference.GetSize()])
    direction = upright(reference).GetDirection()
    axes = np.array(direction).reshape(3, 3)
    region = sitk.Image([edge] * 3, sitk.sitkUInt8)
    region.SetSpacing((spacing_mm,) * 3)
    region.SetDirection(direction)
    region.SetOrigin((np.array(middle) - axes @ np.full(3, (edge - 1) / 2 * spacing_mm)).tolist())
    return region


def field_images(
    volumes: Mapping[str, sitk.Image], sequences: tuple[Sequence, ...], imaging: Imaging, region: sitk.Image, case: str
) -> NDArray[np.float32]:
    """Every sequence on the field, normalised and scaled as in `crop`; zero beyond an image's own field of view.

    Args:
        volumes: each of the sequences on its native grid.
        sequences: of the drawing study: MR, all required.
        imaging: its spacing, bias correction and interpolation.
        region: from `field_region`.
        case: for errors.

    Returns:
        (C, D, H, W) float32 in [-4, 4].

    Raises:
        ImageFlat: a sequence without contrast.
    """
    native = {s.name: sitk.Cast(volumes[s.name], sitk.sitkFloat32) for s in sequences}
    if imaging.bias_correction == "n4":
        native |= without_shading({s.name: native[s.name] for s in sequences if s.intensity == "zscore"})
    channels = []
    for sequence in sequences:
        image = native[sequence.name]
        scale: tuple[float, float] | None = (0.0, 1.0)
        if sequence.intensity == "zscore":
            scale = intensity_scale(sitk.GetArrayFromImage(image))
        if scale is None:
            raise ImageFlat(
                "the image has no contrast",
                where=f"case {case}, `{sequence.name}`",
                remedy="correct or remove this sequence",
            )
        array = (onto(region, image, interpolation=imaging.interpolation) - scale[0]) / scale[1]
        channels.append(scaled(array.astype(np.float32), sequence.intensity) * _seen(region, image))
    return np.stack(channels)


def field_mask(region: sitk.Image, tumour: sitk.Image, case: str) -> NDArray[np.bool_]:
    """The tumour on the field, (D, H, W), as `mask_onto` puts it there.

    Raises:
        TumourOutside: less than `WITHIN` of it lies in the field.
    """
    indices = np.argwhere(sitk.GetArrayViewFromImage(tumour) > 0)[:, ::-1]  # x, y, z
    axes = np.array(tumour.GetDirection()).reshape(3, 3)
    points = np.array(tumour.GetOrigin()) + (indices * np.array(tumour.GetSpacing())) @ axes.T
    along = np.array(region.GetDirection()).reshape(3, 3)
    on_field = (points - np.array(region.GetOrigin())) @ along / np.array(region.GetSpacing())
    inside = ((on_field > -0.5) & (on_field < np.array(region.GetSize()) - 0.5)).all(axis=1)
    if inside.mean() < WITHIN:
        raise TumourOutside(
            f"the field that the network sees holds {inside.mean():.0%} of the tumour",
            where=f"case {case}",
            remedy="tell the coordinator: a larger `segmentation.field_mm` would hold it",
        )
    return mask_onto(region, tumour)


def _seen(region: sitk.Image, image: sitk.Image) -> NDArray[np.uint8]:
    """1 where the image has its own field of view, (D, H, W)."""
    ones = sitk.Image(image.GetSize(), sitk.sitkUInt8) + 1
    ones.CopyInformation(image)
    placed = sitk.Resample(ones, region, sitk.Transform(3, sitk.sitkIdentity), sitk.sitkNearestNeighbor, 0)
    seen: NDArray[np.uint8] = sitk.GetArrayFromImage(placed)
    return seen
