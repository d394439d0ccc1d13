"""One native sequence through FedLoupe as at a site: resampling to the grid, then all of `configs/radiomics.yaml`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
import yaml

from engines.job import Bools, Floats, Job, serve
from fedloupe.features import feature_table, parse_settings
from fedloupe_client.imaging.resampling import common_region, mask_onto, onto, upright
from fedloupe_client.radiomics import extract_case

NATIVE_MM = (0.75, 0.75, 3.5)  # x, y, z of the synthetic scan
SETTINGS = Path(__file__).parents[2] / "configs" / "radiomics.yaml"


def extract(image: Floats, mask: Bools, job: Job) -> dict[str, float]:
    """Columns of one case; `job.spacing_mm` is the grid's."""
    settings = parse_settings(yaml.safe_load(SETTINGS.read_text()))
    volume, tumour = (sitk.GetImageFromArray(array) for array in (image.astype(np.float32), mask.astype(np.uint8)))
    for one in (volume, tumour):
        one.SetSpacing(NATIVE_MM)
    volume, tumour = upright(volume), upright(tumour)
    region = common_region(volume, tumour, spacing_mm=job.spacing_mm, margin_mm=25.0, cube_mm=64.0)
    row = extract_case(
        {"mr": onto(region, volume)}, mask_onto(region, tumour), job.spacing_mm, settings, {"mr": "zscore"}
    )
    return dict(zip(feature_table(settings, ["mr"]).names, row.values.tolist(), strict=True))


if __name__ == "__main__":
    serve("fedloupe", extract)
