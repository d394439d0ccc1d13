"""The common grid and the crop, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from fedloupe.study import Radiomics
from fedloupe_client.imaging import GridCase, crop, to_grid
from fedloupe_client.imaging.problems import ImageFlat, RegistrationRefused, TumourOutside
from fedloupe_client.imaging.resampling import common_region, mask_onto, onto

SHAPE = (20, 40, 40)  # 80 mm cube at 2 x 2 x 4 mm
T2W = {"name": "t2w", "intensity": "physical"}
TURN = (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1)


def box(low=(8, 16, 16), high=(12, 24, 24)) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 1
    return mask


def ramp(image: sitk.Image) -> np.ndarray:
    """A value linear in patient space, 1 x + 2 y + 3 z + 500, at each voxel (z, y, x)."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in image.GetSize()], indexing="ij"), axis=-1)
    axes = np.array(image.GetDirection()).reshape(3, 3)
    points = (index * np.array(image.GetSpacing())) @ axes.T + np.array(image.GetOrigin())
    return (points @ np.array([1.0, 2.0, 3.0]) + 500).transpose(2, 1, 0).astype(np.float32)


class TestCommonRegion:
    def test_the_whole_grid_is_centred_on_the_reference(self, make_image):
        reference = make_image(np.zeros(SHAPE, np.float32), origin=(3.0, -4.0, 5.0), direction=TURN)
        region = common_region(reference, make_image(box()), spacing_mm=3.0, margin_mm=500, cube_mm=8)
        assert region.GetSize() == (27, 27, 27)  # ceil(80 / 3)
        assert region.GetSpacing() == (3.0, 3.0, 3.0)
        np.testing.assert_allclose(region.GetDirection(), TURN, atol=1e-12)
        np.testing.assert_allclose(
            region.TransformContinuousIndexToPhysicalPoint((13.0, 13.0, 13.0)),
            reference.TransformContinuousIndexToPhysicalPoint((19.5, 19.5, 9.5)),
        )

    def test_the_part_holds_the_mask_the_margin_and_the_cube(self, make_image):
        reference = make_image(np.zeros(SHAPE, np.float32))
        region = common_region(reference, make_image(box()), spacing_mm=2.0, margin_mm=10, cube_mm=8)
        # the box is 16 mm wide in the middle: 36 mm with its margin, and at most a voxel more on each side
        assert all(18 <= n <= 20 for n in region.GetSize())
        wider = common_region(reference, make_image(box()), spacing_mm=2.0, margin_mm=10, cube_mm=60)
        assert all(30 <= n <= 34 for n in wider.GetSize())

    def test_a_linear_image_stays_linear_on_a_turned_grid(self, make_image):
        image = make_image(np.zeros(SHAPE, np.float32), origin=(3.0, -4.0, 5.0), direction=TURN)
        filled = make_image(ramp(image), origin=(3.0, -4.0, 5.0), direction=TURN)
        region = common_region(image, make_image(box()), spacing_mm=1.5, margin_mm=10, cube_mm=8)
        np.testing.assert_allclose(onto(region, filled), ramp(region), atol=1e-2)

    def test_a_finer_image_is_averaged_before_it_is_sampled(self, make_image):
        stripes = np.zeros((20, 80, 80), np.float32)
        stripes[:, :, ::4] = 100  # a quarter of each 4 mm; sampling alone would meet only the rest
        image = make_image(stripes, spacing=(1.0, 1.0, 4.0))
        mask = make_image((np.indices(stripes.shape)[0] == 10).astype(np.uint8), spacing=(1.0, 1.0, 4.0))
        region = common_region(image, mask, spacing_mm=4.0, margin_mm=0, cube_mm=8)
        np.testing.assert_allclose(onto(region, image), 25, atol=1e-3)


class TestMask:
    def test_its_volume_is_kept(self, make_image):
        mask = make_image(box())
        region = common_region(mask, mask, spacing_mm=1.0, margin_mm=10, cube_mm=8)
        # linear interpolation at one half rounds the edges of a box
        assert mask_onto(region, mask).sum() == pytest.approx(16**3, rel=0.04)

    def test_a_tumour_of_one_small_voxel_survives_a_coarse_grid(self, make_image):
        tiny = make_image(box((9, 17, 17), (10, 18, 18)), spacing=(0.5, 0.5, 1.0))
        region = common_region(tiny, tiny, spacing_mm=5.0, margin_mm=10, cube_mm=8)
        inside = mask_onto(region, tiny)
        assert inside.sum() == 1
        z, y, x = np.argwhere(inside)[0].tolist()
        here = np.array(region.TransformIndexToPhysicalPoint((x, y, z)))
        there = np.array(tiny.TransformIndexToPhysicalPoint((17, 17, 9)))
        assert np.abs(here - there).max() <= 2.5


class TestToGrid:
    def test_sequences_of_other_grids_meet_in_patient_space(self, make_image, make_store, make_study):
        t2w = make_image(ramp(make_image(np.zeros(SHAPE, np.float32))))
        coarse = make_image(np.zeros((22, 30, 30), np.float32), (3.0, 3.0, 4.0), (-5.0, -5.0, -4.0))
        store, record = make_store(make_image(box()), t2w=t2w, adc=make_image(ramp(coarse), (3, 3, 4), (-5, -5, -4)))
        study = make_study([T2W, {"name": "adc", "intensity": "physical"}], spacing_mm=2.0, crop_mm=16)
        grid = to_grid(store, record, study)
        assert grid.spacing_mm == 2.0
        np.testing.assert_allclose(grid.images["t2w"][grid.mask], grid.images["adc"][grid.mask], atol=0.6)

    @pytest.mark.parametrize(("settings", "least"), [({}, 33), ({"rim_mm": 10.0}, 38)])
    def test_the_part_holds_all_that_the_features_read(self, make_image, make_store, make_study, settings, least):
        """A box of 16 mm: 25 mm on each side, or with a rim its 10 mm, 20 mm of the widest kernel, and two voxels."""
        store, record = make_store(make_image(box()), t2w=make_image(ramp(make_image(np.zeros(SHAPE, np.float32)))))
        study = make_study([T2W], spacing_mm=2.0, bias_correction="none", crop_mm=8)
        study = study.model_copy(update={"radiomics": Radiomics(source="computed", settings=settings)})
        shape = to_grid(store, record, study).mask.shape
        assert all(least <= n <= least + 2 for n in shape)

    def test_the_same_case_gives_the_same_bytes(self, make_image, make_store, make_study):
        noise = np.random.default_rng(1).gamma(4, 100, SHAPE).astype(np.float32)
        store, record = make_store(make_image(box()), t2w=make_image(noise))
        study = make_study([{"name": "t2w"}], spacing_mm=2.0, crop_mm=16)
        one, two = (to_grid(store, record, study).images["t2w"].tobytes() for _ in range(2))
        assert one == two

    @pytest.mark.parametrize("axes", ["RAS", "SPL", "AIR"])
    def test_how_a_file_orders_its_axes_does_not_matter(self, make_image, make_store, make_study, axes):
        noise = np.random.default_rng(1).gamma(4, 100, SHAPE).astype(np.float32)
        study = make_study([{"name": "t2w"}], spacing_mm=2.0, crop_mm=16)
        t2w, mask = make_image(noise, direction=TURN), make_image(box(), direction=TURN)
        one = to_grid(*make_store(mask, t2w=t2w), study)
        two = to_grid(*make_store(sitk.DICOMOrient(mask, axes), t2w=sitk.DICOMOrient(t2w, axes)), study)
        assert (one.mask == two.mask).all()
        np.testing.assert_allclose(one.images["t2w"], two.images["t2w"], atol=1e-5)

    def test_units_and_gain_of_a_scanner_do_not_matter(self, make_image, make_store, make_study):
        noise = np.random.default_rng(1).gamma(4, 100, SHAPE).astype(np.float32)
        study = make_study([{"name": "t2w"}], spacing_mm=2.0, crop_mm=16)
        one = to_grid(*make_store(make_image(box()), t2w=make_image(noise)), study).images["t2w"]
        two = to_grid(*make_store(make_image(box()), t2w=make_image(noise * 3.7)), study).images["t2w"]
        np.testing.assert_allclose(one, two, atol=2e-3)

    def test_hounsfield_units_are_clipped_and_kept(self, make_image, make_store, make_study):
        z, y, x = np.indices(SHAPE)
        skin = ((x - 20) / 16) ** 2 + ((y - 19 - z / 5) / 13) ** 2 < 1
        bones = [
            (z - c) ** 2 * 4 + (y - b) ** 2 + (x - a) ** 2 < 20 for a, b, c in ((14, 22, 9), (26, 17, 12), (19, 14, 6))
        ]
        bone = np.logical_or.reduce(bones)
        head = np.where(bone, 50.0, np.where(skin, 600.0, 0.0)) + np.random.default_rng(0).gamma(4, 5, SHAPE)
        ct = np.where(bone, 1200.0, np.where(skin, 40.0, -1000.0)).astype(np.float32)
        store, record = make_store(make_image(box()), t2w=make_image(head.astype(np.float32)), ct=make_image(ct))
        ct = {"name": "ct", "modality": "CT", "intensity": "hounsfield"}
        values = to_grid(store, record, make_study([T2W, ct], spacing_mm=2.0, crop_mm=16)).images["ct"]
        assert values.min() == -200 and values.max() == 300
        assert np.median(values) == pytest.approx(40, abs=5)

    def test_a_sequence_that_misses_the_tumour_is_refused_or_missing(self, make_image, make_store, make_study):
        t2w = make_image(np.random.default_rng(0).gamma(4, 100, SHAPE).astype(np.float32))
        far = make_image(np.ones(SHAPE, np.float32), origin=(70.0, 0.0, 0.0))
        store, record = make_store(make_image(box()), t2w=t2w, adc=far)
        adc = {"name": "adc", "intensity": "physical"}
        with pytest.raises(TumourOutside, match="0% of the tumour"):
            to_grid(store, record, make_study([T2W, adc], spacing_mm=2.0, crop_mm=16))
        grid = to_grid(store, record, make_study([T2W, {**adc, "required": False}], spacing_mm=2.0, crop_mm=16))
        assert grid.images["adc"] is None
        assert "tumour" in grid.notes["adc"]

    def test_an_image_without_contrast_is_refused(self, make_image, make_store, make_study):
        store, record = make_store(make_image(box()), t2w=make_image(np.full(SHAPE, 7, np.float32)))
        with pytest.raises(ImageFlat):
            to_grid(store, record, make_study([{"name": "t2w"}], spacing_mm=2.0, crop_mm=16))

    def test_a_ct_of_nothing_alike_does_not_pass_the_gate(self, make_image, make_store, make_study):
        one, two = (np.random.default_rng(seed).gamma(4, 100, SHAPE).astype(np.float32) for seed in (1, 2))
        store, record = make_store(make_image(box()), t2w=make_image(one), ct=make_image(two - 500))
        ct = {"name": "ct", "modality": "CT", "intensity": "hounsfield"}
        with pytest.raises(RegistrationRefused, match="does not register"):
            to_grid(store, record, make_study([T2W, ct], spacing_mm=2.0, crop_mm=16))


def case(mask: np.ndarray, **images: np.ndarray | None) -> GridCase:
    kinds = {"t2w": "zscore", "adc": "physical", "ct": "hounsfield"}
    return GridCase(images, mask, 2.0, {name: kinds[name] for name in images}, {})


class TestCrop:
    def test_the_cube_is_centred_on_the_tumour(self):
        mask = np.zeros((20, 20, 20), bool)
        mask[5, 6, 7] = True
        image = np.zeros((20, 20, 20), np.float32)
        image[5, 6, 7] = 1
        cube = crop(case(mask, t2w=image), edge_mm=10)
        assert cube.images.shape == (1, 5, 5, 5)
        assert np.argwhere(cube.images[0]).tolist() == [[2, 2, 2]]

    def test_beyond_the_field_of_view_there_are_zeros(self):
        mask = np.zeros((4, 4, 4), bool)
        mask[0, 0, 0] = True
        cube = crop(case(mask, t2w=np.ones((4, 4, 4), np.float32)), edge_mm=10)
        assert cube.images.sum() == 3**3
        assert cube.images[0, 2:, 2:, 2:].min() == 1

    def test_each_kind_has_its_scale_and_a_missing_one_is_zero(self):
        mask = np.ones((3, 3, 3), bool)
        full = {"t2w": np.full((3, 3, 3), 9.0, np.float32), "adc": np.full((3, 3, 3), 1500.0, np.float32), "ct": None}
        cube = crop(case(mask, **full), edge_mm=6)
        assert [float(channel[1, 1, 1]) for channel in cube.images] == [4.0, 1.0, 0.0]
        assert cube.present.tolist() == [True, True, False]
        ct = crop(case(mask, ct=np.full((3, 3, 3), -200.0, np.float32)), edge_mm=6)
        assert float(ct.images[0, 1, 1, 1]) == -2.0
