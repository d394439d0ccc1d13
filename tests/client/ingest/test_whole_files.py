"""A DICOM file that ends too early is refused wherever it ends, compressed or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from fedloupe_client.ingest.dicom.series import read_headers, series_grid
from fedloupe_client.ingest.problems import FileUnreadable, UnevenSlices


@pytest.fixture
def written(dicom_site) -> Path:
    dicom_site.series()
    return dicom_site.root / "images" / "P-0001" / "t2w" / "003.dcm"


@pytest.fixture
def compressed(written) -> Path:
    """Two fragments in a compressed syntax; they are not decoded here."""
    dataset = pydicom.dcmread(written)
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = encapsulate([bytes(100), bytes(60)])
    dataset.save_as(written)
    return written


class TestCompressed:
    def test_whole_fragments_pass(self, compressed):
        assert len(read_headers(compressed)) == 1

    @pytest.mark.parametrize("lost", [1, 8, 9, 70, 130, 180])
    def test_a_lost_end_is_damage(self, compressed, lost):
        compressed.write_bytes(compressed.read_bytes()[:-lost])
        with pytest.raises(FileUnreadable):
            read_headers(compressed)


class TestUncompressed:
    @pytest.mark.parametrize("lost", [1, 2, 200, 12 * 14 * 2, 12 * 14 * 2 + 1, 12 * 14 * 2 + 12])
    def test_a_lost_end_is_damage(self, written, lost):
        written.write_bytes(written.read_bytes()[:-lost])
        with pytest.raises(FileUnreadable):
            read_headers(written)

    def test_pixels_in_another_syntax_than_named_are_damage(self, written):
        dataset = pydicom.dcmread(written)
        dataset["PixelData"].is_undefined_length = False
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        dataset.Rows = 13
        dataset.save_as(written)
        with pytest.raises(FileUnreadable):
            read_headers(written)

    def test_more_pixels_than_promised_are_none_of_our_business(self, written):
        dataset = pydicom.dcmread(written)
        dataset.PixelData = dataset.PixelData + bytes(2)
        dataset.save_as(written)
        assert len(read_headers(written)) == 1


class TestLine:
    @pytest.mark.parametrize(("aside", "fits"), [(0.1, True), (5.0, False)])
    def test_a_slice_beside_the_line_of_the_others_is_refused(self, dicom_site, aside, fits):
        positions = [(-5.0 + aside * (k == 2), 7.0, 11.0 + 3.0 * k) for k in range(6)]
        dicom_site.series(positions=positions)
        folder = dicom_site.root / "images" / "P-0001" / "t2w"
        slices = [one for path in sorted(folder.iterdir()) for one in read_headers(path)]
        if fits:
            np.testing.assert_allclose(series_grid(slices).origin, (-5.0, 7.0, 11.0))
        else:
            with pytest.raises(UnevenSlices):
                series_grid(slices)
