"""Does the calcification of a SYNTHETIC cohort survive CT-to-MRI registration, and can CT radiomics tell it?

    python benchmarks/probe_ct_latent.py --patients 60

Each patient's CT is registered onto the T2w as at a hospital; what the gate refuses is counted and left out. Prints the
cross-validated AUC for "calcified above the median" of a ridge on the frozen settings' features of CT (registered, and
where the CT would be without registration) and of T2w and ADC, which must know nothing: about 0.5.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import yaml

from fedloupe.features import FeatureSettings, Intensity
from fedloupe_client.imaging.registering import register
from fedloupe_client.radiomics import extract_case
from fedloupe_server.simulation.cohort import CT_SITES, CohortSpec, Image, simulate_case
from fedloupe_server.simulation.cohort.latents import CALCIFICATION, Floats
from fedloupe_server.simulation.cohort.phantom import Volume
from fedloupe_server.simulation.cohort.probe import cross_validated_auc

SETTINGS = Path(__file__).parents[1] / "configs" / "radiomics-small.yaml"
KINDS: dict[str, Intensity] = {"t2w": "zscore", "adc": "physical", "ct": "hounsfield"}
SPACING, EDGE = 2.0, 32  # a cube of 64 mm: the tumour with a margin for the filters
AIR = -1000.0
FOLDS = 7


def itk(array: Volume, image: Image) -> sitk.Image:
    """The volume with its geometry; SimpleITK counts (x, y, z)."""
    made = sitk.GetImageFromArray(array)
    made.SetSpacing(image.spacing[::-1])
    made.SetOrigin(image.origin[::-1])
    return made


def on_cube(image: sitk.Image, centre: tuple[float, ...], transform: sitk.Transform, beyond: float = 0.0) -> Volume:
    """Linear, on a cube of `EDGE` voxels about a point of the MRI, mm."""
    corner = [c - (EDGE - 1) / 2 * SPACING for c in centre]
    axes = np.eye(3).ravel().tolist()
    cube = sitk.Resample(
        image, [EDGE] * 3, transform, sitk.sitkLinear, corner, [SPACING] * 3, axes, beyond, sitk.sitkFloat32
    )
    return np.asarray(sitk.GetArrayFromImage(cube), dtype=np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    spec = CohortSpec(arguments.seed, CT_SITES, calcification=0.0)
    sites = [site for site in CT_SITES if site.has_ct]
    settings = FeatureSettings.model_validate(yaml.safe_load(SETTINGS.read_text(encoding="utf-8")))
    rows: dict[str, list[Floats]] = {"CT": [], "CT, not registered": [], "T2w and ADC": []}
    latents, refused, seconds = [], [], 0.0
    for number in range(arguments.patients):
        case = simulate_case(spec, sites[number % len(sites)], number // len(sites))
        images = {name: itk(case.volumes[name].array.astype(np.float32), case.volumes[name]) for name in KINDS}
        mask = itk(case.mask.astype(np.uint8), case.volumes["t2w"])
        start = time.process_time()
        found = register(images["t2w"], images["ct"], mask)
        seconds += time.process_time() - start
        if not found.accepted:
            refused.append(found.reason)
            continue
        where = np.argwhere(case.mask).mean(axis=0) * case.volumes["t2w"].spacing + case.volumes["t2w"].origin
        centre, still = tuple(float(c) for c in where[::-1]), sitk.Transform(3, sitk.sitkIdentity)
        roi = on_cube(sitk.Cast(mask, sitk.sitkFloat32), centre, still) >= 0.5
        still_ct, ct = (on_cube(images["ct"], centre, t, AIR) for t in (still, found.transform))
        mri = {name: on_cube(images[name], centre, still) for name in ("t2w", "adc")}
        for key, volumes in (("CT", {"ct": ct}), ("CT, not registered", {"ct": still_ct}), ("T2w and ADC", mri)):
            rows[key].append(extract_case(volumes, roi, SPACING, settings, {n: KINDS[n] for n in volumes}).values)
        latents.append(case.patient.latents[CALCIFICATION])
    high = np.array(latents) > np.median(latents)
    print(f"SYNTHETIC cohort, seed {arguments.seed}: {len(latents)} of {arguments.patients} registrations accepted")
    print("\n".join(refused), end="\n" * bool(refused))
    print(f"registration: {seconds / arguments.patients:.1f} s of the processor a case")
    for key, features in rows.items():
        print(f"{key:20s}{cross_validated_auc(np.stack(features), high, folds=FOLDS):8.3f}")


if __name__ == "__main__":
    main()
