"""The exported model is the model that sites run: same probabilities, whatever is missing, and the same bytes twice."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from safetensors import safe_open
from scipy.special import expit

from fedloupe.models import Preparation, Schema, build_model, flatten, group_order
from fedloupe.models.flat import WrongSize
from fedloupe.study import Study, clinical_inputs
from fedloupe_client.dataset import Cohort
from fedloupe_client.training.predicting import model_logits
from fedloupe_server.evidence.model_files import ModelMisfit, ModelUnwritable, write_model

LINE = np.array([0.3, 0.8])
IMAGES = {
    "sequences": [
        {"name": "t2w"},
        {"name": "adc", "intensity": "physical", "required": False},
        {"name": "ct", "modality": "CT", "intensity": "hounsfield", "required": False},
    ],
    # 34 voxels, 5 places: parts of the last map that the CNN averages overlap, and the norms see 10^4 values
    "imaging": {"spacing_mm": 2.0, "crop_mm": 68},
    "radiomics": {"source": "computed", "settings": {"version": 1}},
}
TABLE = {"sequences": [], "radiomics": {"source": "table"}}
GROUPS = ("shape",) * 3 + ("t2w",) * 4 + ("adc",) * 2
KINDS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "transformer": ("transformer", IMAGES, GROUPS),
    "cnn": ("cnn", IMAGES, GROUPS),
    "gcn": ("gcn", IMAGES, GROUPS),
    "logistic": ("logistic", IMAGES, GROUPS),
    "table": ("transformer", TABLE, ("table",) * 5),
    "images": ("cnn", {**IMAGES, "radiomics": {"source": "none"}, "clinical": []}, ()),
    "images-clinical": ("transformer", {**IMAGES, "radiomics": {"source": "none"}}, ()),
    "some-inputs": ("gcn", {**IMAGES, "inputs": ["image-mr", "radiomics-mr"]}, GROUPS),
}


def make_study(architecture: str, inputs: list[str] | None = None, **changes: Any) -> Study:
    content: dict[str, Any] = {
        "study": "export-test",
        "title": "Synthetic study of the exported model's tests",
        "synthetic": True,
        "endpoint": {"name": "response", "column": "response", "positive": ["1"], "negative": ["0"]},
        "clinical": [
            {"name": "age", "column": "age", "centre": 60, "scale": 12},
            {"name": "stage", "column": "stage", "levels": {"T2": -1, "T3": 0}},
        ],
        "aggregation": "plain",
        "sites": [{"name": "north", "role": "train"}, {"name": "south", "role": "train"}],
    }
    image = architecture != "logistic" and bool(changes.get("sequences"))
    model = {"architecture": architecture, "components": 2, "width": 8, "depth": 1, "heads": 2, "image": image}
    return Study.model_validate({**content, **changes, "model": {**model, "inputs": inputs}})


@dataclass
class Exported:
    """A study, its numbers, and what was written of them."""

    study: Study
    columns: tuple[str, ...]
    parts: dict[str, Any]
    folder: Path
    digests: dict[str, str]

    @property
    def session(self) -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(self.folder / "model.onnx", providers=["CPUExecutionProvider"])

    def run(self, patients: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        session = self.session
        given = {i.name: patients[i.name] for i in session.get_inputs()}
        probability, logit = session.run(["probability", "logit"], given)
        return probability, logit


def make_parts(study: Study, columns: tuple[str, ...]) -> dict[str, Any]:
    """Everything of `write_model` but folder and study: no weight at its start, one constant feature."""
    rng, p = np.random.default_rng(4), len(columns)
    scale = np.abs(rng.normal(size=p)) + 0.5
    scale[1:2] = 0
    projection = rng.normal(size=(p, study.model.components)).astype(np.float32)
    weights = flatten(build_model(study, Schema.of(study, group_order(columns))))
    return {
        "features": tuple(f"feature-{i}" for i in range(p)),
        "columns": columns,
        "preparation": Preparation(100 * rng.normal(size=p), scale, projection, "federated"),
        "weights": weights + 0.1 * rng.standard_normal(weights.shape).astype(np.float32),
        "line": LINE,
        "threshold": 0.41,
        "frozen": "f" * 64,
        "synthetic": True,
    }


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """One export a kind for all tests of the file."""
    made: dict[str, Exported] = {}

    def get(kind: str) -> Exported:
        if kind not in made:
            architecture, changes, columns = KINDS[kind]
            study, folder = make_study(architecture, **changes), tmp_path_factory.mktemp(kind) / "model"
            parts = make_parts(study, columns)
            made[kind] = Exported(study, columns, parts, folder, write_model(folder, study, **parts))
        return made[kind]

    return get


def make_patients(found: Exported, size: int) -> dict[str, np.ndarray]:
    """As measured: outliers, scattered NaN, the second patient without the first group, the third without anything that
    may be missing."""
    rng, preparation = np.random.default_rng(size), found.parts["preparation"]
    schema = Schema.of(found.study, group_order(found.columns))
    features = preparation.mean + rng.normal(size=(size, len(found.columns))) * np.where(preparation.scale > 0, 3, 1)
    features[rng.random(features.shape) < 0.1] = np.nan
    clinical = np.column_stack([rng.normal(60, 12, size), rng.integers(-1, 1, size)])[:, : schema.clinical]
    edge = (schema.crop,) * 3
    images = {f: rng.normal(size=(size, c, *edge)) for f, c in (("mr", schema.mr), ("ct", schema.ct))}
    present = {name: np.ones(array.shape[:2]) for name, array in images.items()}
    if size > 2:
        features[1, [c == found.columns[0] for c in found.columns]] = np.nan
        features[2], clinical[2] = np.nan, np.nan
        present["mr"][2, 1:], present["ct"][2] = 0, 0
    single = {**images, **{f"{name}_present": array for name, array in present.items()}}
    return {"features": features, "clinical": clinical, **{k: v.astype(np.float32) for k, v in single.items()}}


def at_a_site(found: Exported, patients: dict[str, np.ndarray]) -> np.ndarray:
    """(n) log-odds by the code that a hospital runs."""
    variables, size = clinical_inputs(found.study), len(patients["features"])
    centre, scale = ([getattr(v, name) for v in variables] for name in ("centre", "scale"))
    images = {name: patients[name] * patients[f"{name}_present"][:, :, None, None, None] for name in ("mr", "ct")}
    cohort = Cohort(
        cases=tuple(str(i) for i in range(size)),
        labels=np.zeros(size, np.int64),
        split=np.full(size, "test"),
        names=found.parts["features"],
        columns=found.columns,
        features=patients["features"],
        clinical=(patients["clinical"] - np.array(centre)) / np.array(scale),
        mr_present=patients["mr_present"],
        ct_present=patients["ct_present"],
        reference=None,
        **images,
    )
    return model_logits(found.study, cohort, found.parts["preparation"], found.parts["weights"], np.arange(size))


class TestAgreement:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("size", [1, 7])
    def test_the_graph_gives_what_a_site_computes(self, exported, kind, size):
        found = exported(kind)
        patients = make_patients(found, size)
        probability, logit = found.run(patients)
        expected = at_a_site(found, patients)
        assert probability.shape == logit.shape == (size,)
        assert logit == pytest.approx(expected, abs=1e-5)
        assert probability == pytest.approx(expit(LINE[0] + LINE[1] * expected), abs=1e-5)
        assert size == 1 or np.ptp(probability) > 0.01

    def test_large_crops_lose_nothing_to_float32(self, tmp_path):
        study = make_study("transformer", **{**IMAGES, "imaging": {"spacing_mm": 1.0, "crop_mm": 64}})
        parts = make_parts(study, GROUPS)
        found = Exported(study, GROUPS, parts, tmp_path, write_model(tmp_path, study, **parts))
        patients = make_patients(found, 3)
        patients["mr"] = patients["mr"] + 3  # far from zero, where moments in float32 cancel
        assert found.run(patients)[1] == pytest.approx(at_a_site(found, patients), abs=1e-5)

    def test_what_stands_in_a_missing_volume_plays_no_part(self, exported):
        found = exported("cnn")
        patients = make_patients(found, 7)
        before = found.run(patients)[0]
        patients["ct"][2] = np.nan
        assert np.array_equal(found.run(patients)[0], before)

    def test_without_a_line_the_probability_is_the_models_own(self, exported, tmp_path):
        found = exported("table")
        write_model(tmp_path, found.study, **{**found.parts, "line": None})
        found = Exported(found.study, found.columns, found.parts, tmp_path, {})
        probability, logit = found.run(make_patients(found, 7))
        assert probability == pytest.approx(expit(logit), abs=1e-12)
        with safe_open(tmp_path / "model.safetensors", framework="numpy") as file:
            assert "line" not in file.keys()  # noqa: SIM118


class TestFiles:
    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            ("transformer", ["features", "clinical", "mr", "mr_present", "ct", "ct_present"]),
            ("logistic", ["features", "clinical"]),
            ("table", ["features", "clinical"]),
            ("images", ["mr", "mr_present", "ct", "ct_present"]),
            ("some-inputs", ["features", "mr", "mr_present"]),
        ],
    )
    def test_the_graph_asks_only_for_what_the_model_sees(self, exported, kind, expected):
        found = exported(kind)
        told = json.loads((found.folder / "inputs.json").read_text())
        assert [i.name for i in found.session.get_inputs()] == expected
        assert [i["name"] for i in told["inputs"]] == expected
        assert [[i.name, *i.shape[1:]] for i in found.session.get_inputs()] == [
            [i["name"], *i["shape"][1:]] for i in told["inputs"]
        ]

    @pytest.mark.parametrize("kind", ["transformer", "logistic", "table", "images"])
    def test_the_example_runs_where_fedloupe_is_not(self, exported, kind):
        found = exported(kind)
        done = run_example(found.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("synthetic patient") == 3

    def test_the_example_ends_with_an_error_where_a_probability_differs(self, exported, tmp_path):
        found = exported("table")
        for path in found.folder.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        with np.load(tmp_path / "example.npz") as stored:
            arrays = dict(stored)
        arrays["probability"][1] += 1e-4
        np.savez(tmp_path / "example.npz", **arrays)
        done = run_example(tmp_path)
        assert done.returncode == 1 and "DIFFERS" in done.stdout

    def test_the_tensors_are_the_frozen_ones_by_name(self, exported):
        found = exported("cnn")
        with safe_open(found.folder / "model.safetensors", framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            words = json.loads(file.metadata()["fedloupe"])
        model = build_model(found.study, Schema.of(found.study, group_order(GROUPS)))
        flat = np.concatenate([arrays[f"weight.{name}"].ravel() for name, _ in model.named_parameters()])
        assert np.array_equal(flat, found.parts["weights"])
        assert np.array_equal(arrays["preparation.projection"], found.parts["preparation"].projection)
        assert np.array_equal(arrays["line"], LINE) and arrays["threshold"].tolist() == [0.41]
        assert words["study"] == found.study.fingerprint and words["frozen"] == "f" * 64
        assert [f["name"] for f in words["features"]] == list(found.parts["features"])
        assert "Research use only" in words["use"] and words["synthetic"]

    def test_the_same_model_gives_the_same_bytes(self, exported, tmp_path):
        found = exported("cnn")
        again = write_model(tmp_path, found.study, **found.parts)
        assert again == found.digests
        assert again == {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in tmp_path.iterdir()}

    def test_the_graph_says_nothing_of_the_machine(self, exported):
        content = (exported("transformer").folder / "model.onnx").read_bytes()
        assert b".py" not in content and str(Path.cwd()).encode() not in content

    def test_the_page_has_its_sections_and_says_what_it_is_for(self, exported):
        page = (exported("transformer").folder / "README.md").read_text()
        assert [line for line in page.splitlines() if line.startswith("## ")] == ["## Files", "## Input", "## Example"]
        assert "Research use only" in page and "0.41" in page and "(x - 1000) / 500" in page and "`T2` is -1" in page
        assert "Harmonisation" not in page
        assert "Crops" not in (exported("table").folder / "README.md").read_text()

    def test_a_study_that_harmonises_says_that_the_graph_does_not(self, tmp_path):
        study = make_study("logistic", **TABLE, harmonisation={"batch": "site"})
        write_model(tmp_path, study, **make_parts(study, ("table",) * 4))
        assert "**Harmonisation is not in this file.**" in (tmp_path / "README.md").read_text()
        assert json.loads((tmp_path / "inputs.json").read_text())["harmonised"] is True


class TestErrors:
    def test_a_preparation_of_other_features_is_refused(self, exported, tmp_path):
        found = exported("table")
        with pytest.raises(ModelMisfit, match="4 features") as caught:
            changes = {"features": found.parts["features"][:4], "columns": found.columns[:4]}
            write_model(tmp_path / "model", found.study, **{**found.parts, **changes})
        assert caught.value.code == "FL-823" and not (tmp_path / "model").exists()

    def test_weights_of_another_model_are_refused(self, exported, tmp_path):
        found = exported("table")
        with pytest.raises(WrongSize):
            write_model(tmp_path / "model", found.study, **{**found.parts, "weights": found.parts["weights"][1:]})
        assert not (tmp_path / "model").exists()

    def test_a_folder_that_cannot_be_made_is_named(self, exported, tmp_path):
        found = exported("table")
        (tmp_path / "model").write_text("a file")
        with pytest.raises(ModelUnwritable, match="FL-822"):
            write_model(tmp_path / "model", found.study, **found.parts)


def run_example(folder: Path) -> subprocess.CompletedProcess[str]:
    """In a process that may import installed packages alone."""
    command = [sys.executable, "-I", str(folder / "example.py")]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder.parent)
