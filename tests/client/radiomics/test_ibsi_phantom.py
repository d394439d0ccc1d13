"""The IBSI-1 digital phantom's consensus values, all 482 of six aggregations, through the engine's one door."""

from __future__ import annotations

import csv

import pytest

from fedloupe_client.radiomics.conformance.phantom import Consensus, consensus, phantom_values

PUBLISHED = consensus()


@pytest.fixture(scope="module")
def phantom() -> dict[str, float]:
    return phantom_values()


class TestDigitalPhantom:
    def test_every_published_value_is_offered_and_every_feature_has_one(self, phantom):
        assert set(phantom) == set(PUBLISHED)
        assert len(PUBLISHED) == 482

    @pytest.mark.parametrize("tag", PUBLISHED)
    def test_the_value_rounded_to_three_digits_is_within_the_consensus_tolerance(self, phantom, tag):
        assert PUBLISHED[tag].allows(phantom[tag]), f"{phantom[tag]:.4g} is not {PUBLISHED[tag]}"

    def test_a_value_one_digit_beyond_the_tolerance_is_not_allowed(self):
        published = Consensus("glcm", 0.678, 0.0006)
        assert published.allows(0.6784)
        assert not published.allows(0.6786)
        assert not published.allows(float("nan"))

    @pytest.mark.data
    def test_the_published_values_are_those_of_the_reference_table(self, real_data):
        with (real_data / "images" / "ibsi" / "ibsi_1_dig_phantom.csv").open() as lines:
            rows = [row for row in csv.DictReader(lines, delimiter=";") if row["reference value"]]
        table = {row["tag"]: (float(row["reference value"]), float(row["tolerance"])) for row in rows}
        assert {tag: (item.value, item.tolerance) for tag, item in PUBLISHED.items()} == table
