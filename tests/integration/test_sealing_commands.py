"""`fedloupe run --until frozen`, `freeze` and `validate` on synthetic tables, with real homes and gates."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from fedloupe.freezing import Seal
from fedloupe.signing import Signer
from fedloupe_server.cli import app

pytestmark = pytest.mark.filterwarnings("ignore")
TRAIN = [{"name": "alpha", "role": "train"}, {"name": "beta", "role": "train"}]


def say(*words: str | Path, code: int = 0) -> dict:
    done = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


@pytest.fixture
def study_file(make_study, tables, tmp_path):
    def write(name: str, **changes) -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(json.loads(make_study(**changes).canonical)))
        (tmp_path / f"{name}.sites.yaml").write_text((tables / "sites.yaml").read_text())
        return path

    return write


def test_fitted_and_sealed_then_validated_by_a_hospital_that_was_not_in_the_study(study_file, tables, tmp_path):
    evaluation = {"logistic_baseline": True, "local_models": "everywhere"}
    first = study_file("first", sites=TRAIN, evaluation=evaluation)
    folder, data = tmp_path / "runs", ("--data", tables)
    run_dir = folder / "small-tables"
    said = say("run", first, *data, "--out", folder, "--until", "frozen")
    assert said["contributed"] == ["alpha", "beta"] and not (run_dir / "results.json").exists()
    assert say("freeze", run_dir) == said
    assert say("run", first, *data, "--out", folder)["sites"]

    more = [*TRAIN, {"name": "omega", "role": "validate"}]
    second = study_file("second", sites=more, title="Synthetic tables, one more hospital", evaluation=evaluation)
    told = say("validate", run_dir, second, *data)
    rows = told["sites"]
    assert told["pack"] == str(folder / "small-tables-validated" / "pack")
    assert [row["site"] for row in rows if row["role"] == "validate"] == ["omega"]
    kept = (folder / "sites" / "omega" / "gate" / "sealed" / "small-tables-validated.json").read_bytes()
    assert (Seal.parse(kept).digest, Seal.parse(kept).run) == (said["digest"], "small-tables")
    pack = folder / "small-tables-validated" / "pack"
    assert (pack / "report.html").is_file() and (pack / "model" / "model.safetensors").is_file()
    assert (pack / "seal.json").read_bytes() == (run_dir / "seal.json").read_bytes()
    ran = json.loads((pack / "provenance.json").read_text())["predicate"]["runDetails"]
    assert ran["byproducts"][0]["annotations"]["seal"] == hashlib.sha256((pack / "seal.json").read_bytes()).hexdigest()

    refused = CliRunner().invoke(
        app, ["validate", str(run_dir), str(second), "--data", str(tables), "--out", f"{run_dir}2"]
    )
    assert refused.exit_code == 1 and "FL-729" in refused.output, "nobody is tested twice"
    run_dir.rename(folder / "moved")
    refused = CliRunner().invoke(app, ["report", str(folder / "small-tables-validated")])
    assert refused.exit_code == 1 and "FL-827" in refused.output and not run_dir.exists(), "no pack without its model"
    shutil.copytree(folder / "moved", run_dir)
    seal = json.loads((run_dir / "seal.json").read_text())
    other = Seal.model_validate({**seal, "threshold": 0.5}).signed(Signer.load(folder / "coordinator.key"))
    (run_dir / "seal.json").write_text(other.text)
    refused = CliRunner().invoke(app, ["report", str(folder / "small-tables-validated")])
    assert refused.exit_code == 1 and "FL-827" in refused.output, "nor with another run's"
    shutil.rmtree(run_dir)
    (folder / "moved").rename(run_dir)

    path = run_dir / "threshold.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "threshold": 0.123}))
    for words in (("freeze", run_dir), ("validate", run_dir, second, *data, "--out", folder / "apart" / "again")):
        done = CliRunner().invoke(app, [*map(str, words)])
        assert done.exit_code == 1 and ("FL-736" in done.output or "FL-736" in done.stderr), done.output
