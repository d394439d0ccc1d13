"""A case made of whole numbers, the same on every processor, and every part of the engine's answer to it.

    found = generated_values()           # {"t|original|glcm|contrast": ..., "t|laws_L5E5E5|firstorder|mean": ...}

Three runs: every family on originals, their rims and their difference; then every filter with two families that move
with any voxel, in space and within slices.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fedloupe.features import ORIGINAL_FAMILIES, FeatureSettings, feature_table
from fedloupe_client.radiomics.extract import extract_case

SHAPE = (22, 24, 26)
FAMILIES = FeatureSettings(
    log_sigmas_mm=(), wavelet=None, original_families=ORIGINAL_FAMILIES, rim_mm=2.0, delta=(("u", "t"),)
)
FILTERS = FeatureSettings(
    shape=False,
    families=("firstorder", "ngtdm"),
    log_sigmas_mm=(1.5, 2.5),
    simoncelli_levels=(1, 2, 3),
    laws=("L5L5E5", "L5L5S5", "L5E5E5"),
    laws_energy_mm=3.0,
)
WITHIN_SLICES = FILTERS.model_copy(update={"aggregation": "merged_25d", "laws": ("L5E5", "S5E5")})


def generated_case() -> tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
    """Two images that ramp and waver, and a tumour with a bump. No rounding: sums and remainders of whole numbers."""
    z, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    first = 4 * x + 2 * y + 7 * z + (x * x + 3 * y * z + 7 * z + 11 * x * y) % 101
    second = 300 - 3 * x + 5 * y + (x * y + 5 * z * z + 3 * y) % 67
    ball = 9 * (z - 10) ** 2 + 7 * (y - 12) ** 2 + 5 * (x - 13) ** 2 < 400
    bump = (abs(z - 8) < 2) & (abs(y - 7) < 3) & (abs(x - 10) < 4)
    return {"t": first.astype(np.float32), "u": second.astype(np.float32)}, ball | bump


def generated_values() -> dict[str, float]:
    """Every value by name; the names of the run within slices begin with `2.5D|`."""
    return dict(_values())


def _values() -> Iterator[tuple[str, float]]:
    images, mask = generated_case()
    kinds = dict.fromkeys(images, "zscore")
    for settings, prefix, names in (
        (FAMILIES, "", ("t", "u")),
        (FILTERS, "", ("t",)),
        (WITHIN_SLICES, "2.5D|", ("t",)),
    ):
        chosen = {name: images[name] for name in names}
        row = extract_case(chosen, mask, 1.0, settings, kinds)  # type: ignore[arg-type]
        for name, value in zip(feature_table(settings, chosen).names, row.values.tolist(), strict=True):
            yield prefix + name, value
