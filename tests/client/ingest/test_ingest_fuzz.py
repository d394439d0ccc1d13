"""Ingest of damaged hospitals: more than five hundred ways to spoil one case, its table or its features.

Each variant says, from what the damage is and not from what the code does, which findings are right. Whatever happens,
nothing but a `FedLoupeError` leaves `ingest`, the source is not touched, the other cases stay ready, and no half-made
store lies about. Run with `-s` for the table of families in docs/ingest.md. The hospitals are synthetic.
"""

from __future__ import annotations

import csv
import gzip
import os
import random
import shutil
import struct
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom import Dataset
from pydicom.config import disable_value_validation

from fedloupe.errors import FedLoupeError
from fedloupe_client.config import SiteConfig
from fedloupe_client.ingest import CaseRecord, IngestReport, ingest
from fedloupe_client.ingest.problems import URGENCY, DataProblem

CASES = ("P-0001", "P-0002", "P-0003", "P-0004")
OLD_S = 1_000_000_000  # a time long ago: files of that age are taken on trust
SHAPE = (6, 12, 14)
MARK = "Zz-Qq-9"  # stands in spoiled cells; no message may repeat it
NEEDLES = (*CASES, "DOE", "JANE", "ACC-778899", "Elsewhere", "19610203", MARK, "l.csv", "s.csv")

Damage = Callable[[Path], object]


@dataclass(frozen=True)
class Variant:
    """One way to spoil a hospital.

    Attributes:
        may: the kinds of finding that are right, or `ready` where the damage is harmless.
        cases: whose files or rows are spoiled; every other case must come out as in the sound hospital.
        site: the damage is to a file of all cases, so that ingest may refuse as a whole.
    """

    hospital: str
    family: str
    name: str
    damage: Damage
    may: str
    cases: tuple[str, ...] = CASES[:1]
    site: bool = False


VARIANTS: list[Variant] = []


def add(hospital: str, family: str, may: str, variants: dict[str, Damage], **more: Any) -> None:
    VARIANTS.extend(Variant(hospital, family, name, damage, may, **more) for name, damage in variants.items())


# --- damage to any file ---------------------------------------------------------------------------------------------

ANYTHING = (
    "ready corruption degenerate mislabelled absence configuration"  # a bit that may mean anything, but no refusal
)


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Damage:
    def damage(root: Path) -> None:
        (root / name).write_bytes(change((root / name).read_bytes()))

    return damage


def cut(name: str, seed: int) -> Damage:
    """Truncated at a random place: at least one byte is kept, and one lost."""
    return rewrite(name, lambda content: content[: random.Random(seed).randrange(1, len(content))])


def _flipped(content: bytes, seed: int, start: int, stop: int | None) -> bytes:
    draw, spoiled = random.Random(seed), bytearray(content)
    first, last, _ = slice(start, stop).indices(len(content))
    spoiled[draw.randrange(first, last)] ^= 1 << draw.randrange(8)
    return bytes(spoiled)


def flip(name: str, seed: int, start: int = 0, stop: int | None = None) -> Damage:
    """One bit changed, at a random place between two."""
    return rewrite(name, lambda content: _flipped(content, seed, start, stop))


def folder_instead(name: str) -> Damage:
    def damage(root: Path) -> None:
        (root / name).unlink()
        (root / name).mkdir()

    return damage


def link_instead(name: str, target: str) -> Damage:
    def damage(root: Path) -> None:
        (root / name).unlink()
        (root / name).symlink_to(target)

    return damage


def general(hospital: str, name: str, cuts: int, absent: str = "absence", **more: Any) -> None:
    """What may befall any file: cut off, emptied, replaced, gone."""
    add(hospital, "cut off", "corruption", {f"{name} {n}": cut(name, n) for n in range(cuts)}, **more)
    add(hospital, "zero-length", "corruption", {name: rewrite(name, lambda content: b"")}, **more)
    add(hospital, "other content", "corruption", {
        f"{name} text": rewrite(name, lambda content: b"\x00\x01not what it was\xff" * 40),
        f"{name} noise": rewrite(name, lambda content: random.Random(5).randbytes(3000)),
    }, **more)  # fmt: skip
    add(hospital, "folder instead", f"corruption {absent}", {name: folder_instead(name)}, **more)
    add(hospital, "broken link", absent, {name: link_instead(name, "nowhere")}, **more)
    add(hospital, "link to itself", f"corruption {absent}", {name: link_instead(name, Path(name).name)}, **more)
    add(hospital, "permission", "permission", {name: Refused(name)}, **more)


@dataclass(frozen=True)
class Refused:
    """The system refuses to open the file: simulated, because root may read everything."""

    name: str

    def __call__(self, root: Path) -> Path:
        return root / self.name


# --- NIfTI and NRRD -------------------------------------------------------------------------------------------------

T2W, ADC, MASK = (f"data/P-0001_{name}.nii.gz" for name in ("t2w", "adc", "mask"))
for _name in (T2W, ADC, MASK):
    if _name != ADC:
        general("nifti", _name, 6)
    # a bit of the stream that nothing uses changes nothing, as the checksum then proves
    add("nifti", "bits of gzip data", "corruption ready", {f"{_name} {n}": flip(_name, n, 11) for n in range(8)})
    add("nifti", "bits of gzip header", "ready corruption", {f"{_name} {n}": flip(_name, n, 0, 10) for n in range(5)})
add("nifti", "cut off", "corruption", {f"{ADC} {n}": cut(ADC, n) for n in range(8)})
add("nifti", "permission", "permission", {ADC: Refused(ADC)})
add("nifti", "optional image gone", "ready", {ADC: lambda root: (root / ADC).unlink()})


def unzipped(name: str, damage: Callable[[bytes], bytes]) -> Damage:
    return rewrite(name, lambda content: gzip.compress(damage(gzip.decompress(content)), mtime=0))


def header(name: str, offset: int, form: str, *values: float) -> Damage:
    """A field of the NIfTI-1 header (nifti1.h)."""
    new = struct.pack("<" + form, *values)
    return unzipped(name, lambda content: content[:offset] + new + content[offset + len(new) :])


def flip_inside(name: str, seed: int, start: int, stop: int | None = None) -> Damage:
    return unzipped(name, lambda content: _flipped(content, seed, start, stop))


NAN, INF = float("nan"), float("inf")
for _name in (T2W, ADC):
    add("nifti", "bits of NIfTI header", ANYTHING, {f"{_name} {n}": flip_inside(_name, n, 40, 124) for n in range(12)})
    add("nifti", "bits of voxels", "ready", {f"{_name} {n}": flip_inside(_name, n, 352) for n in range(5)})
    add("nifti", "cut off before zipping", "corruption", {
        f"{_name} {n}": unzipped(_name, lambda content, n=n: content[: random.Random(n).randrange(len(content))])
        for n in range(5)
    })  # fmt: skip
    add("nifti", "NIfTI dimensions", "corruption degenerate", {
        f"{_name} none": header(_name, 40, "8h", 0, 14, 12, 6, 1, 1, 1, 1),
        f"{_name} nine": header(_name, 40, "8h", 9, 14, 12, 6, 1, 1, 1, 1),
        f"{_name} flat": header(_name, 40, "8h", 2, 14, 72, 1, 1, 1, 1, 1),
        f"{_name} negative": header(_name, 40, "8h", 3, -14, 12, 6, 1, 1, 1, 1),
        f"{_name} empty": header(_name, 40, "8h", 3, 14, 0, 6, 1, 1, 1, 1),
        f"{_name} huge": header(_name, 40, "8h", 3, 32767, 32767, 32767, 1, 1, 1, 1),
        f"{_name} in time": header(_name, 40, "8h", 4, 14, 12, 3, 2, 1, 1, 1),
        f"{_name} too long": header(_name, 40, "8h", 3, 14, 12, 7, 1, 1, 1, 1),
    })  # fmt: skip
    add("nifti", "NIfTI types", "corruption degenerate", {
        f"{_name} {kind} {bits}": header(_name, 70, "2h", kind, bits)
        for kind, bits in ((0, 16), (999, 16), (32, 16), (128, 8), (16, 16), (64, 16), (4, 0), (4, -16), (4, 8))
        if (kind, bits) != (4, 8)
    })  # fmt: skip
    add("nifti", "NIfTI data offset", "corruption", {
        f"{_name} {value}": header(_name, 108, "f", value) for value in (NAN, INF, -400.0, 1e9)
    })  # fmt: skip
    add("nifti", "NIfTI scale", "corruption degenerate ready", {
        f"{_name} {value}": header(_name, 112, "2f", *value)
        for value in ((NAN, 0.0), (INF, 0.0), (0.0, 5.0), (1.0, NAN), (1.0, INF), (3e38, 3e38))
    })  # fmt: skip
    add("nifti", "NIfTI spacing", "corruption degenerate mislabelled", {
        f"{_name} {value}": header(_name, 80, "3f", value, 1.0, 3.0) for value in (0.0, NAN, INF)
    })  # fmt: skip
    add("nifti", "NIfTI axes", "corruption degenerate mislabelled", {
        f"{_name} sform nan": header(_name, 280, "12f", *[NAN] * 12),
        f"{_name} sform zero": header(_name, 280, "12f", *[0.0] * 12),
        f"{_name} sform inf": header(_name, 292, "f", INF),
    })  # fmt: skip


def voxels(name: str, change: Callable[[np.ndarray], np.ndarray], **geometry: Any) -> Damage:
    """The image written anew with other voxels, `(z, y, x)`, or on another grid."""

    def damage(root: Path) -> None:
        image = sitk.ReadImage(str(root / name))
        made = sitk.GetImageFromArray(change(sitk.GetArrayFromImage(image)), isVector=geometry.pop("vector", False))
        if made.GetDimension() == 3:
            made.SetSpacing(geometry.get("spacing", image.GetSpacing()))
            made.SetOrigin(geometry.get("origin", image.GetOrigin()))
            made.SetDirection(geometry.get("direction", image.GetDirection()))
        sitk.WriteImage(made, str(root / name))

    return damage


def one_at(value: float, kind: type = np.float32) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        changed = array.astype(kind)
        changed[0, 0, 0] = value
        return changed

    return change


def same(array: np.ndarray) -> np.ndarray:
    return array


def masks(hospital: str, name: str) -> None:
    turned = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
    add(hospital, "mask shifted", "mislabelled", {
        f"{name} {shift} mm": voxels(name, same, origin=(-5.0 + shift, 7.0, 11.0)) for shift in (0.01, 0.5, 1.0, -40.0)
    })  # fmt: skip
    add(hospital, "mask on another grid", "mislabelled", {
        f"{name} spacing": voxels(name, same, spacing=(1.0, 1.0, 3.3)),
        f"{name} turned": voxels(name, same, direction=turned),
        f"{name} mirrored": voxels(name, same, direction=(-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0)),
        f"{name} fewer slices": voxels(name, lambda array: array[1:]),
        f"{name} axes swapped": voxels(name, lambda array: array.transpose(0, 2, 1).copy()),
    })  # fmt: skip
    add(hospital, "mask without tumour", "degenerate", {
        f"{name} empty": voxels(name, np.zeros_like),
        f"{name} empty float": voxels(name, lambda array: np.zeros(array.shape, np.float32)),
        f"{name} negative": voxels(name, one_at(-1, np.int16)),
        f"{name} nan": voxels(name, one_at(NAN)),
        f"{name} inf": voxels(name, one_at(INF)),
        f"{name} all nan": voxels(name, lambda array: np.full(array.shape, NAN, np.float32)),
    })  # fmt: skip
    add(hospital, "mask of another type", "ready", {
        f"{name} two labels": voxels(name, one_at(2, np.uint8)),
        f"{name} float": voxels(name, one_at(0.0)),
        f"{name} 255": voxels(name, lambda array: (array * 255).astype(np.uint8)),
        f"{name} int32": voxels(name, lambda array: array.astype(np.int32)),
        f"{name} one voxel": voxels(name, lambda array: one_at(1, np.uint8)(np.zeros_like(array))),
    })  # fmt: skip
    add(hospital, "mask is a probability", "ready degenerate", {name: voxels(name, one_at(0.3))})


def images(hospital: str, name: str) -> None:
    add(hospital, "image not finite", "degenerate", {
        f"{name} {value} {kind.__name__}": voxels(name, one_at(value, kind))
        for value in (NAN, INF, -INF) for kind in (np.float32, np.float64)
    })  # fmt: skip
    add(hospital, "image not a volume", "degenerate", {
        f"{name} flat": voxels(name, lambda array: array[0]),
        f"{name} colours": voxels(name, lambda array: np.stack([array] * 3, -1).astype(np.uint8), vector=True),
        f"{name} in time": voxels(name, lambda array: np.stack([array] * 2)),
        f"{name} complex": voxels(name, lambda array: array.astype(np.complex64)),
    })  # fmt: skip
    add(hospital, "image moved from its mask", "mislabelled", {
        f"{name} shifted": voxels(name, same, origin=(0.0, 0.0, 0.0)),
        f"{name} spacing": voxels(name, same, spacing=(2.0, 2.0, 2.0)),
        f"{name} cropped": voxels(name, lambda array: array[:, 1:-1]),
    })  # fmt: skip


masks("nifti", MASK)
images("nifti", T2W)

NRRD, NRRD_MASK = "data/P-0001_t2w.nrrd", "data/P-0001_mask.nrrd"
masks("nrrd", NRRD_MASK)
images("nrrd", NRRD)
for _name in (NRRD, NRRD_MASK):
    general("nrrd", _name, 5)
add("nrrd", "bits of NRRD header", ANYTHING, {f"{n}": flip(NRRD, n, 0, 250) for n in range(12)})
add("nrrd", "bits of voxels", "ready", {f"{NRRD} {n}": flip(NRRD, n, 1000) for n in range(5)})
add("nrrd", "bits of gzip data", "corruption ready", {
    f"{NRRD_MASK} {n}": rewrite(NRRD_MASK, lambda content, n=n: content[: -30 + n] + bytes([content[-30 + n] ^ 4])
                                + content[-29 + n :]) for n in range(4, 20)
})  # fmt: skip


def field(old: str, new: str) -> Damage:
    def change(content: bytes) -> bytes:
        assert old.encode() in content
        return content.replace(old.encode(), new.encode(), 1)

    return rewrite(NRRD, change)


add("nrrd", "NRRD fields", "corruption degenerate", {
    "sizes negative": field("sizes: 14 12 6", "sizes: -14 12 6"),
    "sizes few": field("sizes: 14 12 6", "sizes: 14 12"),
    "sizes none": field("sizes: 14 12 6", "sizes:"),
    "sizes zero": field("sizes: 14 12 6", "sizes: 0 12 6"),
    "sizes huge": field("sizes: 14 12 6", "sizes: 999999 999999 999999"),
    "sizes words": field("sizes: 14 12 6", "sizes: a b c"),
    "sizes digits of another script": field("sizes: 14 12 6", "sizes: \u0661\u0664 12 6"),
    "type unknown": field("type: ", "type: long "),
    "type block": field("type: short", "type: block"),
    "dimension two": field("dimension: 3", "dimension: 2"),
    "dimension many": field("dimension: 3", "dimension: 99"),
    "encoding unknown": field("encoding: raw", "encoding: raw2"),
    "encoding text": field("encoding: raw", "encoding: ascii"),
    "encoding bzip2": field("encoding: raw", "encoding: bzip2"),
    "encoding gzip, not zipped": field("encoding: raw", "encoding: gzip"),
    "no magic": field("NRRD0004", "NRRX0004"),
    "directions nan": field("space directions: (1,", "space directions: (nan,"),
    "directions zero": field("space directions: (1,", "space directions: (0,"),
    "directions short": field("space directions: (1,0,0)", "space directions: (1,0)"),
    "origin nan": field("space origin: (-5,", "space origin: (nan,"),
    "origin inf": field("space origin: (-5,", "space origin: (inf,"),
    "byte skip": field("encoding: raw", "byte skip: 400\nencoding: raw"),
    "byte skip huge": field("encoding: raw", "byte skip: 99999999\nencoding: raw"),
    "line skip": field("encoding: raw", "line skip: 100000\nencoding: raw"),
    "data in another file": field("encoding: raw", "encoding: raw\ndata file: /etc/hostname"),
    "data in a list": field("encoding: raw", "encoding: raw\ndata file: LIST"),
    "data in another file, old word": field("encoding: raw", "encoding: raw\ndatafile: ../clinical.csv"),
})  # fmt: skip

# --- DICOM ----------------------------------------------------------------------------------------------------------

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
    return rewrite(name, lambda content: _flipped(content, seed, 132, pixels_at(content)))


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


for _name in (INNER, LAST):
    general("structures", _name, 8, absent="absence corruption ready" if _name == LAST else "absence corruption")
    add("structures", "cut off between elements", "corruption", {
        f"{_name} {keyword}": cut_at(_name, keyword) for keyword in (
            "SOPClassUID", "SOPInstanceUID", "Modality", "PatientID", "StudyInstanceUID", "ImagePositionPatient",
            "Rows", "PixelSpacing", "PixelData")
    })  # fmt: skip
    add("structures", "cut off, no suffix", "corruption", {
        f"{_name} {length}": renamed(_name, f"{SERIES}/IM0009", rewrite(_name, lambda content, n=length: content[:n]))
        for length in (0, 132, 200, 400)
    })  # fmt: skip
    add("structures", "bits of pixels", "ready", {f"{_name} {n}": flip_value(_name, "PixelData", n) for n in range(5)})
    add("structures", "bits of the preamble", "ready", {f"{_name} {n}": flip(_name, n, 0, 128) for n in range(3)})
    add(
        "structures",
        "bits of the magic word",
        "corruption",
        {f"{_name} {n}": flip(_name, n, 128, 132) for n in range(3)},
    )
    add("structures", "bits of DICOM header", ANYTHING, {f"{_name} {n}": flip_header(_name, n) for n in range(12)})
add("structures", "bits of the patient's id", "mislabelled corruption", {
    f"{n}": flip_value(INNER, "PatientID", n) for n in range(5)
})  # fmt: skip
add("structures", "bits of names", "ready", {
    f"{keyword} {n}": flip_value(INNER, keyword, n) for keyword in ("PatientName", "InstitutionName") for n in range(3)
})  # fmt: skip
add("structures", "optional series gone", "ready", {"adc": lambda root: shutil.rmtree(root / "images/P-0001/adc")})
add("structures", "slice gone", "corruption", {INNER: lambda root: (root / INNER).unlink()})
add("structures", "series gone", "absence", {
    "t2w": lambda root: shutil.rmtree(root / SERIES), "case": lambda root: shutil.rmtree(root / "images/P-0001"),
})  # fmt: skip

add("structures", "other patient", "mislabelled", {
    "one slice": edit(INNER, put("PatientID", "LO", "Q-7")),
    "one slice of a known patient": edit(INNER, put("PatientID", "LO", "P-0002")),
    "empty in one slice": edit(INNER, put("PatientID", "LO", "")),
    "drawing": edit(DRAWN, put("PatientID", "LO", "Q-8")),
})  # fmt: skip
add("structures", "other patient", "mislabelled", {
    "all files": edit("images/P-0001/**/*.dcm", put("PatientID", "LO", "P-0002")),
}, cases=("P-0001", "P-0002"))  # fmt: skip

ORIENTATIONS = {
    "too long": [2, 0, 0, 0, 2, 0], "zero": [0] * 6, "parallel": [1, 0, 0, 1, 0, 0], "skew": [1, 0, 0, 0.5, 0.9, 0],
    "nan": ["nan"] * 6, "inf": ["inf"] * 6, "five": [1, 0, 0, 0, 1], "seven": [1, 0, 0, 0, 1, 0, 0], "words": ["a"] * 6,
}  # fmt: skip
SPACINGS = {
    "zero": [0, 0], "negative": [-1, 1], "nan": ["nan", "nan"], "inf": ["inf", "1"], "one": [1], "three": [1, 1, 1],
    "words": ["wide", "wide"], "empty": None,
}  # fmt: skip
for _names, _which in ((INNER, "one slice"), (f"{SERIES}/*.dcm", "all slices")):
    add(
        "structures",
        "orientation",
        "corruption degenerate",
        {
            f"{_which} {name}": edit(_names, put("ImageOrientationPatient", "DS", value))
            for name, value in ORIENTATIONS.items()
        },
    )
    add("structures", "pixel spacing", "corruption degenerate", {
        f"{_which} {name}": edit(_names, put("PixelSpacing", "DS", value)) for name, value in SPACINGS.items()
    })  # fmt: skip
    add("structures", "position", "corruption degenerate", {
        f"{_which} {name}": edit(_names, put("ImagePositionPatient", "DS", value))
        for name, value in {"two": [1, 2], "nan": ["nan"] * 3, "inf": ["inf"] * 3, "words": ["x"] * 3, "empty": None,
                            "repeated": [-5, 7, 11], "far": ["1e30"] * 3}.items()
    })  # fmt: skip
    add("structures", "matrix", "corruption degenerate", {
        f"{_which} {keyword} {value}": edit(_names, put(keyword, "US", value))
        for keyword, value in (("Rows", 0), ("Rows", 11), ("Rows", 13), ("Rows", 65535), ("Columns", 0),
                               ("Columns", 65535), ("SamplesPerPixel", 3), ("SamplesPerPixel", 0),
                               ("BitsAllocated", 32), ("BitsAllocated", 0))
        if (keyword, value, _which) != ("Rows", 11, "all slices")
    })  # fmt: skip
    add("structures", "number of frames", "corruption degenerate", {
        f"{_which} {value}": edit(_names, put("NumberOfFrames", "IS", value))
        for value in ("0x10", "-1", "2", "6", "99999", "100000000", "9" * 11)
    })  # fmt: skip
    add("structures", "missing tag", "corruption degenerate", {
        f"{_which} {keyword}": edit(_names, without(keyword)) for keyword in (
            "SOPInstanceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns",
            "PixelData", "BitsAllocated")
    })  # fmt: skip
    add("structures", "missing tag", "corruption degenerate ready", {
        f"{_which} {keyword}": edit(_names, without(keyword)) for keyword in (
            "SeriesInstanceUID", "RescaleSlope", "RescaleIntercept", "PhotometricInterpretation", "SamplesPerPixel",
            "SeriesDescription", "AcquisitionTime", "HighBit", "BitsStored", "PixelRepresentation")
    } if _which == "one slice" else {})  # fmt: skip
add(
    "structures",
    "position",
    "corruption degenerate",
    {
        f"one slice {shift} mm aside": edit(INNER, put("ImagePositionPatient", "DS", [-5 + shift, 7, 20]))
        for shift in (5, 200)
    },
)
add(
    "structures",
    "modality",
    "corruption degenerate",
    {
        "one slice none": edit(INNER, without("Modality")),
        "one slice other": edit(INNER, put("Modality", "CS", "OT")),
        "one slice RTSTRUCT": edit(INNER, put("Modality", "CS", "RTSTRUCT")),
    },
)
add("structures", "modality", "mislabelled ready", {"one slice CT": edit(INNER, put("Modality", "CS", "CT"))})
add("structures", "wrong VR", "corruption degenerate mislabelled ready", {
    f"{keyword} {vr.decode(errors='replace')}": vr_of(keyword, vr)
    for keyword in ("Rows", "PixelSpacing", "ImagePositionPatient", "PatientID")
    for vr in (b"SQ", b"FD", b"US", b"UI", b"XX", b"\0\0", b"OB")
}, )  # fmt: skip
add("structures", "words for numbers", "corruption degenerate", {
    keyword: raw(keyword, b"--") for keyword in ("ImagePositionPatient", "PixelSpacing", "RescaleSlope")
})  # fmt: skip
add(
    "structures",
    "rescale",
    "corruption degenerate",
    {
        f"all slices {value}": edit(f"{SERIES}/*.dcm", put("RescaleSlope", "DS", value))
        for value in ("nan", "inf", "1e400")
    },
)
add("structures", "nested sequences", "corruption ready", {
    "closed": edit(INNER, nested),
    **{f"{kind} {depth}": rewrite(INNER, nested_bytes(tag, depth)) for depth in (5, 500, 20_000)
       for kind, tag in (("unknown", b"\x40\x00\x75\x02"), ("asked for", b"\x00\x52\x29\x92"))},
})  # fmt: skip
add("structures", "transfer syntax", "corruption", {
    name: syntax(uid_) for name, uid_ in {
        "implicit": "1.2.840.10008.1.2", "big endian": "1.2.840.10008.1.2.2", "deflated": "1.2.840.10008.1.2.1.99",
        "JPEG": "1.2.840.10008.1.2.4.70", "JPEG 2000": "1.2.840.10008.1.2.4.90", "RLE": "1.2.840.10008.1.2.5",
        "MPEG": "1.2.840.10008.1.2.4.100"}.items()
})  # fmt: skip
add("structures", "transfer syntax", "corruption ready", {"unknown": syntax("1.2.3.4"), "empty": syntax("")})
general("structures", DRAWN, 12)
add("structures", "cut off between elements", "corruption", {
    f"{DRAWN} {keyword}": cut_at(DRAWN, keyword) for keyword in (
        "Modality", "PatientID", "FrameOfReferenceUID", "ReferencedFrameOfReferenceSequence", "StructureSetROISequence",
        "ROIContourSequence")
})  # fmt: skip
add("structures", "bits of the drawing", ANYTHING, {f"{n}": flip(DRAWN, n, 132) for n in range(12)})


def contour(change: Callable[[Dataset], object]) -> Damage:
    """Change the first contour of the tumour."""
    return edit(DRAWN, lambda dataset: change(dataset.ROIContourSequence[0].ContourSequence[0]))


def points(change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    def new(one: Dataset) -> None:
        old = np.array(one.ContourData, float).reshape(-1, 3)
        one.ContourData = [f"{v:g}" for v in change(old).ravel()]

    return contour(new)


def all_points(change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    def new(dataset: Dataset) -> None:
        for one in dataset.ROIContourSequence[0].ContourSequence:
            old = np.array(one.ContourData, float).reshape(-1, 3)
            one.ContourData = [f"{v:g}" for v in change(old).ravel()]

    return edit(DRAWN, new)


def roi_again(dataset: Dataset) -> None:
    again = Dataset()
    again.ROINumber, again.ROIName = 2, "GTV"
    dataset.StructureSetROISequence.append(again)


def second_file(root: Path) -> None:
    dataset = pydicom.dcmread(root / DRAWN)
    dataset.SOPInstanceUID = dataset.SOPInstanceUID[:-3] + "777"
    dataset.save_as(root / "images/P-0001/rs-again.dcm")


def other_reference(dataset: Dataset) -> None:
    frame = dataset.ReferencedFrameOfReferenceSequence[0]
    frame.FrameOfReferenceUID = "1.2.3"
    frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.4"


def _set(sequence: str, keyword: str, value: object) -> Callable[[Dataset], object]:
    return lambda dataset: setattr(dataset[sequence].value[0], keyword, value)


add("structures", "contour not closed", "degenerate", {
    kind or "none": contour(lambda one, kind=kind: setattr(one, "ContourGeometricType", kind))
    for kind in ("OPEN_PLANAR", "OPEN_NONPLANAR", "")
})  # fmt: skip
add(
    "structures",
    "contour outside",
    "mislabelled",
    {
        "above": points(lambda p: p + np.array([0, 0, 90])),
        "below": points(lambda p: p - np.array([0, 0, 90])),
        "aside x": points(lambda p: p + np.array([500, 0, 0])),
        "aside y": points(lambda p: p - np.array([0, 500, 0])),
        "all aside": all_points(lambda p: p + np.array([500, 0, 0])),
        "all aside y": all_points(lambda p: p + np.array([0, 500, 0])),
        "all below": all_points(lambda p: p - np.array([0, 0, 500])),
        "far": points(lambda p: p * 1e30),
        "between slices": points(lambda p: p + np.array([0, 0, 1.5])),
        "turned": points(lambda p: p[:, [2, 1, 0]] + np.array([0, 0, 20])),
    },
)
add("structures", "contour partly outside", "mislabelled ready", {"x": all_points(lambda p: p + np.array([7, 0, 0]))})
add("structures", "contour without points", "corruption degenerate ready", {
    "none": contour(lambda one: setattr(one, "ContourData", None)), "one": points(lambda p: p[:1]),
    "two": points(lambda p: p[:2]), "line": points(lambda p: p[[0, 1, 0]]),
})  # fmt: skip
add("structures", "contour not numbers", "corruption degenerate", {
    "nan": contour(put("ContourData", "DS", ["nan"] * 12)), "words": contour(put("ContourData", "DS", ["a"] * 12)),
    "inf": contour(put("ContourData", "DS", ["inf"] * 12)), "odd": contour(put("ContourData", "DS", ["1"] * 11)),
})  # fmt: skip
add("structures", "contour crosses itself", "ready", {"bow": points(lambda p: p[[0, 2, 1, 3]])})
add("structures", "no tumour drawn", "absence degenerate", {
    "no ROI": edit(DRAWN, lambda d: setattr(d, "StructureSetROISequence", [])),
    "no contours": edit(DRAWN, lambda d: delattr(d.ROIContourSequence[0], "ContourSequence")),
    "no contour item": edit(DRAWN, lambda d: setattr(d, "ROIContourSequence", [])),
    "other name": edit(DRAWN, _set("StructureSetROISequence", "ROIName", "Bladder")),
    "no name": edit(DRAWN, _set("StructureSetROISequence", "ROIName", "")),
})  # fmt: skip
add("structures", "two tumours drawn", "configuration", {"two ROIs": edit(DRAWN, roi_again), "two files": second_file})
add("structures", "drawing refers elsewhere", "mislabelled corruption degenerate", {
    "series and frame": edit(DRAWN, other_reference),
    "no reference": edit(DRAWN, without("ReferencedFrameOfReferenceSequence")),
    "number": edit(DRAWN, _set("ROIContourSequence", "ReferencedROINumber", 9)),
    "no number": edit(DRAWN, lambda d: delattr(d.ROIContourSequence[0], "ReferencedROINumber")),
})  # fmt: skip

general("segments", SEGMENTED, 10)
add("segments", "cut off between elements", "corruption", {
    f"{SEGMENTED} {keyword}": cut_at(SEGMENTED, keyword) for keyword in (
        "Modality", "PatientID", "FrameOfReferenceUID", "Rows", "SegmentSequence", "PerFrameFunctionalGroupsSequence",
        "PixelData")
})  # fmt: skip
add("segments", "bits of the segmentation", ANYTHING, {f"{n}": flip_header(SEGMENTED, n) for n in range(12)})


def group(number: int, sequence: str, keyword: str, value: object) -> Damage:
    """One frame's functional group."""

    def new(dataset: Dataset) -> None:
        setattr(dataset.PerFrameFunctionalGroupsSequence[number][sequence].value[0], keyword, value)

    return edit(SEGMENTED, new)


def shared(sequence: str, keyword: str, value: object) -> Damage:
    def new(dataset: Dataset) -> None:
        item = dataset.SharedFunctionalGroupsSequence[0][sequence].value[0]
        put(keyword, "DS", value)(item)

    return edit(SEGMENTED, new)


def segment_again(dataset: Dataset) -> None:
    again = Dataset()
    again.SegmentNumber, again.SegmentLabel = 2, "GTV"
    dataset.SegmentSequence.append(again)


add("segments", "frames elsewhere", "mislabelled", {
    "half a voxel": group(0, "PlanePositionSequence", "ImagePositionPatient", [-4.5, 7, 17]),
    "between": group(0, "PlanePositionSequence", "ImagePositionPatient", [-5, 7, 15.5]),
    "above": group(0, "PlanePositionSequence", "ImagePositionPatient", [-5, 7, 110]),
    "below": group(1, "PlanePositionSequence", "ImagePositionPatient", [-5, 7, 8]),
    "spacing": shared("PixelMeasuresSequence", "PixelSpacing", ["2", "2"]),
    "turned": shared("PlaneOrientationSequence", "ImageOrientationPatient", ["0", "1", "0", "1", "0", "0"]),
    "rows": edit(SEGMENTED, lambda d: (setattr(d, "Rows", 14), setattr(d, "Columns", 12))),
    "another frame": edit(SEGMENTED, put("FrameOfReferenceUID", "UI", "1.2.3")),
})  # fmt: skip
add("segments", "frames without a place", "mislabelled corruption", {
    "nan": shared("PlaneOrientationSequence", "ImageOrientationPatient", ["nan"] * 6),
    "zero spacing": shared("PixelMeasuresSequence", "PixelSpacing", ["0", "0"]),
    "words": shared("PixelMeasuresSequence", "PixelSpacing", ["a", "b"]),
    "no shared groups": edit(SEGMENTED, without("SharedFunctionalGroupsSequence")),
    "no position": edit(SEGMENTED, lambda d: delattr(d.PerFrameFunctionalGroupsSequence[0], "PlanePositionSequence")),
    "position nan": edit(SEGMENTED, lambda d: put("ImagePositionPatient", "DS", ["nan"] * 3)(
        d.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0])),
})  # fmt: skip
add(
    "segments",
    "wrong number of frames",
    "corruption",
    {
        **{f"{n}": edit(SEGMENTED, put("NumberOfFrames", "IS", n)) for n in ("1", "3", "1000000", "99999", "-2")},
        "no groups": edit(SEGMENTED, without("PerFrameFunctionalGroupsSequence")),
        "a group too many": edit(
            SEGMENTED, lambda d: d.PerFrameFunctionalGroupsSequence.append(d.PerFrameFunctionalGroupsSequence[0])
        ),
        "a group too few": edit(SEGMENTED, lambda d: d.PerFrameFunctionalGroupsSequence.pop()),
        "bits allocated": edit(SEGMENTED, put("BitsAllocated", "US", 8)),
    },
)
add("segments", "no tumour segmented", "absence degenerate", {
    "other label": edit(SEGMENTED, _set("SegmentSequence", "SegmentLabel", "Bladder")),
    "no segments": edit(SEGMENTED, lambda d: setattr(d, "SegmentSequence", [])),
    "blank frames": edit(SEGMENTED, lambda d: setattr(d, "PixelData", b"\0" * len(d.PixelData))),
    "fractional": edit(SEGMENTED, lambda d: setattr(d, "SegmentationType", "FRACTIONAL")),
    "no type": edit(SEGMENTED, without("SegmentationType")),
})  # fmt: skip
add("segments", "two tumours segmented", "configuration", {"two labels": edit(SEGMENTED, segment_again)})
add("segments", "segment numbers", "corruption degenerate", {
    "unknown": edit(SEGMENTED, _set("SegmentSequence", "SegmentNumber", 7)),
    "none": edit(SEGMENTED, lambda d: delattr(d.SegmentSequence[0], "SegmentNumber")),
})  # fmt: skip

for _name in (INNER, SEGMENTED):
    add(
        "structures" if _name == INNER else "segments",
        "cut off within an element's header",
        "corruption",
        {
            f"{_name} {n}": rewrite(_name, lambda content, n=n: content[: pixels_at(content) + n])
            for n in (1, 4, 7, 8, 11, 12)
        },
    )

# --- the clinical table ---------------------------------------------------------------------------------------------

TABLE = "clinical.csv"
HEADER = "case,trg,age,ct"
LINES = ("P-0001,good,61,T2", "P-0002,poor,55,T3", "P-0003,good,,", "P-0004,poor,70,T3")


def text(*lines: str, encoding: str = "utf-8", end: str = "\n") -> Damage:
    return lambda root: (root / TABLE).write_bytes((end.join(lines) + end).encode(encoding))


def first(line: str) -> Damage:
    return text(HEADER, line, *LINES[1:])


def semicolons(line: str) -> str:
    return line.replace(",", ";")


everybody = partial(add, "nifti", cases=CASES, site=True)
everybody(
    "table, other dialect",
    "ready",
    {
        "BOM": text(HEADER, *LINES, encoding="utf-8-sig"),
        "UTF-16": text(HEADER, *LINES, encoding="utf-16"),
        "UTF-16 big endian": lambda root: (root / TABLE).write_bytes(
            b"\xfe\xff" + "\n".join([HEADER, *LINES]).encode("utf-16-be")
        ),
        "Windows-1252": text(HEADER + ",note", *(f"{line},früh" for line in LINES), encoding="cp1252"),
        "semicolons": text(*map(semicolons, (HEADER, *LINES))),
        "semicolons, BOM": text(*map(semicolons, (HEADER, *LINES)), encoding="utf-8-sig"),
        "tabs": text(*(line.replace(",", "\t") for line in (HEADER, *LINES))),
        "tabs, UTF-16": text(*(line.replace(",", "\t") for line in (HEADER, *LINES)), encoding="utf-16"),
        "sep line": text("sep=;", *map(semicolons, (HEADER, *LINES))),
        "CRLF": text(HEADER, *LINES, end="\r\n"),
        "CR": text(HEADER, *LINES, end="\r"),
        "blank lines": text("", HEADER, "", *LINES, "", ",,,", ""),
        "spaces": text(*(line.replace(",", "  ,  ") + "  " for line in (HEADER, *LINES))),
        "no-break spaces": text(HEADER, *(line.replace(",", "\u00a0,\u00a0") for line in LINES)),
        "quoted": text(*(",".join(f'"{cell}"' for cell in line.split(",")) for line in (HEADER, *LINES))),
        "quoted line break": text(HEADER + ",note", *(f'{line},"one\ntwo"' for line in LINES)),
        "quoted separator": text(HEADER + ",note", *(f'{line},"a, b"' for line in LINES)),
        "more columns": text(HEADER + ",x,y", *(f"{line},1,{MARK}" for line in LINES)),
        "empty last column": text(HEADER + ",", *(line + "," for line in LINES)),
        "columns in another order": text(*(",".join(reversed(line.split(","))) for line in (HEADER, *LINES))),
        "zipped": lambda root: (root / TABLE).write_bytes(gzip.compress("\n".join([HEADER, *LINES]).encode(), mtime=0)),
    },
)
everybody(
    "table, no text",
    "corruption",
    {
        "NUL": lambda root: (root / TABLE).write_bytes("\n".join([HEADER, *LINES]).encode() + b"\0\0"),
        "NUL within": text(HEADER, LINES[0].replace("6", "\0"), *LINES[1:]),
        "UTF-16 without a mark": text(HEADER, *LINES, encoding="utf-16-le"),
        "UTF-16 cut": lambda root: (root / TABLE).write_bytes("\n".join([HEADER, *LINES]).encode("utf-16")[:-1]),
        "UTF-32": text(HEADER, *LINES, encoding="utf-32"),
        "spreadsheet": lambda root: (root / TABLE).write_bytes(b"PK\x03\x04" + bytes(200)),
        "old spreadsheet": lambda root: (root / TABLE).write_bytes(b"\xd0\xcf\x11\xe0" + bytes(200)),
        "PDF": lambda root: (root / TABLE).write_bytes(b"%PDF-1.7\n"),
        "zipped, cut": lambda root: (root / TABLE).write_bytes(gzip.compress(b"case,trg" * 50, mtime=0)[:-9]),
        "zipped, spoiled": lambda root: (root / TABLE).write_bytes(
            gzip.compress(b"case,trg" * 50, mtime=0)[:12] + b"xxxxxxxx"
        ),
        "zipped, bad sum": lambda root: (root / TABLE).write_bytes(
            gzip.compress(b"case,trg\n" * 50, mtime=0)[:-8] + bytes(8)
        ),
        "zipped, reserved method": lambda root: (root / TABLE).write_bytes(b"\x1f\x8b\x07" + bytes(30)),
        "control characters": text(HEADER, LINES[0].replace("6", "\x07"), *LINES[1:]),
        "another alphabet": text(HEADER + ",note", *(f"{line},хорошо" for line in LINES), encoding="cp1251"),
    },
)
everybody(
    "table, shape",
    "corruption",
    {
        "short row": text(HEADER, "P-0001,good", *LINES[1:]),
        "long row": text(HEADER, LINES[0] + ",x,y", *LINES[1:]),
        "open quote": text(HEADER, '"P-0001,good,61,T2', *LINES[1:]),
        "stray quote": text(HEADER, '"P"-0001,good,61,T2', *LINES[1:]),
        "column twice": text(HEADER + ",age", *(line + ",1" for line in LINES)),
        "separator unclear": text("case,trg;age,ct;x", *LINES),
        "mixed separators": text(HEADER, semicolons(LINES[0]), *LINES[1:]),
        "no line": lambda root: (root / TABLE).write_bytes(b"\n \n\n"),
    },
)
add("nifti", "row of an id without files", "absence corruption", {"long": first(f"P-{'x' * 300},good,61,T2")})
everybody("table, columns", "configuration", {
    **{f"no {name}": text(HEADER.replace(name, "x" + name[::-1]), *LINES) for name in HEADER.split(",")},
    "upper case": text(HEADER.upper(), *LINES), "no header": text(*LINES),
    "spaces in names": text(HEADER.replace("trg", "t rg"), *LINES), "one column": text("case", *CASES),
})  # fmt: skip
everybody("table, no rows", "absence", {
    "header only": text(HEADER), "id empty": first(",good,61,T2"), "id blank": first("\u00a0,good,61,T2"),
})  # fmt: skip
everybody("table, one class", "degenerate", {
    "good": text(HEADER, *(line.replace("poor", "good") for line in LINES)),
    "one row": text(HEADER, LINES[0]),
    "poor unknown": text(HEADER, *(line.replace("poor", MARK) for line in LINES)),
})  # fmt: skip
everybody(
    "table, formula for id", "corruption", {"=": first('"=A1&""0001""",good,61,T2'), "#REF!": first("#REF!,good,61,T2")}
)
everybody(
    "table, decimals",
    "mislabelled",
    {"both": text(*map(semicolons, (HEADER, LINES[0])), "P-0002;poor;5,5;T3", "P-0004;good;6.1;T3")},
)
add("nifti", "row repeated", "mislabelled", {
    "same": text(HEADER, LINES[0], *LINES), "another outcome": text(HEADER, *LINES, "P-0001,poor,61,T2"),
    "with spaces": text(HEADER, *LINES, " P-0001 ,good,61,T2"), "lower case": text(HEADER, *LINES, "p-0001,good,61,T2"),
})  # fmt: skip
add("nifti", "row's outcome", "mislabelled", {
    value: first(f"P-0001,{value},61,T2") for value in (MARK, "Good", "1", "good?", "n/a", "goodpoor")
})  # fmt: skip
add("nifti", "row's outcome empty", "absence", {"empty": first("P-0001,,61,T2"), "spaces": first("P-0001,   ,61,T2")})
add("nifti", "row's clinical value", "mislabelled degenerate", {
    f"{age} {stage}": first(f"P-0001,good,{age},{stage}")
    for age, stage in ((MARK, "T2"), ("nan", "T2"), ("inf", "T2"), ("-inf", "T2"), ("1e999", "T2"), ("61 y", "T2"),
                       ('"61,5"', "T2"), ("61", MARK), ("61", "t2"), ("61", "T9"))
})  # fmt: skip
add(
    "nifti",
    "row's formula",
    "corruption",
    {
        value: first(f"P-0001,{value}")
        for value in ('"=1+1",61,T2', "good,=SUM(C2),T2", "#N/A,61,T2", "good,#DIV/0!,T2", "good,61,#REF!")
    },
)
add("nifti", "row of an id without files", "absence", {
    name: first(f'"{name}",good,61,T2')
    for name in (MARK, "../P-0001", "/etc", "P-0001/..", "..", "*", "P-000?", "é", "a\nb", "{case}", "%s")
}, cases=CASES[:1])  # fmt: skip
for _name in (TABLE,):
    everybody("zero-length", "corruption", {_name: rewrite(_name, lambda content: b"")})
    everybody("folder instead", "corruption absence", {_name: folder_instead(_name)})
    everybody("broken link", "absence", {_name: link_instead(_name, "nowhere")})
    everybody("link to itself", "corruption absence", {_name: link_instead(_name, "clinical.csv")})
    everybody("permission", "permission", {_name: Refused(_name)})


def cut_table(length: int) -> str:
    """What is right where the table ends after `length` characters: told by where the cut falls."""
    kept = "\n".join([HEADER, *LINES])[:length].split("\n")
    if len(kept) == 1:
        return "absence" if kept[0] == HEADER else "configuration absence corruption"
    if kept[-1].count(",") < 3:
        return "corruption" if kept[-1] else "ready degenerate absence"  # the end of a line is no sign of a cut
    return "ready mislabelled degenerate"  # within the last cell: empty, or another stage; or one class is left


everybody_cut = {n: cut_table(n) for n in sorted(random.Random(8).sample(range(1, 88), 20))}
for _length, _may in everybody_cut.items():
    everybody("table cut off", _may, {f"after {_length}": rewrite(TABLE, lambda content, n=_length: content[:n])})
everybody("bits of the table", ANYTHING, {f"{n}": flip(TABLE, n) for n in range(12)})

# --- the feature table ----------------------------------------------------------------------------------------------

FEATURES = "features.csv"
ROWS = ("case,f,g", "P-0001,1.5,2", "P-0002,0.1,3", "P-0003,0.25,1e-7", "P-0004,7,0")


def features(*lines: str, encoding: str = "utf-8") -> Damage:
    return lambda root: (root / FEATURES).write_bytes(("\n".join(lines) + "\n").encode(encoding))


def row(line: str) -> Damage:
    return features(ROWS[0], line, *ROWS[2:])


add("features", "feature not a number", "degenerate", {
    value or "empty": row(f"P-0001,{value},2")
    for value in ("", "nan", "inf", "-inf", MARK, "1e999", "1.5.2", "0x10", "--1", "1 2", "True")
})  # fmt: skip
add(
    "features", "feature formula", "corruption", {value: row(f"P-0001,{value},2") for value in ("=A1", "#N/A", "#NUM!")}
)
add("features", "feature row missing", "absence", {
    "gone": features(ROWS[0], *ROWS[2:]), "another id": row("P-0009,1.5,2"), "empty id": row(",1.5,2"),
    "lower case": row("p-0001,1.5,2"),
})  # fmt: skip
add(
    "features",
    "feature row repeated",
    "mislabelled",
    {
        "same": features(*ROWS, ROWS[1]),
        "other values": features(*ROWS, "P-0001,9,9"),
        "spaces": features(*ROWS, " P-0001 ,1,2"),
    },
)
all_features = partial(add, "features", cases=CASES, site=True)
all_features(
    "feature table, other dialect",
    "ready",
    {
        "BOM": features(*ROWS, encoding="utf-8-sig"),
        "UTF-16": features(*ROWS, encoding="utf-16"),
        "semicolons": features(*map(semicolons, ROWS)),
        "tabs": features(*(line.replace(",", "\t") for line in ROWS)),
        "more rows": features(*ROWS, "Q-1,1,2"),
        "quoted": features(*(",".join(f'"{c}"' for c in line.split(",")) for line in ROWS)),
    },
)
all_features("feature table, columns", "configuration", {
    "no case": features("id,f,g", *ROWS[1:]), "no features": features("case", *CASES),
    "text": features("case,f,g", *(f"{case},1,{MARK}" for case in CASES)), "no header": features(*ROWS[1:]),
    "empty column": features("case,f,g", *(f"{case},1," for case in CASES)), "header only": features(ROWS[0]),
})  # fmt: skip
all_features("feature table, no text", "corruption", {
    "NUL": features(*ROWS, "\0"), "UTF-16 without a mark": features(*ROWS, encoding="utf-16-le"),
    "short row": row("P-0001,1"), "long row": row("P-0001,1,2,3"), "column twice": features("case,f,f", *ROWS[1:]),
    "open quote": row('"P-0001,1,2'), "zero-length": rewrite(FEATURES, lambda content: b""),
})  # fmt: skip
all_features(
    "feature table, decimals",
    "mislabelled",
    {"both": features("case;f;g", "P-0001;1,5;2", "P-0002;1.5;2", *map(semicolons, ROWS[3:]))},
)
all_features("permission", "permission", {FEATURES: Refused(FEATURES)})
all_features("broken link", "absence", {FEATURES: link_instead(FEATURES, "nowhere")})
all_features("folder instead", "corruption absence", {FEATURES: folder_instead(FEATURES)})
all_features("bits of the feature table", ANYTHING, {f"{n}": flip(FEATURES, n) for n in range(8)})

# --- running them ---------------------------------------------------------------------------------------------------


class Hospital:
    """A sound hospital that can be spoiled and mended again, and what ingest says of it."""

    def __init__(self, root: Path, home: Path, config: SiteConfig, study: Any) -> None:
        self.root, self.home, self.config, self.study = root, home, config, study
        self.sound = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        self.mend()
        self.records = self.by_local(ingest(config, study, home).records)
        assert {record.status for record in self.records.values()} == {"ready"}

    def mend(self) -> None:
        """Every file as it was, and nothing beside."""
        for path in sorted(self.root.rglob("*"), reverse=True):
            if path.is_symlink() or (path.is_file() and path not in self.sound):
                path.unlink()
            elif path.is_dir() and path in self.sound:
                path.rmdir()
        for path, content in self.sound.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.is_file() or path.read_bytes() != content:
                path.write_bytes(content)
            os.utime(path, (OLD_S, OLD_S))

    def by_local(self, records: tuple[CaseRecord, ...]) -> dict[str, CaseRecord]:
        with (self.home / "ingest-local.csv").open(encoding="utf-8") as file:
            names = {line["case"]: line["local_id"] for line in csv.DictReader(file)}
        return {names[record.case]: record for record in records}


def picture(folder: Path) -> dict[str, object]:
    """What lies in a folder, to the byte: links by their target, folders by their kind."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        found[name] = os.readlink(path) if path.is_symlink() else "folder" if path.is_dir() else path.read_bytes()
    return found


@pytest.fixture(scope="module", autouse=True)
def no_wait_for_the_disk() -> Iterator[None]:
    """Power cuts are not the subject here, and a thousand stores are written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def hospital_of(tmp_path_factory, hospitals) -> Callable[[str], Hospital]:
    """Each kind of hospital, made once: four cases, two of each class, so that one may always be lost."""
    nifti, dicom, make_study = hospitals
    made: dict[str, Hospital] = {}

    def build(kind: str) -> Hospital:
        folder = tmp_path_factory.mktemp(kind)
        root, study = folder / "hospital", make_study()
        if kind == "nifti":
            return Hospital(root, folder / "home", nifti(root).config(), study)
        if kind == "nrrd":
            site = nifti(root)
            for path in sorted((root / "data").iterdir()):
                new = path.with_name(path.name.replace(".nii.gz", ".nrrd"))
                sitk.WriteImage(sitk.ReadImage(str(path)), str(new), useCompression="mask" in path.name)
                path.unlink()
            files = {name: f"data/{{case}}_{name}.nrrd" for name in ("t2w", "adc")}
            return Hospital(root, folder / "home", site.config(files=files, mask="data/{case}_mask.nrrd"), study)
        if kind == "features":
            root.mkdir()
            text(HEADER, *LINES)(root)
            features(*ROWS)(root)
            source = {"format": "table", "root": str(root), "clinical": {"file": TABLE}, "features": FEATURES}
            config = SiteConfig.model_validate({"site": "north", "source": source})
            table_study = make_study(sequences=[], clinical=[], radiomics={"source": "table"})
            return Hospital(root, folder / "home", config, table_study)
        site = dicom(root)
        site.table(*LINES, header=HEADER)
        for case in CASES:
            site.series(case)
            if case == CASES[0] and kind == "structures":
                site.series(case, "adc", RescaleType="mm2/s", slope=1e-5)
            (site.structures if kind == "structures" else site.segmentation)(case)
        return Hospital(root, folder / "home", site.config(), study)

    def get(kind: str) -> Hospital:
        if kind not in made:
            made[kind] = build(kind)
        return made[kind]

    return get


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[tuple[str, str], Counter[str]]]:
    """Outcomes by hospital and family; printed at the end."""
    found: dict[tuple[str, str], Counter[str]] = {}
    yield found
    print("\n| damage | hospital | variants | outcomes |\n|---|---|---|---|")
    for family in dict.fromkeys(family for _, family in found):
        there = [hospital for hospital, name in found if name == family]
        count = sum((found[hospital, family] for hospital in there), Counter[str]())
        words = ", ".join(f"{name} {number}" for name, number in count.most_common())
        print(f"| {family} | {', '.join(there)} | {count.total()} | {words} |")


def outcome_of(hospital: Hospital, variant: Variant, run: Callable[[], IngestReport]) -> tuple[str, str]:
    """The finding on a spoiled hospital, and every word that may leave it; with all that must hold whatever it is."""
    before, store = picture(hospital.root), picture(hospital.home / "store")
    said: list[str] = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            report = run()
        except FedLoupeError as error:
            assert variant.site, f"one case stopped all: {error}"
            assert isinstance(error, DataProblem), error
            assert picture(hospital.home / "store") == store, "the earlier store did not survive"
            outcome, said = error.kind, [error.what, error.remedy]
        else:
            records = hospital.by_local(report.records)
            spoiled = variant.cases == CASES
            concerned = [record for local, record in records.items() if spoiled or local not in CASES[1:]]
            concerned += [records[local] for local in variant.cases[1:] if not spoiled]
            for local in set(CASES) - set(variant.cases):
                assert records[local] == hospital.records[local], f"{local} suffers for another case"
            found = {record.kind for record in concerned} - {None}
            assert all(kind in variant.may.split() for kind in found), [(r.kind, r.code, r.reason) for r in concerned]
            outcome = next((kind for kind in URGENCY if kind in found), "ready")
            said += report.notes
            for record in report.records:
                said += [record.reason, record.remedy, *record.notes]
    said += [str(one.message) for one in warned]
    assert picture(hospital.root) == before, "a source file was touched"
    left = {path.name for path in hospital.home.rglob("*") if path.name.endswith(".part") or path.name.startswith(".P")}
    assert not left and not {"store.new", "store.old"} & {path.name for path in hospital.home.iterdir()}
    assert not [path for path in (hospital.home / "ingest" / "cases").glob(".*")]
    return outcome, "\n".join(said)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: f"{v.hospital}, {v.family}: {v.name}"[:90])
def test_damage_ends_in_the_right_finding(variant, hospital_of, outcomes, refuse_reading, monkeypatch):
    hospital = hospital_of(variant.hospital)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            variant.damage(hospital.root)

        def run() -> IngestReport:
            if isinstance(variant.damage, Refused):
                refuse_reading(hospital.root / variant.damage.name)
            try:
                return ingest(hospital.config, hospital.study, hospital.home)
            finally:
                monkeypatch.undo()

        outcome, said = outcome_of(hospital, variant, run)
    finally:
        hospital.mend()
    outcomes.setdefault((variant.hospital, variant.family), Counter())[outcome] += 1
    assert outcome in variant.may.split()
    told = [needle for needle in (*NEEDLES, str(hospital.root)) if needle in said]
    assert not told, said


def test_at_least_five_hundred_variants():
    assert len(VARIANTS) >= 500
    assert len({(v.hospital, v.family, v.name) for v in VARIANTS}) == len(VARIANTS)
