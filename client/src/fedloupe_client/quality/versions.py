"""Features of every version of some cases, one safetensors file a case, so that a stop costs one case.

Derived as `dataset.derive` derives: named by the case's images, in a folder named by all that decides the numbers. They
stay at the site.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from fedloupe.study import Study
from fedloupe_client.dataset import derivation
from fedloupe_client.dataset.derive import Progress, derived_path
from fedloupe_client.imaging import open_case
from fedloupe_client.ingest import load_store
from fedloupe_client.processes import one_thread_each
from fedloupe_client.quality.perturbing import perturbed


def versions_folder(home: Path, study: Study) -> Path:
    """Where the versions of this study's perturbations stand."""
    assert study.quality is not None, "only a study with `quality` perturbs"
    changes = [change.model_dump(mode="json") for change in study.quality.perturbations]
    parts = json.dumps([derivation(study), _code(), study.seed, changes], sort_keys=True)
    return home / "derived" / f"versions-{hashlib.sha256(parts.encode()).hexdigest()[:16]}"


@cache
def _code() -> str:
    return hashlib.sha256(Path(__file__).with_name("perturbing.py").read_bytes()).hexdigest()


def derive_versions(
    home: Path, study: Study, cases: Sequence[str], *, workers: int = 1, progress: Progress | None = None
) -> None:
    """Make what is missing of these cases' versions.

    Args:
        home: the site's home, with a store.
        study: with `quality`.
        cases: usable cases of the store.
        workers: processes; each uses one thread and holds one case.
        progress: called with (done, total, case) after each case.
    """
    folder, store = versions_folder(home, study), load_store(home)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {case: derived_path(folder, store, case) for case in cases}
    jobs = [(str(home), study.canonical, case, str(path)) for case, path in paths.items() if not path.exists()]
    done = len(paths) - len(jobs)

    def tell(number: int, case: str) -> None:
        if progress:
            progress(done + number, len(paths), case)

    if workers > 1 and len(jobs) > 1:
        with one_thread_each(), ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for number, case in enumerate(pool.map(_derive_case, jobs), start=1):
                tell(number, case)
    else:
        for number, job in enumerate(jobs, start=1):
            tell(number, _derive_case(job))


def load_versions(home: Path, study: Study, cases: Sequence[str], original: NDArray[np.float64]) -> NDArray[np.float64]:
    """Versions of these cases, derived before.

    Args:
        home: the site's home.
        study: with `quality`.
        cases: n of them.
        original: (n, p) features of the cases as they are, version 0.

    Returns:
        (n, p, 1 + perturbations), NaN where missing.
    """
    folder, store = versions_folder(home, study), load_store(home)
    loaded = [load_file(derived_path(folder, store, case))["values"] for case in cases]
    if not loaded:
        return original[:, :, None]
    return np.concatenate([original[:, :, None], np.stack(loaded).transpose(0, 2, 1)], axis=2)


def _derive_case(job: tuple[str, str, str, str]) -> str:
    case, path = job[2], Path(job[3])
    study, store = Study.model_validate_json(job[1]), load_store(Path(job[0]))
    record = next(record for record in store.ready if record.case == case)
    found = list(perturbed(open_case(store, record, study), study, case))
    values = np.stack([values for values, _ in found]) if found else np.zeros((0, 0))
    part = path.with_suffix(".part")
    save_file({"values": values}, part, metadata={"codes": json.dumps([code for _, code in found])})
    part.replace(path)
    return case
