"""How fast is FedLoupe's feature engine, against PyRadiomics, pictologics and Z-Rad?

make bench-radiomics-env            # once: .venv-oracles with the others, for development only
make bench-radiomics

One synthetic scan of 40 x 256 x 256 voxels with an ellipsoidal tumour of about 21,600, the same arrays for everybody,
taken as isotropic; first-order, shape, GLCM, GLRLM, GLSZM, NGTDM and NGLDM (GLDM) on the original, three LoG and eight
wavelet responses, 32 bins. Each engine in a process of its own, on one core and one thread, image in memory; the first
run is not counted, then the median. Memory is the resident peak of the timed runs, and beside it what the process held
before them. The last rows take the scan as 0.75 x 0.75 x 3.5 mm through resampling and all of configs/radiomics.yaml.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from engines.job import Job
from oracles import ORACLES, ask

FAMILIES = ["shape", "firstorder", "glcm", "glrlm", "glszm", "ngtdm", "ngldm"]
RIVALS = (
    ("pictologics, cropped", "run_pictologics", 12),
    ("PyRadiomics, preCrop", "run_pyradiomics", 12),
    ("PyRadiomics, default", "run_pyradiomics", None),
    ("Z-Rad, cropped", "run_zrad", 12),
)
COMPILED = ("run_ours", "run_sequence", "run_pictologics")
KEPT = ("features", "base_mb", "peak_mb")


def scan() -> dict[str, np.ndarray]:
    """A SYNTHETIC scan, (z, y, x): waves and seeded noise, brighter in the tumour."""
    z, y, x = np.meshgrid(*(np.arange(size) for size in (40, 256, 256)), indexing="ij")
    mask = ((z - 19.5) / 12.5) ** 2 + ((y - 130) / 20.6) ** 2 + ((x - 120) / 20.0) ** 2 <= 1
    waves = 30 * np.sin(x / 5) * np.cos(y / 7) + 20 * np.sin(z / 3 + x / 11)
    image = 300 + waves + 60 * mask + np.random.default_rng(4).normal(0, 15, mask.shape)
    return {"image": image, "mask": mask.astype(np.uint8)}


def timed(label: str, script: str, job: Job, folder: Path, cache: str) -> dict[str, float | str]:
    """Median seconds and memory of one engine, its compiled code cached beforehand."""
    if script in COMPILED:
        ask(script, replace(job, repeats=1), folder, NUMBA_CACHE_DIR=cache)
    answer = ask(script, job, folder, NUMBA_CACHE_DIR=cache)
    medians = {key: statistics.median(run[key] for run in answer["runs"]) for key in ("wall", "cpu")}
    return {"label": label, "engine": answer["engine"], **medians, **{k: answer[k] for k in KEPT}}


def compilation(script: str, job: Job, folder: Path) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """First run with an empty cache, first run of a second process, and a warm run."""
    with tempfile.TemporaryDirectory() as empty:
        cold = ask(script, replace(job, repeats=1), folder, NUMBA_CACHE_DIR=empty)
        cached = ask(script, replace(job, repeats=1), folder, NUMBA_CACHE_DIR=empty)
    return cold["first"], cached["first"], cached["runs"][0]


def versus(rows: list[dict[str, float | str]]) -> None:
    """The table, and its ratios: how many times ours is faster."""
    ours = rows[0]["cpu"]
    print(
        "\n| engine | features | CPU s | wall s | peak MB | over base | times our CPU |\n|---|---|---|---|---|---|---|"
    )
    for row in rows:
        print(
            f"| {row['label']} ({row['engine']}) | {row['features']} | {row['cpu']:.3f} | {row['wall']:.3f} "
            f"| {row['peak_mb']:.0f} | {row['peak_mb'] - row['base_mb']:.0f} | {row['cpu'] / ours:.2f} |"
        )


def main() -> None:
    """All tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each engine")
    parser.add_argument("--no-compilation", action="store_true", help="leave out pictologics' compilation, a minute")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        arrays = scan()
        save_file(arrays, folder / "scan.safetensors")
        files = {"scan": str(folder / "scan.safetensors")}
        job = Job(files, 1.0, FAMILIES, [1.0, 2.0, 3.0], "coif1", 32, margin=12, repeats=given.repeats)
        cache = str(folder / "cache")
        print(f"tumour: {int(arrays['mask'].sum())} voxels; 12 images")
        rows = [timed("FedLoupe, cropped", "run_ours", job, folder, cache)]
        if ORACLES.exists():
            for label, script, margin in RIVALS:
                # pictologics keeps the cache of its own folder: filling an empty one takes a minute
                rows.append(timed(label, script, replace(job, margin=margin), folder, ""))
        else:
            print("there is no .venv-oracles: ours alone (make bench-radiomics-env brings the others)")
        versus(rows)
        for spacing in (1.0, 2.0):
            row = timed("", "run_sequence", replace(job, spacing_mm=spacing), folder, cache)
            print(
                f"\none sequence resampled to {spacing:g} mm, configs/radiomics.yaml: {row['features']} features, "
                f"CPU {row['cpu']:.3f} s, wall {row['wall']:.3f} s, peak {row['peak_mb']:.0f} MB "
                f"({row['peak_mb'] - row['base_mb']:.0f} over base)"
            )
        print("\n| compilation | first run, empty cache, CPU s (wall) | first run, cached | warm |\n|---|---|---|---|")
        scripts = [("FedLoupe", "run_ours"), ("FedLoupe, whole configuration", "run_sequence")]
        if ORACLES.exists() and not given.no_compilation:
            scripts.append(("pictologics", "run_pictologics"))
        for label, script in scripts:
            cells = (f"{run['cpu']:.2f} ({run['wall']:.2f})" for run in compilation(script, job, folder))
            print(f"| {label} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
