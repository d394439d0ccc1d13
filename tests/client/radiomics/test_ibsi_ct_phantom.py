"""IBSI-1's CT phantom in configurations A (slices as they are), B (2 mm in the plane) and C (2 mm cubes)."""

from __future__ import annotations

import pytest

from ibsi_ct_phantom import CONFIGURATIONS, computed, read_phantom, reference


@pytest.fixture(scope="module")
def phantom(real_data):
    return read_phantom(real_data / "images" / "ibsi" / "ibsi_1_ct_radiomics_phantom_dicom.tar.xz")


@pytest.mark.data
@pytest.mark.parametrize(("name", "values"), [("a", 346), ("b", 346), ("c", 210)])
def test_every_value_is_offered_and_within_the_consensus_tolerance(phantom, real_data, name, values):
    found = computed(phantom, CONFIGURATIONS[name])
    published = reference(real_data / "images" / "ibsi", name)
    assert set(found) == set(published)
    assert len(published) == values
    missed = [
        f"{tag}: {found[tag]:.4g}, consensus {item.value:g} +- {item.tolerance:g}"
        for tag, item in published.items()
        if not item.allows(found[tag])
    ]
    assert not missed
