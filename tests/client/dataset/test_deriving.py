"""Derived data: one bad case costs one case, a corrected image is derived anew, a run sees one state of the data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from safetensors import safe_open

from fedloupe import __version__
from fedloupe.features import FeatureSettings
from fedloupe.messages import Failure, HelloReply, HelloRequest, decode, encode
from fedloupe.study import parse_study
from fedloupe_client.config import load_site
from fedloupe_client.dataset import derive, load_cohort, problems
from fedloupe_client.gate import approve
from fedloupe_client.ingest import ingest, load_store
from fedloupe_client.processes import one_thread_each
from fedloupe_client.site.site import Site

CASES = 12


@pytest.fixture(scope="module")
def study():
    settings = FeatureSettings(families=("firstorder",), log_sigmas_mm=(), wavelet=None).model_dump(mode="json")
    return parse_study(
        {
            "study": "tiny",
            "title": "Synthetic volumes",
            "synthetic": True,
            "endpoint": {"name": "response", "column": "response", "positive": ["yes"], "negative": ["no"]},
            "sequences": [{"name": "t1"}],
            "aggregation": "plain",
            "sites": [{"name": "alpha", "role": "train"}],
            "imaging": {"spacing_mm": 2.0, "crop_mm": 16, "bias_correction": "none"},
            "radiomics": {"source": "computed", "settings": settings},
            "model": {"components": 2, "image": False, "width": 8, "depth": 1, "heads": 2},
            "quorum": {"minimum": 1},
        }
    )


def write_image(path: Path, array: np.ndarray) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.0, 2.0, 2.0))
    sitk.WriteImage(image, str(path))


@pytest.fixture
def home(tmp_path: Path, study) -> Path:
    """Twelve small cases; C03 has no contrast at all."""
    rng = np.random.default_rng(1)
    mask = np.zeros((24, 24, 24), np.uint8)
    mask[9:15, 9:15, 9:15] = 1
    for i in range(CASES):
        array = np.full(mask.shape, 7.0) if i == 3 else 100 + 10 * rng.standard_normal(mask.shape)
        write_image(tmp_path / f"C{i:02d}_t1.nii.gz", array.astype(np.float32))
        write_image(tmp_path / f"C{i:02d}_mask.nii.gz", mask)
    rows = [f"C{i:02d},{'yes' if i % 2 else 'no'}" for i in range(CASES)]
    (tmp_path / "clinical.csv").write_text("\n".join(["case,response", *rows]) + "\n")
    source = {
        "format": "nifti",
        "root": ".",
        "clinical": {"file": "clinical.csv"},
        "files": {"t1": "{case}_t1.nii.gz"},
        "mask": "{case}_mask.nii.gz",
    }
    (tmp_path / "site.yaml").write_text(yaml.safe_dump({"site": "alpha", "source": source}))
    (tmp_path / "policy.yaml").write_text("{minimum_cohort: 3, minimum_cell: 1}")
    ingest(load_site(tmp_path), study, tmp_path)
    approve(tmp_path, study, by="test")
    return tmp_path


def hello(home: Path, study, run: str = "first"):
    header = {"version": __version__, "fingerprint": study.fingerprint, "run": run, "site": "alpha"}
    return decode(Site(home).answer(encode(HelloRequest(**header))))


class TestParts:
    def test_part_by_part_gives_the_files_of_the_whole(self, home, study):
        def content() -> dict[str, bytes]:
            return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}

        cases = [record.case for record in load_store(home).ready]
        folder = derive(home, study, cases=cases[:5])
        assert len(content()) == 5
        derive(home, study, cases=cases[5:])
        parts = content()
        for path in folder.iterdir():
            path.unlink()
        derive(home, study)
        assert content() == parts
        assert len(parts) == CASES

    def test_every_row_of_features_names_the_settings_that_it_comes_from(self, home, study):
        folder = derive(home, study)
        digest = FeatureSettings.model_validate(study.radiomics.settings).digest
        for path in folder.glob("*.safetensors"):
            with safe_open(str(path), framework="numpy") as file:
                assert file.metadata() == {"radiomics": digest}

    def test_worker_processes_have_one_thread_and_this_one_is_left_alone(self, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
        code = "import os, numba; print(os.environ['OMP_NUM_THREADS'], numba.get_num_threads())"
        with one_thread_each():
            told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert told.stdout.split() == ["1", "1"]
        assert os.environ["OMP_NUM_THREADS"] == "3"
        assert "OPENBLAS_NUM_THREADS" not in os.environ


class TestACaseThatCannotBeUsed:
    def test_is_left_out_with_its_code_and_the_others_stay(self, home, study):
        derive(home, study)
        left_out = problems(home, study)
        assert list(left_out.values()) == ["FL-302"]
        cohort = load_cohort(home, study, "alpha")
        assert len(cohort.cases) == CASES - 1
        assert not set(left_out) & set(cohort.cases)
        assert hello(home, study).excluded == {"FL-302": 1}

    def test_counts_again_once_its_image_is_corrected(self, home, study):
        derive(home, study)
        array = 100 + 10 * np.random.default_rng(2).standard_normal((24, 24, 24))
        write_image(home / "C03_t1.nii.gz", array.astype(np.float32))
        ingest(load_site(home), study, home)
        derive(home, study)
        assert problems(home, study) == {}
        assert len(load_cohort(home, study, "alpha").cases) == CASES


class TestDerivedData:
    def test_are_kept_from_one_time_to_the_next(self, home, study):
        done: list[str] = []
        derive(home, study, progress=lambda _d, _t, case: done.append(case))
        assert len(done) == CASES
        derive(home, study, progress=lambda _d, _t, case: done.append(case))
        assert len(done) == CASES


class TestARun:
    def test_sees_one_state_of_the_data(self, home, study):
        assert isinstance(hello(home, study), HelloReply)
        array = 100 + 10 * np.random.default_rng(3).standard_normal((24, 24, 24))
        write_image(home / "C05_t1.nii.gz", array.astype(np.float32))
        ingest(load_site(home), study, home)
        refused = hello(home, study)
        assert isinstance(refused, Failure) and refused.code == "FL-607"
        assert isinstance(hello(home, study, run="second"), HelloReply)
        lines = [json.loads(line) for line in (home / "gate" / "audit.jsonl").read_text().splitlines()]
        assert "FL-607" in {line["outcome"] for line in lines}
