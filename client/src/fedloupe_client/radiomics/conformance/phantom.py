"""IBSI's digital phantom: 80 voxels, and the values on which independent teams agreed.

found = phantom_values()              # {"morph_volume": 556.3..., "cm_contrast_2D_avg": 5.28..., ...}
missed = {tag for tag, value in found.items() if not consensus()[tag].allows(value)}
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedloupe.features import (
    ORIGINAL_FAMILIES,
    Aggregation,
    BinSize,
    DiscretisationPlan,
    FeatureSettings,
    VolumeBinSize,
    VolumePlan,
    feature_table,
    identify,
)
from fedloupe_client.radiomics.extract import extract_case

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
SPACING_MM = 2.0
# How IBSI's tags end: textures with directions, textures without.
ENDINGS: dict[Aggregation, tuple[str, str]] = {
    "averaged_2d": ("_2D_avg", "_2D"),
    "slice_merged_2d": ("_2D_comb", "_2D"),
    "direction_merged_25d": ("_2_5D_avg", "_2_5D"),
    "merged_25d": ("_2_5D_comb", "_2_5D"),
    "averaged_3d": ("_3D_avg", "_3D"),
    "merged_3d": ("_3D_comb", "_3D"),
}
DIRECTED = ("glcm", "glrlm")
UNDIRECTED = ("glszm", "gldzm", "ngtdm", "ngldm")


@dataclass(frozen=True)
class Consensus:
    """A value as published, to three significant digits, with its tolerance."""

    family: str
    value: float
    tolerance: float

    def allows(self, value: float) -> bool:
        """IBSI's rule: rounded to three digits, no farther off than the tolerance (and a hair for binary fractions)."""
        return abs(float(f"{value:.3g}") - self.value) <= self.tolerance + 1e-9 * abs(self.value)


def consensus() -> dict[str, Consensus]:
    """The 482 published values by tag with aggregation."""
    lines = Path(__file__).with_name("ibsi_digital_phantom.csv").read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader((line for line in lines if not line.startswith("#")), delimiter=";")
    return {row["ibsi_tag"]: Consensus(row["family"], float(row["value"]), float(row["tolerance"])) for row in rows}


def ibsi_tag(family: str, tag: str, aggregation: Aggregation) -> str:
    """A feature's tag with the ending of its aggregation."""
    directed, undirected = ENDINGS[aggregation]
    return tag + (directed if family in DIRECTED else undirected if family in UNDIRECTED else "")


def phantom_values() -> dict[str, float]:
    """Every feature of the engine in all six aggregations, by tag, through the engine's one door."""
    found: dict[str, float] = {}
    for aggregation in ENDINGS:
        settings = FeatureSettings(
            log_sigmas_mm=(),
            wavelet=None,
            original_families=ORIGINAL_FAMILIES,
            aggregation=aggregation,
            discretisation=DiscretisationPlan(physical=BinSize(origin=0.5, width=1, limit=9)),
            volume_histogram=VolumePlan(physical=VolumeBinSize(origin=0.5, width=1, limit=6)),
        )
        images = {"ph": _volume(LEVELS).astype(np.float32)}
        row = extract_case(images, _volume(MASK).astype(bool), SPACING_MM, settings, {"ph": "physical"})
        for name, value in zip(feature_table(settings, images).names, row.values.tolist(), strict=True):
            found[ibsi_tag(name.split("|")[-2], identify(name).ibsi_tag, aggregation)] = value
    return found


def _volume(digits: str) -> NDArray[np.int64]:
    return np.array([int(digit) for digit in "".join(digits.split())]).reshape(4, 4, 5)
