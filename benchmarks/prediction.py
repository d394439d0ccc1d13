"""How long a single patient's page takes, against loading PyTorch alone: one core, after a model was released.

    python benchmarks/prediction.py [--home HOME --study STUDY.yaml] [--cases 8]

Without a home, synthetic patients of the demo's first hospital are generated and a model with random weights is
released to them: what a page costs does not depend on what the model learnt. Uses what the command uses. Prints
Markdown.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fedloupe.models import Preparation, Schema, build_model, flatten, range_vector
from fedloupe.release import Release
from fedloupe.study import Study, load_study, parse_study
from fedloupe_client.config import load_site
from fedloupe_client.dataset import derive, load_cohort
from fedloupe_client.gate import approve
from fedloupe_client.ingest import ingest
from fedloupe_client.predicting import embed_cohort, open_model, predict_case, write_prediction
from fedloupe_server.simulation.demo import demo_cohort, demo_homes, demo_study
from fedloupe_server.simulation.preparing import generate_site

SITE = "north"


def released(folder: Path) -> tuple[Path, Study]:
    """A home with synthetic patients and a model of random weights."""
    study = parse_study({**demo_study(1).model_dump(mode="json"), "prediction": {}})
    spec = demo_cohort(1, 0.4)
    generate_site(folder / "cohort", spec, SITE, lambda *_: None)
    home = demo_homes(study, folder / "cohort", spec, folder / "homes")[SITE]
    ingest(load_site(home), study, home)
    derive(home, study)
    approve(home, study, by="benchmark")
    cohort = load_cohort(home, study, SITE)
    mean, scale = np.nanmean(cohort.features, axis=0), np.nanstd(cohort.features, axis=0)
    rng = np.random.default_rng(1)
    projection = (rng.standard_normal((len(mean), study.model.components)) / len(mean) ** 0.5).astype(np.float32)
    model = build_model(study, Schema.of(study, cohort.feature_groups)).eval()
    with torch.no_grad():
        inputs = cohort.inputs(Preparation(mean, scale, projection, "federated"), cohort.rows("all"))
        vectors = range_vector(model, inputs).double().numpy()
    release = Release(
        fingerprint=study.fingerprint,
        run="benchmark",
        weights=flatten(model),
        line=np.array([0.0, 1.0]),
        threshold=0.5,
        admitted=0.8,
        centre=vectors.mean(axis=0),
        precision=np.linalg.inv(np.cov(vectors.T) + 0.1 * np.eye(vectors.shape[1])),
        limit=0.0,
        mean=mean,
        scale=scale,
        projection=projection,
        patients=len(vectors),
    )
    release = replace(release, limit=float(release.distance(vectors).max()))
    (home / "models").mkdir()
    (home / "models" / f"{study.study}.safetensors").write_bytes(release.to_bytes())
    return home, study


def now() -> np.ndarray:
    """Seconds by the clock, and of this process's work: they differ on a busy machine."""
    return np.array([time.perf_counter(), time.process_time()])


def loading() -> np.ndarray:
    """Seconds, by both, in which a fresh Python loads PyTorch."""
    clocks = "[time.perf_counter(), time.process_time()]"
    said = f"import time; a = {clocks}; import torch; b = {clocks}; print(b[0] - a[0], b[1] - a[1])"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    return np.array([float(word) for word in done.stdout.split()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--study", type=Path)
    parser.add_argument("--cases", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if options.home and options.study:
            home, study = options.home, load_study(options.study)
        else:
            home, study = released(Path(folder))
        start = now()
        frozen = open_model(home, study)
        embedded = embed_cohort(frozen)
        opened = now() - start
        spent = []
        for record in frozen.store.ready[: options.cases]:
            start = now()
            write_prediction(frozen, predict_case(frozen, embedded, record))
            spent.append(now() - start)
    rows = {
        "opening model and cohort, once a command": opened,
        f"a case, median of {len(spent)}": np.median(spent, axis=0),
        "a case, slowest": np.max(spent, axis=0),
        "loading PyTorch alone": loading(),
    }
    print(f"{study.model.architecture}, {len(embedded.cases)} patients at the site, one core\n")
    print("| what | s by the clock | s of work |\n|---|---|---|")
    for what, (clock, work) in rows.items():
        print(f"| {what} | {clock:.2f} | {work:.2f} |")
    ratio = np.median(spent, axis=0) / rows["loading PyTorch alone"]
    print(f"| a case, as a multiple of loading PyTorch | {ratio[0]:.2f} | {ratio[1]:.2f} |")


if __name__ == "__main__":
    main()
