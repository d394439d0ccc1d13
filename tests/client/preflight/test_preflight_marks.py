"""Text burned into the pictures: found where it is opaque and on every slice, and nowhere else."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image, ImageDraw, ImageFont

from fedloupe_client.ingest.dicom.series import read_headers, read_volume
from fedloupe_client.ingest.dicom.stacks import split
from fedloupe_client.ingest.problems import SeriesRefused
from fedloupe_client.preflight.marks import Marks, still_marks

NOTHING = Marks(0, 0)
WORDS = "ROE 4711"  # nobody's name or number


def letters(shape: tuple[int, int], size: int, at: tuple[int, int] = (2, 2), smooth: bool = False) -> np.ndarray:
    """Opacity of the words in [0, 1], (y, x)."""
    picture = Image.new("L", shape[::-1])
    pen = ImageDraw.Draw(picture)
    pen.fontmode = "L" if smooth else "1"
    pen.text(at, WORDS, fill=255, font=ImageFont.load_default(size))
    return np.asarray(picture) / 255


def burned(array: np.ndarray, opacity: np.ndarray, value: float) -> np.ndarray:
    return np.rint(array * (1 - opacity) + opacity * value).astype(array.dtype)


@pytest.fixture
def body() -> np.ndarray:
    """An ellipse of noisy tissue in air, as of MR: (20, 120, 140), whole numbers."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[-60:60, -70:70]
    inside = (y / 45) ** 2 + (x / 55) ** 2 < 1
    mean = np.where(inside, 300.0, 0.0)
    return np.abs(mean + rng.normal(0, 15, (20, 120, 140))).astype(np.int16)


class TestText:
    @pytest.mark.parametrize("size", [8, 10, 12, 16, 24])
    @pytest.mark.parametrize("at", [(2, 2), (2, 90), (45, 50)])
    @pytest.mark.parametrize("value", [100, 255, 4095])
    def test_on_every_slice_is_found(self, body, size, at, value):
        assert still_marks(burned(body, letters(body.shape[1:], size, at), value)).suspicious

    def test_that_is_smoothed_is_found_where_letters_have_a_core(self, body):
        assert still_marks(burned(body, letters(body.shape[1:], 16, smooth=True), 255)).suspicious

    def test_on_four_fifths_of_the_slices_is_found_and_on_fewer_is_not(self, body):
        marked = burned(body, letters(body.shape[1:], 12), 400)
        for slices, found in ((16, True), (15, False)):
            some = body.copy()
            some[:slices] = marked[:slices]
            assert still_marks(some).suspicious is found

    def test_is_counted_in_pixels_and_pieces(self, body):
        array = body.copy()
        array[:, 4:6, 4:6] = array[:, 4:6, 10:12] = array[:, 20, 4] = 500
        assert still_marks(array) == Marks(9, 3)


class TestNothing:
    def test_stands_still_in_noise(self, body):
        assert still_marks(body) == NOTHING

    def test_is_said_of_padding_and_of_clipped_air(self, body):
        y, x = np.mgrid[-60:60, -70:70]
        padded = np.where(y**2 + x**2 < 58**2, body - 1000, -2000)
        padded[:, :, 20:50] = np.maximum(padded[:, :, 20:50], -980)  # air, clipped to one value above the padding
        assert not still_marks(padded).suspicious

    def test_is_said_of_implants(self, body):
        for place in (20, 60, 100):
            body[:, 50:62, place : place + 12] = 3071
        assert not still_marks(body).suspicious

    def test_is_said_of_a_picture_that_is_repeated(self, body):
        assert still_marks(np.repeat(body[:1], 20, axis=0)) == NOTHING

    def test_is_said_of_three_slices(self, body):
        assert still_marks(burned(body, letters(body.shape[1:], 12), 400)[:3]) == NOTHING

    def test_is_said_of_an_empty_or_a_constant_image(self):
        assert still_marks(np.zeros((6, 30, 30))) == still_marks(np.full((6, 30, 30), 7.0)) == NOTHING


def volumes(folder: Path, scratch: Path) -> dict[str, np.ndarray]:
    """Real MR and CT: crops, whole CT, and a prostate examination's series."""
    paths = [*folder.glob("sts_mr_crops/*_T1.nii.gz"), *folder.glob("sts_ct_mr/*/*_image.nii.gz")]
    found = {str(path): sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in paths}
    with tarfile.open(folder / "prostatex" / "ProstateX-0000_mpMRI.tar.xz") as archive:
        archive.extractall(scratch, filter="data")
    series: dict[str, list] = {}
    for path in sorted(scratch.rglob("*.dcm")):
        for one in read_headers(path):
            series.setdefault(one.series, []).append(one)
    for name, slices in series.items():
        try:
            for number, stack in enumerate(split(slices)):
                found[f"{name} {number}"] = sitk.GetArrayFromImage(read_volume(stack.grid))
        except SeriesRefused:
            continue
    return found


@pytest.mark.data
def test_real_volumes_are_clean_until_text_is_burned_in(real_data, tmp_path):
    found = volumes(real_data / "images", tmp_path)
    assert len(found) >= 65
    assert [name for name, array in found.items() if still_marks(array).suspicious] == []
    for name, array in found.items():
        if min(array.shape[1:]) >= 60:
            marked = burned(array, letters(array.shape[1:], 10), array.max())
            assert still_marks(marked).suspicious, name
