"""`fedloupe-site predict`: a page for its owner alone, JSON without local names, errors with a remedy."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from fedloupe.release import Release
from fedloupe_client.cli import app
from fedloupe_client.predicting.single import percent


def call(*words: str | Path):
    return CliRunner().invoke(app, ["predict", *(str(w) for w in words)])


def error(*words: str | Path) -> dict[str, str]:
    done = call(*words, "--json")
    assert done.exit_code == 1
    return json.loads(done.stdout)["error"]


@pytest.fixture
def home(clinic, tmp_path) -> Path:
    """A copy of the clinic that a test may break."""
    return Path(shutil.copytree(clinic.home, tmp_path / "home", ignore=shutil.ignore_patterns("predictions")))


class TestThePage:
    def test_is_written_for_its_owner_alone_under_the_pseudonym(self, clinic, home):
        case = clinic.extreme(1)
        done = call(home, clinic.study_file, case)
        assert done.exit_code == 0, done.output
        page = home / "predictions" / f"{case}.html"
        assert page.stat().st_mode & 0o777 == 0o600
        assert page.parent.stat().st_mode & 0o777 == 0o700
        assert [path.name for path in page.parent.iterdir()] == [page.name]
        assert "PAT-" not in done.output

    def test_is_found_by_the_hospitals_own_name_and_shows_local_names(self, clinic, home):
        assert call(home, clinic.study_file, "PAT-880005", "PAT-880006").exit_code == 0
        text = (home / "predictions" / f"{clinic.case('PAT-880005')}.html").read_text()
        assert "PAT-880005" in text and len(set(re.findall(r"PAT-8800\d\d", text))) == 6  # and the five nearest

    def test_says_who_trained_where_it_comes_from_and_what_it_is_not(self, clinic, home):
        case = next(c for c, s in zip(clinic.embedded.cases, clinic.embedded.split, strict=True) if s == "train")
        call(home, clinic.study_file, case)
        text = (home / "predictions" / f"{case}.html").read_text()
        for said in (
            "This patient trained the model",
            "Research use only, not a medical device",
            "Synthetic data",
            clinic.study.fingerprint,
            "run-7",
            clinic.frozen.digest,
            "123 patients",
        ):
            assert said in text, said

    def test_outside_the_range_the_number_is_folded_away(self, clinic, home):
        done = call(home, clinic.study_file, "PAT-880023", "--json")
        (said,) = json.loads(done.stdout)
        assert said["verdict"] == "outside"
        text = (home / "predictions" / f"{said['case']}.html").read_text()
        before, folded = text.split('<details class="withheld">')
        assert "Calibrated probability" not in before and "Calibrated probability" in folded
        assert "no prediction" in before.split("<main>")[0]


class TestJson:
    def test_holds_the_same_numbers_and_no_local_name(self, clinic, home):
        case = clinic.extreme(-1)
        done = call(home, clinic.study_file, case, clinic.extreme(1), "--json")
        low, high = json.loads(done.stdout)
        assert "PAT-" not in done.stdout
        assert (low["case"], low["verdict"], high["verdict"]) == (case, "no event", "event")
        assert low["model_digest"] == clinic.frozen.digest and len(low["neighbours"]) == 5
        assert percent(high["probability"]) in high["headline"]


class TestErrors:
    def test_before_the_run_has_ended_there_is_no_model(self, clinic, home):
        (home / "models" / "tiny.safetensors").unlink()
        assert error(home, clinic.study_file, clinic.extreme(1))["code"] == "FL-650"

    def test_a_model_of_another_study_is_refused(self, clinic, home):
        path = home / "models" / "tiny.safetensors"
        path.write_bytes(replace(Release.read(path), fingerprint="0" * 64).to_bytes())
        assert error(home, clinic.study_file, clinic.extreme(1))["code"] == "FL-651"

    def test_an_unknown_case_is_named_without_any_other(self, clinic, home):
        found = error(home, clinic.study_file, "PAT-88000")
        assert found["code"] == "FL-652" and found["where"] == "PAT-88000"
        assert not re.search(r"PAT-8800\d\d|[0-9a-f]{16}", json.dumps(found))

    def test_a_case_that_ingest_left_out_says_why(self, clinic, home):
        index = json.loads((home / "store" / "index.json").read_text())
        record = index["records"][0]
        record |= {"status": "excluded", "code": "FL-230", "kind": "absence", "reason": "it is not there"}
        (home / "store" / "index.json").write_text(json.dumps(index))
        found = error(home, clinic.study_file, record["case"])
        assert found["code"] == "FL-653" and "it is not there" in found["what"]

    def test_a_case_that_imaging_cannot_use_says_why(self, clinic, home):
        case = clinic.extreme(1)
        (derived,) = (home / "derived").glob(f"*/{case}-*.safetensors")
        derived.with_suffix(".json").write_text('{"code": "FL-301"}')
        found = error(home, clinic.study_file, case)
        assert found["code"] == "FL-653" and "FL-301" in found["what"]

    @pytest.mark.parametrize("what", ["weights", "centre", "mean"])
    def test_arrays_of_another_size_are_refused(self, clinic, home, what):
        path = home / "models" / "tiny.safetensors"
        release = Release.read(path)
        path.write_bytes(replace(release, **{what: getattr(release, what)[:-1]}).to_bytes())
        assert error(home, clinic.study_file, clinic.extreme(1))["code"] == "FL-655"

    def test_a_damaged_model_is_called_damaged(self, clinic, home):
        path = home / "models" / "tiny.safetensors"
        path.write_bytes(path.read_bytes()[:100])
        assert error(home, clinic.study_file, clinic.extreme(1))["code"] == "FL-618"

    def test_a_study_that_was_not_approved_is_refused(self, clinic, home):
        for path in (home / "gate" / "approved").iterdir():
            path.unlink()
        assert "approve" in error(home, clinic.study_file, clinic.extreme(1))["remedy"]

    @pytest.mark.parametrize(
        ("change", "code"), [({"prediction": None}, "FL-656"), ({"harmonisation": {"covariates": []}}, "FL-654")]
    )
    def test_a_study_must_predict_and_its_shifts_must_be_there(self, clinic, home, change, code):
        from fedloupe.study import load_study
        from fedloupe_client.gate import approve

        file = home / "other.yaml"
        content = yaml.safe_load(clinic.study_file.read_text()) | change
        file.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
        study = load_study(file)
        approve(home, study, by="Dr Ito")
        path = home / "models" / "tiny.safetensors"
        path.write_bytes(replace(Release.read(path), fingerprint=study.fingerprint).to_bytes())
        assert error(home, file, clinic.extreme(1))["code"] == code

    def test_a_folder_that_may_not_be_written_is_said_so(self, clinic, home):
        (home / "predictions").write_text("a file in the way")
        assert error(home, clinic.study_file, clinic.extreme(1))["code"] == "FL-657"
