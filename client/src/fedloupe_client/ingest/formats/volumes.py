"""Images of this room: read NIfTI and NRRD, compare grids, write files that hold pixels and geometry and nothing else.

image = read_image(path)                      # .nii, .nii.gz, .nrrd
check_mask(mask, reference, where=str(path))
write_clean(image, folder / "t2w.nii.gz")
"""

# mypy: disable-error-code="no-untyped-call"
# (SimpleITK ships wrappers without types)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from isal import igzip
from numpy.typing import NDArray

from fedloupe_client.ingest.files import telling_apart
from fedloupe_client.ingest.formats.bounds import MOST_BYTES, SLACK
from fedloupe_client.ingest.formats.contents import check_nifti, check_nrrd
from fedloupe_client.ingest.formats.nifti import decode, decode_second, is_nifti2
from fedloupe_client.ingest.problems import FileUnreadable, ImageInvalid, MaskElsewhere, MaskEmpty, MaskInvalid

GRID_TOLERANCE = 1e-3  # mm for origin and spacing, unitless for direction


_COMPLEX = (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64)


def read_image(path: Path) -> sitk.Image:
    """A three-dimensional image of finite values from NIfTI-1, NIfTI-2 or NRRD, by the file's name.

    Raises:
        FileMissing, PermissionRefused, FileUnreadable: the file.
        ImageInvalid: not three-dimensional, several values a voxel, NaN, or an NRRD header beside its data.
    """
    return _read(path, check_nrrd if path.suffix.lower() in (".nrrd", ".nhdr") else check_nifti)


def read_nifti(path: Path) -> sitk.Image:
    """A three-dimensional NIfTI image of finite values.

    Raises:
        FileMissing, PermissionRefused, FileUnreadable: the file.
        ImageInvalid: not three-dimensional, several values a voxel, or NaN.
    """
    return _read(path, check_nifti)


def _read(path: Path, check: Callable[[bytes, Path], bytes]) -> sitk.Image:
    with telling_apart(path):
        if path.stat().st_size > MOST_BYTES + SLACK:
            raise FileUnreadable(
                "the file is larger than any image", where=str(path), remedy="export the tumour's region alone"
            )
        content = path.read_bytes()
    content = check(content, path)
    if is_nifti2(content):
        return decode_second(content, path)
    try:
        image = decode(content, path)
        if image is None:
            image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise FileUnreadable(
            "the file is not a readable image",
            where=f"{path}: {str(error).strip().splitlines()[-1][:300]}",
            remedy="export or copy it again",
        ) from None
    numbers = image.GetNumberOfComponentsPerPixel()
    if image.GetDimension() != 3 or numbers != 1 or image.GetPixelID() in _COMPLEX:
        raise ImageInvalid(
            "the image is not three-dimensional, or has several values a voxel",
            where=str(path),
            remedy="export one volume of one value a voxel",
        )
    return image


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
    """Write `.nii.gz`: values and geometry, with no text from any header; the same image gives the same bytes.

    Whole numbers that fit are kept as int16, everything else as float32. Packed by ISA-L, at a fifth of zlib's time
    and the same size.
    """
    array = sitk.GetArrayViewFromImage(image)
    if array.dtype != np.uint8:
        whole = bool((array == np.rint(array)).all()) and array.min() >= -32768 and array.max() <= 32767
        array = array.astype(np.int16 if whole else np.float32)
    plain = path.with_suffix("")
    sitk.WriteImage(build(array, image), str(plain))
    path.write_bytes(igzip.compress(plain.read_bytes(), mtime=0))
    plain.unlink()
