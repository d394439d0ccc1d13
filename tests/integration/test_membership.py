"""Membership inference on finished runs: it finds those whom an overfitted model learned by heart."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fedloupe.privacy import SeededNoise
from fedloupe_client.config import load_site
from fedloupe_client.gate import approve
from fedloupe_client.ingest import ingest
from fedloupe_client.site.site import Site
from fedloupe_server.cli import app
from fedloupe_server.federation import run_study
from fedloupe_server.federation.journal import Journal, write_atomic
from fedloupe_server.hub.inprocess import inprocess_exchange
from fedloupe_server.simulation.auditing import NothingToAttack, federate, membership
from fedloupe_server.simulation.auditing.command import attacked
from fedloupe_server.simulation.auditing.membership import _behind
from fedloupe_server.simulation.auditing.shadows import trained_on
from fedloupe_server.simulation.scoring import trained_models
from fedloupe_server.simulation.sites import make_homes
from sealing import hearing


def finished(folder, tables, make_study, training, logistic_baseline=False):
    study = make_study(
        training={"start": "random", "batch_size": 16, **training},
        harmonisation={},
        evaluation={"logistic_baseline": logistic_baseline, "local_baseline": False},
        quorum={"minimum": 1},
    )
    homes = make_homes(study, tables / "sites.yaml", tables, folder / "sites")
    for home in homes.values():
        ingest(load_site(home), study, home)
        approve(home, study, by="test")
    run_dir = folder / study.study
    run_study(study, inprocess_exchange({site: hearing(Site(home), run_dir) for site, home in homes.items()}), run_dir)
    return study, homes, run_dir


@pytest.fixture(scope="module")
def overfitted(tables, make_study, tmp_path_factory):
    training = {"rounds": 3, "local_epochs": 100, "learning_rate": 0.01, "weight_decay": 0.0}
    return finished(tmp_path_factory.mktemp("overfitted"), tables, make_study, training)


def test_an_overfitted_model_gives_its_patients_away(overfitted):
    study, homes, run_dir = overfitted
    found = membership(run_dir, homes, study)
    assert found.loss.pooled.low > 0.5 and found.loss.pooled.auc > 0.65
    assert set(found.loss.sites) == set(study.train_sites)
    assert found.loss.pooled.members == sum(one.members for one in found.loss.sites.values())
    assert found.likelihood is None and found.promises == {} and not found.broken


def test_a_model_that_hardly_trained_gives_less_away(overfitted, tables, make_study, tmp_path):
    """By how much is chance with 91 patients: the same patients, split alike, against both models."""
    study, homes, run_dir = finished(tmp_path, tables, make_study, {"rounds": 1, "local_epochs": 1})
    learned = membership(overfitted[2], overfitted[1], overfitted[0]).loss.pooled
    assert membership(run_dir, homes, study).loss.pooled.auc < learned.auc


def test_the_command_names_sites_and_all(overfitted):
    done = CliRunner().invoke(app, ["audit", "membership", str(overfitted[2]), "--json"])
    content = json.loads(done.stdout)
    assert done.exit_code == 0 and set(content["loss"]["sites"]) == set(overfitted[0].train_sites)
    assert content["likelihood"] is None and content["promises"] == {}
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


def test_a_client_level_run_is_not_attacked_as_if_it_had_no_privacy(make_study, tmp_path):
    study = make_study(
        privacy={"mode": "client-dp", "epsilon": 8},
        training={"rounds": 2, "preparation": "public", "start": "random", "weighting": "equal"},
        evaluation={"logistic_baseline": False},
    )
    with pytest.raises(NothingToAttack, match="client-level"):
        membership(tmp_path, {}, study)


class TestShadows:
    def test_one_on_the_runs_own_patients_is_the_released_model_bit_for_bit(self, overfitted):
        study, homes, run_dir = overfitted
        cohorts, preparation = _behind(run_dir, homes, study)
        assert np.array_equal(federate(study, cohorts, preparation), trained_models(run_dir)["federated"][1])

    def test_one_begins_at_the_logistic_baseline_of_its_patients_where_the_run_did(self, tables, make_study, tmp_path):
        training = {"rounds": 2, "local_epochs": 1, "start": "logistic", "strategy": "fedadam"}
        study, homes, run_dir = finished(tmp_path, tables, make_study, training, logistic_baseline=True)
        cohorts, preparation = _behind(run_dir, homes, study)
        again, released = federate(study, cohorts, preparation), trained_models(run_dir)["federated"][1]
        np.testing.assert_allclose(again, released, atol=1e-5)  # two optima within 1e-8, then Adam's quotients
        fewer = {site: trained_on(one, one.split == "tune") for site, one in cohorts.items()}
        assert np.abs(federate(study, fewer, preparation) - released).max() > 1e-2

    def test_the_likelihood_ratio_finds_whom_an_overfitted_model_learned(self, overfitted):
        study, homes, run_dir = overfitted
        told = []
        found = membership(run_dir, homes, study, shadows=6, tell=lambda done, total: told.append((done, total)))
        assert told == [(i, 6) for i in range(1, 7)]
        assert found.likelihood.pooled.low > 0.5 and found.rehearsal.low > 0.5
        assert found.likelihood.pooled.members == found.loss.pooled.members
        assert found.rehearsal.patients == found.loss.pooled.members + found.loss.pooled.others


@pytest.fixture(scope="module")
def private(tables, private_study, public_preparation, tmp_path_factory):
    folder = tmp_path_factory.mktemp("private")
    study = private_study(epsilon=2.0)
    homes = make_homes(study, tables / "sites.yaml", tables, folder / "sites")
    for home in homes.values():
        ingest(load_site(home), study, home)
        approve(home, study, by="test")
    run_dir = folder / study.study
    write_atomic(Journal(run_dir).public_preparation_path, public_preparation.to_bytes())
    run_study(study, inprocess_exchange({site: hearing(Site(home), run_dir) for site, home in homes.items()}), run_dir)
    return study, homes, run_dir


class TestPrivate:
    def test_what_epsilon_allows_stands_beside_what_was_found(self, private):
        _, _, run_dir = private
        done = CliRunner().invoke(app, ["audit", "membership", str(run_dir), "--shadows", "4", "--json"])
        content = json.loads(done.stdout)
        spent = Journal(run_dir).rounds()[-1].epsilon
        assert done.exit_code == 0 and not content["broken"]
        assert {site: one["epsilon"] for site, one in content["promises"].items()} == pytest.approx(spent)
        assert all(0.5 < one["auc"] < 1 and one["caught"]["0.01"] > 0.01 for one in content["promises"].values())
        words = CliRunner().invoke(app, ["audit", "membership", str(run_dir)], env={"COLUMNS": "200"}).stdout
        assert f"Epsilon {max(spent.values()):.2f}" in words

    def test_shadows_of_the_same_patients_have_noise_of_their_own(self, private):
        study, homes, run_dir = private
        cohorts, preparation = _behind(run_dir, homes, study)
        one, two = (federate(study, cohorts, preparation) for _ in range(2))
        same = [federate(study, cohorts, preparation, SeededNoise(3)) for _ in range(2)]
        assert not np.allclose(one, two, atol=1e-3) and np.array_equal(*same)

    def test_more_than_epsilon_allows_exits_with_one(self, private, monkeypatch):
        """Members and others set apart by hand: whatever the ledger says, this is no epsilon of 2."""
        study, homes, run_dir = private

        def apart(study, cohort, preparation, weights):
            return np.where(np.isin(cohort.split, ("train", "all")), 1.0, 0.0) + 1e-3 * np.arange(len(cohort.split))

        monkeypatch.setattr(import_module("fedloupe_server.simulation.auditing.membership"), "confidence_of", apart)
        found = membership(run_dir, homes, study)
        assert found.loss.pooled.auc == 1.0 and found.broken
        done = CliRunner().invoke(app, ["audit", "membership", str(run_dir)], env={"COLUMNS": "200"})
        assert done.exit_code == 1 and "BROKEN" in done.stdout
