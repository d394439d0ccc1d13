"""Bounds on what a small file may unpack to, checked before memory is filled: zeros pack a thousandfold.

content = unzip(packed, most)                 # gzip; ValueError beyond `most` bytes
check_deflated(file)                          # DICOM, Deflated Explicit VR Little Endian
"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

from isal import isal_zlib
from isal.igzip_lib import IsalError

MOST_BYTES = 1 << 30
"""Bytes of one image, unpacked: 512 x 512 x 2048 voxels of 16 bits."""
SLACK = 1 << 24
"""Bytes beyond what a header promises that are passed over."""
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_LONG = (b"OB", b"OW", b"OF", b"SQ", b"UN", b"UT", b"OD", b"OL", b"OV", b"UC", b"UR", b"SV", b"UV")
_CHUNK = 1 << 20


def unzip(packed: bytes, most: int) -> bytes:
    """All members of a gzip file (RFC 1952), as `gzip.decompress` gives them, in two thirds of its time.

    Raises:
        ValueError: more than `most` bytes, cut off, or damaged.
    """
    parts: list[bytes] = []
    while packed:
        member = isal_zlib.decompressobj(wbits=31)
        try:
            parts.append(member.decompress(packed, most + 1))
        except IsalError as error:  # type: ignore[misc]  # its stub forgets that it is an exception
            raise ValueError(str(error)) from None
        most -= len(parts[-1])
        if most < 0:
            raise ValueError("the file unpacks to more than its header promises")
        if not member.eof:
            raise ValueError("the packed data are cut off")
        packed = member.unused_data.lstrip(b"\0")
    return b"".join(parts)


def start_of(packed: bytes, count: int) -> bytes:
    """The first bytes of a gzip file, at most `count`.

    Raises:
        zlib.error: damaged.
    """
    return zlib.decompressobj(wbits=31).decompress(packed, count)


def check_deflated(file: BinaryIO) -> None:
    """Refuse a deflated DICOM file (PS3.5 A.5) that unpacks to more than `MOST_BYTES`; any other passes.

    The file stands at its beginning before and afterwards.

    Raises:
        ValueError: too large.
    """
    if _skip_meta(file):
        stream, total, packed = zlib.decompressobj(-zlib.MAX_WBITS), 0, file.read(_CHUNK)
        try:
            while packed and not stream.eof:
                total += len(stream.decompress(packed, _CHUNK))
                if total > MOST_BYTES:
                    raise ValueError("the file unpacks to more than any image")
                packed = stream.unconsumed_tail or file.read(_CHUNK)
        except zlib.error:
            pass  # whoever reads it will say so
    file.seek(0)


def _skip_meta(file: BinaryIO) -> bool:
    """Whether the file meta information (PS3.10 7.1) names the deflated syntax; the file then stands behind it."""
    file.seek(132)
    deflated = False
    while len(head := file.read(8)) == 8 and head[:2] == b"\x02\0":
        long = head[4:6] in _LONG
        length = struct.unpack("<I", file.read(4).ljust(4, b"\0"))[0] if long else struct.unpack_from("<H", head, 6)[0]
        if head[:4] == b"\x02\0\x10\0":
            deflated = file.read(length).rstrip(b"\0 ") == _DEFLATED
        else:
            file.seek(length, 1)
    file.seek(-len(head), 1)
    return deflated
