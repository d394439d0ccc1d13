"""NRRD and NIfTI-2 beside NIfTI-1: read with their geometry, refused when cut off or not finite."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from fedloupe_client.ingest import ingest, load_store
from fedloupe_client.ingest.formats.nifti import decode
from fedloupe_client.ingest.formats.volumes import read_image
from fedloupe_client.ingest.problems import FileUnreadable, ImageInvalid

ARRAY = np.arange(6 * 12 * 14, dtype=np.float32).reshape(6, 12, 14)


def image(array: np.ndarray = ARRAY) -> sitk.Image:
    made = sitk.GetImageFromArray(array)
    made.SetSpacing((0.5, 0.75, 3.0))
    made.SetOrigin((-5.0, 7.0, 11.0))
    made.SetDirection((0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0))
    return made


@pytest.fixture(params=["raw.nrrd", "zipped.nrrd", "two.nii", "two.nii.gz"])
def written(request, tmp_path) -> Path:
    path = tmp_path / request.param
    if path.suffix == ".nrrd":
        sitk.WriteImage(image(), str(path), useCompression=path.stem == "zipped")
    else:
        affine = np.array([[0, -0.75, 0, 5], [-0.5, 0, 0, -7], [0, 0, -3, 11], [0, 0, 0, 1.0]])
        nibabel.save(nibabel.Nifti2Image(ARRAY.T, affine), path)
    return path


class TestWhole:
    def test_values_and_geometry_are_kept(self, written):
        got = read_image(written)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(got), ARRAY)
        for ours, theirs in (
            (got.GetSpacing(), image().GetSpacing()),
            (got.GetOrigin(), image().GetOrigin()),
            (got.GetDirection(), image().GetDirection()),
        ):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)

    @pytest.mark.parametrize("handed", [1, -1])
    def test_nifti_2_without_an_sform_lies_where_its_quaternion_says(self, tmp_path, handed):
        turn, tilt = np.deg2rad(30), np.deg2rad(20)
        about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
        affine = np.eye(4)
        affine[:3, :3] = about_z @ about_x @ np.diag([0.5, 0.75, 3.0 * handed])
        affine[:3, 3] = (5, -7, 11)
        made = nibabel.Nifti2Image(ARRAY.T, None)
        made.set_qform(affine, code=1)
        nibabel.save(made, tmp_path / "q.nii")
        got = read_image(tmp_path / "q.nii")
        for index in ((0, 0, 0), (13, 0, 0), (0, 11, 0), (0, 0, 5), (13, 11, 5)):
            x, y, z, _ = affine @ (*index, 1)
            np.testing.assert_allclose(got.TransformIndexToPhysicalPoint(index), (-x, -y, z), atol=1e-4)

    def test_a_site_may_mix_formats(self, nifti_site, study, tmp_path, by_local):
        for number in range(1, 5):
            for kind in ("t2w", "mask"):
                path = nifti_site.path(f"P-000{number}_{kind}")
                sitk.WriteImage(sitk.ReadImage(str(path)), str(path).replace(".nii.gz", ".nrrd"), True)
        config = nifti_site.config(
            files={"t2w": "data/{case}_t2w.nrrd", "adc": "data/{case}_adc.nii.gz"}, mask="data/{case}_mask.nrrd"
        )
        records = by_local(ingest(config, study, tmp_path / "home"))
        assert {record.status for record in records.values()} == {"ready"}
        kept = load_store(tmp_path / "home").volume(records["P-0001"].case, "t2w")
        original = sitk.ReadImage(str(nifti_site.path("P-0001_t2w")))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(kept), sitk.GetArrayFromImage(original))


class TestDamaged:
    def test_a_file_that_is_cut_off(self, written):
        blob, packed = written.read_bytes(), written.suffix == ".gz"  # cut off before it was packed
        written.write_bytes(gzip.compress(gzip.decompress(blob)[:-200]) if packed else blob[:-200])
        with pytest.raises(FileUnreadable):
            read_image(written)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_values_that_are_not_finite(self, tmp_path, value):
        spoiled = ARRAY.copy()
        spoiled[3, 4, 5] = value
        sitk.WriteImage(image(spoiled), str(tmp_path / "a.nrrd"))
        nibabel.save(nibabel.Nifti2Image(spoiled.T, np.eye(4)), tmp_path / "a.nii")
        for name in ("a.nrrd", "a.nii"):
            with pytest.raises(ImageInvalid, match="not finite"):
                read_image(tmp_path / name)

    def test_a_header_that_names_another_file_is_not_followed(self, tmp_path):
        sitk.WriteImage(image(), str(tmp_path / "a.nhdr"))
        with pytest.raises(ImageInvalid, match="names another file"):
            read_image(tmp_path / "a.nhdr")

    @pytest.mark.parametrize(
        "text", [b"", b"NRRD0004\n", b"NRRD0004\ntype: odd\nsizes: 1 2 3\nencoding: raw\n\n123456"]
    )
    def test_what_is_no_nrrd(self, tmp_path, text):
        (tmp_path / "a.nrrd").write_bytes(text)
        with pytest.raises(FileUnreadable):
            read_image(tmp_path / "a.nrrd")


class TestFromBytes:
    """What is taken from the bytes is what SimpleITK makes of the file; the rest is left to it."""

    @staticmethod
    def unpacked(path: Path) -> bytes:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()

    def compare(self, path: Path) -> None:
        got, expected = decode(self.unpacked(path), path), sitk.ReadImage(str(path))
        assert got is not None
        assert got.GetPixelID() == expected.GetPixelID()
        assert (got.GetOrigin(), got.GetSpacing()) == (expected.GetOrigin(), expected.GetSpacing())
        assert got.GetDirection() == expected.GetDirection()
        np.testing.assert_array_equal(sitk.GetArrayFromImage(got), sitk.GetArrayFromImage(expected))

    @pytest.mark.parametrize("name", ["one.nii", "one.nii.gz"])
    @pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"])
    def test_every_kind_of_number(self, tmp_path, name, kind):
        sitk.WriteImage(image((ARRAY - 500 * (kind[0] != "u")).astype(kind)), str(tmp_path / name), True)
        self.compare(tmp_path / name)

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("forms", [(1, 1), (0, 1), (1, 0), (0, 0), (1, 2)])
    def test_every_orientation_and_byte_order(self, tmp_path, order, forms):
        turn = np.deg2rad(30)
        affine = np.diag([0.5, 0.75, 3.0, 1.0])
        affine[:2, :2] = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ affine[:2, :2]
        affine[:3, 3] = (5, -7, 11)
        made = nibabel.Nifti1Image(ARRAY.T.astype("i2"), None, nibabel.Nifti1Header(endianness=order))
        made.set_qform(affine, code=forms[0])
        made.set_sform(affine, code=forms[1])
        nibabel.save(made, tmp_path / "one.nii.gz")
        self.compare(tmp_path / "one.nii.gz")

    def test_rescaled_and_four_dimensional_files_are_left(self, tmp_path):
        scaled = nibabel.Nifti1Image(ARRAY.T.astype("i2"), np.eye(4))
        scaled.header.set_slope_inter(0.5, 3)
        nibabel.save(scaled, tmp_path / "scaled.nii")
        nibabel.save(nibabel.Nifti1Image(np.stack([ARRAY.T] * 2, -1), np.eye(4)), tmp_path / "four.nii")
        nibabel.save(nibabel.Nifti1Pair(ARRAY.T, np.eye(4)), tmp_path / "pair.hdr")
        for name in ("scaled.nii", "four.nii", "pair.hdr"):
            assert decode(self.unpacked(tmp_path / name), tmp_path / name) is None
        values = sitk.GetArrayFromImage(read_image(tmp_path / "scaled.nii"))
        np.testing.assert_allclose(values, ARRAY.astype("i2") * 0.5 + 3)

    @pytest.mark.parametrize("name", ["one.nii", "one.nii.gz"])
    @pytest.mark.parametrize("kind", ["i2", "f4"])
    def test_a_slope_of_zero_means_not_rescaled_whatever_the_intercept(self, tmp_path, name, kind):
        """nifti1.h: `if the scl_slope field is nonzero, then each voxel value should be scaled`."""
        path = tmp_path / name
        sitk.WriteImage(image(ARRAY.astype(kind)), str(path))
        content = bytearray(self.unpacked(path))
        struct.pack_into("<2f", content, 112, 0.0, 5.0)
        path.write_bytes(gzip.compress(bytes(content)) if path.suffix == ".gz" else bytes(content))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(path)), ARRAY)
        np.testing.assert_array_equal(nibabel.load(path).get_fdata().T, ARRAY)
        # ITK adds the intercept: should that end one day, the docstring of `decode` is to be changed
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), ARRAY + 5)

    def test_so_it_does_in_nifti_2(self, tmp_path):
        path = tmp_path / "two.nii"
        nibabel.save(nibabel.Nifti2Image(ARRAY.T, np.eye(4)), path)
        content = bytearray(path.read_bytes())
        struct.pack_into("<2d", content, 176, 0.0, 5.0)
        path.write_bytes(bytes(content))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(path)), ARRAY)

    @pytest.mark.data
    def test_real_files(self, real_data):
        files = sorted((real_data / "images").rglob("*.nii.gz"))[:60]
        assert len(files) >= 30
        taken = 0
        for path in files:
            if decode(self.unpacked(path), path) is not None:
                taken += 1
                self.compare(path)
        assert taken >= len(files) // 2
