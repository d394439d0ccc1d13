"""Damaged NIfTI and NRRD files, each with what it must come to.

The hospitals are synthetic. Run with `-s` for the table of families in docs/ingest.md; see `damages`.
"""

from __future__ import annotations

import gzip
import random
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from damages import ANYTHING, Damage, Refused, Variant, add_to, check, cut, flip, flipped, general_to, rewrite

VARIANTS: list[Variant] = []
add = partial(add_to, VARIANTS)
general = partial(general_to, VARIANTS)

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
    return unzipped(name, lambda content: flipped(content, seed, start, stop))


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


def bomb(name: str, form: str = "") -> Damage:
    """The file with a quarter of a gigabyte of zeros behind its content, or in its place."""
    packed = gzip.compress(bytes(1 << 24), mtime=0) * 16
    kept = {"behind": lambda content: content + packed, "instead": lambda content: packed}
    return rewrite(name, kept[form])


for _name in (T2W, MASK):
    add(
        "nifti",
        "unpacks to far more",
        "corruption",
        {f"{_name} {form}": bomb(_name, form) for form in ("behind", "instead")},
    )
add("nifti", "NIfTI dimensions, absurd", "corruption degenerate", {
    f"{_name} {sizes}": header(_name, 40, "8h", *sizes)
    for _name in (T2W, MASK)
    for sizes in ((3, 32767, 1, 1, 1, 1, 1, 1), (3, 1, 1, 32767, 1, 1, 1, 1), (7, 14, 12, 6, 1, 1, 1, 32767),
                  (7, 32767, 32767, 32767, 32767, 32767, 32767, 32767), (-1, 14, 12, 6, 1, 1, 1, 1),
                  (3, 14, 12, 6, 32767, 1, 1, 1), (32767, 14, 12, 6, 1, 1, 1, 1), (3, -32768, -32768, 6, 1, 1, 1, 1),
                  (1, 1008, 1, 1, 1, 1, 1, 1), (5, 14, 12, 1, 1, 6, 1, 1))
})  # fmt: skip
add("nifti", "NIfTI scale, absurd", "corruption degenerate ready", {
    f"{T2W} {value}": header(T2W, 112, "2f", *value)
    for value in ((1e38, 0.0), (-1e38, 1e38), (1e-45, 0.0), (0.0, NAN), (0.0, INF), (NAN, NAN), (INF, -INF),
                  (-1.0, 0.0))
})  # fmt: skip
add("nifti", "NIfTI scale, absurd", "corruption degenerate ready mislabelled", {
    f"{MASK} {value}": header(MASK, 112, "2f", *value)
    for value in ((1e38, 0.0), (0.0, 5.0), (0.0, NAN), (-1.0, 0.0), (1.0, -1.0))
})  # fmt: skip


@pytest.mark.usefixtures("no_wait_for_the_disk")
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: f"{v.hospital}, {v.family}: {v.name}"[:90])
def test_damage_ends_in_the_right_finding(variant, hospital_of, outcomes, refuse_reading, monkeypatch):
    check(variant, hospital_of(variant.hospital), outcomes, refuse_reading, monkeypatch)


def test_there_are_enough_variants_and_none_is_there_twice():
    assert len(VARIANTS) >= 370
    assert len({(v.hospital, v.family, v.name) for v in VARIANTS}) == len(VARIANTS)
