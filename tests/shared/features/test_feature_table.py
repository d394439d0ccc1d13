"""Names, order and digest of the radiomic features."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from fedloupe.features import (
    FEATURES,
    BinNumber,
    FeatureSettings,
    FeatureSettingsInvalid,
    feature_table,
    identify,
    parse_settings,
)

CONFIGS = Path(__file__).parents[3] / "configs"


class TestMargin:
    @pytest.mark.parametrize(
        ("changes", "margin"),
        [
            ({}, 20),  # 4 sigmas of 5 mm
            ({"log_sigmas_mm": (2.0, 10.0)}, 40),
            ({"rim_mm": 8}, 28),
            ({"log_sigmas_mm": (), "laws": ("L5E5E5",), "laws_energy_mm": 9}, 9),
            ({"log_sigmas_mm": ()}, 0),
        ],
    )
    def test_is_what_the_rim_and_the_widest_kernel_read(self, changes, margin):
        assert FeatureSettings(**changes).margin_mm == margin


class TestTable:
    def test_shape_comes_first_then_each_sequence_in_the_order_given(self):
        table = feature_table(FeatureSettings(), ["t2w", "adc"])
        changes = [group for i, group in enumerate(table.groups) if i == 0 or table.groups[i - 1] != group]
        assert changes == ["shape", "t2w", "adc"]
        assert table.names[0] == "shape|volume_mesh"
        assert "t2w|log_3mm|glcm|joint_entropy" in table.names

    def test_names_are_unique_and_as_many_as_groups(self):
        table = feature_table(FeatureSettings(), ["t2w", "adc", "dce_pre"])
        assert len(set(table.names)) == len(table.names) == len(table.groups) == len(table) == 21 + 3 * 1632

    def test_family_sizes_are_those_of_ibsi(self):
        sizes = {family: len(features) for family, features in FEATURES.items()}
        assert sizes == {
            "shape": 21,
            "firstorder": 18,
            "histogram": 23,
            "glcm": 25,
            "glrlm": 16,
            "glszm": 16,
            "gldzm": 16,
            "ngtdm": 5,
            "ngldm": 17,
            "spatial": 4,
            "local": 2,
            "ivh": 6,
        }

    def test_each_feature_has_its_own_ibsi_identity(self):
        features = [feature for family in FEATURES.values() for feature in family]
        assert len({feature.ibsi_tag for feature in features}) == len(features)
        # Two volume fractions and two intensities share IBSI's identifier and differ in its parameter, 10 or 90 %.
        assert len({feature.ibsi_id for feature in features}) == len(features) - 2
        assert all(len(feature.ibsi_id) == 4 for feature in features)

    @pytest.mark.parametrize(
        ("name", "identity"),
        [
            ("t2w|log_3mm|glcm|joint_entropy", "TU9B"),
            ("shape|sphericity", "QCFX"),
            ("ct|original|ngtdm|coarseness", "QCDE"),
            ("t2w|rim_5mm|original|spatial|moran_i", "N365"),
            ("dce_peak:dce_pre|original|local|global_peak", "0F91"),
        ],
    )
    def test_a_name_leads_to_its_ibsi_identifier(self, name, identity):
        assert identify(name).ibsi_id == identity

    def test_rims_and_differences_are_groups_of_their_own(self):
        settings = FeatureSettings(
            log_sigmas_mm=(2.0,),
            wavelet=None,
            shape=False,
            families=("ngtdm",),
            original_families=("local",),
            rim_mm=2.5,
            delta=(("dce_peak", "dce_pre"),),
        )
        table = feature_table(settings, ["dce_pre", "dce_peak"])
        groups = ["dce_pre", "dce_pre|rim_2.5mm", "dce_peak", "dce_peak|rim_2.5mm", "dce_peak:dce_pre"]
        assert list(dict.fromkeys(table.groups)) == groups
        counts = [table.groups.count(group) for group in groups]
        assert counts == [12, 12, 12, 12, 7]  # a filter's response has no local peak, a difference no filters
        assert all(name.startswith(f"{group}|") for name, group in zip(table.names, table.groups, strict=True))
        assert len(set(table.names)) == len(table)
        assert {identify(name).ibsi_id for name in table.names} >= {"VJGA", "QCDE"}

    def test_a_difference_of_a_sequence_that_is_not_there_is_an_error(self):
        settings = FeatureSettings(delta=(("dce_peak", "dce_pre"),))
        with pytest.raises(FeatureSettingsInvalid, match=r"FL-405.*dce_peak, dce_pre"):
            feature_table(settings, ["t2w"])

    @pytest.mark.parametrize("name", ["sphericity", "shape|beauty", "t2w|original|glxm|contrast"])
    def test_a_name_outside_the_grammar_is_not_guessed(self, name):
        with pytest.raises(KeyError):
            identify(name)


class TestSettings:
    def test_the_small_file_is_the_default(self):
        assert parse_settings(yaml.safe_load((CONFIGS / "radiomics-small.yaml").read_text())) == FeatureSettings()

    def test_the_complete_file_shows_every_key_and_has_the_features_that_it_says(self):
        text = (CONFIGS / "radiomics.yaml").read_text()
        assert set(yaml.safe_load(text)) == set(FeatureSettings.model_fields)
        table = feature_table(parse_settings(yaml.safe_load(text)), ["t2w"])
        assert table.groups.count("t2w") == 20 * 136 + 12 == 2732
        assert text.startswith(
            "# The complete feature settings (fedloupe.features.FeatureSettings): 2,732 features a seq"
        )

    def test_the_digest_ignores_key_order_and_number_spelling(self):
        one = FeatureSettings.model_validate({"log_sigmas_mm": [2, 3], "wavelet": None})
        other = FeatureSettings.model_validate({"wavelet": None, "log_sigmas_mm": [2.0, 3.0]})
        assert one.digest == other.digest
        assert len(one.digest) == 64

    @pytest.mark.parametrize(
        "change",
        [
            {"log_sigmas_mm": [2]},
            {"wavelet": "db2"},
            {"wavelet_mirrored": False},
            {"ngldm_alpha": 1},
            {"families": ["glcm"]},
            {"discretisation": {"zscore": {"method": "bin_number", "bins": 16}}},
            {"original_families": ["ivh"]},
            {"volume_histogram": {"zscore": {"method": "bin_number", "bins": 500}}},
            {"simoncelli_levels": [1]},
            {"laws": ["L5E5E5"]},
            {"laws_energy_mm": 5},
            {"aggregation": "averaged_3d"},
            {"rim_mm": 5},
            {"delta": [["dce_peak", "dce_pre"]]},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_the_digest_changes_with_anything_that_matters(self, change):
        assert FeatureSettings.model_validate(change).digest != FeatureSettings().digest

    def test_settings_without_later_sections_keep_the_digest_of_the_first_version(self):
        # The SHA-256 that version 1 wrote for its defaults, before there were any later sections.
        assert FeatureSettings().digest.startswith("5bc3fe37704c01c8")
        spelt_out = {"aggregation": "merged_3d", "rim_mm": None, "delta": [], "laws": [], "simoncelli_levels": []}
        assert FeatureSettings.model_validate(spelt_out).digest == FeatureSettings().digest

    def test_what_is_written_out_can_be_read_again(self):
        settings = FeatureSettings(
            aggregation="merged_25d", laws=("L5E5",), simoncelli_levels=(1, 3), delta=(("b", "a"),), rim_mm=3
        )
        assert FeatureSettings.model_validate_json(settings.canonical) == settings

    def test_a_planar_aggregation_has_planar_filters(self):
        filters = FeatureSettings(aggregation="merged_25d", log_sigmas_mm=()).filters
        assert filters == ("original", "wavelet_LL", "wavelet_LH", "wavelet_HL", "wavelet_HH")

    @pytest.mark.parametrize(
        "wrong",
        [
            {"original_families": ["ivh", "spatial"]},
            {"simoncelli_levels": [2, 1]},
            {"simoncelli_levels": [4]},
            {"laws": ["L5Q5E5"]},
            {"laws": ["L5E5"]},
            {"laws": ["L5E5E5"], "aggregation": "merged_25d"},
            {"laws": ["L5E5E5", "E5L5E5"]},
            {"aggregation": "merged"},
            {"rim_mm": 0},
            {"delta": [["a", "a"]]},
            {"delta": [["a", "b"], ["a", "b"]]},
            {"sigmas": [1]},
            {"log_sigmas_mm": [3, 2]},
            {"log_sigmas_mm": [0]},
            {"families": []},
            {"families": ["glrlm", "glcm"]},
            {"wavelet": "coif9"},
            {"distance": 2},
            {"discretisation": {"response": {"method": "bin_size", "origin": 0, "width": 1}}},
        ],
        ids=str,
    )
    def test_settings_that_mean_nothing_are_refused(self, wrong):
        with pytest.raises(ValidationError):
            FeatureSettings.model_validate(wrong)

    def test_a_wrong_key_is_one_error_that_names_it(self):
        with pytest.raises(FeatureSettingsInvalid, match=r"FL-405.*discretisation\.zscore\..*bins.*study\.yaml"):
            parse_settings({"discretisation": {"zscore": {"method": "bin_number", "bins": 1}}}, "study.yaml")

    def test_what_can_be_chosen_can_be_built(self):
        settings = FeatureSettings(log_sigmas_mm=(1.5,), wavelet=None)
        assert settings.filters == ("original", "log_1.5mm")
        assert settings.discretisation.response == BinNumber(bins=32)
