# mypy: disable-error-code="no-untyped-call"
# (SimpleITK ships wrappers without types)
"""The patient's body in an MRI and in a CT, and how far two bodies disagree.

body = body_of_mr(reference)                  # 1 inside the skin, on the image's grid
mismatch(body, body_of_ct(ct), transform)     # share of the body, 0 where the outlines coincide
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes

from fedloupe_client.imaging.normalising import body_threshold
from fedloupe_client.ingest.formats.volumes import build

SKIN_HU = -300.0  # between air and fat
SKIN_IN_VIEW = 0.05  # share of air in the common field of view
OPENING_MM = 4.0  # a table top is thinner than that


def body_of_mr(image: sitk.Image) -> sitk.Image:
    """The largest piece brighter than a quarter of the bright voxels' mean, its holes filled slice by slice.

    Args:
        image: float32 MR image, arbitrary units.
    """
    return _solid(image, body_threshold(sitk.GetArrayFromImage(image)), 0.0)


def body_of_ct(image: sitk.Image) -> sitk.Image:
    """The largest piece above -300 HU without thin parts such as the table, its holes filled slice by slice.

    Args:
        image: float32 CT in HU.
    """
    return _solid(image, SKIN_HU, OPENING_MM)


def _solid(image: sitk.Image, threshold: float, opening_mm: float) -> sitk.Image:
    # in the plane only: slices are few and thick
    radius = [max(1, round(opening_mm / s)) for s in image.GetSpacing()[:2]] + [0]
    opened = sitk.BinaryMorphologicalOpening(sitk.Cast(image > threshold, sitk.sitkUInt8), radius)
    pieces = sitk.RelabelComponent(sitk.ConnectedComponent(opened))
    body = sitk.GetArrayFromImage(pieces) == 1
    return build(np.stack([binary_fill_holes(piece) for piece in body]).astype(np.uint8), image)


def mismatch(mr: sitk.Image, ct: sitk.Image, transform: sitk.Transform) -> float:
    """Volume that is body in one image only, as a share of the MRI's body; the larger of the two ways round.

    Counted on the MRI's grid, where the CT reaches. An MRI of small field within the body has no outline, and its
    dark tissue at the edge is no air: where the CT shows less than 5 % air there, only what is body in the MRI alone
    counts. An MRI that is blank where the CT shows body does not pass for the same body.

    Args:
        mr: from `body_of_mr`.
        ct: from `body_of_ct`.
        transform: from points of the MRI to points of the CT.

    Returns:
        0 for equal bodies; 1 where the MRI has no body or the two do not meet.
    """
    inside: NDArray[np.bool_] = sitk.GetArrayFromImage(mr) > 0
    # 2 is body and 1 is air within the CT's field of view; 0 lies beyond it
    seen = sitk.GetArrayFromImage(sitk.Resample(ct + 1, mr, transform, sitk.sitkNearestNeighbor, 0))
    whole = int((inside & (seen > 0)).sum())
    if whole == 0:
        return 1.0
    mr_only, ct_only = int((inside & (seen == 1)).sum()), int((~inside & (seen == 2)).sum())
    in_view = float((seen == 1).sum()) >= SKIN_IN_VIEW * float((seen > 0).sum())
    return (max(mr_only, ct_only) if in_view else mr_only) / whole
