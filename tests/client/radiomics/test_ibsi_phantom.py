"""The IBSI-1 digital phantom's consensus values, feature by feature, through the engine's one door."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from fedloupe.features import BinSize, DiscretisationPlan, FeatureSettings, feature_table, identify
from fedloupe_client.radiomics import extract_case

# Lambin 2016, doi:10.17195/candat.2016.08.1 (CC BY 4.0): (z, y, x), 2 mm, grey levels used as they are.
LEVELS = """
14411 14611 41641 44641
14411 11611 11311 44611
14411 11111 11911 11611
14411 11111 11111 11611
"""
MASK = """
11111 11111 11111 11111
11111 11111 01111 11111
11100 11111 11011 11111
11100 11111 11111 11111
"""
SETTINGS = FeatureSettings(
    log_sigmas_mm=(), wavelet=None, discretisation=DiscretisationPlan(physical=BinSize(origin=0.5, width=1, limit=9))
)


def _volume(digits: str) -> np.ndarray:
    return np.array([int(d) for d in "".join(digits.split())]).reshape(4, 4, 5)


def _reference() -> dict[tuple[str, str], tuple[str, str]]:
    lines = (Path(__file__).parent / "ibsi_digital_phantom.csv").read_text().splitlines()
    rows = csv.DictReader((line for line in lines if not line.startswith("#")), delimiter=";")
    return {(row["family"], row["ibsi_tag"]): (row["value"], row["tolerance"]) for row in rows}


REFERENCE = _reference()


@pytest.fixture(scope="module")
def phantom() -> dict[tuple[str, str], float]:
    row = extract_case(
        {"ph": _volume(LEVELS).astype(np.float32)}, _volume(MASK).astype(bool), 2.0, SETTINGS, {"ph": "physical"}
    )
    names = feature_table(SETTINGS, ["ph"]).names
    return {
        (name.split("|")[-2], identify(name).ibsi_tag): value for name, value in zip(names, row.values, strict=True)
    }


class TestDigitalPhantom:
    def test_every_feature_of_the_engine_has_a_consensus_value(self, phantom):
        assert set(phantom) == set(REFERENCE)
        assert len(REFERENCE) == 157

    @pytest.mark.parametrize("key", REFERENCE, ids="-".join)
    def test_the_value_rounded_to_three_digits_is_within_the_consensus_tolerance(self, phantom, key):
        value, tolerance = (float(text) for text in REFERENCE[key])
        # A hair above the tolerance: 0.1 + 0.2 is not 0.3 in binary.
        assert abs(float(f"{phantom[key]:.3g}") - value) <= tolerance + 1e-9 * abs(value)
