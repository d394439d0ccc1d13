"""Damaged enhanced multi-frame files, and links that lead round, each with what it must come to.

The hospitals are synthetic. Run with `-s` for the table of families in docs/ingest.md; see `damages`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from damages import Damage, Variant, add_to, check, general_to, rewrite
from dicom_damages import cut_at, edit, flip_header, pixels_at, put, without

VARIANTS: list[Variant] = []
add = partial(add_to, VARIANTS)
general = partial(general_to, VARIANTS)

FRAMES = "images/P-0001/t2w/frames.dcm"
general("enhanced", FRAMES, 10)
add("enhanced", "cut off between elements", "corruption", {
    f"{FRAMES} {keyword}": cut_at(FRAMES, keyword) for keyword in (
        "SOPClassUID", "Modality", "Rows", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
        "PixelData")
})  # fmt: skip
add("enhanced", "bits of DICOM header", "ready corruption degenerate mislabelled absence configuration", {
    f"{FRAMES} {n}": flip_header(FRAMES, n) for n in range(24)
})  # fmt: skip
add("enhanced", "pixels cut off", "corruption", {
    f"{FRAMES} {left}": rewrite(FRAMES, lambda content, left=left: content[: pixels_at(content) + 12 + left])
    for left in (0, 1, 335, 336, 337, 1680, 2015)
})  # fmt: skip


def frame(number: int, change: Callable[[Dataset], object]) -> Damage:
    """Change one frame's functional groups."""
    return edit(FRAMES, lambda dataset: change(dataset.PerFrameFunctionalGroupsSequence[number]))


def group(sequence: str, change: Callable[[Dataset], object]) -> Damage:
    """Change a group that all frames share."""
    return edit(FRAMES, lambda dataset: change(dataset.SharedFunctionalGroupsSequence[0][sequence].value[0]))


def position(value: object) -> Callable[[Dataset], object]:
    return lambda one: put("ImagePositionPatient", "DS", value)(one.PlanePositionSequence[0])


add("enhanced", "number of frames", "corruption", {
    value: edit(FRAMES, put("NumberOfFrames", "IS", value))
    for value in ("1", "2", "5", "7", "12", "-1", "0", "99999", "100001", "9" * 11)
})  # fmt: skip
add("enhanced", "groups of frames", "corruption", {
    "one too few": edit(FRAMES, lambda d: d.PerFrameFunctionalGroupsSequence.pop()),
    "one too many": edit(
        FRAMES, lambda d: d.PerFrameFunctionalGroupsSequence.append(d.PerFrameFunctionalGroupsSequence[0])
    ),
    "one alone": edit(FRAMES, lambda d: d.PerFrameFunctionalGroupsSequence.__delitem__(slice(1, None))),
})  # fmt: skip
add("enhanced", "groups without a place", "degenerate corruption", {
    "no groups": edit(FRAMES, without("PerFrameFunctionalGroupsSequence")),
    "no item": edit(FRAMES, lambda d: setattr(d, "PerFrameFunctionalGroupsSequence", [])),
    "no shared groups": edit(FRAMES, without("SharedFunctionalGroupsSequence")),
    "no shared item": edit(FRAMES, lambda d: setattr(d, "SharedFunctionalGroupsSequence", [])),
    "neither": edit(FRAMES, without("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")),
    "one empty": frame(2, lambda one: one.clear()),
    "one without a position": frame(2, without("PlanePositionSequence")),
    "one with an empty position": frame(2, lambda one: setattr(one, "PlanePositionSequence", [])),
    "all empty": edit(FRAMES, lambda d: [one.clear() for one in d.PerFrameFunctionalGroupsSequence]),
    "no measures": edit(FRAMES, lambda d: delattr(d.SharedFunctionalGroupsSequence[0], "PixelMeasuresSequence")),
    "no orientation": edit(FRAMES, lambda d: delattr(d.SharedFunctionalGroupsSequence[0], "PlaneOrientationSequence")),
})  # fmt: skip
add("enhanced", "places of frames", "degenerate corruption", {
    **{f"{name}": frame(3, position(value)) for name, value in {
        "two numbers": [1, 2], "nan": ["nan"] * 3, "inf": ["inf"] * 3, "words": ["x"] * 3, "none": None,
        "far": ["1e30"] * 3, "on another": [-5, 7, 11], "aside": [60, 7, 20]}.items()},
    **{f"orientation {name}": group("PlaneOrientationSequence", put("ImageOrientationPatient", "DS", value))
       for name, value in {"zero": [0] * 6, "nan": ["nan"] * 6, "five": [1, 0, 0, 0, 1], "words": ["a"] * 6}.items()},
    **{f"spacing {name}": group("PixelMeasuresSequence", put("PixelSpacing", "DS", value))
       for name, value in {"zero": [0, 0], "nan": ["nan"] * 2, "one": [1], "words": ["wide"] * 2}.items()},
})  # fmt: skip
add("enhanced", "matrix", "corruption degenerate", {
    f"{keyword} {value}": edit(FRAMES, put(keyword, "US", value))
    for keyword, value in (("Rows", 0), ("Rows", 13), ("Rows", 65535), ("Columns", 65535), ("BitsAllocated", 64))
})  # fmt: skip


def linked(name: str, target: str) -> Damage:
    def damage(root: Path) -> None:
        (root / "images" / "P-0001" / name).symlink_to(target)

    return damage


add("enhanced", "links that lead round", "ready", {
    "to its own folder": linked("again", "."), "to the folder above": linked("again", ".."),
    "to all": linked("again", "../../.."), "two folders": linked("t2w/again", "../t2w"),
})  # fmt: skip
add("enhanced", "links that lead round", "corruption", {
    "a file to itself": linked("t2w/more.dcm", "more.dcm"),
})  # fmt: skip
add("enhanced", "links that lead nowhere", "absence", {"a file": linked("t2w/more.dcm", "nowhere.dcm")})


@pytest.mark.usefixtures("no_wait_for_the_disk")
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: f"{v.hospital}, {v.family}: {v.name}"[:90])
def test_damage_ends_in_the_right_finding(variant, hospital_of, outcomes, refuse_reading, monkeypatch):
    check(variant, hospital_of(variant.hospital), outcomes, refuse_reading, monkeypatch)


def test_there_are_enough_variants_and_none_is_there_twice():
    assert len(VARIANTS) >= 90
    assert len({(v.hospital, v.family, v.name) for v in VARIANTS}) == len(VARIANTS)
