"""`fedloupe`: what it prints, as words and as JSON, and how it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedloupe.drawing import DrawingCard, DrawingScores
from fedloupe.privacy import noise_for
from fedloupe.study import load_study
from fedloupe_server.cli import _show, app
from fedloupe_server.federation.planning import parameters_of
from fedloupe_server.simulation.local import Drawn

CONFIGS = Path(__file__).parents[3] / "configs"


def call(*words: str | Path):
    return CliRunner().invoke(app, [str(w) for w in words])


def many(hospitals: int, privacy: dict[str, object], **changes: object) -> dict[str, object]:
    """A study of this many hospitals."""
    content: dict[str, object] = {
        "study": "many",
        "title": "Synthetic tables",
        "synthetic": True,
        "endpoint": {"name": "r", "column": "r", "positive": ["1"], "negative": ["0"]},
        "sites": [{"name": f"site-{i}", "role": "train"} for i in range(hospitals)],
        "radiomics": {"source": "table"},
        "model": {"components": 6, "image": False, "width": 16, "depth": 1, "heads": 2},
        "training": {"rounds": 20, "preparation": "public", "start": "random", "weighting": "equal"},
        "privacy": privacy,
    }
    return {**content, **changes}


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

    @pytest.mark.parametrize(("hospitals", "few"), [(5, True), (900, False)])
    def test_check_says_where_hospitals_are_too_few_for_client_level_privacy(self, tmp_path, hospitals, few):
        """The numbers in the words are those of the formula s sqrt(m) / K."""
        file = tmp_path / "study.yaml"
        file.write_text(json.dumps(many(hospitals, {"mode": "client-dp", "epsilon": 8})))
        said = " ".join(call("study", "check", file).stdout.split())
        assert "client-level (one hospital, noise added by the coordinator): client-dp, epsilon 8, delta 1e-05" in said
        assert "the coordinator sees the sum of clipped updates without it" in said
        assert ("are too few for client-level privacy" in said) is few
        if few:
            size = parameters_of(load_study(file))
            times = noise_for(8, 1e-5, 1.0, 20) * size**0.5 / hospitals
            assert f"{size:,} parameters" in said and f"{times:.0f} times as long" in said
            assert "`dp-sgd`, record-level (one patient)" in said

    def test_check_says_where_the_coordinator_sees_each_update_without_noise(self, tmp_path):
        file = tmp_path / "study.yaml"
        file.write_text(json.dumps(many(900, {"mode": "client-dp", "epsilon": 8}, aggregation="plain")))
        said = " ".join(call("study", "check", file).stdout.split())
        assert "the coordinator sees each hospital's clipped update without it" in said

    def test_check_names_the_record_level_of_dp_sgd(self, tmp_path):
        (tmp_path / "study.yaml").write_text(json.dumps(many(5, {"mode": "dp-sgd", "epsilon": 8})))
        said = " ".join(call("study", "check", tmp_path / "study.yaml").stdout.split())
        assert "record-level (one patient): dp-sgd, epsilon 8" in said and "client-level" not in said


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
