"""Regions and images that leave features undefined: what is missing, why, and that nothing else is."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe.features import ALL_FAMILIES, FEATURES, FeatureSettings, feature_table
from fedloupe_client.radiomics import Extraction, extract_case

SETTINGS = FeatureSettings(
    log_sigmas_mm=(2.0,),
    wavelet="coif1",
    original_families=("spatial", "local", "ivh"),
    simoncelli_levels=(1, 2),
    laws=("L5E5E5",),
    rim_mm=3.0,
    delta=(("b", "a"),),
)
GREY = ALL_FAMILIES[1:]
SIZE = 18
UNDEFINED = "undefined for this region: "


def _noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(SIZE, SIZE, SIZE)).astype(np.float32)


def _box(*shape: int) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE, SIZE), dtype=bool)
    mask[tuple(slice(6, 6 + n) for n in shape)] = True
    return mask


def _row(mask: np.ndarray, image: np.ndarray | None = None, settings: FeatureSettings = SETTINGS) -> Extraction:
    images = {"a": _noise(0) if image is None else image, "b": _noise(1)}
    return extract_case(images, mask, 2.0, settings, {"a": "zscore", "b": "zscore"})


def _missing(row: Extraction, settings: FeatureSettings = SETTINGS) -> dict[str, set[str]]:
    """Names of missing features, by the key of the reason that declares them; every one must have such a key."""
    found: dict[str, set[str]] = {}
    assert not np.isinf(row.values).any()
    for name, value in zip(feature_table(settings, ["a", "b"]).names, row.values, strict=True):
        keys = [key for key in row.reasons if name.startswith(f"{key}|")]
        if np.isnan(value):
            assert len(keys) == 1, f"{name} is missing without a reason"
            found.setdefault(keys[0], set()).add(name.split("|")[-1])
    assert set(found) == set(row.reasons), "a reason for nothing"
    for key, names in found.items():
        if row.reasons[key].startswith(UNDEFINED):
            assert row.reasons[key] == UNDEFINED + ", ".join(f for f in _names(key.split("|")[-1]) if f in names)
    return found


def _names(family: str) -> list[str]:
    return [feature.name for feature in FEATURES[family]]


class TestRegions:
    def test_one_voxel_keeps_what_one_value_and_one_cell_define(self):
        row = _row(_box(1, 1, 1))
        missing = _missing(row)
        assert missing["shape"] == {
            "major_axis_length",
            "minor_axis_length",
            "least_axis_length",
            "elongation",
            "flatness",
            "volume_density_aee",
            "area_density_aee",
        }
        for part in ("a|original", "a|log_2mm", "b|laws_L5E5E5", "b:a|original"):
            assert missing[f"{part}|firstorder"] == {"skewness", "excess_kurtosis"}
            assert all(row.reasons[f"{part}|{family}"] == "constant intensity" for family in GREY)
        assert missing["a|original|spatial"] == {"moran_i", "geary_c"}
        assert "a|original|local" not in missing
        assert not any("rim" in key for key in missing)

    def test_a_line_lacks_the_densities_of_a_flat_ellipsoid_alone(self):
        assert _missing(_row(_box(1, 1, 6))) == {"shape": {"volume_density_aee", "area_density_aee"}}

    def test_one_slice_lacks_the_volume_density_of_a_flat_ellipsoid_alone(self):
        assert _missing(_row(_box(1, 6, 5))) == {"shape": {"volume_density_aee"}}

    @pytest.mark.parametrize("shape", [(5, 5, 5), (4, 5, 5), (5, 5, 9)], ids=["three axes", "two minor", "two major"])
    def test_equal_axes_lose_nothing(self, shape):
        assert _missing(_row(_box(*shape))) == {}

    def test_voxels_apart_have_no_pairs_but_zones(self):
        mask = np.zeros((SIZE, SIZE, SIZE), dtype=bool)
        mask[5, 5, 5] = mask[5, 5, 12] = mask[12, 5, 5] = True
        missing = _missing(_row(mask))
        assert {key for key in missing if key.startswith("a|original")} == {"a|original|glcm", "a|original|ngtdm"}

    def test_a_mask_that_fills_the_image_has_no_rim(self):
        row = _row(np.ones((SIZE, SIZE, SIZE), dtype=bool))
        assert dict(row.reasons) == {f"{name}|rim_3mm": "no voxel in the rim" for name in "ab"}
        assert set(_missing(row)) == set(row.reasons)

    def test_a_slice_of_one_voxel_takes_no_part_in_an_average_over_slices(self):
        settings = SETTINGS.model_copy(update={"aggregation": "averaged_2d", "laws": (), "rim_mm": None})
        mask = _box(3, 5, 5)
        alone = mask.copy()
        alone[9, 8, 8] = True  # a fourth slice: no pair, no neighbour, one zone
        table = feature_table(settings, ["a", "b"]).names
        with_it, without = (dict(zip(table, _row(m, settings=settings).values, strict=True)) for m in (alone, mask))
        image = _noise(0)
        assert image[mask].min() < image[9, 8, 8] < image[mask].max()  # so that grey levels stay
        assert with_it["a|original|glcm|contrast"] == without["a|original|glcm|contrast"]
        assert with_it["a|original|ngtdm|contrast"] == without["a|original|ngtdm|contrast"]
        zones = (3 * without["a|original|glszm|zone_percentage"] + 1) / 4
        assert with_it["a|original|glszm|zone_percentage"] == pytest.approx(zones)


class TestImages:
    @pytest.mark.parametrize("value", [7.0, 0.1, -3.3e7, 1e-20])
    def test_a_constant_has_no_shape_of_its_distribution_and_no_texture(self, value):
        row = _row(_box(5, 6, 7), np.full((SIZE, SIZE, SIZE), value, dtype=np.float32))
        missing = _missing(row)
        assert missing["a|original|firstorder"] == {"skewness", "excess_kurtosis"}
        assert missing["a|original|spatial"] == {"moran_i", "geary_c"}
        assert {row.reasons[f"a|original|{family}"] for family in (*GREY, "ivh")} == {"constant intensity"}
        assert {row.reasons[f"a|wavelet_HLL|{family}"] for family in GREY} == {"constant intensity"}
        assert not any(key.startswith(("b|", "shape")) for key in missing)

    def test_one_grey_level_costs_the_families_that_count_levels(self):
        image = (100 + np.tanh(_noise(0))).astype(np.float32)
        settings = FeatureSettings(log_sigmas_mm=(), wavelet=None, original_families=("spatial", "local", "ivh"))
        kinds = {"a": "physical"}  # bins of 50: all voxels in one
        row = extract_case({"a": np.clip(image, 100.1, None)}, _box(5, 6, 7), 2.0, settings, kinds)
        assert dict(row.reasons) == {f"a|original|{family}": "one grey level" for family in GREY}

    def test_two_grey_levels_lose_nothing(self):
        assert _missing(_row(_box(5, 6, 7), (_noise(0) > 0).astype(np.float32))) == {}

    def test_a_response_of_zero_mean_has_no_relative_spread(self):
        row = _row(_box(5, 6, 7), np.full((SIZE, SIZE, SIZE), 3, dtype=np.float32))
        gone = {"skewness", "excess_kurtosis", "coefficient_of_variation", "quartile_coefficient_of_dispersion"}
        assert _missing(row)["a|simoncelli_1|firstorder"] == gone

    def test_nan_far_outside_costs_the_filters_that_read_it(self):
        image = _noise(0)
        image[0, 0, 0] = np.nan
        row = _row(_box(5, 6, 7), image)
        assert set(row.reasons.values()) == {"non-finite voxels around the tumour"}
        assert {key.split("|")[0] for key in row.reasons} == {"a"}
        assert not any("original" in key for key in row.reasons)

    def test_nan_beside_the_tumour_costs_local_peaks_rim_and_nothing_else_of_the_original(self):
        image = _noise(0)
        image[5, 6, 6] = np.nan  # touches the box that starts at 6
        row = _row(_box(5, 6, 7), image)
        original = {key for key in row.reasons if key.startswith("a|original")}
        assert original == {"a|original|local"}
        rim = {key.split("|")[-1] for key in row.reasons if key.startswith("a|rim_3mm|original")}
        assert rim == set(ALL_FAMILIES) | {"spatial", "local", "ivh"}
        assert {key for key in row.reasons if key.startswith("b:a")} == {"b:a|original|local"}

    def test_a_missing_sequence_takes_its_rim_and_differences_along(self):
        settings = SETTINGS.model_copy(update={"families": ("firstorder",)})
        images = {"a": None, "b": _noise(1)}
        row = extract_case(images, _box(5, 6, 7), 2.0, settings, {"a": "zscore", "b": "zscore"})
        assert set(row.reasons) == {"a", "b:a"}
        assert set(row.reasons.values()) == {"missing sequence"}
