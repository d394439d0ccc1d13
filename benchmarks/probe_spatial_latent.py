"""Which latents of the SYNTHETIC cohort can be read from scalar radiomics, and which only from the image?

    python benchmarks/probe_spatial_latent.py --patients 400

Prints, for each image latent, the cross-validated AUC for "above its median" of a ridge on all radiomic features of the
frozen settings, and of the same ridge on 27 block means a sequence of the 48 mm tumour crop. Polarity has to be about
0.5 in the first column and above 0.9 in the second. Last: how far a mirrored tumour changes any feature.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import yaml

from fedloupe.features import FeatureSettings, Intensity
from fedloupe_client.radiomics import extract_case
from fedloupe_server.simulation.cohort import CohortSpec, simulate_case
from fedloupe_server.simulation.cohort.latents import IMAGE_LATENTS, Floats
from fedloupe_server.simulation.cohort.probe import Crop, block_means, cross_validated_auc, tumour_crop

SETTINGS = Path(__file__).parents[1] / "configs" / "radiomics-small.yaml"
MARGIN_MM = 64.0
FOLDS = 7  # prime to the number of sites: each fold holds patients of all of them


def radiomics(crop: Crop, settings: FeatureSettings) -> Floats:
    """Every feature of the crop's sequences; `crop` leaves a margin for the filters."""
    kinds: dict[str, Intensity] = {name: "physical" if name == "adc" else "zscore" for name in crop.volumes}
    units = {name: volume * (1000 if name == "adc" else 1) for name, volume in crop.volumes.items()}
    return extract_case(units, crop.mask, crop.spacing, settings, kinds).values


def mirrored(crop: Crop) -> Crop:
    """The crop flipped front to back."""
    return Crop(
        {name: np.flip(volume, 1) for name, volume in crop.volumes.items()}, np.flip(crop.mask, 1), crop.spacing
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    spec = CohortSpec(seed=arguments.seed)
    sites = [site for site in spec.sites if site.missing is None]
    settings = FeatureSettings.model_validate(yaml.safe_load(SETTINGS.read_text(encoding="utf-8")))
    features, blocks, latents, change = [], [], [], 0.0
    for number in range(arguments.patients):
        case = simulate_case(spec, sites[number % len(sites)], number // len(sites))
        wide = tumour_crop(case, edge_mm=MARGIN_MM)
        features.append(radiomics(wide, settings))
        blocks.append(block_means(tumour_crop(case)))
        latents.append([case.patient.latents[name] for name in IMAGE_LATENTS])
        if number < len(sites):
            flipped = radiomics(mirrored(wide), settings)
            change = max(change, float(np.nanmax(np.abs(flipped - features[-1]) / (np.abs(features[-1]) + 1e-6))))
    table = {"radiomics": np.stack(features), "image blocks": np.stack(blocks)}
    values = np.array(latents)
    print(f"SYNTHETIC cohort, seed {arguments.seed}, {len(values)} patients, {FOLDS}-fold cross-validated AUC")
    print(f"{'latent':10s}" + "".join(f"{f'{k} ({v.shape[1]})':>22s}" for k, v in table.items()))
    for column, name in enumerate(IMAGE_LATENTS):
        high = values[:, column] > np.median(values[:, column]) if name != "polarity" else values[:, column] > 0
        print(f"{name:10s}" + "".join(f"{cross_validated_auc(v, high, folds=FOLDS):22.3f}" for v in table.values()))
    print(f"largest relative change of a feature when the tumour is mirrored front to back: {change:.1e}")


if __name__ == "__main__":
    main()
