"""The engine's one door: alignment with the table, absence with reasons, errors with codes, the same bits twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from fedloupe.features import FeatureSettings, feature_table
from fedloupe_client.radiomics import (
    EmptyRegion,
    Extraction,
    GridMismatch,
    IntensityUnknown,
    NonFiniteIntensity,
    extract_case,
)

SETTINGS = FeatureSettings(log_sigmas_mm=(2.0,))
ORIGINAL = FeatureSettings(log_sigmas_mm=(), wavelet=None)
KINDS = {"t2w": "zscore", "adc": "physical", "ct": "hounsfield"}


def _image(seed: int = 0, size: int = 18) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(size, size, size)).astype(np.float32)


def _ball(size: int = 18, radius: float = 5.2) -> np.ndarray:
    z, y, x = np.mgrid[:size, :size, :size] - (size - 1) / 2
    return z**2 + (y / 1.2) ** 2 + (x / 0.8) ** 2 < radius**2


def _box(*shape: int, size: int = 18) -> np.ndarray:
    mask = np.zeros((size, size, size), dtype=bool)
    mask[tuple(slice(6, 6 + n) for n in shape)] = True
    return mask


def _by_name(row: Extraction, settings: FeatureSettings, *sequences: str) -> dict[str, float]:
    return dict(zip(feature_table(settings, sequences).names, row.values.tolist(), strict=True))


def _family(row: Extraction, settings: FeatureSettings, part: str) -> np.ndarray:
    return np.array([value for name, value in _by_name(row, settings, "t2w").items() if part in name])


class TestTable:
    def test_values_align_with_the_table(self):
        image, mask = _image(), _ball()
        row = extract_case({"t2w": image, "adc": 900 + 100 * _image(1)}, mask, 2.0, SETTINGS, KINDS)
        values = _by_name(row, SETTINGS, "t2w", "adc")
        assert row.values.dtype == np.float64
        assert row.reasons == {}
        assert np.isfinite(row.values).all()
        assert values["shape|volume_voxel"] == mask.sum() * 8
        assert values["t2w|original|firstorder|maximum"] == image[mask].max()
        assert values["t2w|original|histogram|maximum"] == 32
        assert values["adc|original|firstorder|mean"] == pytest.approx((900 + 100 * _image(1))[mask].mean(), rel=1e-6)
        # ADC has bins of 50 from 0: the level of the smallest value is a fact about that value alone
        smallest = values["adc|original|firstorder|minimum"]
        assert values["adc|original|histogram|minimum"] == np.floor(smallest / 50) + 1

    def test_the_default_settings_give_a_thousand_features_a_sequence(self):
        settings = FeatureSettings()
        row = extract_case({"t2w": _image()}, _ball(), 2.0, settings, KINDS)
        assert len(row.values) == len(feature_table(settings, ["t2w"])) == 21 + 12 * 136
        assert np.isfinite(row.values).all()

    def test_the_complete_settings_give_two_thousand_seven_hundred_features_a_sequence(self):
        text = (Path(__file__).parents[3] / "configs" / "radiomics.yaml").read_text(encoding="utf-8")
        settings = FeatureSettings.model_validate(yaml.safe_load(text))
        row = extract_case({"t2w": _image()}, _ball(), 1.0, settings, KINDS)
        assert len(row.values) == 21 + 2732
        assert row.reasons == {}
        assert np.isfinite(row.values).all()

    def test_fewer_families_give_the_same_values_in_fewer_columns(self):
        few = FeatureSettings(log_sigmas_mm=(2.0,), families=("glcm", "ngtdm"), shape=False)
        every = _by_name(extract_case({"t2w": _image()}, _ball(), 2.0, SETTINGS, KINDS), SETTINGS, "t2w")
        some = _by_name(extract_case({"t2w": _image()}, _ball(), 2.0, few, KINDS), few, "t2w")
        assert some == {name: every[name] for name in some}

    def test_twice_the_same_bits(self):
        first, second = (
            extract_case({"t2w": _image(), "ct": 40 * _image(1)}, _ball(), 2.0, SETTINGS, KINDS) for _ in range(2)
        )
        assert first.values.tobytes() == second.values.tobytes()

    def test_the_last_bits_of_float64_do_not_reach_the_features(self):
        image = _image().astype(np.float64)
        dust = 1e-11 * np.random.default_rng(5).normal(size=image.shape)
        one, other = (extract_case({"t2w": i}, _ball(), 2.0, SETTINGS, KINDS) for i in (image, image + dust))
        assert one.values.tobytes() == other.values.tobytes()
        extremes = [v for n, v in _by_name(one, SETTINGS, "t2w").items() if n.endswith("|firstorder|maximum")]
        assert extremes == [float(np.float32(value)) for value in extremes]

    def test_memory_layout_and_float64_do_not_matter(self):
        image, mask = _image(), _ball()
        plain = extract_case({"t2w": image}, mask, 2.0, SETTINGS, KINDS)
        other = extract_case(
            {"t2w": np.asfortranarray(image.astype(np.float64))}, np.asfortranarray(mask), 2.0, SETTINGS, KINDS
        )
        assert plain.values.tobytes() == other.values.tobytes()


class TestInvariance:
    @pytest.mark.parametrize(
        "turn",
        [
            lambda a: np.rot90(a, axes=(1, 2)),
            lambda a: np.rot90(a, axes=(0, 1)),
            lambda a: a.transpose(2, 0, 1),
            lambda a: a[::-1],
            lambda a: a[:, ::-1, ::-1],
        ],
        ids=["z-quarter", "x-quarter", "axes-cycled", "mirrored", "half-turn"],
    )
    def test_right_angle_turns_and_mirrors_leave_all_features_of_the_original(self, turn):
        image, mask = _image(size=18), _ball()
        mask[4:8, 5:9, 9:15] = True  # lopsided
        straight = extract_case({"t2w": image}, mask, 2.0, ORIGINAL, KINDS)
        turned = extract_case({"t2w": turn(image)}, turn(mask), 2.0, ORIGINAL, KINDS)
        texture = [i for i, n in enumerate(feature_table(ORIGINAL, ["t2w"]).names) if "|gl" in n or "ngldm" in n]
        assert np.allclose(turned.values, straight.values, rtol=1e-5, atol=1e-7)
        # whole counts, so exactly
        assert len(texture) == 25 + 3 * 16 + 17
        assert np.array_equal(turned.values[texture], straight.values[texture])

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_a_mirrored_patient_has_the_same_features_of_every_image(self, axis):
        image, mask = _image(), _ball()
        mask[4:8, 5:9, 9:15] = True
        image[:, 9:, :] *= 3  # one half differs from the other
        straight = extract_case({"t2w": image}, mask, 2.0, SETTINGS, KINDS)
        mirrored = extract_case({"t2w": np.flip(image, axis)}, np.flip(mask, axis), 2.0, SETTINGS, KINDS)
        assert np.allclose(mirrored.values, straight.values, rtol=1e-4, atol=1e-6)

    def test_unmirrored_wavelets_do_tell_a_mirror_image(self):
        settings = FeatureSettings(log_sigmas_mm=(), wavelet_mirrored=False, families=("firstorder",), shape=False)
        image, mask = _image(), _ball()
        image[:, 9:, :] *= 3
        straight = extract_case({"t2w": image}, mask, 2.0, settings, KINDS)
        mirrored = extract_case({"t2w": image[:, ::-1]}, mask[:, ::-1], 2.0, settings, KINDS)
        assert not np.allclose(mirrored.values, straight.values, rtol=1e-2)

    def test_intensity_units_do_not_change_texture_of_a_fixed_bin_number(self):
        image, mask = _image(), _ball()
        one = extract_case({"t2w": image}, mask, 2.0, ORIGINAL, KINDS)
        scaled = extract_case({"t2w": 4 * image}, mask, 2.0, ORIGINAL, KINDS)
        assert np.array_equal(_family(one, ORIGINAL, "|gl"), _family(scaled, ORIGINAL, "|gl"))


class TestDegenerateRegions:
    def test_a_missing_sequence_is_nan_and_leaves_the_others(self):
        row = extract_case({"t2w": None, "adc": 900 + 100 * _image()}, _ball(), 2.0, SETTINGS, KINDS)
        table = feature_table(SETTINGS, ["t2w", "adc"])
        missing = np.array([group == "t2w" for group in table.groups])
        assert row.reasons == {"t2w": "missing sequence"}
        assert np.array_equal(np.isnan(row.values), missing)

    def test_a_constant_image_has_first_order_statistics_and_no_texture(self):
        row = extract_case({"t2w": np.full((18, 18, 18), 7.0, dtype=np.float32)}, _ball(), 2.0, SETTINGS, KINDS)
        values = _by_name(row, SETTINGS, "t2w")
        assert values["t2w|original|firstorder|mean"] == 7
        assert values["t2w|original|firstorder|variance"] == 0
        assert "skewness" in row.reasons["t2w|original|firstorder"]
        assert np.isnan(_family(row, SETTINGS, "|glcm|")).all()
        # rounding noise of a filtered constant is not mistaken for texture
        assert row.reasons["t2w|wavelet_HHH|glcm"] == row.reasons["t2w|log_2mm|ngtdm"] == "constant intensity"
        assert np.isfinite(_family(row, SETTINGS, "shape|")).all()

    def test_a_ramp_has_no_texture_in_bands_that_cannot_see_it(self):
        ramp = np.broadcast_to(np.arange(18, dtype=np.float32) / 7, (18, 18, 18))
        row = extract_case({"t2w": ramp}, _ball(), 2.0, SETTINGS, KINDS)
        assert row.reasons["t2w|wavelet_LHH|glcm"] == "constant intensity"
        assert "t2w|wavelet_LLL|glcm" not in row.reasons

    def test_one_grey_level_is_not_a_texture(self):
        image = (910 + 5 * np.tanh(_image())).astype(np.float32)  # all within one ADC bin of 50
        row = extract_case({"adc": image}, _ball(), 2.0, ORIGINAL, KINDS)
        assert row.reasons["adc|original|glszm"] == "one grey level"
        assert "adc|original|firstorder" not in row.reasons

    def test_one_slice_keeps_its_textures(self):
        row = extract_case({"t2w": _image()}, _box(1, 6, 7), 2.0, ORIGINAL, KINDS)
        assert set(row.reasons) == {"shape"}
        assert np.isfinite(_family(row, ORIGINAL, "t2w|")).all()

    def test_one_voxel_loses_what_it_must_and_says_why(self):
        row = extract_case({"t2w": _image()}, _box(1, 1, 1), 2.0, SETTINGS, KINDS)
        assert row.reasons["t2w|original|glcm"] == "constant intensity"
        assert np.isfinite(_by_name(row, SETTINGS, "t2w")["t2w|original|firstorder|mean"])

    def test_voxels_that_do_not_touch_have_zones_but_no_pairs(self):
        mask = np.zeros((18, 18, 18), dtype=bool)
        mask[4:14:3, 4:14:3, 4:14:3] = True
        row = extract_case({"t2w": _image()}, mask, 2.0, ORIGINAL, KINDS)
        assert row.reasons["t2w|original|glcm"] == row.reasons["t2w|original|ngtdm"] == "no two voxels touch"
        assert np.isfinite(_family(row, ORIGINAL, "|glszm|")).all()
        assert np.isfinite(_family(row, ORIGINAL, "|ngldm|")).all()

    def test_nan_outside_the_mask_costs_the_filters_that_read_it_only(self):
        image, mask = _image(), _ball()
        edge = int(np.flatnonzero(mask[9, 9])[0])
        image[9, 9, edge - 4] = np.nan  # as far as the Laplacian of one voxel reaches; wavelets reach two
        row = extract_case({"t2w": image}, mask, 2.0, SETTINGS, KINDS)
        assert np.isfinite(_family(row, SETTINGS, "|original|")).all()
        assert np.isfinite(_family(row, SETTINGS, "|wavelet_HHH|")).all()
        assert row.reasons["t2w|log_2mm|firstorder"] == "non-finite voxels around the tumour"
        image[9, 9, edge - 4], image[9, 9, edge - 5] = 0, np.nan
        assert extract_case({"t2w": image}, mask, 2.0, SETTINGS, KINDS).reasons == {}

    @pytest.mark.parametrize("shape", [(1, 1, 2), (1, 2, 2), (2, 2, 2), (1, 1, 9), (3, 3, 3)])
    def test_tiny_regions_never_give_infinity_and_every_nan_has_a_reason(self, shape):
        row = extract_case({"t2w": _image()}, _box(*shape), 2.0, SETTINGS, KINDS)
        assert not np.isinf(row.values).any()
        for name, value in _by_name(row, SETTINGS, "t2w").items():
            if np.isnan(value):
                key = name.rsplit("|", 1)[0]
                assert name.split("|")[-1] in row.reasons[key] or "undefined" not in row.reasons[key]


class TestThickSlices:
    """2D and 2.5D aggregations: slices as they are, squares in the plane."""

    SETTINGS = FeatureSettings(
        log_sigmas_mm=(2.0,),
        aggregation="merged_25d",
        original_families=("spatial", "local", "ivh"),
        simoncelli_levels=(1,),
        laws=("L5E5",),
    )

    def test_all_features_are_there_and_the_volume_is_that_of_thick_voxels(self):
        mask = _ball()
        row = extract_case({"t2w": _image()}, mask, (4.0, 1.5, 1.5), self.SETTINGS, KINDS)
        values = _by_name(row, self.SETTINGS, "t2w")
        assert row.reasons == {}
        assert values["shape|volume_voxel"] == mask.sum() * 9

    def test_slices_may_be_put_in_any_order_for_all_that_stays_within_them(self):
        settings = self.SETTINGS.model_copy(update={"original_families": (), "shape": False})
        order = np.random.default_rng(3).permutation(18)
        straight = extract_case({"t2w": _image()}, _ball(), (4.0, 1.5, 1.5), settings, KINDS)
        mixed = extract_case({"t2w": _image()[order]}, _ball()[order], (4.0, 1.5, 1.5), settings, KINDS)
        assert np.allclose(mixed.values, straight.values, rtol=1e-6, atol=1e-7)
        cubes = ORIGINAL.model_copy(update={"shape": False})
        pairs = ((_image(), _ball()), (_image()[order], _ball()[order]))
        others = [extract_case({"t2w": image}, mask, 2.0, cubes, KINDS).values for image, mask in pairs]
        assert not np.allclose(*others, rtol=1e-2)

    @pytest.mark.parametrize(
        ("aggregation", "spacing"), [("merged_3d", (4.0, 1.5, 1.5)), ("merged_25d", (1.5, 1.5, 2.0))]
    )
    def test_voxels_that_do_not_suit_the_aggregation_are_an_error(self, aggregation, spacing):
        settings = FeatureSettings(aggregation=aggregation)
        with pytest.raises(GridMismatch, match=rf"FL-402.*{aggregation}"):
            extract_case({"t2w": _image()}, _ball(), spacing, settings, KINDS)


class TestErrors:
    def test_nan_inside_the_mask_is_an_error_that_names_the_sequence(self):
        image = _image()
        image[9, 9, 9] = np.inf
        with pytest.raises(NonFiniteIntensity, match=r"FL-403.*t2w"):
            extract_case({"t2w": image}, _ball(), 2.0, SETTINGS, KINDS)

    def test_an_empty_mask_is_an_error(self):
        with pytest.raises(EmptyRegion, match="FL-401"):
            extract_case({"t2w": _image()}, np.zeros((18, 18, 18), dtype=bool), 2.0, SETTINGS, KINDS)

    def test_an_image_on_another_grid_is_an_error(self):
        with pytest.raises(GridMismatch, match="FL-402"):
            extract_case({"t2w": _image(size=17)}, _ball(), 2.0, SETTINGS, KINDS)

    @pytest.mark.parametrize("spacing", [0.0, -1.0, float("nan")])
    def test_a_spacing_that_is_not_positive_is_an_error(self, spacing):
        with pytest.raises(GridMismatch):
            extract_case({"t2w": _image()}, _ball(), spacing, SETTINGS, KINDS)

    def test_a_sequence_of_unknown_kind_is_an_error(self):
        with pytest.raises(IntensityUnknown, match="FL-404"):
            extract_case({"dwi": _image()}, _ball(), 2.0, SETTINGS, KINDS)
