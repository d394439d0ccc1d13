"""NIfTI from bytes that are at hand: a packed file is unpacked once, and NIfTI-2 is read at all.

image = decode(content, path)                 # content already unzipped; None where SimpleITK had better read the file
image = decode_second(content, path)          # NIfTI-2, which SimpleITK does not read

SimpleITK takes four times as long for a small packed file as unpacking it does. So its plain voxels are taken from the
bytes, and only the geometry, with all its rules, is asked of SimpleITK. In NIfTI-2 (nifti2.h) orientation is by the
sform where there is one, else by the qform, else by the voxel sizes alone; from NIfTI's right-anterior-superior to
DICOM's left-posterior-superior.
"""

# mypy: disable-error-code="no-untyped-call"
# (SimpleITK ships wrappers without types)

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from fedloupe_client.ingest.problems import ImageInvalid

_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}


def is_nifti2(content: bytes) -> bool:
    """The header's first number says which NIfTI it is."""
    return len(content) >= 540 and content[:4] in (struct.pack("<i", 540), struct.pack(">i", 540))


def decode(content: bytes, path: Path) -> sitk.Image | None:
    """A three-dimensional NIfTI-1 image in one file, of values that are not rescaled; None for any other.

    Source: nifti1.h, fields dim, datatype, vox_offset, scl_slope, scl_inter, magic. Where scl_slope is 0 the values are
    not rescaled, whatever scl_inter is; nibabel agrees. SimpleITK (ITK's reader) takes such a slope for 1 and adds the
    intercept, against nifti1.h.

    Args:
        content: the file's bytes, unzipped.
        path: the file, for its geometry.

    Raises:
        RuntimeError: SimpleITK's, of a header that it cannot read.
    """
    order = next((o for o in "<>" if content[:4] == struct.pack(f"{o}i", 348)), None)
    if order is None or content[344:348] != b"n+1\0":
        return None
    count, *sizes = struct.unpack_from(f"{order}4h", content, 40)
    kind = _TYPES.get(struct.unpack_from(f"{order}h", content, 70)[0])
    offset, slope, intercept = struct.unpack_from(f"{order}3f", content, 108)
    voxels = math.prod(sizes)
    plain = slope == 0 or (slope, intercept) == (1, 0)
    if kind is None or count != 3 or min(sizes) < 1 or not plain or not 348 <= offset <= len(content) or offset % 1:
        return None
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NiftiImageIO")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    if reader.GetSize() != tuple(sizes) or len(content) < offset + voxels * np.dtype(kind).itemsize:
        return None
    stored = np.frombuffer(content, f"{order}{kind}", voxels, int(offset)).reshape(sizes[::-1])
    image = sitk.GetImageFromArray(stored.astype(stored.dtype.newbyteorder("="), copy=False))
    image.SetOrigin(reader.GetOrigin())
    image.SetSpacing(reader.GetSpacing())
    image.SetDirection(reader.GetDirection())
    return image


def decode_second(content: bytes, path: Path) -> sitk.Image:
    """The image of a NIfTI-2 file, rescaled where the header says so.

    Raises:
        ImageInvalid: not three-dimensional, of complex or colour values, or a grid that is none.
    """
    order = "<" if content[:4] == struct.pack("<i", 540) else ">"
    count, *sizes = struct.unpack_from(f"{order}8q", content, 16)
    kind = _TYPES.get(struct.unpack_from(f"{order}h", content, 12)[0])
    size = sizes[:3]
    if kind is None or not 3 <= count <= 7 or min(size) < 1 or any(n > 1 for n in sizes[3:count]):
        raise ImageInvalid(
            "the image is not three-dimensional, or has several values a voxel",
            where=str(path),
            remedy="export one volume of one value a voxel",
        )
    offset = struct.unpack_from(f"{order}q", content, 168)[0]
    slope, intercept = struct.unpack_from(f"{order}2d", content, 176)
    stored = np.frombuffer(content, f"{order}{kind}", int(np.prod(size)), offset).reshape(size[::-1])
    array = stored.astype(stored.dtype.newbyteorder("="))
    if np.isfinite([slope, intercept]).all() and slope != 0 and (slope, intercept) != (1, 0):
        array = (array * slope + intercept).astype(np.float32)
    affine = _affine(content, order)
    spacing = np.linalg.norm(affine[:, :3], axis=0)
    if not np.isfinite(affine).all() or spacing.min() <= 0 or abs(np.linalg.det(affine[:, :3] / spacing)) < 0.1:
        raise ImageInvalid("the image's axes span no space", where=str(path), remedy="export it again")
    affine = np.diag([-1.0, -1.0, 1.0]) @ affine
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:, 3].tolist())
    return image


def _affine(content: bytes, order: str) -> NDArray[np.float64]:
    """Voxel index to mm, (3, 4), right-anterior-superior."""
    qform, sform = struct.unpack_from(f"{order}2i", content, 344)
    if sform > 0:
        return np.array(struct.unpack_from(f"{order}12d", content, 400)).reshape(3, 4)
    handed, *voxel = struct.unpack_from(f"{order}4d", content, 104)
    scale = np.diag(voxel)
    if qform <= 0:
        return np.hstack([scale, np.zeros((3, 1))])
    b, c, d, *shift = struct.unpack_from(f"{order}6d", content, 352)
    rotation = _turn(b, c, d)
    scale[2] *= -1 if handed < 0 else 1
    return np.hstack([rotation @ scale, np.array(shift)[:, None]])


def _turn(b: float, c: float, d: float) -> NDArray[np.float64]:
    """The rotation (3, 3) of the unit quaternion a, b, c, d with a >= 0 (nifti1.h, method 2), brought to length one.

    scipy's would do, for a quarter of a second of import in every worker.
    """
    a, b, c, d = (q := np.array([np.sqrt(max(0.0, 1 - b * b - c * c - d * d)), b, c, d])) / np.linalg.norm(q)
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
