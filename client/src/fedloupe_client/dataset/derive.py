"""Imaging and radiomics for every ready case, one safetensors file a case, so that a stop costs one case.

The folder's name is a digest of everything that decides the numbers; another study with the same imaging,
sequences and feature settings finds the work done.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from fedloupe.features import FeatureSettings
from fedloupe.study import Study
from fedloupe_client.imaging import crop, to_grid
from fedloupe_client.ingest import load_store
from fedloupe_client.radiomics import extract_case

Progress = Callable[[int, int, str], None]


def derivation(study: Study) -> str:
    """Digest of imaging, sequences and feature settings (first 16 hex digits of a SHA-256)."""
    parts = [
        study.imaging.model_dump(mode="json"),
        [s.model_dump(mode="json") for s in study.sequences],
        study.radiomics.model_dump(mode="json"),
        study.model.image,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def derive(home: Path, study: Study, *, workers: int = 1, progress: Progress | None = None) -> Path:
    """Make what is missing of the site's derived data and return its folder.

    Args:
        home: the site's home, with a store.
        study: the study.
        workers: processes; each uses one thread.
        progress: called with (done, total, case) after each case.
    """
    folder = home / "derived" / derivation(study)
    folder.mkdir(parents=True, exist_ok=True)
    if not study.sequences:
        return folder
    ready = [record.case for record in load_store(home).ready]
    todo = [case for case in ready if not (folder / f"{case}.safetensors").exists()]
    done = len(ready) - len(todo)
    jobs = [(str(home), study.canonical, case, str(folder)) for case in todo]
    if workers > 1 and len(jobs) > 1:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for number, case in enumerate(pool.map(_derive_case, jobs), start=1):
                if progress:
                    progress(done + number, len(ready), case)
    else:
        for number, job in enumerate(jobs, start=1):
            case = _derive_case(job)
            if progress:
                progress(done + number, len(ready), case)
    return folder


def _derive_case(job: tuple[str, str, str, str]) -> str:
    home, canonical, case, folder = Path(job[0]), job[1], job[2], Path(job[3])
    study = Study.model_validate_json(canonical)
    store = load_store(home)
    grid = to_grid(store, next(r for r in store.ready if r.case == case), study)
    tensors: dict[str, np.ndarray] = {}
    if study.radiomics.source == "computed":
        settings = FeatureSettings.model_validate(study.radiomics.settings)
        intensity = {s.name: s.intensity for s in study.sequences}
        images = {s.name: grid.images.get(s.name) for s in study.sequences}
        tensors["features"] = extract_case(images, grid.mask, grid.spacing_mm, settings, intensity).values
    if study.model.image:
        cut = crop(grid, study.imaging.crop_mm)
        tensors["images"] = cut.images.astype(np.float16)
        tensors["present"] = cut.present.astype(np.uint8)
    target = folder / f"{case}.safetensors"
    part = target.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(save(tensors))
    part.replace(target)
    return case
