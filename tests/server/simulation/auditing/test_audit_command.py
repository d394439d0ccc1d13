"""`fedloupe audit`: what it says of a sound build and of a broken one, and whom it refuses."""

from __future__ import annotations

import json
import random
from itertools import count

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor
from typer.testing import CliRunner

from fedloupe.privacy import SecureNoise
from fedloupe_server.cli import app
from fedloupe_server.simulation.demo import demo_study

RUNNER = CliRunner()


@pytest.fixture
def same_noise(monkeypatch):
    """A sound build is called broken by chance, in few audits: not in this one."""
    monkeypatch.setattr("os.urandom", random.Random(1).randbytes)


@pytest.mark.usefixtures("same_noise")
def test_a_sound_build_exits_with_zero_and_says_both_epsilons():
    done = RUNNER.invoke(app, ["audit", "mechanism", "--canaries", "400", "--runs", "1", "--json"])
    content = json.loads(done.stdout)
    assert done.exit_code == 0 and not content["broken"]
    (run,) = content["canaries"]
    assert 2.9 < run["formal"] <= 3 and run["empirical"] < run["formal"] < run["ceiling"] and run["tells"]
    assert content["inversion"]["error"] < 1e-4
    assert not content["sampling"]["broken"] and content["sampling"]["promised"] == 0.25
    assert content["updates"][0]["alone"]["likeness"] > 0.999 > content["updates"][1]["alone"]["likeness"]


def test_a_build_without_noise_exits_with_one_as_the_command_is_given(monkeypatch):
    monkeypatch.setattr(SecureNoise, "normal", lambda self, shape, std=1.0: np.zeros(shape))
    done = RUNNER.invoke(app, ["audit", "mechanism", "--runs", "1"], env={"COLUMNS": "160"})
    assert done.exit_code == 1 and "BROKEN" in done.stdout


def test_a_build_that_does_not_clip_exits_with_one(monkeypatch):
    monkeypatch.setattr(Tensor, "clamp", lambda self, *_, **__: torch.ones_like(self))
    done = RUNNER.invoke(app, ["audit", "mechanism", "--runs", "1"], env={"COLUMNS": "160"})
    assert done.exit_code == 1 and "BROKEN" in done.stdout


def test_a_build_that_deals_patients_out_exits_with_one(monkeypatch):
    """Everybody once in four steps, in batches of one size: the accountant assumes coins."""
    step = count()
    monkeypatch.setattr(SecureNoise, "poisson", lambda self, patients, rate: np.arange(next(step) % 4, patients, 4))
    done = RUNNER.invoke(app, ["audit", "mechanism", "--runs", "1"], env={"COLUMNS": "160"})
    assert done.exit_code == 1 and "BROKEN: sampling" in done.stdout


def test_the_table_of_updates_says_what_the_server_saw():
    done = RUNNER.invoke(app, ["audit", "mechanism", "--canaries", "100", "--runs", "1"], env={"COLUMNS": "160"})
    assert "no protection" in done.stdout and "sum of 5 alike" in done.stdout and "DP-SGD" in done.stdout
    assert "Sampling: 0.2" in done.stdout and "0.2500 priced" in done.stdout


@pytest.mark.usefixtures("same_noise")
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
