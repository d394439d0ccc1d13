"""A synthetic hospital of 24 patients and a new one, with a released model that was made in the test, not trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import yaml

from fedloupe.features import FeatureSettings
from fedloupe.models import Inputs, Preparation, Schema, build_model, flatten, range_vector
from fedloupe.release import Release
from fedloupe.study import Study, parse_study
from fedloupe_client.config import load_site
from fedloupe_client.dataset import derive, load_cohort
from fedloupe_client.gate import approve
from fedloupe_client.ingest import ingest
from fedloupe_client.predicting import FrozenModel, open_model
from fedloupe_client.predicting.neighbours import Embedded, embed_cohort
from fedloupe_client.preflight.local import local_names

CASES = 25
ODD = "PAT-880023"
"""Five hundred years old."""
NEW = "PAT-880024"
"""The outcome is not known yet."""
SHAPE = (12, 24, 24)
FIRST_ORDER = FeatureSettings(families=("firstorder",), log_sigmas_mm=(), wavelet=None).model_dump(mode="json")
CONTENT: dict[str, Any] = {
    "study": "tiny",
    "title": "Synthetic volumes",
    "synthetic": True,
    "endpoint": {"name": "response", "column": "response", "positive": ["yes"], "negative": ["no"]},
    "sequences": [{"name": "t2w"}, {"name": "adc", "intensity": "physical", "required": False}],
    "clinical": [{"name": "age", "column": "age", "centre": 60, "scale": 10}],
    "aggregation": "plain",
    "sites": [{"name": "alpha", "role": "train"}],
    "imaging": {"spacing_mm": 3.0, "crop_mm": 24, "bias_correction": "none"},
    "radiomics": {"source": "computed", "settings": FIRST_ORDER},
    "model": {"components": 2, "image": True, "width": 8, "depth": 1, "heads": 2},
    "training": {"rounds": 2, "local_epochs": 1},
    "quorum": {"minimum": 1},
    "prediction": {},
}


@dataclass(frozen=True)
class Clinic:
    """A home with a released model, opened."""

    home: Path
    study: Study
    study_file: Path
    frozen: FrozenModel
    embedded: Embedded

    def case(self, local: str) -> str:
        """The pseudonym of a local name."""
        return next(case for case, name in local_names(self.home).items() if name.local == local)

    def extreme(self, sign: int) -> str:
        """The case in range whose logit is largest (1) or smallest (-1)."""
        odd = self.case(ODD)
        order = np.argsort(-sign * self.embedded.logits)
        return next(self.embedded.cases[row] for row in order if self.embedded.cases[row] != odd)


def _images(home: Path) -> None:
    rng = np.random.default_rng(0)
    rows = ["case,response,age"]
    (home / "data").mkdir(parents=True)
    for i in range(CASES):
        name = f"PAT-8800{i:02d}"
        outcome = "" if name == NEW else "yes" if i % 2 else "no"
        rows.append(f"{name},{outcome},{500 if name == ODD else 50 + i}")
        volumes = {}
        for sequence, level in (("t2w", 300), ("adc", 1100)):
            array = level + 20 * rng.standard_normal(SHAPE)
            array[4:8, 8:15, 8:15] += 60 + 40 * (i % 2) * rng.random()
            array[:, :3], array[:, -3:] = 0, 0  # air
            volumes[sequence] = array.astype(np.float32)
        mask = np.zeros(SHAPE, np.uint8)
        mask[4:8, 8 : 14 + i % 2, 8:14] = 1
        if i == 3:
            del volumes["adc"]
        for what, array in {**volumes, "mask": mask}.items():
            image = sitk.GetImageFromArray(array)
            image.SetSpacing((2.0, 2.0, 3.0))
            sitk.WriteImage(image, str(home / "data" / f"{name}_{what}.nii.gz"))
    (home / "data" / "clinical.csv").write_text("\n".join(rows) + "\n")
    source = {
        "format": "nifti",
        "root": "data",
        "clinical": {"file": "clinical.csv"},
        "files": {"t2w": "{case}_t2w.nii.gz", "adc": "{case}_adc.nii.gz"},
        "mask": "{case}_mask.nii.gz",
    }
    (home / "site.yaml").write_text(yaml.safe_dump({"site": "alpha", "source": source}))


def make_release(home: Path, study: Study) -> Release:
    """Random weights on the site's own scaling; calibrated so that the extremes of the logit are certain."""
    cohort = load_cohort(home, study, "alpha")
    usual = np.array([row for row in range(len(cohort.cases)) if cohort.clinical[row, 0] < 10])
    mean, scale = np.nanmean(cohort.features[usual], axis=0), np.nanstd(cohort.features[usual], axis=0)
    rng = np.random.default_rng(5)
    projection = (rng.standard_normal((len(mean), 2)) / np.sqrt(len(mean))).astype(np.float32)
    model = build_model(study, Schema.of(study, cohort.feature_groups)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.from_numpy(0.2 * rng.standard_normal(tuple(parameter.shape)).astype(np.float32)))
        inputs = cohort.inputs(Preparation(mean, scale, projection, "federated"), usual)
        logits = model(*inputs.tensors).double().numpy()
        vectors = range_vector(model, inputs).double().numpy()
    slope = 12 / np.ptp(logits)
    centre = vectors.mean(axis=0)
    precision = np.linalg.inv(np.cov(vectors.T) + 0.1 * np.eye(len(centre)))
    release = Release(
        fingerprint=study.fingerprint,
        run="run-7",
        weights=flatten(model),
        line=np.array([-slope * (logits.max() + logits.min()) / 2, slope]),
        threshold=0.4,
        admitted=0.7,
        centre=centre,
        precision=precision,
        limit=0.0,
        mean=mean,
        scale=scale,
        projection=projection,
        patients=123,
    )
    return replace(release, limit=1.2 * float(release.distance(vectors).max()))


@pytest.fixture
def release_maker() -> Callable[[Path, Study], Release]:
    return make_release


@pytest.fixture(scope="session")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Clinic:
    home, study = tmp_path_factory.mktemp("clinic"), parse_study(CONTENT)
    _images(home)
    ingest(load_site(home), study, home)
    derive(home, study)
    approve(home, study, by="Dr Ito")
    (home / "models").mkdir()
    (home / "models" / "tiny.safetensors").write_bytes(make_release(home, study).to_bytes())
    study_file = home / "study.yaml"
    study_file.write_text(yaml.safe_dump(CONTENT))
    frozen = open_model(home, study)
    return Clinic(home, study, study_file, frozen, embed_cohort(frozen))


@pytest.fixture
def image_inputs() -> Callable[[np.ndarray], Inputs]:
    """Inputs of one patient with these MR volumes (M, D, H, W) and nothing else."""

    def make(mr: np.ndarray) -> Inputs:
        images = torch.from_numpy(mr.astype(np.float32))[None]
        none, size = torch.zeros(1, 0), images.shape[-3:]
        return Inputs(
            torch.zeros(1, 0, 2), none, none, none, images, torch.ones(1, len(mr)), torch.zeros(1, 0, *size), none
        )

    return make
