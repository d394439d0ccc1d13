"""The demo: a synthetic six-hospital study from generated DICOM and NIfTI to the report, in one folder.

demo_study(seed=1)                       # configs/demo.yaml with another seed
demo_study(seed=1, epsilon=8.0)          # the same under DP-SGD, with a model small enough for it
"""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from fedloupe.models import Preparation
from fedloupe.study import Study, load_study, parse_study
from fedloupe_client.dataset import Cohort, load_cohort
from fedloupe_client.training.statistics import describe, sketch
from fedloupe_server.simulation.cohort import CohortSpec, SiteSpec
from fedloupe_server.simulation.generating import synthetic_source
from fedloupe_server.simulation.preparing import Tell, prepare_sites
from fedloupe_server.simulation.sites import make_home
from fedloupe_server.statistics.projection import PASSES, first_probe, next_probe, principal_projection
from fedloupe_server.statistics.scaling import scaling

PHANTOMS = 64
FEWEST_PHANTOMS = 24
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


def phantoms(seed: int, scale: float = 1.0) -> CohortSpec:
    """A demo's phantoms: fewer for hospitals of a smaller scale, `FEWEST_PHANTOMS` at least, `PHANTOMS` at most."""
    count = min(PHANTOMS, max(FEWEST_PHANTOMS, round(PHANTOMS * scale)))
    return CohortSpec(seed=seed + 1_000_003, sites=(SiteSpec("phantom", "train", count, 0.4, "nifti", has_ct=True),))


def public_preparation(study: Study, folder: Path, *, tell: Tell, scale: float = 1.0) -> Preparation:
    """Scaling and projection from synthetic phantoms of an invented scanner: no patient, so no privacy is spent.

    The phantoms pass through the same ingest, imaging and radiomics as a hospital's cases, on all cores.

    Args:
        study: to prepare for.
        folder: of the phantoms.
        tell: told (site, stage, done, total) meanwhile.
        scale: of the demo's hospitals; see `phantoms`.
    """
    spec = phantoms(study.seed, scale)
    content = study.model_dump(mode="json") | {
        "sites": [{"name": "phantom", "role": "train"}],
        "privacy": {"mode": "none"},
        "quorum": {"minimum": 1},
    }
    lab = parse_study(content)
    home = make_home(folder / "home", lab, "phantom", synthetic_source(folder / "cohort", spec.sites[0], lab), {})
    prepare_sites(lab, {"phantom": home}, tell, cohort=(folder / "cohort", spec))
    cohort = load_cohort(home, lab, "phantom")
    cohort = replace(cohort, split=np.full(len(cohort.cases), "train"))
    return _fit(cohort, study)


def _fit(cohort: Cohort, study: Study) -> Preparation:
    moments = describe(cohort)
    mean, scale = scaling(moments)
    columns, width = cohort.columns, study.model.components
    probe = first_probe(columns, width, study.seed)
    for _ in range(PASSES - 1):
        probe = next_probe(sketch(cohort, mean, scale, probe), columns)
    projection = principal_projection(
        probe, sketch(cohort, mean, scale, probe), columns, width, float(moments.count.max())
    )
    return Preparation(mean, scale, projection, "public")
