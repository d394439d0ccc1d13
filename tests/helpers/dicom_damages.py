"""Ways to spoil DICOM files; for the tests `test_ingest_fuzz_*`."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.uid import EnhancedMRImageStorage

from damages import Damage, flip, flipped, rewrite

SERIES = "images/P-0001/t2w"
INNER, LAST, DRAWN, SEGMENTED = (
    f"{SERIES}/003.dcm",
    f"{SERIES}/001.dcm",
    "images/P-0001/rs-t2w.dcm",
    "images/P-0001/seg.dcm",
)
PIXELS = b"\xe0\x7f\x10\x00"  # tag of Pixel Data, little endian


def edit(names: str, change: Callable[[Dataset], object]) -> Damage:
    """Change the header of one file, or of each that fits a pattern."""

    def damage(root: Path) -> None:
        for path in sorted(root.glob(names)):
            with warnings.catch_warnings(), disable_value_validation():
                warnings.simplefilter("ignore")
                dataset = pydicom.dcmread(path)
                change(dataset)
                dataset.save_as(path)

    return damage


def put(keyword: str, vr: str, value: object) -> Callable[[Dataset], object]:
    """Another value; words where numbers should stand are written as what they are, LO."""
    texts = [str(one) for one in (value if isinstance(value, list) else [value])]
    vr = "LO" if vr in ("DS", "IS") and {*texts} & {"a", "b", "x", "wide", "0x10"} else vr

    def change(dataset: Dataset) -> None:
        if keyword in dataset:
            del dataset[keyword]
        dataset.add_new(keyword, vr, value)

    return change


def without(*keywords: str) -> Callable[[Dataset], object]:
    def change(dataset: Dataset) -> None:
        for keyword in keywords:
            del dataset[keyword]

    return change


def raw(keyword: str, new: bytes) -> Damage:
    """The bytes of one value of the inner slice, from its start on."""

    def damage(root: Path) -> None:
        path = root / INNER
        element = pydicom.dcmread(path).get_item(keyword)
        content = bytearray(path.read_bytes())
        content[element.value_tell : element.value_tell + len(new)] = new
        path.write_bytes(bytes(content))

    return damage


def vr_of(keyword: str, vr: bytes) -> Damage:
    """Another value representation in the explicit header of a short element, 4 bytes before its value."""

    def damage(root: Path) -> None:
        path = root / INNER
        content = bytearray(path.read_bytes())
        at = pydicom.dcmread(path).get_item(keyword).value_tell
        content[at - 4 : at - 2] = vr
        path.write_bytes(bytes(content))

    return damage


def flip_value(name: str, keyword: str, seed: int) -> Damage:
    def damage(root: Path) -> None:
        element = pydicom.dcmread(root / name).get_item(keyword)
        flip(name, seed, element.value_tell, element.value_tell + element.length)(root)

    return damage


def cut_at(name: str, keyword: str) -> Damage:
    """Cut off between two elements, just before one: what is left is well formed."""

    def damage(root: Path) -> None:
        element = pydicom.dcmread(root / name).get_item(keyword)
        header = 12 if element.VR in ("SQ", "OB", "OW", "UN", "UT") else 8
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: element.value_tell - header])

    return damage


def pixels_at(content: bytes) -> int:
    return content.index(PIXELS)


def flip_header(name: str, seed: int) -> Damage:
    return rewrite(name, lambda content: flipped(content, seed, 132, pixels_at(content)))


def nested(dataset: Dataset) -> None:
    inner = Dataset()
    for _ in range(90):
        outer = Dataset()
        outer.RequestAttributesSequence = [inner]
        inner = outer
    dataset.RequestAttributesSequence = [inner]


def nested_bytes(tag: bytes, depth: int) -> Callable[[bytes], bytes]:
    """Sequences within sequences of undefined length, never closed, put before the pixels."""
    opened = (tag + b"SQ\0\0" + b"\xff" * 4 + b"\xfe\xff\x00\xe0" + b"\xff" * 4) * depth
    return lambda content: content[: pixels_at(content)] + opened + content[pixels_at(content) :]


def syntax(uid_: str) -> Damage:
    """Another transfer syntax named than the one that the bytes are in."""

    def damage(root: Path) -> None:
        content = (root / INNER).read_bytes()
        old = b"1.2.840.10008.1.2.1\0"
        at = content.index(old)
        new = uid_.encode() + b"\0" * (len(uid_) % 2)
        sized = content[: at - 2] + struct.pack("<H", len(new)) + new + content[at + len(old) :]
        group = struct.unpack_from("<I", sized, 140)[0] + len(new) - len(old)
        (root / INNER).write_bytes(sized[:140] + struct.pack("<I", group) + sized[144:])

    return damage


def renamed(name: str, new: str, damage: Damage) -> Damage:
    def both(root: Path) -> None:
        damage(root)
        (root / name).rename(root / new)

    return both


def merge(folder: Path) -> None:
    """One enhanced multi-frame file (PS3.3 A.36) in place of a folder's single-frame ones."""
    paths = sorted(folder.iterdir())
    slices = [pydicom.dcmread(path) for path in paths]
    made = slices[0]
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = EnhancedMRImageStorage
    made.NumberOfFrames = len(slices)
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = made.PixelSpacing
    orientation.ImageOrientationPatient = made.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    made.SharedFunctionalGroupsSequence, made.PerFrameFunctionalGroupsSequence = [shared], []
    for one in slices:
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = one.ImagePositionPatient
        frame.PlanePositionSequence = [position]
        made.PerFrameFunctionalGroupsSequence.append(frame)
    made.PixelData = b"".join(one.PixelData for one in slices)
    for keyword in ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient"):
        del made[keyword]
    for path in paths:
        path.unlink()
    made.save_as(folder / "frames.dcm", enforce_file_format=True)
