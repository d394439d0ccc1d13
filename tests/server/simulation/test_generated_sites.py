"""A sites file with `generate`: SYNTHETIC hospitals in the place of sources, for synthetic studies alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from fedloupe.errors import FedLoupeError
from fedloupe.study import Study, load_study, parse_study
from fedloupe_client.config import load_site
from fedloupe_server.cli import app
from fedloupe_server.simulation.cohort import CT_SITES, CohortFolderTaken, CohortSpec, UnknownCohortSite
from fedloupe_server.simulation.generating import GeneratedForReal
from fedloupe_server.simulation.sites import NoData, SitesInvalid, sites_of

CONFIGS = Path(__file__).parents[3] / "configs"
CONTENT: dict[str, Any] = {
    "study": "small",
    "title": "Small, synthetic",
    "synthetic": True,
    "endpoint": {
        "name": "response",
        "column": "response",
        "positive": ["complete", "near-complete"],
        "negative": ["partial", "none"],
    },
    "sequences": [{"name": "t2w"}],
    "aggregation": "plain",
    "sites": [
        {"name": "lakeside", "role": "train"},
        {"name": "north", "role": "train"},
        {"name": "island", "role": "validate"},
    ],
    "imaging": {"spacing_mm": 4.0, "crop_mm": 32, "bias_correction": "none"},
    "radiomics": {"source": "none"},
    "model": {"width": 4, "depth": 1, "heads": 1, "components": 1},
    "training": {"rounds": 1, "local_epochs": 1, "start": "random"},
    "split": {"test": 0.25, "tune": 0.15},
    "evaluation": {"logistic_baseline": False, "local_baseline": False, "reference_score": "true_probability"},
}


def study(**changes: Any) -> Study:
    return parse_study(CONTENT | changes)


def write(path: Path, **content: Any) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def sites_file(tmp_path):
    return write(tmp_path / "small.sites.yaml", generate={"seed": 4, "scale": 0.1})


class TestHospitals:
    def test_homes_lie_beside_a_cohort_of_the_studys_sites(self, tmp_path, sites_file):
        homes, cohort = sites_of(study(), sites_file, None, tmp_path / "run")
        assert cohort is not None
        folder, spec = cohort
        full = CohortSpec(seed=4).scaled(0.1)
        assert spec.sites == tuple(full.site(name) for name in ("lakeside", "north", "island"))
        assert (folder / "README.txt").read_text().startswith("SYNTHETIC")
        for name, home in homes.items():
            assert load_site(home).source.root == folder / name / "data"

    def test_a_home_asks_for_the_studys_sequences_alone(self, tmp_path, sites_file):
        homes, _ = sites_of(study(), sites_file, None, tmp_path / "run")
        source = yaml.safe_load((homes["lakeside"] / "site.yaml").read_text())["source"]
        assert set(source["files"]) == {"t2w"}
        assert set(yaml.safe_load((homes["north"] / "site.yaml").read_text())["source"]["series"]) == {"t2w"}

    def test_the_policy_of_the_file_holds_at_every_home(self, tmp_path):
        file = write(tmp_path / "s.yaml", generate={}, policy={"minimum_cohort": 3})
        homes, _ = sites_of(study(), file, None, tmp_path / "run")
        assert {(home / "policy.yaml").read_text() for home in homes.values()} == {"minimum_cohort: 3\n"}

    @pytest.mark.parametrize(
        ("name", "patients", "weight"),
        [("demo-large", 1000, None), ("modality-useful-ct", 700, -1.5), ("modality-useless-ct", 700, 0.0)],
    )
    def test_what_is_shipped_has_the_patients_that_the_page_says(self, tmp_path, name, patients, weight):
        shipped = load_study(CONFIGS / f"{name}.yaml")
        _, cohort = sites_of(shipped, CONFIGS / f"{name}.sites.yaml", None, tmp_path)
        assert cohort is not None
        assert sum(site.patients for site in cohort[1].sites) == patients
        assert cohort[1].calcification == weight
        assert {s.name: s.role for s in shipped.sites} == {s.name: s.role for s in cohort[1].sites}

    def test_the_two_studies_of_ct_differ_in_nothing_but_their_names(self):
        contents = []
        for kind in ("useful", "useless"):
            content = load_study(CONFIGS / f"modality-{kind}-ct.yaml").model_dump(mode="json")
            contents.append({k: v for k, v in content.items() if k not in ("study", "title")})
        assert contents[0] == contents[1]
        assert {s["name"] for s in contents[0]["sites"]} == {s.name for s in CT_SITES}


class TestAgain:
    def test_the_same_cohort_is_taken_up_again_and_another_one_is_not_mixed_in(self, tmp_path, sites_file):
        for _ in range(2):
            sites_of(study(), sites_file, None, tmp_path / "run")
        write(sites_file, generate={"seed": 5, "scale": 0.1})
        with pytest.raises(CohortFolderTaken):
            sites_of(study(), sites_file, None, tmp_path / "run")
        sites_of(study(), sites_file, None, tmp_path / "run", fresh=True)

    @pytest.mark.parametrize(
        ("content", "error"),
        [
            ({"generate": {"seed": -1}}, SitesInvalid),
            ({"sites": {"north": {"source": {"format": "table"}}}}, NoData),
        ],
    )
    def test_a_fresh_start_deletes_nothing_before_the_file_is_in_order(self, tmp_path, content, error):
        kept = tmp_path / "run" / "kept"
        kept.parent.mkdir()
        kept.touch()
        with pytest.raises(error):
            sites_of(study(), write(tmp_path / "s.yaml", **content), None, tmp_path / "run", fresh=True)
        assert kept.exists()


class TestRefusals:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({"generate": {"scale": 0}}, "generate.scale"),
            ({"generate": {"scale": "2"}}, "generate.scale"),
            ({"generate": {"hospitals": "petct"}}, "generate.hospitals"),
            ({"generate": {"calcification": 9}}, "generate.calcification"),
            ({"generate": {"patients": 9}}, "generate.patients.*unknown key"),
            ({"generate": {}, "sites": {"north": {"source": {}}}}, "either `sites` or `generate`"),
            ({"policy": {}}, "either `sites` or `generate`"),
        ],
    )
    def test_a_wrong_section_is_named_with_its_key(self, tmp_path, content, message):
        with pytest.raises(SitesInvalid, match=message):
            sites_of(study(), write(tmp_path / "s.yaml", **content), None, tmp_path / "run")

    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            ({"synthetic": False, "evaluation": {}}, GeneratedForReal, "synthetic: true"),
            ({"sites": [*CONTENT["sites"], {"name": "coast", "role": "train"}]}, UnknownCohortSite, "coast"),
        ],
    )
    def test_a_study_they_cannot_serve_is_refused_before_anything_is_written(
        self, tmp_path, sites_file, changes, error, message
    ):
        with pytest.raises(error, match=message) as caught:
            sites_of(study(**changes), sites_file, None, tmp_path / "run")
        assert isinstance(caught.value, FedLoupeError) and caught.value.remedy
        assert not (tmp_path / "run").exists()


class TestRun:
    def test_a_study_runs_from_its_two_files_alone(self, tmp_path, monkeypatch):
        monkeypatch.delenv("FEDLOUPE_DATA", raising=False)
        names = {"lakeside": "train", "riverside": "train", "island": "validate"}
        small = study(sites=[{"name": name, "role": role} for name, role in names.items()])
        (tmp_path / "small.yaml").write_text(small.canonical)
        write(
            tmp_path / "small.sites.yaml",
            generate={"seed": 1, "scale": 0.1},  # 4 of 8, 5 of 8 and 5 of 10 respond
            policy={"minimum_cohort": 3, "minimum_cell": 1},
        )
        done = CliRunner().invoke(app, ["run", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "out"), "--json"])
        assert done.exit_code == 0, done.output
        said = json.loads(done.stdout)
        results = json.loads((tmp_path / "out" / "small" / "results.json").read_text())
        assert results["synthetic"] is True
        assert "Synthetic data" in (tmp_path / "out" / "small" / "pack" / "report.html").read_text()
        assert {row["site"] for row in said["sites"]} >= set(names)
