"""Two SYNTHETIC tumours in closed form, for which other engines' values are kept (tests/client/radiomics/oracles.json).

image, mask = oracle_cases()["lobed"]        # (z, y, x), 2 mm; 8 mm and more of image about the tumour
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.job import Job
from fedloupe.features import FEATURES

SPACING_MM = 2.0
LOG_SIGMAS_MM = (2.0, 3.0, 5.0)
WAVELET = "coif1"
BINS = 32
LAWS = ("L5E5S5",)
FILTERS = ("original", "log_3mm", "wavelet_HLL", "laws_L5E5S5")  # of which values are kept


def oracle_job(cases: dict[str, str]) -> Job:
    """What is asked of an engine about these cases."""
    return Job(
        cases,
        SPACING_MM,
        list(FEATURES),
        list(LOG_SIGMAS_MM),
        WAVELET,
        BINS,
        laws=list(LAWS),
    )


def oracle_cases() -> dict[str, tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Image and mask by name: an ellipsoid with three different axes, and two lobes about a hole.

    The images hold float32 numbers, as the common grid does: rounding them later would move voxels over bin edges.
    """
    z, y, x = np.meshgrid(*(np.arange(size, dtype=np.float64) for size in (30, 34, 38)), indexing="ij")
    ellipsoid = ((z - 14.2) / 7.3) ** 2 + ((y - 16.4) / 8.9) ** 2 + ((x - 18.7) / 11.6) ** 2 <= 1
    waves = 400 + 35 * np.sin(x / 2.9 + 0.3) * np.cos(y / 3.7) + 28 * np.sin(z / 2.3 + x / 5.1) + 0.7 * (y * z) ** 0.9
    lobes = (z - 12) ** 2 + (y - 14) ** 2 + (x - 13) ** 2 <= 6.6**2
    lobes |= (z - 17) ** 2 + 1.4 * (y - 19) ** 2 + (x - 22) ** 2 <= 7.4**2
    lobes &= (z - 15) ** 2 + (y - 17) ** 2 + (x - 18) ** 2 > 2.4**2
    grain = 250 + 60 * np.sin(0.9 * x + 0.5 * y) * np.sin(0.7 * z + 0.4) + 90 * np.exp(-((x - 20) ** 2 + y**2) / 300)
    return {
        name: (image.astype(np.float32).astype(np.float64), mask)
        for name, image, mask in (("ellipsoid", waves, ellipsoid), ("lobed", grain, lobes))
    }
