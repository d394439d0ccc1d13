"""The demo at a quarter of its size, through the command line: from generated DICOM and NIfTI to the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedloupe_server.cli import app

pytestmark = pytest.mark.filterwarnings("ignore")


class TestWhatTheDemoSays:
    def test_each_site_and_the_pool_have_n_auc_interval_local_and_oracle(self, demo):
        _, said = demo
        assert [row["site"] for row in said["sites"]] == [
            "north", "harbour", "lakeside", "hillcrest", "riverside", "pooled", "island"
        ]  # fmt: skip
        for row in said["sites"]:
            assert 0 <= row["low"] <= row["auc"] <= row["high"] <= 1
            assert row["n"] > row["events"] > 0
            assert row["local_auc"] is not None and row["oracle_auc"] is not None

    def test_it_is_called_synthetic_and_not_private(self, demo):
        _, said = demo
        assert said["synthetic"] is True
        page = Path(said["report"]).read_text()
        assert "synthetic" in page.lower()
        assert "no formal privacy guarantee" in page.lower()

    def test_every_round_is_on_disk_and_nothing_is_pickled(self, demo):
        folder, said = demo
        rounds = sorted(p.name for p in (folder / "demo-rectal" / "rounds").glob("*.safetensors"))
        assert len(rounds) == said["rounds"] == 20
        assert not [p for p in folder.rglob("*") if p.suffix in {".pkl", ".pickle", ".pt", ".pth"}]


class TestTheGateWasThere:
    def test_every_message_of_every_site_is_in_its_audit_chain(self, demo):
        from fedloupe_client.gate import verify

        folder, _ = demo
        for home in sorted((folder / "sites").iterdir()):
            assert verify(home) == []
            lines = [json.loads(line) for line in (home / "gate" / "audit.jsonl").read_text().splitlines()]
            sent = {line["kind"] for line in lines if line["direction"] == "out"}
            assert ("train-reply" in sent) == (home.name != "island")

    def test_no_identifier_of_a_patient_leaves_the_sites_home(self, demo):
        folder, _ = demo
        local = {p.name for p in (folder / "synthetic-hospitals" / "north" / "data" / "dicom").iterdir()}
        assert local
        for path in (folder / "demo-rectal").rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                assert not [name for name in local if name.encode() in content], path


class TestTheSameSeedAgain:
    def test_gives_the_same_report_numbers_and_weights(self, demo, tmp_path):
        folder, said = demo
        again = CliRunner().invoke(
            app, ["demo", "--seed", "1", "--scale", "0.3", "--out", str(tmp_path / "seed-1"), "--json"]
        )
        assert again.exit_code == 0, again.output
        other = json.loads(again.stdout)
        other |= {name: said[name] for name in ("report", "pack")}  # where they lie
        assert other == said
        assert (tmp_path / "seed-1/demo-rectal/results.json").read_bytes() == (
            folder / "demo-rectal/results.json"
        ).read_bytes()

    def test_continues_a_finished_run_without_training_again(self, demo):
        folder, said = demo
        before = (folder / "demo-rectal" / "rounds" / "0020.safetensors").stat().st_mtime_ns
        again = CliRunner().invoke(app, ["demo", "--seed", "1", "--scale", "0.3", "--out", str(folder), "--json"])
        assert json.loads(again.stdout) == said
        assert (folder / "demo-rectal" / "rounds" / "0020.safetensors").stat().st_mtime_ns == before
