# mypy: disable-error-code="no-untyped-call"
# (SimpleITK ships wrappers without types)
"""A stored case on the study's common grid, normalised.

grid = to_grid(store, record, study)
grid.images["t2w"][grid.mask]                 # the tumour's values
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from fedloupe.errors import FedLoupeError
from fedloupe.study import Sequence, Study
from fedloupe_client.imaging.normalising import intensity_scale, without_shading
from fedloupe_client.imaging.problems import ImageFlat, RegistrationRefused, TumourOutside
from fedloupe_client.imaging.registering import BODY_HU, register
from fedloupe_client.imaging.resampling import Interpolation, common_region, coverage, mask_onto, onto, upright
from fedloupe_client.ingest.formats.volumes import same_grid
from fedloupe_client.ingest.store.records import CaseRecord, Store

MARGIN_MM = 25.0
COVERED = 0.9
Intensity = Literal["zscore", "physical", "hounsfield"]


@dataclass(frozen=True)
class GridCase:
    """A case on one isotropic grid.

    Attributes:
        images: (z, y, x) float32 by sequence, in the study's order; None where missing. `zscore`: 0 is the mean and 1
            the standard deviation of the body; `physical`: as stored (ADC, 1e-6 mm2/s); `hounsfield`: [-200, 300] HU.
        mask: (z, y, x), the tumour; never empty.
        spacing_mm: edge of a voxel.
        intensities: kind of each sequence.
        notes: why a sequence that the case has is not used, by sequence; no identifiers.
    """

    images: dict[str, NDArray[np.float32] | None]
    mask: NDArray[np.bool_]
    spacing_mm: float
    intensities: dict[str, Intensity]
    notes: dict[str, str]


def to_grid(store: Store, record: CaseRecord, study: Study) -> GridCase:
    """Put every sequence and the mask of one case on the common grid.

    Args:
        store: from `load_store`.
        record: a ready case of it.
        study: its first sequence defines the grid's direction, up to the order and sense of its axes, and its centre.

    Raises:
        TumourOutside, ImageFlat, RegistrationRefused: of a required sequence; an optional one counts as missing.
        StoreUnreadable: a file of the store.
    """
    native = {
        sequence.name: upright(sitk.Cast(store.volume(record.case, sequence.name), sitk.sitkFloat32))
        for sequence in study.sequences
        if sequence.name in record.sequences
    }
    reference = native[study.sequences[0].name]
    tumour = upright(store.mask(record.case))
    spacing = study.imaging.spacing_mm
    region = common_region(reference, tumour, spacing_mm=spacing, margin_mm=MARGIN_MM, cube_mm=study.imaging.crop_mm)
    mask = mask_onto(region, tumour)
    if study.imaging.bias_correction == "n4":
        shaded = [
            s.name for s in study.sequences if s.modality == "MR" and s.intensity == "zscore" and s.name in native
        ]
        native |= without_shading({name: native[name] for name in shaded})
    images: dict[str, NDArray[np.float32] | None] = {}
    notes: dict[str, str] = {}
    for sequence in study.sequences:
        images[sequence.name] = None
        if sequence.name in native:
            try:
                images[sequence.name] = _place(
                    sequence,
                    native[sequence.name],
                    reference,
                    tumour,
                    region,
                    mask,
                    record.case,
                    study.imaging.interpolation,
                )
            except (TumourOutside, ImageFlat, RegistrationRefused) as problem:
                if sequence.required:
                    raise
                notes[sequence.name] = problem.what
    return GridCase(images, mask, spacing, {s.name: s.intensity for s in study.sequences}, notes)


def _place(
    sequence: Sequence,
    image: sitk.Image,
    reference: sitk.Image,
    tumour: sitk.Image,
    region: sitk.Image,
    mask: NDArray[np.bool_],
    case: str,
    interpolation: Interpolation,
) -> NDArray[np.float32]:
    """One sequence on the region, normalised; or the reason why it cannot be used."""
    transform = None
    remedy = "correct or remove this sequence, or accept that it counts as missing where the study allows"

    def refused(kind: type[FedLoupeError], what: str) -> FedLoupeError:
        return kind(what, where=f"case {case}, `{sequence.name}`", remedy=remedy)

    scale: tuple[float, float] | None = (0.0, 1.0)
    if sequence.intensity == "zscore":
        scale = intensity_scale(sitk.GetArrayFromImage(image))
    if scale is None:
        raise refused(ImageFlat, "the image has no contrast")
    if sequence.modality == "CT":
        found = register(reference, image, tumour)
        if not found.accepted:
            raise refused(RegistrationRefused, found.reason)
        transform = found.transform
    if not same_grid(image, reference) or transform is not None:
        covered = coverage(region, mask, image, transform)
        if covered < COVERED:
            raise refused(TumourOutside, f"the image covers {covered:.0%} of the tumour")
    array = onto(region, image, transform, interpolation=interpolation)
    if sequence.intensity == "zscore":
        array = ((array - scale[0]) / scale[1]).astype(np.float32)
    elif sequence.intensity == "hounsfield":
        array = np.clip(array, *BODY_HU).astype(np.float32)
    return array
