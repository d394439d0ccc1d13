"""Membership inference on finished runs: it finds those whom an overfitted model learned by heart."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedloupe_client.config import load_site
from fedloupe_client.gate import approve
from fedloupe_client.ingest import ingest
from fedloupe_client.site.site import Site
from fedloupe_server.cli import app
from fedloupe_server.federation import run_study
from fedloupe_server.hub.inprocess import inprocess_exchange
from fedloupe_server.simulation.auditing import NothingToAttack, membership
from fedloupe_server.simulation.auditing.command import attacked
from fedloupe_server.simulation.sites import make_homes


def finished(folder, tables, make_study, training):
    study = make_study(
        training={"start": "random", "batch_size": 16, **training},
        harmonisation={},
        evaluation={"logistic_baseline": False, "local_baseline": False},
        quorum={"minimum": 1},
    )
    homes = make_homes(study, tables / "sites.yaml", tables, folder / "sites")
    for home in homes.values():
        ingest(load_site(home), study, home)
        approve(home, study, by="test")
    run_dir = folder / study.study
    run_study(study, inprocess_exchange({site: Site(home).handle for site, home in homes.items()}), run_dir)
    return study, homes, run_dir


@pytest.fixture(scope="module")
def overfitted(tables, make_study, tmp_path_factory):
    training = {"rounds": 3, "local_epochs": 100, "learning_rate": 0.01, "weight_decay": 0.0}
    return finished(tmp_path_factory.mktemp("overfitted"), tables, make_study, training)


def test_an_overfitted_model_gives_its_patients_away(overfitted):
    study, homes, run_dir = overfitted
    found = membership(run_dir, homes, study)
    assert found.pooled.low > 0.5 and found.pooled.auc > 0.65
    assert set(found.sites) == set(study.train_sites)
    assert found.pooled.members == sum(one.members for one in found.sites.values())


def test_a_model_that_hardly_trained_gives_less_away(overfitted, tables, make_study, tmp_path):
    """By how much is chance with 91 patients: the same patients, split alike, against both models."""
    study, homes, run_dir = finished(tmp_path, tables, make_study, {"rounds": 1, "local_epochs": 1})
    learned = membership(overfitted[2], overfitted[1], overfitted[0]).pooled
    assert membership(run_dir, homes, study).pooled.auc < learned.auc


def test_the_command_names_sites_and_all(overfitted):
    done = CliRunner().invoke(app, ["audit", "membership", str(overfitted[2]), "--json"])
    content = json.loads(done.stdout)
    assert done.exit_code == 0 and set(content["sites"]) == set(overfitted[0].train_sites)
    words = CliRunner().invoke(app, ["audit", "membership", str(overfitted[2])], env={"COLUMNS": "160"}).stdout
    assert "no proof of privacy" in " ".join(words.split())


def test_homes_are_found_where_the_commands_put_them(overfitted, tmp_path):
    """Beside the run, one above it as `compare` has them, and where it is told."""
    _, homes, run_dir = overfitted
    told = membership(run_dir, homes, overfitted[0])
    folder = next(iter(homes.values())).parent
    (tmp_path / "runs").mkdir()
    moved = Path(shutil.copytree(run_dir, tmp_path / "runs" / run_dir.name))
    assert attacked(moved, folder) == told
    (tmp_path / "sites").symlink_to(folder)
    assert attacked(moved) == told


def test_a_run_without_its_homes_is_refused(overfitted, tmp_path):
    study, homes, run_dir = overfitted
    with pytest.raises(NothingToAttack, match="no home of"):
        membership(run_dir, {site: tmp_path / site for site in homes}, study)
    done = CliRunner().invoke(app, ["audit", "membership", str(tmp_path), "--json"])
    assert done.exit_code != 0 and "FL-715" in done.output
