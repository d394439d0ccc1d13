# mypy: disable-error-code="no-untyped-call"
# (SimpleITK ships wrappers without types)
"""A stored case on the study's common grid, normalised.

grid = to_grid(store, record, study)
grid.images["t2w"][grid.mask]                 # the tumour's values
turned = open_case(store, record, study).grid(Pose(rotate_deg=4), grow_mm=1)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from fedloupe.errors import FedLoupeError
from fedloupe.features import parse_settings
from fedloupe.study import Sequence, Study
from fedloupe_client.imaging.normalising import intensity_scale, without_shading
from fedloupe_client.imaging.posing import STILL, Pose, grown_onto, posed
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
    return open_case(store, record, study).grid()


def open_case(store: Store, record: CaseRecord, study: Study) -> OpenCase:
    """Read a case and do once what does not depend on how the grid lies: shading, scale of intensities, registration.

    Args, Raises: as `to_grid`, but for TumourOutside.
    """
    native = {
        sequence.name: upright(sitk.Cast(store.volume(record.case, sequence.name), sitk.sitkFloat32))
        for sequence in study.sequences
        if sequence.name in record.sequences
    }
    reference = native[study.sequences[0].name]
    tumour = upright(store.mask(record.case))
    if study.imaging.bias_correction == "n4":
        shaded = [
            s.name for s in study.sequences if s.modality == "MR" and s.intensity == "zscore" and s.name in native
        ]
        native |= without_shading({name: native[name] for name in shaded})
    sources: dict[str, _Source | None] = {}
    notes: dict[str, str] = {}
    for sequence in study.sequences:
        sources[sequence.name] = None
        if sequence.name in native:
            try:
                sources[sequence.name] = _source(sequence, native[sequence.name], reference, tumour, record.case)
            except (ImageFlat, RegistrationRefused) as problem:
                if sequence.required:
                    raise
                notes[sequence.name] = problem.what
    return OpenCase(record.case, sources, tumour, reference, study, notes)


@dataclass(frozen=True)
class _Source:
    """A sequence as stored, and how it gets onto a grid: its own scale, and the way to its points."""

    image: sitk.Image
    scale: tuple[float, float]
    transform: sitk.Transform | None


@dataclass(frozen=True)
class OpenCase:
    """A case that can be put on the common grid as it lies, or as it might have lain.

    Attributes:
        case: its id.
        sources: by sequence; None where missing.
        tumour: the mask as stored.
        reference: the first sequence as stored.
        study: as given.
        notes: as in `GridCase`.
    """

    case: str
    sources: dict[str, _Source | None]
    tumour: sitk.Image
    reference: sitk.Image
    study: Study
    notes: dict[str, str]

    def grid(self, pose: Pose = STILL, grow_mm: float = 0.0) -> GridCase:
        """The case on the common grid.

        Args:
            pose: how the grid lies about the tumour; images and mask are interpolated once, whatever it is.
            grow_mm: how far the mask's border moves outwards; below 0 inwards. The mask may then be empty.

        Raises:
            TumourOutside: of a required sequence; an optional one counts as missing.
        """
        imaging = self.study.imaging
        region = common_region(
            self.reference,
            self.tumour,
            spacing_mm=imaging.spacing_mm,
            margin_mm=_margin(self.study) + abs(grow_mm),
            cube_mm=imaging.crop_mm,
        )
        region = posed(region, self.tumour, pose)
        mask = mask_onto(region, self.tumour) if grow_mm == 0 else grown_onto(region, self.tumour, grow_mm)
        images: dict[str, NDArray[np.float32] | None] = {}
        notes = dict(self.notes)
        for sequence in self.study.sequences:
            images[sequence.name] = None
            source = self.sources[sequence.name]
            if source is not None:
                try:
                    images[sequence.name] = _place(sequence, source, region, mask, self, imaging.interpolation)
                except TumourOutside as problem:
                    if sequence.required:
                        raise
                    notes[sequence.name] = problem.what
        intensities = {s.name: s.intensity for s in self.study.sequences}
        return GridCase(images, mask, imaging.spacing_mm, intensities, notes)


def _margin(study: Study) -> float:
    """Around the mask, in mm: as far as the study's features read, and two voxels more."""
    if study.radiomics.source != "computed":
        return MARGIN_MM
    return max(MARGIN_MM, parse_settings(study.radiomics.settings).margin_mm + 2 * study.imaging.spacing_mm)


def _refused(kind: type[FedLoupeError], what: str, case: str, sequence: Sequence) -> FedLoupeError:
    remedy = "correct or remove this sequence, or accept that it counts as missing where the study allows"
    return kind(what, where=f"case {case}, `{sequence.name}`", remedy=remedy)


def _source(sequence: Sequence, image: sitk.Image, reference: sitk.Image, tumour: sitk.Image, case: str) -> _Source:
    """What a sequence needs before it can be placed, or the reason why it cannot be used."""
    scale: tuple[float, float] | None = (0.0, 1.0)
    if sequence.intensity == "zscore":
        scale = intensity_scale(sitk.GetArrayFromImage(image))
    if scale is None:
        raise _refused(ImageFlat, "the image has no contrast", case, sequence)
    if sequence.modality != "CT":
        return _Source(image, scale, None)
    found = register(reference, image, tumour)
    if not found.accepted:
        raise _refused(RegistrationRefused, found.reason, case, sequence)
    return _Source(image, scale, found.transform)


def _place(
    sequence: Sequence,
    source: _Source,
    region: sitk.Image,
    mask: NDArray[np.bool_],
    case: OpenCase,
    interpolation: Interpolation,
) -> NDArray[np.float32]:
    """One sequence on the region, normalised; or the reason why it cannot be used."""
    if (not same_grid(source.image, case.reference) or source.transform is not None) and mask.any():
        covered = coverage(region, mask, source.image, source.transform)
        if covered < COVERED:
            raise _refused(TumourOutside, f"the image covers {covered:.0%} of the tumour", case.case, sequence)
    array = onto(region, source.image, source.transform, interpolation=interpolation)
    if sequence.intensity == "zscore":
        array = ((array - source.scale[0]) / source.scale[1]).astype(np.float32)
    elif sequence.intensity == "hounsfield":
        array = np.clip(array, *BODY_HU).astype(np.float32)
    return array
