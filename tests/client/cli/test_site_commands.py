"""`fedloupe-site`: from a table to a site that answers, through the commands a data manager types."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from fedloupe_client.cli import app

STUDY = {
    "study": "tiny",
    "title": "Synthetic table",
    "synthetic": True,
    "endpoint": {"name": "response", "column": "response", "positive": ["yes"], "negative": ["no"]},
    "aggregation": "plain",
    "sites": [{"name": "alpha", "role": "train"}],
    "radiomics": {"source": "table"},
    "model": {"components": 2, "image": False, "width": 8, "depth": 1, "heads": 2},
    "quorum": {"minimum": 1},
}


def call(*words: str | Path):
    return CliRunner().invoke(app, [str(w) for w in words])


@pytest.fixture
def site(tmp_path: Path) -> tuple[Path, Path]:
    """A home with 30 cases and a study file."""
    home, study = tmp_path / "home", tmp_path / "study.yaml"
    home.mkdir()
    rows = [f"PAT-{i:03d},{'yes' if i % 3 == 0 else 'no'},{i * 0.5},{i * i}" for i in range(30)]
    (home / "cases.csv").write_text("\n".join(["case,response,f1,f2", *rows]) + "\n")
    source = {
        "format": "table",
        "root": ".",
        "clinical": {"file": "cases.csv"},
        "features": "cases.csv",
        "exclude": ["response"],
    }
    (home / "site.yaml").write_text(yaml.safe_dump({"site": "alpha", "source": source}))
    study.write_text(yaml.safe_dump(STUDY))
    return home, study


class TestFromTableToApproval:
    def test_ingest_check_and_approve_lead_to_a_ready_site(self, site):
        home, study = site
        said = json.loads(call("ingest", home, study, "--json").stdout)
        assert [r["status"] for r in said["records"]] == ["ready"] * 30
        facts = json.loads(call("check", home, study, "--json").stdout)
        assert facts["approved"] is False
        assert (sum(facts["patients"].values()), facts["events"], facts["features"]) == (30, 10, 2)
        assert json.loads(call("approve", home, study, "--by", "Dr Ito", "--json").stdout)["by"] == "Dr Ito"
        assert json.loads(call("check", home, study, "--json").stdout)["approved"] is True

    def test_whoever_approves_reads_the_level_of_privacy(self, site):
        home, study = site
        private = {**STUDY, "training": {"preparation": "public", "start": "random", "weighting": "equal"}}
        plain = call("approve", home, study, "--by", "Dr Ito").stdout
        assert "no formal privacy guarantee" in plain and "coordinator sees" not in plain
        study.write_text(yaml.safe_dump({**private, "privacy": {"mode": "dp-sgd", "epsilon": 8}}))
        record = call("approve", home, study, "--by", "Dr Ito").stdout
        assert "record-level (one patient)" in record and "coordinator" not in record
        study.write_text(yaml.safe_dump({**private, "privacy": {"mode": "client-dp", "epsilon": 8}}))
        client = call("approve", home, study, "--by", "Dr Ito").stdout
        assert "client-level (one hospital, noise added by the coordinator)" in client and "record-level" not in client
        assert "delta 1e-05" in client
        assert "the coordinator sees this site's clipped weights without noise" in client
        three = {"aggregation": "secure", "sites": [{"name": n, "role": "train"} for n in ("alpha", "beta", "gamma")]}
        study.write_text(yaml.safe_dump({**private, **three, "privacy": {"mode": "client-dp", "epsilon": 8}}))
        summed = call("approve", home, study, "--by", "Dr Ito").stdout
        assert "the coordinator sees the sum of all sites' clipped weights without noise" in summed
        assert "this site's" not in summed

    def test_a_study_that_perturbs_nothing_has_no_table_of_quality(self, site):
        home, study = site
        call("ingest", home, study)
        said = call("quality", home, study, "--json")
        assert said.exit_code == 1 and json.loads(said.stdout)["error"]["code"] == "FL-605"

    def test_no_local_name_is_printed(self, site):
        assert "PAT-" not in call("ingest", *site).stdout + call("ingest", *site, "--json").stdout

    def test_a_case_with_an_unknown_label_is_named_with_its_remedy_and_the_others_stay(self, site):
        home, study = site
        table = home / "cases.csv"
        table.write_text(table.read_text().replace("PAT-004,no", "PAT-004,perhaps"))
        done = call("ingest", home, study)
        assert done.exit_code == 0
        assert "29 ready" in done.stdout and "1 broken" in done.stdout
        assert "PAT-004" not in done.stdout
        assert "PAT-004" in (home / "ingest-local.csv").read_text()


class TestTheCheck:
    def test_ends_with_one_where_something_is_to_fix_and_says_it_first(self, site):
        home, study = site
        call("ingest", home, study)
        done = call("check", home, study, "--json")  # 18 training patients; the default policy asks for 20
        assert done.exit_code == 1
        said = json.loads(done.stdout)
        assert said["ready"] is False
        first = said["findings"][0]
        assert (first["code"], first["severity"]) == ("FL-511", "fix")
        assert "minimum_cohort" in first["remedy"]

    def test_ends_with_zero_where_the_site_is_ready_and_leaves_a_page(self, site):
        home, study = site
        (home / "policy.yaml").write_text("minimum_cohort: 10")
        call("ingest", home, study)
        done = call("check", home, study)
        assert done.exit_code == 0, done.stdout
        assert "Ready" in done.stdout and "fedloupe-site approve" in done.stdout
        assert "PAT-" not in done.stdout
        assert "PAT-004" in (home / "preflight" / "check.html").read_text()


class TestWhatGoesWrong:
    def test_check_before_ingest_says_to_ingest(self, site):
        done = call("check", *site)
        assert done.exit_code == 1
        assert "fedloupe-site ingest" in " ".join(done.stderr.split())

    def test_a_failed_ingest_keeps_the_store_that_was_there(self, site):
        home, study = site
        call("ingest", home, study)
        before = (home / "store" / "index.json").read_bytes()
        (home / "cases.csv").unlink()
        done = call("ingest", home, study)
        assert done.exit_code == 1
        assert "FL-2" in done.stderr
        assert (home / "store" / "index.json").read_bytes() == before

    def test_an_unknown_site_is_refused(self, site):
        home, study = site
        (home / "site.yaml").write_text((home / "site.yaml").read_text().replace("alpha", "beta"))
        done = call("ingest", home, study)
        assert done.exit_code == 1
        assert "beta" in done.stderr

    def test_approval_wants_a_name(self, site):
        assert call("approve", *site).exit_code == 2
