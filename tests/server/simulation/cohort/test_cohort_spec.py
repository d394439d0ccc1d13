"""The description of the synthetic cohort: what it accepts, how it shrinks, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fedloupe_server.simulation.cohort import CT_SITES, DEMO_SITES, CohortSpec, CohortSpecInvalid, UnknownCohortSite


class TestTheDemo:
    def test_six_hospitals_one_of_which_only_validates(self):
        roles = [site.role for site in DEMO_SITES]
        assert roles.count("train") == 5
        assert roles.count("validate") == 1

    def test_data_come_in_each_required_way(self):
        formats = {site.format for site in DEMO_SITES}
        assert formats == {"dicom-rtstruct", "dicom-seg", "nifti"}
        assert any(site.missing for site in DEMO_SITES)
        assert any(site.has_ct for site in DEMO_SITES)

    def test_prevalence_spreads_from_a_quarter_to_a_little_over_half(self):
        assert all(0.25 <= site.prevalence <= 0.55 for site in DEMO_SITES)

    def test_a_site_lists_neither_its_missing_sequence_nor_a_ct_it_lacks(self):
        hillcrest = CohortSpec().site("hillcrest")
        assert hillcrest.sequences == ("t2w", "adc", "dce_pre", "dce_peak")
        assert CohortSpec().site("riverside").sequences[-1] == "ct"


class TestHospitalsWithCt:
    def test_most_have_one_and_of_either_role_one_has_none(self):
        with_ct = {role: {s.has_ct for s in CT_SITES if s.role == role} for role in ("train", "validate")}
        assert with_ct == {"train": {True, False}, "validate": {True, False}}
        assert 2 * sum(s.has_ct for s in CT_SITES) > len(CT_SITES)

    def test_each_is_large_enough_for_the_policy_of_a_hospital(self):
        assert min(s.patients for s in CT_SITES) >= 40


class TestScaling:
    def test_a_factor_shrinks_every_site_but_not_below_eight(self):
        small = CohortSpec().scaled(0.1)
        assert {s.name: s.patients for s in small.sites} == {
            "north": 8, "harbour": 8, "lakeside": 8, "hillcrest": 8, "riverside": 8, "island": 10,
        }  # fmt: skip

    @pytest.mark.parametrize("scale", [0, -1, float("nan")])
    def test_a_factor_that_leaves_nobody_is_refused(self, scale):
        with pytest.raises(CohortSpecInvalid, match="scale"):
            CohortSpec().scaled(scale)


class TestRefusals:
    def test_an_unknown_site_is_answered_with_the_known_ones(self):
        with pytest.raises(UnknownCohortSite, match="north, harbour"):
            CohortSpec().site("south")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"prevalence": 1.0}, "prevalence"),
            ({"patients": 0}, "patients"),
            ({"missing": "t2w"}, "missing"),
        ],
    )
    def test_a_number_out_of_range_is_named_with_its_site(self, change, message):
        with pytest.raises(CohortSpecInvalid, match=f"{message}.*lakeside"):
            CohortSpec(sites=(DEMO_SITES[0], replace(DEMO_SITES[2], **change)))

    def test_sites_whose_case_ids_would_look_alike_are_refused(self):
        with pytest.raises(CohortSpecInvalid, match="first three letters"):
            CohortSpec(sites=(DEMO_SITES[0], replace(DEMO_SITES[1], name="norwich")))

    @pytest.mark.parametrize("weight", [-3.5, 4.0, float("nan")])
    def test_a_weight_that_would_drown_the_others_is_refused(self, weight):
        with pytest.raises(CohortSpecInvalid, match="calcification"):
            CohortSpec(calcification=weight)

    def test_a_cohort_without_sites_is_refused(self):
        with pytest.raises(CohortSpecInvalid, match="no site"):
            CohortSpec(sites=())


class TestDigest:
    def test_it_changes_with_the_seed_and_with_any_number_of_a_site(self):
        base = CohortSpec()
        noisier = replace(DEMO_SITES[5], noise=0.031)
        digests = {base.digest, CohortSpec(seed=2).digest, CohortSpec(sites=(*DEMO_SITES[:5], noisier)).digest}
        assert len(digests) == 3
        assert CohortSpec().digest == base.digest
