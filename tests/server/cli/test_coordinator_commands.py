"""`fedloupe`: what it prints, as words and as JSON, and how it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedloupe.drawing import DrawingCard, DrawingScores
from fedloupe.study import load_study
from fedloupe_server.cli import _show, app
from fedloupe_server.simulation.local import Drawn

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


class TestDrawing:
    @pytest.fixture
    def drawn(self, tmp_path) -> Drawn:
        study = load_study(CONFIGS / "segmentation.yaml")
        site = DrawingScores(site="philips", role="train", patients=9, mean=0.713, sd=0.2, by_dice=(0.9,) * 10)
        card = DrawingCard(
            study=study.study,
            title=study.title,
            synthetic=False,
            fingerprint=study.fingerprint,
            version="0.1.0",
            model="ab12" * 16,
            sequences=study.sequences,
            imaging=study.imaging,
            segmentation=study.segmentation,
            sites=(site.model_copy(update={"own_mean": 0.65}),),
            unscored={"siemens": "FL-512 too few patients"},
        )
        return Drawn(card, tmp_path / "drawing")

    def test_a_run_ends_with_the_dice_by_site_the_digest_and_the_folder(self, drawn, capsys):
        _show(drawn, False)
        said = capsys.readouterr().out
        assert "0.65" in said and "0.71 (0.20)" in said and "FL-512" in said
        assert drawn.card.model in said.replace("\n", "") and "drawing" in said

    def test_or_with_its_card_as_json(self, drawn, capsys):
        _show(drawn, True)
        said = json.loads(capsys.readouterr().out)
        assert said["sites"][0]["mean"] == 0.713 and said["folder"] == str(drawn.folder)


class TestReport:
    def test_of_a_folder_without_results_fails_with_a_code(self, tmp_path):
        done = call("report", tmp_path, "--json")
        assert done.exit_code == 1
        assert json.loads(done.stdout)["error"]["code"] == "FL-811"
