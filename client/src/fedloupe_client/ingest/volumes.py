"""Images of this room: read NIfTI, compare grids, write files that hold pixels and geometry and nothing else.

image = read_nifti(path)
check_mask(mask, reference, where=str(path))
write_clean(image, folder / "t2w.nii.gz")
"""

# mypy: disable-error-code="no-untyped-call"
# (SimpleITK ships wrappers without types)

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from fedloupe_client.ingest.files import telling_apart
from fedloupe_client.ingest.problems import FileUnreadable, ImageInvalid, MaskElsewhere, MaskEmpty, MaskInvalid

GRID_TOLERANCE = 1e-3  # mm for origin and spacing, unitless for direction
FLOATS = {16: "f4", 64: "f8"}  # NIfTI-1 data types


def read_nifti(path: Path) -> sitk.Image:
    """A three-dimensional NIfTI image of finite values.

    Raises:
        FileMissing, PermissionRefused, FileUnreadable: the file.
        ImageInvalid: not three-dimensional, several values a voxel, or NaN.
    """
    _check_content(path)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise FileUnreadable(
            "the file is not a readable NIfTI image",
            where=f"{path}: {str(error).strip().splitlines()[-1][:300]}",
            remedy="export or copy it again",
        ) from None
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ImageInvalid(
            "the image is not three-dimensional, or has several values a voxel",
            where=str(path),
            remedy="export one volume of one value a voxel",
        )
    return image


def _check_content(path: Path) -> None:
    """Check what the NIfTI-1 header promises: as many bytes, and finite numbers.

    The NIfTI library fills what a cut-off file lacks with zeros and turns NaN into zero, both without a word.
    """
    damaged = FileUnreadable("the file is cut off or damaged", where=str(path), remedy="copy or export it again")
    with telling_apart(path):
        content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise damaged from None
    order = next((order for order in "<>" if content[:4] == struct.pack(f"{order}i", 348)), None)
    if order is None or len(content) < 348:
        return  # NIfTI-2, or no NIfTI: SimpleITK will say
    dimensions = struct.unpack_from(f"{order}8h", content, 40)
    kind, bits = struct.unpack_from(f"{order}2h", content, 70)
    offset = int(struct.unpack_from(f"{order}f", content, 108)[0])
    count = math.prod(max(1, n) for n in dimensions[1:])
    if len(content) < offset + count * bits // 8:
        raise damaged
    if kind in FLOATS and not np.isfinite(np.frombuffer(content, f"{order}{FLOATS[kind]}", count, offset)).all():
        raise ImageInvalid("the image holds values that are not finite", where=str(path), remedy="export it again")


def build(array: NDArray[Any], like: sitk.Image) -> sitk.Image:
    """A fresh image without any metadata, of the values `(z, y, x)` on the grid of `like`."""
    image = sitk.GetImageFromArray(array)
    image.SetOrigin(like.GetOrigin())
    image.SetSpacing(like.GetSpacing())
    image.SetDirection(like.GetDirection())
    return image


def same_grid(one: sitk.Image, other: sitk.Image) -> bool:
    """Size, and origin, spacing and direction within `GRID_TOLERANCE`."""
    return bool(
        one.GetSize() == other.GetSize()
        and np.allclose(one.GetSpacing(), other.GetSpacing(), rtol=0, atol=GRID_TOLERANCE)
        and np.allclose(one.GetOrigin(), other.GetOrigin(), rtol=0, atol=GRID_TOLERANCE)
        and np.allclose(one.GetDirection(), other.GetDirection(), rtol=0, atol=GRID_TOLERANCE)
    )


def check_mask(mask: sitk.Image, reference: sitk.Image, where: str) -> sitk.Image:
    """The mask as 0 and 1 on the reference's own grid; every value but 0 is tumour.

    Raises:
        MaskElsewhere: another grid.
        MaskInvalid: negative values.
        MaskEmpty: no voxel.
    """
    if not same_grid(mask, reference):
        raise MaskElsewhere(
            f"the mask (size {mask.GetSize()}) is not on the grid of the first sequence (size {reference.GetSize()})",
            where=where,
            remedy="export the mask on that image's grid; FedLoupe does not guess",
        )
    array = sitk.GetArrayViewFromImage(mask)
    if (array < 0).any():
        raise MaskInvalid("the mask holds negative values", where=where, remedy="export it with 0 outside and 1 inside")
    if not array.any():
        raise MaskEmpty("the tumour mask holds no voxel", where=where, remedy="draw the tumour, or leave the case out")
    return build((array != 0).astype(np.uint8), reference)


def write_clean(image: sitk.Image, path: Path) -> None:
    """Write values and geometry, with no text from any header; the same image gives the same bytes.

    Whole numbers that fit are kept as int16, everything else as float32.
    """
    array = sitk.GetArrayViewFromImage(image)
    if array.dtype != np.uint8:
        whole = bool((array == np.rint(array)).all()) and array.min() >= -32768 and array.max() <= 32767
        array = array.astype(np.int16 if whole else np.float32)
    sitk.WriteImage(build(array, image), str(path), useCompression=True)
