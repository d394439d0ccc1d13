"""Slices whose header repeats a neighbour's: most of a series, read at a tenth of the price of parsing.

near = Neighbours()
near.read(path)                             # (slice, identity), or None: it is to be parsed
near.learn(path, slice, identity)           # what parsing gave

A header is held, byte by byte, against one that was parsed. All must be equal but two kinds of values: those that tell
slices of a series apart (`headers.OWN`), which are taken from the file, and those of attributes that nobody asks for.
Whatever differs otherwise, is cut off or cannot be opened is left to the parser, and so is every complaint.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

import pydicom
from pydicom.config import disable_value_validation
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.dataset import FileDataset
from pydicom.tag import Tag

from fedloupe_client.ingest.dicom.damage import DAMAGE
from fedloupe_client.ingest.dicom.headers import ASKED, IMAGES, OWN, Slice
from fedloupe_client.ingest.dicom.whole import ENCAPSULATED, check_fragments
from fedloupe_client.ingest.identity.attributes import READ, Identity

SERIES_AT_ONCE = 8  # echoes, phases and b-values of one folder may alternate
MISSES = 16  # files in a row without a likeness, after which learning is not worth its time
_ROOM = 4096  # bytes that a header may be longer than its neighbour's
_OWN = {Tag(keyword): keyword for keyword in OWN}
_FIXED = ({*ASKED, *map(Tag, READ), Tag("SpecificCharacterSet")}) - set(_OWN)
_META_FREE = {Tag("FileMetaInformationGroupLength"), Tag("MediaStorageSOPInstanceUID")}
_PIXELS = Tag("PixelData")


class Neighbours:
    """The last few headers that were parsed."""

    def __init__(self) -> None:
        self._patterns: deque[_Pattern] = deque(maxlen=SERIES_AT_ONCE)
        self._misses = 0

    def read(self, path: Path) -> tuple[Slice, Identity] | None:
        """The slice of a file that is like one that was learnt, and who is named in it; None where it is to be parsed.

        Its identifiers are those of the neighbour too, which is of the same patient and examination.
        """
        if not self._patterns:
            return None
        try:
            with open(path, "rb", buffering=0) as file:
                start = file.read(max(pattern.room for pattern in self._patterns))
                for pattern in self._patterns:
                    if (found := pattern.fit(path, file.fileno(), start)) is not None:
                        self._misses = 0
                        return found
        except (OSError, *DAMAGE):
            return None
        return None

    def learn(self, path: Path, slices: tuple[Slice, ...], identity: Identity) -> None:
        """Keep the header of a parsed file, if it is of a kind that repeats."""
        self._misses += 1
        if self._misses > MISSES or len(slices) != 1 or slices[0].frame is not None or slices[0].modality not in IMAGES:
            return
        try:
            if (pattern := _pattern(path, slices[0], identity)) is not None:
                self._patterns.appendleft(pattern)
        except (OSError, *DAMAGE):
            return


@dataclass(frozen=True)
class _Free:
    """An element whose value may differ: the bytes before its length, how that is written, and the element if asked."""

    before: bytes
    length: struct.Struct
    asked: RawDataElement | None


@dataclass(frozen=True)
class _Pattern:
    frees: tuple[_Free, ...]
    rest: bytes
    encapsulated: bool
    pixels: int
    room: int
    slice: Slice
    identity: Identity

    def fit(self, path: Path, file: int, start: bytes) -> tuple[Slice, Identity] | None:
        at, asked = 0, []
        for free in self.frees:
            if not start.startswith(free.before, at):
                return None
            at += len(free.before) + free.length.size
            if at > len(start):
                return None
            length = free.length.unpack_from(start, at - free.length.size)[0]
            if free.asked is not None:
                if not 0 < length < len(start):
                    return None
                asked.append(free.asked._replace(length=length, value=start[at : at + length]))
            at += length
        if not start.startswith(self.rest, at):
            return None
        at += len(self.rest)
        if self.encapsulated:
            with open(file, "rb", closefd=False) as whole:
                whole.seek(at)
                check_fragments(whole, os.fstat(file).st_size)
        elif at + self.pixels > os.fstat(file).st_size:
            return None
        with disable_value_validation():
            values = {}
            for raw in asked:
                name, reader = OWN[_OWN[raw.tag]]
                values[name] = reader(convert_raw_data_element(raw).value)
        found = replace(self.slice, path=path, **values)
        return found, replace(self.identity, identifiers=self.identity.identifiers | {found.instance})


def _pattern(path: Path, slice_: Slice, identity: Identity) -> _Pattern | None:
    # pydicom's validation would print a wrong value, and so a name or an id, to the log
    with disable_value_validation(), open(path, "rb") as file:
        head = pydicom.dcmread(file, stop_before_pixels=True)
        end = file.tell()
        file.seek(0)
        start = file.read(end + 12)
    syntax = head.file_meta.get("TransferSyntaxUID")
    implicit, little = head.original_encoding
    order = "<" if little else ">"
    if (
        syntax is None
        or syntax.is_deflated
        or struct.unpack_from(f"{order}2H", start, end) != (_PIXELS.group, _PIXELS.elem)
    ):
        return None
    wide = not implicit and start[end + 4 : end + 6] in (b"OB", b"OW")
    header = end + (12 if wide else 8)
    length = struct.unpack_from(f"{order}I", start, header - 4)[0]
    if not (wide or implicit):
        return None
    frees, done = [], 0
    for raw in _free_elements(head):
        if start[raw.value_tell : raw.value_tell + raw.length] != (raw.value or b""):
            return None  # not where the parser says: this file is laid out otherwise
        written = _length_field(raw)
        place = raw.value_tell - written.size
        frees.append(_Free(start[done:place], written, raw if raw.tag in _OWN else None))
        done = raw.value_tell + raw.length
    return _Pattern(
        frees=tuple(frees),
        rest=start[done:header],
        encapsulated=length == ENCAPSULATED,
        pixels=length,
        room=header + _ROOM,
        slice=slice_,
        identity=identity,
    )


def _free_elements(head: FileDataset) -> list[RawDataElement]:
    """The elements whose values may differ, in the order of the file; no sequence of unknown length is among them."""
    meta = [raw for raw in head.file_meta.values() if isinstance(raw, RawDataElement) and raw.tag in _META_FREE]
    body = [raw for raw in head.values() if isinstance(raw, RawDataElement) and raw.tag not in _FIXED]
    return sorted((raw for raw in (*meta, *body) if raw.length != ENCAPSULATED), key=lambda raw: raw.value_tell)


def _length_field(raw: RawDataElement) -> struct.Struct:
    """How an element's length is written, PS3.5 7.1: two bytes for the short representations, else four."""
    order = "<" if raw.is_little_endian else ">"
    short = not raw.is_implicit_VR and raw.VR not in _LONG
    return struct.Struct(f"{order}{'H' if short else 'I'}")


_LONG = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
