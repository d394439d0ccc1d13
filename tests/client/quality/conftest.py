"""A site of small synthetic volumes whose study judges features."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import yaml

from fedloupe.features import FeatureSettings
from fedloupe.study import Study, parse_study
from fedloupe_client.config import load_site
from fedloupe_client.gate import approve
from fedloupe_client.ingest import ingest

CASES = 24
SETTINGS = FeatureSettings(families=("firstorder", "glcm"), log_sigmas_mm=(), wavelet=None).model_dump(mode="json")
CHANGES: list[dict[str, Any]] = [{"rotate_deg": 4}, {"grow_mm": 1}, {"noise_sd": 0.15}, {"bins_times": 0.5}]


def make_study(**changes: Any) -> Study:
    return parse_study(
        {
            "study": "tiny",
            "title": "Synthetic volumes",
            "synthetic": True,
            "endpoint": {"name": "response", "column": "response", "positive": ["yes"], "negative": ["no"]},
            "sequences": [{"name": "t1", "intensity": "physical"}],
            "aggregation": "plain",
            "sites": [{"name": "alpha", "role": "train"}],
            "imaging": {"spacing_mm": 2.0, "crop_mm": 16, "bias_correction": "none"},
            "radiomics": {"source": "computed", "settings": SETTINGS},
            "model": {"components": 2, "image": False, "width": 8, "depth": 1, "heads": 2},
            "quorum": {"minimum": 1},
            "split": {"test": 0.2, "tune": 0.2},
            "quality": {"perturbations": CHANGES, "patients": 12},
            **changes,
        }
    )


def write_image(path: Path, array: np.ndarray) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.0, 2.0, 2.0))
    sitk.WriteImage(image, str(path))


@pytest.fixture
def study() -> Study:
    return make_study()


@pytest.fixture
def other_study() -> Callable[..., Study]:
    return make_study


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of synthetic cases: boxes of several sizes and brightnesses in noise."""
    folder = tmp_path_factory.mktemp("raw")
    rng = np.random.default_rng(1)
    for i in range(CASES):
        mask = np.zeros((20, 20, 20), np.uint8)
        half = 2 + i % 4
        mask[10 - half : 10 + half, 10 - half : 10 + half, 10 - half : 10 + half] = 1
        array = 900 + 60 * rng.standard_normal(mask.shape) + (200.0 + 20 * i) * mask
        write_image(folder / f"C{i:02d}_t1.nii.gz", array.astype(np.float32))
        write_image(folder / f"C{i:02d}_mask.nii.gz", mask)
    rows = [f"C{i:02d},{'yes' if i % 2 else 'no'}" for i in range(CASES)]
    (folder / "clinical.csv").write_text("\n".join(["case,response", *rows]) + "\n")
    return folder


@pytest.fixture(scope="session")
def ingested(tmp_path_factory: pytest.TempPathFactory, raw: Path) -> Path:
    folder, study = tmp_path_factory.mktemp("home"), make_study()
    source = {
        "format": "nifti",
        "root": str(raw),
        "clinical": {"file": "clinical.csv"},
        "files": {"t1": "{case}_t1.nii.gz"},
        "mask": "{case}_mask.nii.gz",
    }
    (folder / "site.yaml").write_text(yaml.safe_dump({"site": "alpha", "source": source}))
    (folder / "policy.yaml").write_text("{minimum_cohort: 10, minimum_cell: 3}")
    (folder / "secret.key").touch(mode=0o600)
    (folder / "secret.key").write_bytes(bytes(32))  # pseudonyms, and so splits, that are the same in every run
    ingest(load_site(folder), study, folder)
    approve(folder, study, by="test")
    return folder


@pytest.fixture
def home(tmp_path: Path, ingested: Path) -> Path:
    """A site's home of its own, with a store."""
    return Path(shutil.copytree(ingested, tmp_path / "home"))
