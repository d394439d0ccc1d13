"""`fedloupe compare` on small synthetic tables, through homes, gates and Flower's in-process Grid."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from fedloupe.metrics import delong
from fedloupe.study import Study, parse_study
from fedloupe_client.gate import verify
from fedloupe_server.cli import app
from fedloupe_server.comparing import Comparison
from fedloupe_server.evidence.loading import load_results
from fedloupe_server.simulation.scoring import read_scores
from fedloupe_server.simulation.variants import Plan, variants

SITES = {"alpha": "train", "beta": "train", "gamma": "train", "omega": "validate"}
PATIENTS = 30
FEATURES = 8
CONTENT: dict[str, Any] = {
    "study": "compared",
    "title": "Synthetic tables",
    "synthetic": True,
    "endpoint": {"name": "response", "column": "response", "positive": ["1"], "negative": ["0"]},
    "clinical": [{"name": "age", "column": "age"}],
    "sites": [{"name": name, "role": role} for name, role in SITES.items()],
    "radiomics": {"source": "table"},
    "model": {"components": 4, "image": False, "width": 8, "depth": 1, "heads": 2},
    "training": {"rounds": 2, "local_epochs": 1, "batch_size": 16, "learning_rate": 0.001},
    "split": {"test": 0.3, "tune": 0.2},
    "quorum": {"minimum": 3, "timeout_s": 60, "retry_after_s": 1},
    "evaluation": {"reference_score": "truth", "clinical_baseline": True},
    "seed": 1,
}


ARCHITECTURES = ["transformer", "gcn"]  # those that need no images


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    rng = np.random.default_rng(5)
    weights = rng.standard_normal(FEATURES)
    sites = {}
    for name in SITES:
        values = rng.standard_normal((PATIENTS, FEATURES))
        truth = 1 / (1 + np.exp(-values @ weights))
        event = rng.random(PATIENTS) < truth
        with (folder / f"{name}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["case", "response", "truth", "age", *(f"f{i}" for i in range(FEATURES))])
            for i in range(PATIENTS):
                age = f"{rng.normal():.3f}"
                table.writerow([f"{name}{i}", int(event[i]), f"{truth[i]:.6f}", age, *(f"{v:.6f}" for v in values[i])])
        source = {
            "format": "table",
            "root": ".",
            "clinical": {"file": f"{name}.csv", "case": "case"},
            "features": f"{name}.csv",
            "exclude": ["response", "truth", "age"],
        }
        sites[name] = {"source": source}
    policy = {"minimum_cohort": 5, "minimum_cell": 2}
    (folder / "study.sites.yaml").write_text(yaml.safe_dump({"sites": sites, "policy": policy}))
    (folder / "study.yaml").write_text(yaml.safe_dump(CONTENT))
    return folder


@pytest.fixture(scope="module")
def compare(data: Path) -> Callable[..., Comparison]:
    def run(out: Path, *options: str) -> Comparison:
        command = ["compare", str(data / "study.yaml"), "--data", str(data), "--out", str(out), "--jobs", "1", *options]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        return Comparison.model_validate_json((out / "comparison.json").read_bytes())

    return run


@pytest.fixture(scope="module")
def split(compare: Callable[..., Comparison], tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Path]:
    out = tmp_path_factory.mktemp("split")
    return compare(out, "--seeds", "1,2"), out


def homes(out: Path) -> dict[str, Path]:
    return {name: out / "sites" / name for name in SITES}


class TestSplit:
    def test_every_architecture_is_federated_pooled_and_local_inside_and_outside(self, split):
        comparison, _ = split
        assert comparison.places == ("internal", "omega")
        for architecture in ARCHITECTURES:
            for regime in ("federated", "pooled", "local"):
                for place in comparison.places:
                    found = comparison.estimate(architecture, regime, place)
                    assert found is not None
                    assert found.low < found.auc < found.high
                    assert found.fits == 2
        baselines = {e.group for e in comparison.estimates if e.regime in ("baseline", "oracle")}
        assert baselines == {"logistic", "clinical", "oracle"}

    def test_the_outside_estimate_is_the_mean_of_the_runs_own_results(self, split):
        comparison, out = split
        results = [load_results(out / "runs" / f"transformer-seed-{seed}") for seed in (1, 2)]
        omega = [next(s for s in r.sites if s.site == "omega") for r in results]
        assert comparison.estimate("transformer", "federated", "omega").auc == pytest.approx(
            np.mean([s.federated.auc for s in omega]), abs=1e-6
        )
        assert comparison.estimate("logistic", "baseline", "omega").auc == pytest.approx(
            np.mean([s.logistic.auc for s in omega]), abs=1e-6
        )
        assert comparison.estimate("transformer", "local", "omega").auc == pytest.approx(
            np.mean([other.auc for s in omega for other in s.local_elsewhere]), abs=1e-6
        )
        assert comparison.estimate("oracle", "oracle", "omega").auc == pytest.approx(omega[0].federated.reference_auc)

    def test_a_difference_is_that_of_its_estimates(self, split):
        comparison, _ = split
        assert {(d.second, d.second_regime) for d in comparison.differences} >= {
            ("transformer", "pooled"),
            ("transformer", "local"),
            ("logistic", "baseline"),
        }
        for d in comparison.differences:
            one = comparison.estimate(d.first, d.first_regime, d.place)
            other = comparison.estimate(d.second, d.second_regime, d.place)
            assert d.difference == pytest.approx(one.auc - other.auc, abs=1e-12)
            assert (d.low > 0 or d.high < 0) == (d.p < 0.05)

    def test_no_gate_was_passed_by_and_the_scores_stayed_at_home(self, split):
        _, out = split
        for home in homes(out).values():
            assert verify(home) == []
            assert (home / "gate" / "answers" / "transformer-seed-1").is_dir()
        assert not list((out / "runs").rglob("compared.safetensors"))

    def test_it_goes_on_from_what_is_there_to_the_same_bytes(self, split, compare):
        _, out = split
        before, model = (out / "comparison.json").read_bytes(), out / "runs/transformer-seed-2/rounds/0002.safetensors"
        written = model.stat().st_mtime_ns
        results = out / "runs" / "transformer-seed-2" / "results.json"
        results.unlink()
        (out / "sites/omega/runs/transformer-seed-2/compared.safetensors").unlink()
        compare(out, "--seeds", "1,2", "--architectures", ",".join(ARCHITECTURES))
        assert results.exists()
        assert model.stat().st_mtime_ns == written
        assert (out / "comparison.json").read_bytes() == before

    def test_the_page_and_the_costs_name_every_architecture(self, split):
        _, out = split
        costs = json.loads((out / "costs.json").read_text())
        assert list(costs) == ARCHITECTURES
        assert all(value > 0 for cost in costs.values() for value in cost.values())
        page = (out / "comparison.md").read_text()
        assert "SYNTHETIC" in page and "Research use only" in page
        assert "transformer, federated - transformer, pooled" in page

    def test_another_study_or_other_folds_are_no_part_of_it(self, split, data, tmp_path):
        """What an edited study left in the folder must not pass for what was asked."""
        _, out = split
        folder = shutil.copytree(out, tmp_path / "out")
        study = tmp_path / "edited.yaml"
        study.write_text(yaml.safe_dump({**CONTENT, "training": {**CONTENT["training"], "rounds": 3}}))
        words = ["compare", str(study), "--sites", str(data / "study.sites.yaml"), "--data", str(data)]
        words += ["--out", str(folder), "--seeds", "1,2", "--architectures", "transformer,gcn", "--json"]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 1 and "FL-704" in result.output
        plans = [Plan(seeds=(1,), architectures=("transformer",), design="kfold", folds=k) for k in (5, 10)]
        names = [{variant.name for variant in variants(parse_study(CONTENT), plan)} for plan in plans]
        assert not names[0] & names[1]


class TestOtherDesigns:
    def test_five_folds_test_each_patient_once(self, compare, tmp_path):
        comparison = compare(tmp_path, "--seeds", "4,", "--architectures", "transformer", "--design", "kfold")
        study = parse_study(CONTENT)
        plan = Plan(seeds=(4,), architectures=("transformer",), design="kfold")
        folds = [read_scores(homes(tmp_path), v) for v in variants(study, plan)]
        assert len(folds) == 5
        for site in ("alpha", "beta", "gamma"):
            tested = np.sum([~np.isnan(fold[site].scores["federated"]) for fold in folds], axis=0)
            assert tested.tolist() == [1] * PATIENTS
        internal = comparison.estimate("transformer", "federated", "internal")
        assert internal.patients == 3 * PATIENTS
        joined = {s: np.nansum([fold[s].scores["federated"] for fold in folds], axis=0) for s in SITES if s != "omega"}
        areas = [delong(folds[0][site].labels, scores).auc for site, scores in joined.items()]
        assert internal.auc == pytest.approx(np.mean(areas))
        assert comparison.estimate("transformer", "federated", "omega").fits == 1

    def test_leaving_a_site_out_scores_all_its_patients_by_a_model_that_never_saw_it(self, compare, data, tmp_path):
        comparison = compare(
            tmp_path, "--seeds", "1,", "--architectures", "transformer", "--design", "leave-one-site-out"
        )
        assert set(comparison.places) == {"external", "alpha", "beta", "gamma", "omega"}
        run = load_results(tmp_path / "runs" / "transformer-seed-1-without-beta")
        beta = next(s for s in run.sites if s.site == "beta")
        assert beta.role == "validate"
        found = comparison.estimate("transformer", "federated", "beta")
        assert (found.auc, found.patients) == (pytest.approx(beta.federated.auc), PATIENTS)
        assert not comparison.estimate("transformer", "federated", "internal")

    def test_sets_of_inputs_are_compared_with_all_of_them(self, compare, tmp_path):
        comparison = compare(tmp_path, "--seeds", "1,", "--modalities")
        assert comparison.setting.groups == ("all inputs", "radiomics", "clinical")
        assert comparison.parameters["clinical"] < comparison.parameters["all inputs"]
        pairs = {(d.first, d.second) for d in comparison.differences}
        assert {("clinical", "all inputs"), ("radiomics", "all inputs")} <= pairs

    def test_a_site_of_which_nothing_may_be_said_is_left_out_with_a_note(self, compare, data, tmp_path):
        sites = yaml.safe_load((data / "study.sites.yaml").read_text())
        sites["policy"]["minimum_cell"] = 5
        content = {**CONTENT, "split": {"test": 0.15, "tune": 0.4}}
        (data / "strict.sites.yaml").write_text(yaml.safe_dump(sites))
        (data / "strict.yaml").write_text(yaml.safe_dump(content))
        shutil.copy(data / "strict.yaml", tmp_path / "study.yaml")
        command = ["compare", str(tmp_path / "study.yaml"), "--data", str(data), "--out", str(tmp_path / "out")]
        command += ["--sites", str(data / "strict.sites.yaml"), "--seeds", "1,", "--architectures", "transformer"]
        done = CliRunner().invoke(app, [*command, "--jobs", "1"])
        assert done.exit_code == 0, done.output
        comparison = Comparison.model_validate_json((tmp_path / "out" / "comparison.json").read_bytes())
        assert comparison.places == ("omega",)
        assert any("alpha" in note for note in comparison.footnotes)


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "code"),
        [
            (["--architectures", "forest"], "FL-713"),
            (["--architectures", "cnn"], "FL-713"),
            (["--seeds", "1,1"], "FL-713"),
            (["--seeds", "some"], "FL-713"),
            (["--design", "bootstrap"], "FL-713"),
            (["--data", "nowhere"], "FL-711"),
        ],
    )
    def test_what_was_typed_is_not_possible(self, data, tmp_path, options, code):
        command = ["compare", str(data / "study.yaml"), "--data", str(data), "--out", str(tmp_path), *options, "--json"]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 1
        assert json.loads(done.output)["error"]["code"] == code

    def test_a_private_study(self):
        content = {key: value for key, value in CONTENT.items() if key != "evaluation"}
        content["training"] = {"preparation": "public", "start": "random"}
        private: Study = parse_study({**content, "privacy": {"mode": "dp-sgd", "epsilon": 8}})
        with pytest.raises(Exception, match="private") as caught:
            variants(private, Plan())
        assert caught.value.code == "FL-712"
