"""The demo: a synthetic six-hospital study from generated DICOM and NIfTI to the report, in one folder.

demo_study(seed=1)                       # configs/demo.yaml with another seed
demo_study(seed=1, epsilon=8.0)          # the same under DP-SGD, with a model small enough for it
"""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

from fedloupe.study import Study, load_study, parse_study
from fedloupe_server.simulation.cohort import CohortSpec
from fedloupe_server.simulation.generating import synthetic_source
from fedloupe_server.simulation.sites import make_home

SMALL = 40


def demo_study(seed: int, epsilon: float | None = None) -> Study:
    """The embedded study; with `epsilon`, under DP-SGD with the small token model that survives it.

    Under DP: no image stem, width 16, one layer, public preparation from label-free phantoms (notes in docs/demo.md).
    """
    with as_file(files("fedloupe_server.simulation")) as folder:
        study = load_study(folder / "demo.yaml")
    content = {**study.model_dump(mode="json"), "seed": seed}
    if epsilon is not None:
        content["privacy"] = {"mode": "dp-sgd", "epsilon": epsilon}
        for name in ("harmonisation", "quality", "prediction"):
            content.pop(name)  # exact numbers of patients would go round the budget
        content["evaluation"] = {**content["evaluation"], "clinical_baseline": False}
        content["training"] = {**content["training"], "preparation": "public", "start": "random", "strategy": "fedavg"}
        content["model"] = {**content["model"], "image": False, "width": 16, "depth": 1, "heads": 2}
    return parse_study(content)


def demo_cohort(seed: int, scale: float = 1.0) -> CohortSpec:
    """The synthetic hospitals of the demo; `scale` shrinks them for a quick look."""
    spec = CohortSpec(seed=seed)
    return spec if scale == 1.0 else spec.scaled(scale)


def demo_homes(study: Study, cohort: Path, spec: CohortSpec, homes: Path) -> dict[str, Path]:
    """A home for each synthetic hospital; policies are the defaults, but where `--scale` made the hospitals tiny."""
    tiny = min(site.patients for site in spec.sites) < SMALL
    policy = {"minimum_cohort": 3, "minimum_cell": 1} if tiny else {}
    made = {}
    for site in spec.sites:
        source = synthetic_source(cohort, site, study)
        made[site.name] = make_home(homes / site.name, study, site.name, source, policy)
    return made
