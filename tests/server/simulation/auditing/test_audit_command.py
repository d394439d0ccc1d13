"""`fedloupe audit`: what it says of a sound build and of a broken one, and whom it refuses."""

from __future__ import annotations

import json

import numpy as np
import yaml
from typer.testing import CliRunner

from fedloupe.privacy import SecureNoise
from fedloupe_server.cli import app
from fedloupe_server.simulation.demo import demo_study

RUNNER = CliRunner()


def test_a_sound_build_exits_with_zero_and_says_both_epsilons():
    done = RUNNER.invoke(app, ["audit", "mechanism", "--canaries", "400", "--runs", "1", "--json"])
    content = json.loads(done.stdout)
    assert done.exit_code == 0 and not content["broken"]
    (run,) = content["canaries"]
    assert 2.9 < run["formal"] <= 3 and run["empirical"] < run["formal"] < run["ceiling"] and run["tells"]
    assert content["inversion"]["error"] < 1e-4


def test_a_build_without_noise_exits_with_one_as_the_command_is_given(monkeypatch):
    monkeypatch.setattr(SecureNoise, "normal", lambda self, shape, std=1.0: np.zeros(shape))
    done = RUNNER.invoke(app, ["audit", "mechanism", "--runs", "1"], env={"COLUMNS": "160"})
    assert done.exit_code == 1 and "BROKEN" in done.stdout


def test_where_no_fault_could_show_it_says_so():
    done = RUNNER.invoke(
        app, ["audit", "mechanism", "--epsilon", "8", "--canaries", "400", "--runs", "1"], env={"COLUMNS": "160"}
    )
    assert done.exit_code == 0 and "cannot tell" in done.stdout and "smaller epsilon" in done.stdout


def test_a_study_without_epsilon_is_refused_and_so_are_two_epsilons(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(demo_study(1).model_dump(mode="json")))
    done = RUNNER.invoke(app, ["audit", "mechanism", str(file), "--json"])
    assert done.exit_code != 0 and "FL-714" in done.output
    assert RUNNER.invoke(app, ["audit", "mechanism", str(file), "--epsilon", "3"]).exit_code == 2
