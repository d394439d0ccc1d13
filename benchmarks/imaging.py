"""Is the quick N4 near the full one, and does the registration's gate tell true pairs from wrong ones?

    FEDLOUPE_DATA=... python benchmarks/imaging.py n4 [folder of a DICOM series ...]
    FEDLOUPE_DATA=... python benchmarks/imaging.py registration

Prints the rows of the tables in `benchmarks/README.md`. Time is of the processor, one thread.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from fedloupe_client.imaging.normalising import FULL, QUICK, body_threshold, intensity_scale, shading
from fedloupe_client.imaging.registering import register
from fedloupe_client.ingest.formats.volumes import build

PAIRS = ("010", "018", "035", "041", "015")
OFFSETS = ((6.0, -6.0, 4.2), (-5.5, 5.5, -5.5), (0.0, 0.0, 9.5), (-9.5, 0.0, 0.0), (0.0, 9.5, 0.0), (-6.0, -6.0, -4.2))


def series(folder: str) -> sitk.Image:
    """A DICOM series as float32."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(folder))
    return sitk.Cast(reader.Execute(), sitk.sitkFloat32)


def known_field(image: sitk.Image) -> np.ndarray:
    """A smooth log field of spread near 0.15, quadratic in the grid's coordinates."""
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in image.GetSize()[::-1]], indexing="ij")
    return (0.2 * x + 0.15 * y - 0.1 * z + 0.15 * (x * x - y * y)).astype(np.float32)


def n4_row(name: str, image: sitk.Image, tumour: np.ndarray | None) -> None:
    """Quick against full on one image, as it is and with a known field on top."""
    array = sitk.GetArrayFromImage(image)
    body = array > body_threshold(array)
    known = known_field(image)
    shaded = build(array * np.exp(known), image)
    seconds, fields, found = [], [], []
    for setting in (QUICK, FULL):
        begin = time.process_time()
        fields.append(shading({"mr": image}, setting)["mr"])
        seconds.append(time.process_time() - begin)
        found.append(shading({"mr": shaded}, setting)["mr"] - fields[-1])
    quick, full = (field[body] - field[body].mean() for field in fields)
    left = [float((one - known)[body].std() / known[body].std()) for one in found]
    moved = ""
    if tumour is not None:
        flat = [array * np.exp(-field) for field in fields]
        scales = [intensity_scale(one) for one in flat]
        means = [float((f[tumour].mean() - s[0]) / s[1]) for f, s in zip(flat, scales, strict=True) if s]
        moved = f"{means[0] - means[1]:+.3f}"
    print(
        f"{name} | {np.corrcoef(quick, full)[0, 1]:.3f} | {np.sqrt(((quick - full) ** 2).mean()):.3f} | "
        f"{full.std():.3f} | {left[0]:.2f} | {left[1]:.2f} | {moved} | {seconds[0]:.2f} | {seconds[1]:.2f}",
        flush=True,
    )


def n4(images: Path, folders: list[str]) -> None:
    """Every twelfth sarcoma crop, and the DICOM series named."""
    print("image | correlation | RMS difference | spread of full | left quick | left full | tumour | s quick | s full")
    for path in sorted((images / "sts_mr_crops").glob("*_T1.nii.gz"))[::12]:
        tumour = sitk.GetArrayFromImage(sitk.ReadImage(str(path).replace("_T1", "_gtv"))) > 0
        n4_row(path.name[:7], sitk.ReadImage(str(path), sitk.sitkFloat32), tumour)
    for number, folder in enumerate(folders):
        n4_row(f"series {number}", series(folder), None)


def registration(images: Path) -> None:
    """Each CT on its own MRI from known offsets, and on every other patient's."""
    print("MRI | CT | offset mm | error mm | shift | rotation | starts | parts | outline | gain | verdict | s")
    for mr, ct, offset in [(c, c, o) for c in PAIRS for o in OFFSETS] + [
        (a, b, (0.0, 0.0, 0.0)) for a in PAIRS for b in PAIRS if a != b
    ]:
        folder = images / "sts_ct_mr"
        reference = sitk.ReadImage(str(folder / f"STS_{mr}/MR_T1_image.nii.gz"), sitk.sitkFloat32)
        mask = sitk.ReadImage(str(folder / f"STS_{mr}/MR_T1_mask.nii.gz"))
        moving = sitk.ReadImage(str(folder / f"STS_{ct}/CT_image.nii.gz"), sitk.sitkFloat32)
        moving.SetOrigin((np.array(moving.GetOrigin()) + offset).tolist())
        begin = time.process_time()
        r = register(reference, moving, mask)
        seconds = time.process_time() - begin
        voxels = np.argwhere(sitk.GetArrayFromImage(mask) > 0)[::50, ::-1].tolist()
        points = [np.array(mask.TransformIndexToPhysicalPoint([int(v) for v in index])) for index in voxels]
        error = np.mean([np.linalg.norm(r.transform.TransformPoint(p.tolist()) - p - offset) for p in points])
        print(
            f"{mr} | {ct} | {offset} | {f'{error:.2f}' if mr == ct else ''} | {r.shift_mm:.1f} | "
            f"{r.rotation_degrees:.1f} | {r.disagreement_mm:.1f} | {r.parts_mm:.1f} | {r.outline:.3f} | {r.gain:.2f} | "
            f"{'accepted' if r.accepted else 'refused'} | {seconds:.1f}",
            flush=True,
        )


if __name__ == "__main__":
    if "FEDLOUPE_DATA" not in os.environ:
        print("skipped: set FEDLOUPE_DATA to the folder of the real images")
        sys.exit()
    data = Path(os.environ["FEDLOUPE_DATA"]) / "images"
    what = sys.argv[1:2]
    if what in ([], ["n4"]):
        n4(data, sys.argv[2:])
    if what in ([], ["registration"]):
        registration(data)
