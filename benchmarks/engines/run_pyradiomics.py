"""PyRadiomics as a process of `job`, for its speed: on the whole image, its default, or with a margin pre-cropped."""

from __future__ import annotations

import logging
from functools import cache
from importlib.metadata import version

import numpy as np
import SimpleITK as sitk
from radiomics.featureextractor import RadiomicsFeatureExtractor

from engines.job import Bools, Floats, Job, serve

CLASSES = {"ngldm": "gldm"}


@cache
def _extractor(families: tuple[str, ...], sigmas: tuple[float, ...], wavelet: str, bins: int, margin: int | None):
    logging.getLogger("radiomics").setLevel(logging.ERROR)
    crop = {} if margin is None else {"preCrop": True, "padDistance": margin}
    extractor = RadiomicsFeatureExtractor(binCount=bins, additionalInfo=False, **crop)
    extractor.disableAllFeatures()
    for family in families:
        extractor.enableFeatureClassByName(CLASSES.get(family, family))
    extractor.disableAllImageTypes()
    extractor.enableImageTypes(Original={}, LoG={"sigma": list(sigmas)}, Wavelet={"wavelet": wavelet})
    return extractor


def extract(image: Floats, mask: Bools, job: Job) -> dict[str, float]:
    """One case."""
    extractor = _extractor(tuple(job.families), tuple(job.log_sigmas_mm), job.wavelet, job.bins, job.margin)
    volumes = [sitk.GetImageFromArray(array) for array in (image, mask.astype(np.uint8))]
    for volume in volumes:
        volume.SetSpacing((job.spacing_mm,) * 3)
    return {name: float(value) for name, value in extractor.execute(*volumes).items()}


if __name__ == "__main__":
    serve(f"pyradiomics-bhklab {version('pyradiomics-bhklab')}", extract)
