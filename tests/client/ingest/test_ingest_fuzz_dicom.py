"""Damaged DICOM images, each with what it must come to.

The hospitals are synthetic. Run with `-s` for the table of families in docs/ingest.md; see `damages`.
"""

from __future__ import annotations

import shutil
from functools import partial

import pytest

from damages import ANYTHING, Variant, add_to, check, flip, general_to, rewrite
from dicom_damages import (
    DRAWN,
    INNER,
    LAST,
    SERIES,
    cut_at,
    edit,
    flip_header,
    flip_value,
    nested,
    nested_bytes,
    put,
    raw,
    renamed,
    syntax,
    vr_of,
    without,
)

VARIANTS: list[Variant] = []
add = partial(add_to, VARIANTS)
general = partial(general_to, VARIANTS)

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


@pytest.mark.usefixtures("no_wait_for_the_disk")
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: f"{v.hospital}, {v.family}: {v.name}"[:90])
def test_damage_ends_in_the_right_finding(variant, hospital_of, outcomes, refuse_reading, monkeypatch):
    check(variant, hospital_of(variant.hospital), outcomes, refuse_reading, monkeypatch)


def test_there_are_enough_variants_and_none_is_there_twice():
    assert len(VARIANTS) >= 280
    assert len({(v.hospital, v.family, v.name) for v in VARIANTS}) == len(VARIANTS)
