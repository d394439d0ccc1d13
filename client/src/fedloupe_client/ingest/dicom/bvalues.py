"""The diffusion b-value of a frame, s/mm2: the standard attribute, else the vendor's private one.

value = b_value(head, groups)                 # None where nothing says it

Diffusion b-value (0018,9087), PS3.3 C.8.13.5.9, in the header or in a frame's functional groups. Private: Siemens
(0019,xx0C), GE (0043,xx39) first value modulo 1e9, Philips (2001,xx03); each only in the block that its private
creator has reserved (PS3.5 7.8.1), because another vendor may mean anything by the same number.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable

from pydicom.dataset import Dataset

SIEMENS, GE, PHILIPS = "SIEMENS MR HEADER", "GEMS_PARM_01", "Philips Imaging DD 001"
_ELEMENTS = {SIEMENS: (0x0019, 0x0C), GE: (0x0043, 0x39), PHILIPS: (0x2001, 0x03)}
_BLOCKS = range(0x10, 0x20)  # vendors reserve the first blocks
_GE_MARK = 1e9  # GE adds it to the b-value of an image that was scanned with another scheme

PRIVATE_TAGS = [
    (group << 16) | element
    for group, offset in _ELEMENTS.values()
    for block in _BLOCKS
    for element in (block, (block << 8) | offset)
]


def b_value(head: Dataset, groups: Iterable[Dataset] = ()) -> float | None:
    """The b-value of one frame, s/mm2, 0 or more.

    Args:
        head: the file's header.
        groups: the frame's own and the shared functional groups, in the order in which they decide.
    """
    for group in groups:
        for diffusion in group.get("MRDiffusionSequence") or []:
            if (found := _number(diffusion.get("DiffusionBValue"))) is not None:
                return found
    for dataset in (head, *groups):
        if (found := _number(dataset.get("DiffusionBValue"))) is not None:
            return found
        for creator, (number, offset) in _ELEMENTS.items():
            if (found := _private(dataset, creator, number, offset)) is not None:
                return found
    return None


def _private(dataset: Dataset, creator: str, group: int, offset: int) -> float | None:
    for block in _BLOCKS:
        tag = (group << 16) | (block << 8) | offset
        reserved = (group << 16) | block
        if reserved not in dataset or tag not in dataset or str(dataset[reserved].value).strip() != creator:
            continue
        value = dataset[tag].value
        if isinstance(value, bytes):  # of unknown representation, as in implicit VR
            value = _unpacked(value, creator)
        elif creator == GE and not isinstance(value, str) and isinstance(value, Iterable):
            value = next(iter(value), None)
        found = _number(value)
        return found if found is None or creator != GE else found % _GE_MARK
    return None


def _unpacked(value: bytes, creator: str) -> float | str | None:
    if creator == PHILIPS:  # a single FL
        return float(struct.unpack("<f", value)[0]) if len(value) == 4 else None
    return value.decode("ascii", "replace").partition("\\")[0].strip(" \0")


def _number(value: object) -> float | None:
    if value is None or isinstance(value, bytes):
        return None
    try:
        found = float(str(value))
    except ValueError:
        return None
    return found if math.isfinite(found) and found >= 0 else None
