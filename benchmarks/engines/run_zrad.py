"""Z-Rad as a process of `job`: its own filters, discretisation, matrices and formulas on the image as it is given."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
from zrad.filtering import Laws, LoG, Simoncelli, Wavelets3D
from zrad.image import Image
from zrad.preprocessing import IntensityMaskBuilder, IVHIntensityDiscretizer, RoiData, TextureDiscretizer
from zrad.radiomics import Radiomics

from engines.job import Bools, Floats, Job, around, mirrored, serve

FAMILIES = {
    "shape": "morphology",
    "local": "local_intensity",
    "firstorder": "intensity_statistics",
    "histogram": "intensity_histogram",
    "ivh": "ivh",
}
ONCE = ("shape", "local", "ivh")  # of the original only


def _image(array: Floats, spacing_mm: float) -> Image:
    return Image(array, (0.0, 0.0, 0.0), np.full(3, spacing_mm), np.eye(3).ravel(), array.shape[::-1])


def _filtered(image: Floats, name: str, job: Job) -> Floats:
    kind, what = name.split("_")
    whole = _image(image, job.spacing_mm)
    if kind == "log":
        return LoG("reflect", float(what.removesuffix("mm")), 4.0, "3D").apply(whole).array
    if kind == "simoncelli":  # offers no reflected edges
        response = Simoncelli("periodic", int(what)).apply(_image(mirrored(image), job.spacing_mm)).array
        return response[tuple(slice(0, size) for size in image.shape)]
    if kind == "laws":
        return Laws(what, "reflect", job.laws_radius, True, "3D", True, "max").apply(whole).array
    return Wavelets3D(job.wavelet, "reflect", what, 1).apply(whole).array


def extract(image: Floats, mask: Bools, job: Job) -> dict[str, float]:
    """One case; responses are cut to the mask's box before the features, the original keeps its margin."""
    box = around(mask, job.margin)
    image, mask = image[box], mask[box]
    tight = around(mask, 0)
    radiomics = Radiomics(aggr_dim="3D", aggr_method="MERG")
    found: dict[str, float] = {}
    for name in ["original", *job.filters]:
        array = image if name == "original" else _filtered(image, name, job)[tight]
        inside = mask if name == "original" else mask[tight]
        prepared = IntensityMaskBuilder().apply(
            RoiData(
                image=_image(array, job.spacing_mm),
                morphological_mask=_image(inside.astype(np.float64), job.spacing_mm),
            )
        )
        prepared = TextureDiscretizer(number_of_bins=job.bins).apply(prepared)
        if "ivh" in job.families and name == "original":
            prepared = IVHIntensityDiscretizer("fixed_bin_number", number_of_bins=1000).apply(prepared)
        for family in (family for family in job.families if family != "spatial"):  # its morphology has it
            if name == "original" or family not in ONCE:
                values = radiomics.extract_features(prepared, families=[FAMILIES.get(family, family)])
                found |= {f"{name}|{family}|{key}": float(value) for key, value in values.items()}
    return found


if __name__ == "__main__":
    serve(f"z-rad {version('z-rad')}", extract)
