"""The same study in one process and through real processes over TLS, with secure sums: the same model to the bit."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.integration.conftest import write_tables

from fedloupe_client.gate import approve, verify
from fedloupe_server.evidence.loading import load_results
from fedloupe_server.hub.deployment import DeployedRunFailed, deployment, run_deployed
from fedloupe_server.simulation.local import run_here
from fedloupe_server.simulation.preparing import prepare_sites
from fedloupe_server.simulation.sites import make_homes

pytestmark = [pytest.mark.deployed, pytest.mark.filterwarnings("ignore")]


def silent(*_: object) -> None:
    """No progress."""


def start_site(home: Path, socket: Path) -> list[str]:
    return [sys.executable, "-m", "fedloupe_client.cli", "start", str(home), "--socket", str(socket)]


class TestInProcessAndDeployed:
    def test_give_equal_weights_and_results(self, make_study, tmp_path):
        patients = {"alpha": 60, "beta": 48, "gamma": 40, "omega": 44}
        (tmp_path / "tables").mkdir()
        tables = write_tables(tmp_path / "tables", patients)
        roles = [{"name": site, "role": "validate" if site == "omega" else "train"} for site in patients]
        study = make_study(sites=roles, aggregation="secure")
        here = run_here(
            study,
            make_homes(study, tables / "sites.yaml", tables, tmp_path / "a"),
            tmp_path / "here/small",
            tell=silent,
        )
        homes = make_homes(study, tables / "sites.yaml", tables, tmp_path / "b")
        prepare_sites(study, homes, silent)
        file = tmp_path / "study.json"
        file.write_text(study.canonical)
        there = tmp_path / "there" / "small"
        run_deployed(file, homes, there, tmp_path / "work", site_command=start_site, timeout_s=1800)
        for number in range(1, study.training.rounds + 1):
            a, b = (
                load_file(d / "rounds" / f"{number:04d}.safetensors")["weights"]
                for d in (tmp_path / "here/small", there)
            )
            np.testing.assert_array_equal(a, b)
        assert load_results(there) == here.results
        for home in homes.values():
            assert verify(home) == []
        left = [json.loads(line) for line in (homes["gamma"] / "gate" / "audit.jsonl").read_text().splitlines()]
        kinds = {line["kind"] for line in left if line["direction"] == "out"}
        assert {"keys-reply", "shares-reply", "sum-reply", "unmask-reply"} <= kinds
        assert not kinds & {"train-reply", "describe-reply", "sketch-reply", "midpoint-reply"}


class TestAnUnapprovedFingerprint:
    def test_is_refused_by_the_deployed_site_and_named_by_code(self, tables, make_study, tmp_path):
        approved, other = make_study(), make_study(seed=4)
        homes = make_homes(approved, tables / "sites.yaml", tables, tmp_path / "homes")
        prepare_sites(approved, homes, silent)
        approve(homes["alpha"], other, by="only alpha")
        file = tmp_path / "other.json"
        file.write_text(other.canonical)
        with deployment(file, homes, tmp_path / "work", site_command=start_site, progress=silent) as federation:
            for run, seconds in (("small", 60), ("longer", 600)):
                with pytest.raises(DeployedRunFailed) as refused:
                    federation.run("study", file, tmp_path / run, timeout_s=seconds, progress=silent)
                text = str(refused.value)
                if "FL-501" in text:
                    break
        assert f"no end after {seconds} s: beta: FL-501" in text, "it waits for the hospital's decision, and names it"
        assert "alpha:" not in text
        assert not (tmp_path / run / "rounds").exists()
        audit = (homes["beta"] / "gate" / "audit.jsonl").read_text()
        assert "train-reply" not in audit and "hello-reply" not in audit
