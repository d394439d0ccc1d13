"""pictologics as a process of `job`: its own filters, discretisation, matrices and formulas on the image as given."""

from __future__ import annotations

import numpy as np
import pictologics
from pictologics.features import (
    calculate_all_texture_features,
    calculate_intensity_features,
    calculate_intensity_histogram_features,
    calculate_ivh_features,
    calculate_local_intensity_features,
    calculate_morphology_features,
    calculate_spatial_intensity_features,
)
from pictologics.filters import laplacian_of_gaussian, laws_filter, simoncelli_wavelet, wavelet_transform
from pictologics.loader import Image
from pictologics.preprocessing import discretise_image

from engines.job import Bools, Floats, Job, around, mirrored, serve

TEXTURES = ("glcm", "glrlm", "glszm", "gldzm", "ngtdm", "ngldm")


def _image(array: Floats, spacing_mm: float) -> Image:
    return Image(array=array, spacing=(spacing_mm,) * 3, origin=(0.0, 0.0, 0.0))


def _filtered(image: Floats, name: str, job: Job) -> Floats:
    kind, what = name.split("_")
    if kind == "log":
        sigma = float(what.removesuffix("mm"))
        return laplacian_of_gaussian(image, sigma, job.spacing_mm, truncate=4.0, boundary="mirror")
    if kind == "simoncelli":  # reflects approximately, in a margin
        response = simoncelli_wavelet(mirrored(image), int(what), boundary="periodic")
        return response[tuple(slice(0, size) for size in image.shape)]
    if kind == "laws":
        invariant = {"rotation_invariant": True, "pooling": "max", "compute_energy": True}
        return laws_filter(image, what, boundary="mirror", energy_distance=job.laws_radius, **invariant)
    return wavelet_transform(image, job.wavelet, 1, what, boundary="mirror")


def _once(image: Floats, mask: Bools, job: Job) -> dict[str, dict[str, float]]:
    """Families of the original alone."""
    whole, inside = _image(image, job.spacing_mm), _image(mask.astype(np.uint8), job.spacing_mm)
    found = {}
    if "shape" in job.families:
        found["shape"] = calculate_morphology_features(inside, whole)
    if "spatial" in job.families:
        found["spatial"] = calculate_spatial_intensity_features(whole, inside)
    if "local" in job.families:
        found["local"] = calculate_local_intensity_features(whole, inside)
    if "ivh" in job.families:
        levels = discretise_image(image[mask], "FBN", n_bins=1000)
        found["ivh"] = calculate_ivh_features(levels, bin_width=1.0)
    return found


def extract(image: Floats, mask: Bools, job: Job) -> dict[str, float]:
    """One case; arrays are (x, y, z) there, and responses are cut to the mask's box before the features."""
    box = around(mask, job.margin)
    image, mask = np.ascontiguousarray(image[box].T), np.ascontiguousarray(mask[box].T)
    tight = around(mask, 0)
    inside = np.ascontiguousarray(mask[tight]).astype(np.uint8)
    chosen = mask[tight]
    textures = [family for family in TEXTURES if family in job.families]
    found: dict[str, float] = {}
    for name in ["original", *job.filters]:
        response = image if name == "original" else _filtered(image, name, job)
        array = np.ascontiguousarray(response[tight], dtype=np.float64)
        blocks = _once(image, mask, job) if name == "original" else {}
        if "firstorder" in job.families:
            blocks["firstorder"] = calculate_intensity_features(array[chosen])
        levels = discretise_image(array, "FBN", roi_mask=inside, n_bins=job.bins)
        if "histogram" in job.families:
            blocks["histogram"] = calculate_intensity_histogram_features(levels[chosen], job.bins)
        blocks["texture"] = calculate_all_texture_features(levels, inside, job.bins, families=textures)
        for family, values in blocks.items():
            found |= {f"{name}|{family}|{key}": float(value) for key, value in values.items()}
    return found


if __name__ == "__main__":
    serve(f"pictologics {pictologics.__version__}", extract)
