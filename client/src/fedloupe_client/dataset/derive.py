"""Imaging and radiomics for every ready case, one safetensors file a case, so that a stop costs one case.

A file's name holds a digest of the case's images, so a corrected image is derived anew.
A case that cannot be used (the tumour outside an image, a value that is not a number) gets a JSON note with its code
instead; delete the note to try again.

The folder's name is a digest of everything that decides the numbers; another study with the same imaging,
sequences and feature settings finds the work done.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from fedloupe.errors import FedLoupeError
from fedloupe.features import parse_settings
from fedloupe.study import Segmentation, Study
from fedloupe_client import imaging, radiomics
from fedloupe_client.imaging import crop, field_images, field_mask, field_region, to_grid
from fedloupe_client.ingest import CaseRecord, Store, load_store
from fedloupe_client.processes import one_thread_each
from fedloupe_client.radiomics import extract_case

Progress = Callable[[int, int, str], None]


def derivation(study: Study) -> str:
    """Digest of imaging, sequences, feature settings and the code that serves them (16 hex digits of a SHA-256)."""
    parts = [
        _code(),
        study.imaging.model_dump(mode="json"),
        [s.model_dump(mode="json") for s in study.sequences],
        study.radiomics.model_dump(mode="json"),
        study.model.image,
    ]
    if study.segmentation is not None:
        parts.append(study.segmentation.edge(study.imaging.spacing_mm))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@cache
def _code() -> str:
    """Digest of the rooms that make the numbers: with other code, other numbers may come."""
    files = sorted(file for room in (imaging, radiomics) for file in Path(str(room.__file__)).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def derive(
    home: Path,
    study: Study,
    *,
    cases: Collection[str] | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> Path:
    """Make what is missing of the site's derived data and return its folder.

    Args:
        home: the site's home, with a store.
        study: the study.
        cases: these alone, ready or unlabelled; all ready ones where None.
        workers: processes; each uses one thread.
        progress: called with (done, total, case) after each case.
    """
    folder = home / "derived" / derivation(study)
    folder.mkdir(parents=True, exist_ok=True)
    if not study.sequences:
        return folder
    store = load_store(home)
    usable = store.ready if cases is None else (*store.ready, *store.unlabelled)
    ready = [record.case for record in usable if cases is None or record.case in cases]
    paths = {case: derived_path(folder, store, case) for case in ready}
    todo = [case for case, path in paths.items() if not (path.exists() or path.with_suffix(".json").exists())]
    done = len(ready) - len(todo)
    jobs = [(str(home), study.canonical, case, str(paths[case])) for case in todo]
    if workers > 1 and len(jobs) > 1:
        with one_thread_each(), ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for number, case in enumerate(pool.map(_derive_case, jobs), start=1):
                if progress:
                    progress(done + number, len(ready), case)
    else:
        for number, job in enumerate(jobs, start=1):
            case = _derive_case(job)
            if progress:
                progress(done + number, len(ready), case)
    return folder


def derived_path(folder: Path, store: Store, case: str) -> Path:
    """Where a case's derived data stand: named by the case and a digest of its files in the store."""
    state = hashlib.sha256()
    for path in sorted((store.folder / "cases" / case).iterdir()):
        state.update(path.name.encode() + path.read_bytes())
    return folder / f"{case}-{state.hexdigest()[:12]}.safetensors"


def problems(home: Path, study: Study) -> dict[str, str]:
    """Error code of each ready case that imaging or radiomics could not use, by case."""
    if not study.sequences:
        return {}
    store, folder = load_store(home), home / "derived" / derivation(study)
    notes = {r.case: derived_path(folder, store, r.case).with_suffix(".json") for r in store.ready}
    return {case: str(json.loads(note.read_text())["code"]) for case, note in notes.items() if note.exists()}


def _derive_case(job: tuple[str, str, str, str]) -> str:
    """Derive one case; what is wrong with it alone becomes a note beside the others, and the site goes on."""
    case, path = job[2], Path(job[3])
    try:
        study = Study.model_validate_json(job[1])
        _keep(path, save(_tensors(Path(job[0]), study, case), metadata=_facts(study)))
    except FedLoupeError as error:
        note = {"code": error.code, "what": error.what, "remedy": error.remedy}
        _keep(path.with_suffix(".json"), (json.dumps(note, indent=1) + "\n").encode())
    return case


def _facts(study: Study) -> dict[str, str] | None:
    """What a row of features must say of itself: rows of different settings are not to be compared."""
    if study.radiomics.source != "computed":
        return None
    return {"radiomics": parse_settings(study.radiomics.settings).digest}


def _keep(target: Path, content: bytes) -> None:
    part = target.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(target)


def _tensors(home: Path, study: Study, case: str) -> dict[str, np.ndarray]:
    store = load_store(home)
    record = next(r for r in (*store.ready, *store.unlabelled) if r.case == case)
    if study.segmentation is not None:
        return _field(store, record, study, study.segmentation)
    grid = to_grid(store, record, study)
    tensors: dict[str, np.ndarray] = {}
    if study.radiomics.source == "computed":
        settings = parse_settings(study.radiomics.settings)
        intensity = {s.name: s.intensity for s in study.sequences}
        images = {s.name: grid.images.get(s.name) for s in study.sequences}
        tensors["features"] = extract_case(images, grid.mask, grid.spacing_mm, settings, intensity).values
    if study.model.image:
        cut = crop(grid, study.imaging.crop_mm)
        tensors["images"] = cut.images.astype(np.float16)
        tensors["present"] = cut.present.astype(np.uint8)
    return tensors


def _field(store: Store, record: CaseRecord, study: Study, segmentation: Segmentation) -> dict[str, np.ndarray]:
    """What a drawing study's network sees of a case, and the site's own mask there."""
    volumes = {sequence.name: store.volume(record.case, sequence.name) for sequence in study.sequences}
    spacing = study.imaging.spacing_mm
    region = field_region(volumes[study.sequences[0].name], spacing_mm=spacing, edge=segmentation.edge(spacing))
    images = field_images(volumes, study.sequences, study.imaging, region, record.case)
    return {
        "images": images.astype(np.float16),
        "present": np.ones(len(images), np.uint8),
        "mask": field_mask(region, store.mask(record.case), record.case).astype(np.uint8),
    }
