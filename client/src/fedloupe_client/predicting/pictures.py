# mypy: disable-error-code="no-untyped-call"
# (SimpleITK ships wrappers without types)
"""The crop with a map over it, in three planes, and the thumbnail of another patient.

tumour = tumour_in_crop(store, case, study)
for plane in overlaid(grey, heat, tumour, through=(12, 11, 13), top=0.4): plane.png, plane.letters
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedloupe.study import Study
from fedloupe_client.imaging import GridCase, crop
from fedloupe_client.imaging.resampling import common_region, mask_onto, upright
from fedloupe_client.ingest import Store
from fedloupe_client.preflight.pictures import Plane, outline, three_planes

EDGE = 208
"""Pixels of a picture's edge."""
RAISES, LOWERS = (230, 97, 1), (33, 102, 172)
"""Orange and blue: told apart with every common colour deficiency."""
VEIL = 0.72
"""Opacity of the map at its largest absolute value."""
CONTOUR = (255, 255, 255)


def tumour_in_crop(store: Store, case: str, study: Study) -> NDArray[np.bool_]:
    """(D, H, W) the tumour on the crop's own voxels.

    Raises:
        StoreUnreadable: the mask cannot be read.
    """
    mask = upright(store.mask(case))
    spacing, edge = study.imaging.spacing_mm, study.imaging.crop_mm
    inside = mask_onto(common_region(mask, mask, spacing_mm=spacing, margin_mm=0.0, cube_mm=edge), mask)
    grid = GridCase({"mask": inside.astype(np.float32)}, inside, spacing, {"mask": "zscore"}, {})
    return np.asarray(crop(grid, edge).images[0] > 0.5)


def overlaid(
    grey: NDArray[np.float32],
    heat: NDArray[np.float64],
    tumour: NDArray[np.bool_],
    *,
    through: tuple[int, int, int],
    top: float,
) -> tuple[Plane, ...]:
    """Transverse, sagittal and coronal plane of a crop with a signed map and the tumour's outline.

    Args:
        grey: (D, H, W) a volume along the patient's axes, head last.
        heat: (D, H, W) map: orange above 0, blue below.
        tumour: (D, H, W).
        through: voxel z, y, x that the planes go through.
        top: absolute value at which the colour is full; 0 draws none.
    """
    low, high = np.percentile(grey, (1, 99.5))
    shown = np.clip((grey - low) / (high - low if high > low else 1.0), 0, 1)
    z, y, x = through
    up = slice(None, None, -1)  # head first
    cuts = (
        ("transverse", (z, slice(None), slice(None)), ("A", "P", "R", "L")),
        ("sagittal", (up, slice(None), x), ("H", "F", "A", "P")),
        ("coronal", (up, y, slice(None)), ("H", "F", "R", "L")),
    )
    scale = 1 / top if top > 0 else 0.0
    return tuple(
        Plane(name, _blend(shown[cut], heat[cut] * scale, tumour[cut]), EDGE, EDGE, letters)
        for name, cut, letters in cuts
    )


def thumbnail(store: Store, case: str, sequence: str) -> Plane:
    """The transverse plane through a case's tumour.

    Raises:
        StoreUnreadable: image or mask cannot be read.
    """
    return three_planes(store.volume(case, sequence), store.mask(case))[0]


def _blend(grey: NDArray[np.float64], heat: NDArray[np.float64], tumour: NDArray[np.bool_]) -> bytes:
    """One square plane as an RGB PNG."""
    under = _resized(grey, Image.Resampling.BICUBIC)[..., None] * 255
    over = np.clip(_resized(heat, Image.Resampling.BILINEAR), -1, 1)[..., None]
    colour = np.where(over > 0, np.array(RAISES, np.float64), np.array(LOWERS, np.float64))
    veil = VEIL * np.abs(over)
    mixed = np.clip(under * (1 - veil) + colour * veil, 0, 255).astype(np.uint8)
    edge = Image.fromarray(tumour.astype(np.uint8)).resize((EDGE, EDGE), Image.Resampling.NEAREST)
    mixed[outline(np.asarray(edge) > 0)] = CONTOUR
    file = io.BytesIO()
    Image.fromarray(mixed).save(file, format="PNG")
    return file.getvalue()


def _resized(plane: NDArray[np.float64], how: Image.Resampling) -> NDArray[np.float64]:
    image = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(image.resize((EDGE, EDGE), how), dtype=np.float64)
