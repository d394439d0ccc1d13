"""Can a latent be read from simple measurements? Crops on a common grid, block means, and a cross-validated ridge.

auc = cross_validated_auc(np.stack([block_means(tumour_crop(case)) for case in cases]), anterior)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion, gaussian_filter, map_coordinates

from fedloupe_server.simulation.cohort.latents import Floats
from fedloupe_server.simulation.cohort.oracle import auc
from fedloupe_server.simulation.cohort.phantom import Mask, Volume
from fedloupe_server.simulation.cohort.scanner import CaseImages, Image
from fedloupe_server.simulation.cohort.spec import FIRST_SEQUENCE, MRI_SEQUENCES


@dataclass(frozen=True)
class Crop:
    """A cube around the tumour: volumes (z-scored over the whole image; ADC in 1e-3 mm2/s) and mask; spacing in mm."""

    volumes: Mapping[str, Volume]
    mask: Mask
    spacing: float


def tumour_crop(
    case: CaseImages, *, spacing: float = 2.0, edge_mm: float = 48.0, sequences: tuple[str, ...] = MRI_SEQUENCES
) -> Crop:
    """Resample the MRI sequences that the case has, and the mask, to a cube of `edge_mm` at the mask's centre."""
    grid = case.volumes[FIRST_SEQUENCE]
    centre = np.array(np.nonzero(case.mask)).mean(axis=1) * grid.spacing + grid.origin
    number = round(edge_mm / spacing)
    steps = (np.arange(number) - (number - 1) / 2) * spacing
    points = np.stack(np.meshgrid(*(c + steps for c in centre), indexing="ij"))
    volumes = {}
    for name, image in case.volumes.items():
        if name in sequences:
            whole = image.array.astype(np.float32)
            shift, scale = (0.0, 1000.0) if name == "adc" else (float(whole.mean()), float(whole.std()))
            volumes[name] = _at((whole - np.float32(shift)) / np.float32(scale), image, points)
    mask = _at(case.mask.astype(np.float32), grid, points) >= 0.5
    return Crop(volumes, mask, spacing)


def block_means(crop: Crop, blocks: int = 3) -> Floats:
    """Mean intensity of each of `blocks`^3 blocks of each sequence: a very coarse look at the image."""
    means = []
    for volume in crop.volumes.values():
        edge = volume.shape[0] // blocks
        trimmed = volume[: edge * blocks, : edge * blocks, : edge * blocks]
        means.append(trimmed.reshape(blocks, edge, blocks, edge, blocks, edge).mean(axis=(1, 3, 5)).ravel())
    result: Floats = np.concatenate(means).astype(np.float64)
    return result


def proxies(crop: Crop) -> dict[str, float]:
    """One obvious measurement for each image latent; `washout` is absent where a DCE phase is."""
    mask, t2w = crop.mask, crop.volumes["t2w"]
    inner = binary_erosion(mask)
    fine, middle, coarse = (gaussian_filter(t2w, width) for width in (0.5, 1.0, 1.6))
    ripple = np.log((fine - middle)[inner].std() / (middle - coarse)[inner].std())
    padded = np.pad(mask, 1)
    faces = sum(int(np.count_nonzero(np.diff(padded.astype(np.int8), axis=axis))) for axis in range(3))
    rows = np.nonzero(mask)[1]
    found = {
        "texture": -float(ripple),
        "shape": faces / float(mask.sum()) ** (2 / 3),
        "habitat": -float(crop.volumes["adc"][inner].mean()),
        "polarity": float(t2w[mask][rows > rows.mean()].mean() - t2w[mask][rows < rows.mean()].mean()),
    }
    if {"dce_peak", "dce_late"} <= set(crop.volumes):
        found["washout"] = float((crop.volumes["dce_peak"] - crop.volumes["dce_late"])[mask].mean())
    return found


def cross_validated_auc(features: Floats, event: Mask, *, folds: int = 5, ridge: float = 0.1) -> float:
    """AUC of out-of-fold ridge regression scores (dual form, any number of columns).

    Args:
        features: (n, p); columns that are constant or not finite in training patients are left out.
        event: (n) bool.
        folds: interleaved, so that the result depends on nothing random.
        ridge: penalty as a share of the mean diagonal of the Gram matrix.
    """
    scores = np.zeros(event.size)
    for fold in range(folds):
        held = np.arange(event.size) % folds == fold
        train = features[~held]
        usable = np.isfinite(features).all(axis=0) & (train.std(axis=0) > 1e-12)
        mean, scale = train[:, usable].mean(axis=0), train[:, usable].std(axis=0)
        known, new = ((features[rows][:, usable] - mean) / scale for rows in (~held, held))
        gram = known @ known.T
        target = event[~held] - event[~held].mean()
        penalty = ridge * gram.trace() / len(gram)
        scores[held] = new @ (known.T @ np.linalg.solve(gram + penalty * np.eye(len(gram)), target))
    return auc(event, scores)


def _at(array: Volume, image: Image, points: Floats) -> Volume:
    index = [(points[a] - image.origin[a]) / image.spacing[a] for a in range(3)]
    result: Volume = map_coordinates(array, index, order=1, mode="nearest")
    return result
