"""Is a DICOM file all there? Libraries take the end of a file for the end of its data, and say nothing.

head = pydicom.dcmread(file, stop_before_pixels=True)
check_whole(file, head)                       # the file stands where reading stopped

A slice that was cut off would lose its position or its place in the series, and the volume a slice at its end.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

from pydicom.dataset import FileDataset

from fedloupe_client.ingest.formats.bounds import MOST_BYTES

ENCAPSULATED = 0xFFFFFFFF
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"UN")
_PIXEL_TAGS = ((0x7FE0, 0x0008), (0x7FE0, 0x0009), (0x7FE0, 0x0010))
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_WITH_PIXELS = {_STORAGE + end for end in ("2", "2.1", "4", "4.1", "66.4")}  # CT, MR, their enhanced ones, SEG
_CONCERNED = _WITH_PIXELS | {_STORAGE + "481.3"}  # RTSTRUCT
_REQUIRED = (
    "Modality",
    "SOPInstanceUID",
    "SeriesInstanceUID",
)  # type 1 in each of them, PS3.3 C.7.3.1, C.8.8.1, C.12.1


def check_whole(file: BinaryIO, head: FileDataset) -> None:
    """Refuse an MR, CT, RTSTRUCT or SEG file that ends too early.

    Args:
        file: where reading stopped, before the pixels.
        head: what was read.

    Raises:
        ValueError: cut off, too large, or without what the kind of file must have.
    """
    kind = str(head.file_meta.get("MediaStorageSOPClassUID", "") or head.get("SOPClassUID", ""))
    if not kind:
        raise ValueError("no SOP Class UID")
    if kind not in _CONCERNED:
        return
    if absent := [name for name in _REQUIRED if not head.get(name)]:
        raise ValueError(f"no {', '.join(absent)}")
    if kind in _WITH_PIXELS and _expected(head) > MOST_BYTES:
        raise ValueError("the header promises more pixels than any image has")
    syntax = head.file_meta.get("TransferSyntaxUID")
    if syntax is not None and syntax.is_transfer_syntax and syntax.is_deflated:
        return  # zlib says itself when its stream ends too early, and `file` is not what was parsed
    end = os.fstat(file.fileno()).st_size
    if kind not in _WITH_PIXELS:
        if file.tell() > end:
            raise ValueError("the last element is cut off")
        return
    length = _pixel_length(file, head)
    if syntax is not None and syntax.is_transfer_syntax and syntax.is_encapsulated != (length == ENCAPSULATED):
        raise ValueError("the pixels are not in the transfer syntax that is named")
    if length == ENCAPSULATED:
        check_fragments(file, end)
    elif length > end - file.tell():
        raise ValueError("the pixels are cut off")
    elif length < _expected(head):
        raise ValueError("there are fewer pixels than the header promises")


def _pixel_length(file: BinaryIO, head: FileDataset) -> int:
    """The length field of the pixel data, PS3.5 7.1; the file stands before the value afterwards."""
    implicit, little = head.original_encoding
    order = "<" if little else ">"
    start = file.read(8)
    if len(start) < 8 or struct.unpack_from(f"{order}2H", start) not in _PIXEL_TAGS:
        raise ValueError("the file ends before its pixels")
    if implicit:
        return int(struct.unpack_from(f"{order}I", start, 4)[0])
    if start[4:6] not in _LONG:
        return int(struct.unpack_from(f"{order}H", start, 6)[0])
    rest = file.read(4)
    if len(rest) < 4:
        raise ValueError("the pixels are cut off")
    return int(struct.unpack(f"{order}I", rest)[0])


def check_fragments(file: BinaryIO, end: int) -> None:
    """Every fragment up to the Sequence Delimitation Item, PS3.5 A.4; always little endian."""
    while True:
        item = file.read(8)
        if len(item) < 8:
            raise ValueError("the compressed pixels are cut off")
        group, element, length = struct.unpack("<2HI", item)
        if (group, element) == (0xFFFE, 0xE0DD):
            return
        if (group, element) != (0xFFFE, 0xE000) or length > end - file.tell():
            raise ValueError("the compressed pixels are cut off or damaged")
        file.seek(length, os.SEEK_CUR)


def _expected(head: FileDataset) -> int:
    """Bytes of uncompressed pixels, PS3.3 C.7.6.3.1; 0 where the header does not say."""
    sizes = [int(head.get(name) or 0) for name in ("Rows", "Columns", "BitsAllocated")]
    samples, frames = int(head.get("SamplesPerPixel") or 1), int(head.get("NumberOfFrames") or 1)
    return sizes[0] * sizes[1] * sizes[2] * samples * frames // 8
