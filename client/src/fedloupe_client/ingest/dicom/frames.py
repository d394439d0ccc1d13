"""The frames of a segmentation as bytes, whatever they are packed in.

    frames(dataset, path)                         # uint8 (frames, y, x), stored values

Bits are unpacked here; compressed bytes are decoded by SimpleITK, which holds GDCM, as those of images are. Bits that
are compressed (JPEG 2000 of one bit) it does not read.
"""

# mypy: disable-error-code="no-untyped-call"
# (SimpleITK ships wrappers without types)

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset

from fedloupe_client.ingest.files import openable
from fedloupe_client.ingest.problems import FileUnreadable, MaskInvalid

_DECODED = (
    uid.RLELossless,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEGLSNearLossless,
    uid.JPEG2000Lossless,
    uid.JPEG2000,
)


def frames(segmentation: Dataset, path: Path) -> NDArray[np.uint8]:
    """The stored values of every frame, (frames, y, x).

    Source: PS3.3 C.8.20.2 (Bits Allocated 1, or 8 where fractional), PS3.5 8.1.1 (bits) and A.4 (compressed).

    Raises:
        ValueError: the pixels are fewer than the header promises, or of another depth.
        MaskInvalid: compressed in a way that cannot be read.
        FileMissing, PermissionRefused, FileUnreadable: compressed pixels that are refused or damaged.
    """
    count, bits = int(segmentation.get("NumberOfFrames") or 1), int(segmentation.BitsAllocated)
    shape = (count, int(segmentation.Rows), int(segmentation.Columns))
    if bits not in (1, 8):
        raise ValueError("a segmentation has one or eight bits")
    syntax = segmentation.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        if bits != 8 or syntax not in _DECODED:
            raise MaskInvalid(
                "the segmentation is compressed in a way that cannot be read",
                where=f"{path}: {syntax.name}, {bits} bits",
                remedy="export it uncompressed",
            )
        return _decoded(path).reshape(shape)
    stored = np.frombuffer(segmentation.PixelData, np.uint8)
    if bits == 1:
        stored = np.unpackbits(stored, bitorder="little")
    return stored[: count * shape[1] * shape[2]].reshape(shape)


def _decoded(path: Path) -> NDArray[np.uint8]:
    openable(path)
    try:
        array: NDArray[np.uint8] = sitk.GetArrayFromImage(sitk.ReadImage(str(path), sitk.sitkUInt8))
    except RuntimeError as error:
        raise FileUnreadable(
            "the pixels of a segmentation cannot be decoded",
            where=f"{path}: {str(error).strip().splitlines()[-1][:300]}",
            remedy="export it again",
        ) from None
    return array
