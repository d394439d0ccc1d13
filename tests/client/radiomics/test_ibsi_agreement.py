"""The table of docs/radiomics.md is what the engine computes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedloupe_client.radiomics.conformance import Consensus
from ibsi_agreement import FAMILIES, cells, ct_phantom, digital_phantom, shown

PAGE = shown((Path(__file__).parents[3] / "docs" / "radiomics.md").read_text(encoding="utf-8"))


def test_the_page_shows_every_family_and_configuration():
    assert list(PAGE) == ["phantom", "a", "b", "c"]
    assert all(list(column) == [*FAMILIES, "all"] for column in PAGE.values())


def test_the_digital_phantoms_column_is_what_the_engine_computes():
    assert PAGE["phantom"] == digital_phantom()


@pytest.mark.data
def test_the_ct_phantoms_columns_are_what_the_engine_computes(real_data):
    assert {key: PAGE[key] for key in "abc"} == ct_phantom(real_data / "images" / "ibsi")


def test_a_cell_counts_what_is_published_offered_and_within():
    published = {"x": Consensus("glcm", 1, 0), "y": Consensus("glcm", 2, 0), "z": Consensus("ngtdm", 3, 0)}
    column = cells({"x": 1.0, "y": 2.1}, published)
    assert (column["glcm"], column["ngtdm"], column["all"]) == ("2 / 2 / 1", "1 / 0 / 0", "3 / 2 / 1")
