"""An image latent that only CT shows: how much of the tumour is finely calcified.

volumes["ct"] = calcified(volumes["ct"], mask, latent, rng)

It has random streams of its own, so a cohort without it keeps every byte. `CohortSpec.calcification` is its weight in
the score: not 0, and a CT is worth having; 0, and CT shows something that has no bearing on response.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import gaussian_filter

from fedloupe_server.simulation.cohort.latents import CALCIFICATION
from fedloupe_server.simulation.cohort.phantom import SPACING, Mask, Phantom, Volume

CLUMP_MM = 2.4  # SD of the kernel that makes clumps
ADDED_HU = 90.0
SMALLEST_SHARE, LARGEST_SHARE = 0.02, 0.42


def share(latent: float) -> float:
    """Calcified share of the tumour, from `SMALLEST_SHARE` to `LARGEST_SHARE`, rising with the standardised latent."""
    return SMALLEST_SHARE + (LARGEST_SHARE - SMALLEST_SHARE) / (1 + math.exp(1.0 - 1.2 * latent))


def calcified(ct: Volume, mask: Mask, latent: float, rng: np.random.Generator) -> Volume:
    """The CT with `share(latent)` of the tumour's voxels raised by `ADDED_HU`, in clumps; nothing else changes.

    Args:
        ct: HU on the phantom's grid, (50, 80, 80).
        mask: the true tumour there.
        latent: standardised.
        rng: where the clumps lie.
    """
    field = gaussian_filter(rng.standard_normal(ct.shape, dtype=np.float32), CLUMP_MM / SPACING, truncate=3.0)
    clumps = mask & (field > np.quantile(field[mask], 1 - share(latent)))
    return np.where(clumps, ct + np.float32(ADDED_HU), ct)


def calcify(phantom: Phantom, latents: dict[str, float], rng: np.random.Generator) -> Phantom:
    """The phantom with its calcification in CT; as it was where the patient has no such latent."""
    if CALCIFICATION not in latents:
        return phantom
    ct = calcified(phantom.volumes["ct"], phantom.mask, latents[CALCIFICATION], rng)
    return Phantom({**phantom.volumes, "ct": ct}, phantom.mask, phantom.centre)
