"""`fedloupe`: what it prints, as words and as JSON, and how it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedloupe.study import load_study
from fedloupe_server.cli import app

CONFIGS = Path(__file__).parents[3] / "configs"


def call(*words: str | Path):
    return CliRunner().invoke(app, [str(w) for w in words])


class TestStudy:
    def test_check_says_who_trains_and_who_validates(self):
        done = call("study", "check", CONFIGS / "demo.yaml")
        assert done.exit_code == 0
        assert "north, harbour, lakeside, hillcrest, riverside" in done.stdout
        assert "island" in done.stdout

    def test_fingerprint_is_that_of_the_study_in_words_and_json(self):
        expected = load_study(CONFIGS / "demo.yaml").fingerprint
        assert call("study", "fingerprint", CONFIGS / "demo.yaml").stdout.strip() == expected
        said = json.loads(call("study", "fingerprint", CONFIGS / "demo.yaml", "--json").stdout)
        assert said == {"study": "demo-rectal", "fingerprint": expected}

    def test_a_wrong_study_exits_with_1_and_names_key_and_remedy(self, tmp_path):
        file = tmp_path / "study.yaml"
        file.write_text((CONFIGS / "glioma-radiomics.yaml").read_text().replace("rounds: 15", "rouns: 15"))
        done = call("study", "check", file)
        assert done.exit_code == 1
        assert "FL-102" in done.stderr and "training.rouns" in done.stderr and "do " in done.stderr
        said = json.loads(call("study", "check", file, "--json").stdout)
        assert said["error"]["code"] == "FL-102"
        assert said["error"]["where"] == str(file)


class TestRun:
    @pytest.mark.parametrize("data", ["", "nowhere"])
    def test_without_the_data_nothing_is_made(self, tmp_path, data, monkeypatch):
        monkeypatch.delenv("FEDLOUPE_DATA", raising=False)
        words = ["--data", tmp_path / data] if data else []
        done = call("run", CONFIGS / "sarcoma-mri.yaml", "--out", tmp_path / "out", *words)
        assert done.exit_code == 1
        assert "FL-711" in done.stderr
        assert not (tmp_path / "out").exists()

    def test_a_site_without_a_source_is_named(self, tmp_path):
        sites = tmp_path / "sites.yaml"
        sites.write_text("sites: {ncc: {source: {format: table}}}")
        done = call(
            "run", CONFIGS / "glioma-radiomics.yaml", "--data", tmp_path, "--sites", sites, "--out", tmp_path / "o"
        )
        assert done.exit_code == 1
        assert "FL-710" in done.stderr and "knbtg" in done.stderr


class TestReport:
    def test_of_a_folder_without_results_fails_with_a_code(self, tmp_path):
        done = call("report", tmp_path, "--json")
        assert done.exit_code == 1
        assert json.loads(done.stdout)["error"]["code"] == "FL-811"
