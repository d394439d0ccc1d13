"""Masks that a model drew are counted and marked in the check; a drawing study is checked like any other."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import yaml

from fedloupe import __version__
from fedloupe.drawing import DrawingCard, model_bytes
from fedloupe.models import flatten, unet
from fedloupe.study import Study, parse_study
from fedloupe_client.config import load_site
from fedloupe_client.ingest import ingest
from fedloupe_client.preflight import preflight, write_page
from fedloupe_client.preflight.rehearsal import dry_round

SHAPE = (16, 16, 16)
DRAWING = {"field_mm": 32, "channels": [2, 4]}
CASES = 12


def make_study(**changes: Any) -> Study:
    return parse_study(
        {
            "study": "tiny",
            "title": "Synthetic noise",
            "synthetic": True,
            "endpoint": {"name": "response", "column": "response", "positive": ["yes"], "negative": ["no"]},
            "sequences": [{"name": "t2w"}],
            "aggregation": "plain",
            "sites": [{"name": "alpha", "role": "train"}],
            "imaging": {"spacing_mm": 2.0, "crop_mm": 16, "bias_correction": "none"},
            "radiomics": {"source": "none"},
            "model": {"components": 2, "width": 8, "depth": 1, "heads": 2},
            "training": {"rounds": 1, "local_epochs": 1},
            "quorum": {"minimum": 1},
            **changes,
        }
    )


def everything(folder: Path) -> Path:
    """A model that takes every voxel for tumour."""
    study = make_study(segmentation=DRAWING)
    weights = 0 * flatten(unet(study.segmentation, study.sequences))
    weights[-1] = 5.0  # the bias of the last layer
    content = model_bytes(weights)
    card = DrawingCard(
        study="drawing",
        title="Everything",
        synthetic=True,
        fingerprint=study.fingerprint,
        version=__version__,
        model=hashlib.sha256(content).hexdigest(),
        sequences=study.sequences,
        imaging=study.imaging,
        segmentation=study.segmentation,
        sites=(),
    )
    folder.mkdir()
    (folder / "drawing.json").write_text(card.model_dump_json())
    (folder / "model.safetensors").write_bytes(content)
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve cases; the first two have no mask."""
    monkeypatch.setattr("fedloupe_client.preflight.check.rehearse", dry_round)  # a process of its own costs seconds
    rng = np.random.default_rng(0)
    for number in range(CASES):
        mask = np.zeros(SHAPE, np.uint8)
        mask[5:11, 5:11, 5 : 9 + number % 3] = 1
        for name, array in (("t2w", (rng.standard_normal(SHAPE) + 3 * mask).astype(np.float32)), ("mask", mask)):
            image = sitk.GetImageFromArray(array)
            image.SetSpacing((2.0, 2.0, 2.0))
            if name != "mask" or number >= 2:
                sitk.WriteImage(image, str(tmp_path / f"C{number:02d}_{name}.nii.gz"))
    rows = [f"C{n:02d},{'yes' if n % 2 else 'no'}" for n in range(CASES)]
    (tmp_path / "clinical.csv").write_text("\n".join(["case,response", *rows]) + "\n")
    source = {
        "format": "nifti",
        "root": ".",
        "clinical": {"file": "clinical.csv"},
        "files": {"t2w": "{case}_t2w.nii.gz"},
        "mask": "{case}_mask.nii.gz",
        "drawing": "model",
    }
    everything(tmp_path / "model")
    (tmp_path / "site.yaml").write_text(yaml.safe_dump({"site": "alpha", "source": source}))
    (tmp_path / "policy.yaml").write_text("{minimum_cohort: 3, minimum_cell: 1}")
    return tmp_path


class TestDrawnMasks:
    def test_are_counted_named_as_a_finding_and_marked_on_each_picture(self, home):
        study = make_study()
        ingest(load_site(home), study, home)
        seen = preflight(home, study)
        assert seen.result.drawn == 2
        drawn = [entry.case for entry in seen.result.cases if entry.drawn_by]
        finding = next(f for f in seen.result.findings if f.code == "FL-640")
        assert (finding.severity, sorted(finding.cases)) == ("warning", sorted(drawn))
        text = write_page(seen, home, Path("study.yaml")).read_text()
        assert text.count(", mask drawn by a model</figcaption>") == 3 * 2
        assert "<td>2 of 12</td>" in text

    def test_without_any_nothing_is_said_of_them(self, home):
        for number in range(2):
            (home / f"C{number:02d}_mask.nii.gz").write_bytes((home / "C05_mask.nii.gz").read_bytes())
        study = make_study()
        ingest(load_site(home), study, home)
        seen = preflight(home, study)
        assert seen.result.drawn == 0
        assert "drawn by" not in write_page(seen, home, Path("study.yaml")).read_text()


class TestDrawingStudy:
    def test_is_rehearsed_with_its_own_network(self, home):
        study = make_study(segmentation=DRAWING)
        ingest(load_site(home), study, home)
        result = preflight(home, study).result
        assert result.rehearsal is not None, result.rehearsal_note
        assert (result.rehearsal.work, result.rehearsal.patients) == ("train", result.patients["train"])
        assert result.left_out == {}
        assert result.statuses == {"ready": 10, "excluded": 0, "broken": 2}
