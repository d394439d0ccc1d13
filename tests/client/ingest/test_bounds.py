"""Small files that unpack to gigabytes are refused before memory is filled."""

from __future__ import annotations

import gzip
import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import DeflatedExplicitVRLittleEndian

from fedloupe_client.ingest.dicom.series import read_headers
from fedloupe_client.ingest.formats.bounds import check_deflated, unzip
from fedloupe_client.ingest.formats.volumes import read_image
from fedloupe_client.ingest.problems import FileUnreadable
from fedloupe_client.preflight.leftover import _read

GIB = 1 << 30
PEAK = """
import resource, sys
from pathlib import Path
from fedloupe_client.ingest.dicom.series import read_headers
from fedloupe_client.ingest.problems import FileUnreadable
from fedloupe_client.ingest.formats.volumes import read_image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
path = Path(sys.argv[1])
try:
    (read_headers if path.suffix == ".dcm" else read_image)(path)
except FileUnreadable:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def zeros(wbits: int, start: bytes, count: int) -> bytes:
    """A deflate stream of `start` and then zeros, made of one flushed piece that is repeated."""
    piece = 1 << 24
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    head = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    once = packer.compress(bytes(piece)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + once * (count // piece) + packer.flush()


def peak_kib(path: Path) -> int:
    """Memory that refusing the file takes, in a process of its own, KiB."""
    done = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.fixture
def nifti(tmp_path) -> bytes:
    path = tmp_path / "sound.nii"
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((4, 5, 6), np.int16)), str(path))
    return path.read_bytes()


def dims(content: bytes, *sizes: int) -> bytes:
    return content[:40] + struct.pack("<8h", 3, *sizes, 1, 1, 1, 1) + content[56:]


class TestGzip:
    def test_gives_what_the_standard_library_gives(self):
        content = bytes(range(256)) * 9
        packed = gzip.compress(content[:700]) + gzip.compress(content[700:]) + bytes(5)
        assert unzip(packed, len(content)) == gzip.decompress(packed) == content

    def test_ends_at_the_bound(self):
        for packed in (gzip.compress(bytes(100)), gzip.compress(bytes(60)) + gzip.compress(bytes(40))):
            assert unzip(packed, 100) == bytes(100)
            with pytest.raises(ValueError, match="more than"):
                unzip(packed, 99)

    def test_that_is_cut_off_is_refused(self):
        with pytest.raises(ValueError, match="cut off"):
            unzip(gzip.compress(bytes(100))[:-9], 100)


class TestImages:
    def test_of_four_gigabytes_behind_a_small_header_take_no_memory(self, tmp_path, nifti):
        path = tmp_path / "bomb.nii.gz"
        path.write_bytes(zeros(31, nifti, 4 * GIB))
        assert path.stat().st_size < 10_000_000
        assert peak_kib(path) < 150_000

    def test_of_four_gigabytes_in_many_members_take_no_memory(self, tmp_path, nifti):
        path = tmp_path / "bomb.nii.gz"
        path.write_bytes(gzip.compress(nifti) + gzip.compress(bytes(1 << 24)) * 256)
        assert peak_kib(path) < 150_000

    def test_whose_header_promises_gigabytes_take_no_memory(self, tmp_path, nifti):
        path = tmp_path / "bomb.nii.gz"
        path.write_bytes(zeros(31, dims(nifti, 2000, 2000, 1000), 8 * GIB))
        assert peak_kib(path) < 150_000

    def test_that_are_no_nifti_at_all_take_no_memory(self, tmp_path):
        path = tmp_path / "bomb.nii.gz"
        path.write_bytes(zeros(31, b"", 4 * GIB))
        assert peak_kib(path) < 150_000

    def test_in_nrrd_take_no_memory(self, tmp_path):
        path = tmp_path / "bomb.nrrd"
        header = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 6 5 4\nencoding: gzip\nendian: little\n\n"
        path.write_bytes(header + zeros(31, b"", 4 * GIB))
        assert peak_kib(path) < 150_000

    def test_in_a_sparse_file_take_no_memory(self, tmp_path, nifti):
        path = tmp_path / "bomb.nii"
        path.write_bytes(nifti)
        with path.open("r+b") as file:
            file.truncate(40 * GIB)
        assert peak_kib(path) < 50_000

    def test_with_a_little_behind_their_voxels_are_read(self, tmp_path, nifti):
        path = tmp_path / "padded.nii.gz"
        path.write_bytes(gzip.compress(nifti + bytes(1000)))
        assert read_image(path).GetSize() == (6, 5, 4)

    def test_without_any_nifti_header_are_refused(self, tmp_path, nifti):
        path = tmp_path / "none.nii"
        path.write_bytes(bytes(4) + nifti[4:])
        with pytest.raises(FileUnreadable):
            read_image(path)

    def test_that_promise_more_than_the_bound_have_no_picture(self, tmp_path, nifti, monkeypatch):
        (tmp_path / "sound.nii").write_bytes(nifti)
        assert _read(tmp_path / "sound.nii") is not None
        monkeypatch.setattr("fedloupe_client.preflight.leftover.MOST_VOXELS", 6 * 5 * 4 - 1)
        assert _read(tmp_path / "sound.nii") is None


class TestDeflatedDicom:
    @pytest.fixture
    def path(self, dicom_site) -> Path:
        dicom_site.series()
        path = dicom_site.root / "images" / "P-0001" / "t2w" / "001.dcm"
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.save_as(path)
        return path

    def test_of_an_ordinary_size_is_read(self, path):
        assert read_headers(path)[0].matrix == (12, 14, 1)

    def test_of_four_gigabytes_takes_no_memory(self, path):
        content = path.read_bytes()
        meta = 144 + struct.unpack_from("<I", content, 140)[0]
        element = b"\x09\x00\x10\x10OB\0\0" + struct.pack("<I", 0xFFFFFFFE)
        path.write_bytes(content[:meta] + zeros(-15, element, 4 * GIB))
        assert peak_kib(path) < 50_000

    def test_is_left_where_it_was(self, path):
        with path.open("rb") as file:
            check_deflated(file)
            assert file.tell() == 0

    @pytest.mark.parametrize("length", [0, 100, 132, 135, 140, 150, 200])
    def test_that_ends_in_its_first_elements_is_left_to_the_library(self, path, length):
        check_deflated(io.BytesIO(path.read_bytes()[:length]))

    def test_is_told_by_its_syntax_wherever_it_stands(self, path, monkeypatch):
        monkeypatch.setattr("fedloupe_client.ingest.formats.bounds.MOST_BYTES", 500)
        content = path.read_bytes()
        length = struct.unpack_from("<I", content, 140)[0]
        private = b"\x02\0\x02\x01OB\0\0" + struct.pack("<I", 90_000) + bytes(90_000)
        for meta in (content[144 : 144 + length], private + content[144 : 144 + length]):
            with pytest.raises(ValueError, match="unpacks"):
                check_deflated(io.BytesIO(content[:144] + meta + content[144 + length :]))

    def test_headers_that_promise_more_than_any_image_are_refused(self, path):
        dataset = pydicom.dcmread(path)
        dataset.Rows = dataset.Columns = 65535
        dataset.save_as(path)
        with pytest.raises(FileUnreadable):
            read_headers(path)
