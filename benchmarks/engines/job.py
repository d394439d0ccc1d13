"""What an engine's process is asked, and what it answers: one JSON file in, one out.

    cd benchmarks; python -m engines.run_zrad job.json answer.json

Each `run_*.py` is one engine, started in the environment that holds it. Nothing here needs FedLoupe. Images travel as
safetensors: `image` (float64) and `mask` (uint8), both (z, y, x), isotropic.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        cases: file by name of the case.
        spacing_mm: edge of a voxel.
        families: our names, `shape` among them; `spatial`, `local` and `ivh` are of the original alone.
        log_sigmas_mm: Laplacian of Gaussian, kernels of 4 sigma.
        wavelet: undecimated, one level, eight sub-bands.
        bins: fixed bin number, of the original and of every response. The intensity-volume histogram has 1000.
        simoncelli_levels: non-separable wavelet, band-pass maps; 1 is the finest.
        laws: rotation-invariant energies of these kernels, means over `laws_radius` voxels to each side.
        margin: voxels around the mask's box that an engine keeps when it filters; None: the whole image.
        repeats: timed runs after the first; 0: values only.
    """

    cases: dict[str, str]
    spacing_mm: float
    families: list[str]
    log_sigmas_mm: list[float]
    wavelet: str
    bins: int
    simoncelli_levels: list[int] = field(default_factory=list)
    laws: list[str] = field(default_factory=list)
    laws_radius: int = 3
    margin: int | None = None
    repeats: int = 0

    @property
    def filters(self) -> list[str]:
        """Names of the responses, as FedLoupe names them; the letters are the pass bands along x, y, z."""
        bands = [f"wavelet_{x}{y}{z}" for x in "LH" for y in "LH" for z in "LH"] if self.wavelet else []
        rings = (f"simoncelli_{level}" for level in self.simoncelli_levels)
        return [
            *(f"log_{sigma:g}mm" for sigma in self.log_sigmas_mm),
            *bands,
            *rings,
            *(f"laws_{x}" for x in self.laws),
        ]


def around(mask: Bools, margin: int | None) -> tuple[slice, ...]:
    """The mask's bounding box with a margin, within the image; None: the whole image."""
    if margin is None:
        return tuple(slice(0, size) for size in mask.shape)
    found = [np.flatnonzero(mask.any(tuple(a for a in range(mask.ndim) if a != axis))) for axis in range(mask.ndim)]
    return tuple(
        slice(max(int(places[0]) - margin, 0), min(int(places[-1]) + margin + 1, size))
        for places, size in zip(found, mask.shape, strict=True)
    )


def mirrored(image: Floats) -> Floats:
    """The image and its mirror images beside it: periodic, it has the reflected edges that an engine may not offer."""
    return np.pad(image, [(0, size) for size in image.shape], mode="symmetric")


def serve(engine: str, extract: Callable[[Floats, Bools, Job], dict[str, float]]) -> None:
    """Do the job that the command line names, and write the answer.

    Args:
        engine: name and version.
        extract: one case; its keys are the engine's own, `FILTER|FAMILY|NAME`.
    """
    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    answer: dict[str, object] = {"engine": engine}
    if job.repeats:
        answer |= _timed(extract, job)
    else:
        answer["values"] = {name: extract(*_read(file), job) for name, file in job.cases.items()}
    Path(sys.argv[2]).write_text(json.dumps(answer))


def _read(file: str) -> tuple[Floats, Bools]:
    arrays = load_file(file)
    return arrays["image"].astype(np.float64), arrays["mask"] > 0


def _timed(extract: Callable[[Floats, Bools, Job], dict[str, float]], job: Job) -> dict[str, object]:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # one core
    image, mask = _read(next(iter(job.cases.values())))
    base = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    runs = []
    for _ in range(1 + job.repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        values = extract(image, mask, job)
        runs.append({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu})
    return {
        "first": runs[0],
        "runs": runs[1:],
        "features": len(values),
        "base_mb": base,
        "peak_mb": _memory("VmHWM"),
    }


def _memory(field: str) -> float:
    """A line of this process's status, in MB (Linux only)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024 / 1e6
    raise SystemExit(f"/proc/self/status has no {field}: memory is measured on Linux only")
