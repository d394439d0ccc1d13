"""Does an image file hold what its header promises? As many bytes, and finite numbers.

check_nifti(content, path)                    # NIfTI-1 and NIfTI-2, plain or gzip
check_nrrd(content, path)

The NIfTI library fills what a cut-off file lacks with zeros and turns NaN into zero, both without a word; the NRRD
library passes NaN on.
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path

import numpy as np

from fedloupe_client.ingest.formats.bounds import MOST_BYTES, SLACK, start_of, unzip
from fedloupe_client.ingest.problems import FileUnreadable, ImageInvalid

_FLOATS = {16: "f4", 64: "f8"}  # NIfTI data types
_BITS = {2: 8, 4: 16, 8: 32, 16: 32, 32: 64, 64: 64, 128: 24, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64, 1792: 128}
_NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "float"), 4),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t", "double"), 8),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), 8),
}  # fmt: skip


def check_nifti(content: bytes, path: Path) -> bytes:
    """Check a NIfTI file's size and its floating-point values, and return it unzipped.

    Source: nifti1.h and nifti2.h, fields dim, datatype, bitpix, vox_offset.

    Raises:
        FileUnreadable: no NIfTI, cut off, damaged, or far larger than its header promises or than any image.
        ImageInvalid: values that are not finite.
    """
    if path.suffix.lower() == ".gz":
        content = _unzipped(content, path)
    for order in "<>":
        if len(content) >= 348 and content[:4] == struct.pack(f"{order}i", 348):
            dimensions = struct.unpack_from(f"{order}8h", content, 40)
            kind, bits = struct.unpack_from(f"{order}2h", content, 70)
            offset = int(_finite(struct.unpack_from(f"{order}f", content, 108)[0], path))
            voxel = struct.unpack_from(f"{order}3f", content, 80)
            sform = struct.unpack_from(f"{order}12f", content, 280) if content[254:256] != b"\0\0" else None
        elif len(content) >= 540 and content[:4] == struct.pack(f"{order}i", 540):
            dimensions = struct.unpack_from(f"{order}8q", content, 16)
            kind, bits = struct.unpack_from(f"{order}2h", content, 12)
            offset = struct.unpack_from(f"{order}q", content, 168)[0]
            voxel = struct.unpack_from(f"{order}3d", content, 112)
            sform = struct.unpack_from(f"{order}12d", content, 400) if any(content[348:352]) else None
        else:
            continue
        if min(dimensions[1 : 1 + dimensions[0]], default=0) < 1 or bits != _BITS.get(kind, bits):
            raise _damaged(path)
        _check_axes(voxel[: dimensions[0]], sform, path)
        count = math.prod(max(1, n) for n in dimensions[1:])
        if offset < 0 or bits < 0 or len(content) < offset + count * bits // 8:
            raise _damaged(path)
        if kind in _FLOATS:
            _check_finite(content, f"{order}{_FLOATS[kind]}", count, offset, path)
        return content
    raise _damaged(path)


def _promised(start: bytes) -> int:
    """Bytes of a NIfTI file by its header: without its extensions and other data, which `SLACK` allows."""
    for order in "<>":
        if len(start) >= 348 and start[:4] == struct.pack(f"{order}i", 348):
            dimensions, bits = (
                struct.unpack_from(f"{order}8h", start, 40),
                struct.unpack_from(f"{order}h", start, 72)[0],
            )
        elif len(start) >= 540 and start[:4] == struct.pack(f"{order}i", 540):
            dimensions, bits = (
                struct.unpack_from(f"{order}8q", start, 16),
                struct.unpack_from(f"{order}h", start, 14)[0],
            )
        else:
            continue
        return int(math.prod(max(1, n) for n in dimensions[1:]) * max(0, bits) // 8)
    return 0


def check_nrrd(content: bytes, path: Path) -> bytes:
    """Check an NRRD file's size and its floating-point values, and return it as it is.

    Source: the definition of the NRRD file format, fields sizes, type, encoding, endian, data file.

    Raises:
        FileUnreadable: no NRRD, cut off or damaged.
        ImageInvalid: values that are not finite, or the data in another file, which a header from outside must not
            choose.
    """
    header, gap, data = content.partition(b"\n\n")
    if b"\r\n\r\n" in content and (not gap or content.index(b"\r\n\r\n") < len(header)):
        header, gap, data = content.partition(b"\r\n\r\n")
    if not content.startswith(b"NRRD"):
        raise _damaged(path)
    fields = {}
    for line in header.decode("latin-1").splitlines()[1:]:
        key, colon, value = line.partition(": ")
        if colon and not line.startswith("#"):
            fields[key.strip().lower().replace(" ", "")] = value.strip()
    if "datafile" in fields:
        raise ImageInvalid(
            "the NRRD header names another file for its data", where=str(path), remedy="export one file, `.nrrd`"
        )
    sizes, size = fields.get("sizes", "").split(), _NRRD_BYTES.get(fields.get("type", "").lower())
    if not gap or not sizes or size is None or not all(n.isascii() and n.isdigit() for n in sizes):
        raise _damaged(path)
    encoding = fields.get("encoding", "").lower()
    if encoding in ("gzip", "gz"):
        data = _first_member(data, math.prod(int(n) for n in sizes) * size, path)
    elif encoding != "raw":
        raise ImageInvalid(
            "the NRRD encoding is neither raw nor gzip", where=str(path), remedy="export it as raw or gzip"
        )
    count = math.prod(int(n) for n in sizes)
    if len(data) < count * size:
        raise _damaged(path)
    if fields["type"].lower() in ("float", "double"):
        order = ">" if fields.get("endian", "little").lower() == "big" else "<"
        _check_finite(data, f"{order}f{size}", count, 0, path)
    return content


def _unzipped(content: bytes, path: Path) -> bytes:
    try:
        promised = _promised(start_of(content, 540))
        if promised > MOST_BYTES:
            raise _damaged(path)
        return unzip(content, promised + SLACK)
    except (ValueError, zlib.error):
        raise _damaged(path) from None


def _first_member(data: bytes, promised: int, path: Path) -> bytes:
    """Unzip NRRD data; some writers end the file with a line break that gzip does not know."""
    member = zlib.decompressobj(wbits=31)
    if promised > MOST_BYTES:
        raise _damaged(path)
    try:
        found = member.decompress(data, promised + SLACK)
    except zlib.error:
        raise _damaged(path) from None
    if not member.eof:
        raise _damaged(path)
    return found


def _finite(value: float, path: Path) -> float:
    if not math.isfinite(value):
        raise _damaged(path)
    return value


def _check_axes(voxel: tuple[float, ...], sform: tuple[float, ...] | None, path: Path) -> None:
    """Refuse sizes and axes that span no space: the NIfTI library silently puts others in their place."""
    axes = np.eye(3) if sform is None else np.array(sform).reshape(3, 4)[:, :3]
    finite = np.isfinite([*voxel, *(sform or ())]).all()
    if not finite or 0 in voxel or np.linalg.det(axes) == 0:
        raise ImageInvalid("the image's axes span no space", where=str(path), remedy="export it again")


def _check_finite(content: bytes, kind: str, count: int, offset: int, path: Path) -> None:
    if not np.isfinite(np.frombuffer(content, kind, count, offset)).all():
        raise ImageInvalid("the image holds values that are not finite", where=str(path), remedy="export it again")


def _damaged(path: Path) -> FileUnreadable:
    return FileUnreadable("the file is cut off or damaged", where=str(path), remedy="copy or export it again")
