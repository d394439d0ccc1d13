"""One synthetic volume as a gzipped NIfTI-1 file, the same bytes each time.

write_nifti(path, image.array, image.spacing, image.origin, "SYNTHETIC t2w")

Source: nifti1.h (NIfTI Data Format Working Group). The gzip header holds no time and no file name.
"""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TYPES = {np.dtype(np.uint8): (2, 8), np.dtype(np.int16): (4, 16)}
_DATA_OFFSET = 352


def write_nifti(
    path: Path,
    array: NDArray[Any],
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
    description: str,
) -> None:
    """Write `array` (z, y, x), uint8 or int16, with spacing and origin in mm along (z, y, x) in DICOM axes (LPS).

    NIfTI's world is RAS: x and y change sign in both the qform and the sform.
    """
    datatype, bits = _TYPES[array.dtype]
    size, step, start = (tuple(reversed(values)) for values in (array.shape, spacing, origin))
    offset = (-start[0], -start[1], start[2])
    header = bytearray(_DATA_OFFSET)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *size, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, datatype, bits)
    struct.pack_into("<8f", header, 76, 1.0, *step, 0, 0, 0, 0)
    struct.pack_into("<3f", header, 108, _DATA_OFFSET, 1.0, 0.0)  # vox_offset, scl_slope, scl_inter
    header[123] = 2  # xyzt_units: mm
    struct.pack_into("<80s", header, 148, description.encode("ascii")[:79])
    struct.pack_into("<2h", header, 252, 1, 1)  # qform_code, sform_code: scanner
    struct.pack_into("<6f", header, 256, 0, 0, 1, *offset)  # half a turn about z
    struct.pack_into("<4f", header, 280, -step[0], 0, 0, offset[0])
    struct.pack_into("<4f", header, 296, 0, -step[1], 0, offset[1])
    struct.pack_into("<4f", header, 312, 0, 0, step[2], offset[2])
    struct.pack_into("<4s", header, 344, b"n+1")
    packed = io.BytesIO()
    with gzip.GzipFile("", "wb", 1, packed, mtime=0) as file:
        file.write(bytes(header) + np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes())
    path.write_bytes(packed.getvalue())
