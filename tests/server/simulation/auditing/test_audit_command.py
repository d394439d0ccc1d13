"""`fedloupe audit`: what it says of a sound build and of a broken one, and whom it refuses."""

from __future__ import annotations

import json

import numpy as np
import yaml
from typer.testing import CliRunner

from fedloupe.privacy import SecureNoise
from fedloupe_server.cli import app
from fedloupe_server.simulation.auditing import canaries as module
from fedloupe_server.simulation.demo import demo_study

RUNNER = CliRunner()


def test_a_sound_build_exits_with_zero_and_says_both_epsilons():
    done = RUNNER.invoke(app, ["audit", "--epsilon", "8", "--canaries", "400", "--runs", "1", "--json"])
    content = json.loads(done.stdout)
    assert done.exit_code == 0 and not content["broken"]
    (run,) = content["canaries"]
    assert 7.9 < run["formal"] <= 8 and run["empirical"] < run["formal"]
    assert content["inversion"]["error"] < 1e-4


def test_a_build_without_noise_exits_with_one(monkeypatch):
    monkeypatch.setattr(SecureNoise, "normal", lambda self, shape, std=1.0: np.zeros(shape))
    done = RUNNER.invoke(app, ["audit", "--epsilon", "1", "--canaries", "400", "--runs", "1"], env={"COLUMNS": "160"})
    assert done.exit_code == 1 and "BROKEN" in done.stdout
    assert module.CONFIDENCE == 0.95


def test_a_study_without_epsilon_is_refused(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(demo_study(1).model_dump(mode="json")))
    done = RUNNER.invoke(app, ["audit", str(file), "--json"])
    assert done.exit_code != 0 and "FL-714" in done.output
