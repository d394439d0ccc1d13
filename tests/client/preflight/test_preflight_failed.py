"""A home whose ingest left nothing usable: the check reads what ingest wrote, and shows every case on one page."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fedloupe_client.ingest.identity.leaks import leaks
from fedloupe_client.ingest.problems import NoneReady, OneClass, StoreMissing
from fedloupe_client.preflight import preflight, write_page
from fedloupe_client.preflight.failed import FILE
from fedloupe_client.preflight.rehearsal import dry_round


def local(number: int) -> str:
    return f"PAT-7700{number:02d}"


@pytest.fixture(scope="module")
def failed(tmp_path_factory, a_hospital):
    """Three cases in trouble of their own, the others with an outcome that the study does not know."""
    hospital, study = a_hospital(tmp_path_factory.mktemp("failed"))
    hospital.write(local(1), "mask", np.zeros((12, 24, 24), np.uint8))
    damaged = hospital.path(local(3), "t2w")
    damaged.write_bytes(damaged.read_bytes()[:3000])
    hospital.path(local(4), "adc").unlink()
    for number in set(range(30)) - {1, 3, 4}:
        hospital.rows[local(number)] = "perhaps,55"
    with pytest.raises(NoneReady):
        hospital.ingest(study)
    seen = preflight(hospital.home, study)
    return hospital, study, seen, write_page(seen, hospital.home, Path("study.yaml"))


@pytest.fixture
def home(failed, tmp_path):
    """A home with the file alone, to be damaged, and a function that checks it."""
    hospital, study, *_ = failed
    for name in ("site.yaml", "policy.yaml", FILE):
        (tmp_path / name).write_bytes((hospital.home / name).read_bytes())

    def check():
        seen = preflight(tmp_path, study)
        return seen, write_page(seen, tmp_path, Path("study.yaml"))

    return tmp_path, check


class TestWithoutAnyUsableCase:
    def test_the_site_is_not_ready_and_the_first_thing_to_fix_says_why(self, failed):
        result = failed[2].result
        assert not result.ready and not result.ingested
        assert (result.findings[0].code, result.findings[0].severity) == ("FL-209", "fix")
        assert "none of 30 cases is usable" in result.findings[0].what

    def test_every_case_has_status_code_reason_and_remedy_worst_first(self, failed):
        cases = failed[2].result.cases
        assert [(e.status, e.code) for e in cases] == [
            ("broken", "FL-204"),
            *[("broken", "FL-214")] * 27,
            ("broken", "FL-231"),
            ("excluded", "FL-216"),
        ]
        assert all(e.reason and e.remedy for e in cases)
        assert failed[2].result.kinds == {"corruption": 1, "mislabelled": 27, "degenerate": 1, "absence": 1}

    def test_one_finding_a_code_names_its_cases(self, failed):
        counts = {f.code: len(f.cases) for f in failed[2].result.findings if f.scope == "case"}
        assert counts == {"FL-204": 1, "FL-214": 27, "FL-231": 1, "FL-216": 1}

    def test_the_page_tells_where_each_lies_and_what_to_type(self, failed):
        hospital, _, _, page = failed
        text = page.read_text()
        assert all(local(number) in text for number in range(30))
        assert f"gzip -t -v {hospital.path(local(3), 't2w')}" in text
        assert f"grep -n -F -- {local(5)} {hospital.home / 'data' / 'clinical.csv'}" in text

    def test_the_page_shows_the_image_that_a_case_still_has(self, failed):
        assert failed[3].read_text().count("<img ") == 3 * 30

    def test_the_json_holds_pseudonyms_only(self, failed):
        hospital, _, _, page = failed
        identifiers = [*(local(number) for number in range(30)), str(hospital.home)]
        assert leaks(page.with_name("check.json"), identifiers) == []

    def test_nothing_is_derived_or_stored_on_the_way(self, failed):
        home = failed[0].home
        assert not (home / "store").exists() and not (home / "derived").exists()


class TestWithOneOutcomeOnly:
    def test_says_so_and_shows_the_usable_cases_as_ready(self, tmp_path, a_hospital):
        hospital, study = a_hospital(tmp_path)
        for number in range(1, 30, 2):
            hospital.path(local(number), "adc").unlink()  # those with the event
        with pytest.raises(OneClass):
            hospital.ingest(study)
        result = preflight(hospital.home, study).result
        assert result.statuses == {"ready": 15, "excluded": 15, "broken": 0}
        assert (result.findings[0].code, result.findings[0].severity) == ("FL-208", "fix")
        assert "15 usable cases of 30 all have the same label" in result.findings[0].what


class TestADamagedFile:
    def rewrite(self, home: Path, change) -> None:
        with open(home / FILE, newline="") as file:
            rows = list(csv.reader(file))
        with open(home / FILE, "w", newline="") as file:
            csv.writer(file).writerows(change(rows))

    def test_without_a_column_is_a_finding(self, home):
        folder, check = home
        self.rewrite(folder, lambda rows: [row[:4] + row[5:] for row in rows])
        seen, _ = check()
        assert [f.code for f in seen.result.findings if f.severity == "fix"] == ["FL-204"]
        assert "lacks the columns code" in seen.result.findings[0].what
        assert seen.result.cases == ()

    @pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'"' + b"x" * 200_000 + b'"\n', b"\x00\x00"])
    def test_that_is_no_table_is_a_finding(self, home, content):
        folder, check = home
        (folder / FILE).write_bytes(content)
        seen, page = check()
        assert not seen.result.ready
        assert [f.code for f in seen.result.findings if f.severity == "fix"] == ["FL-204"]
        assert page.exists()

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda row: [*row[:2], row[0], *row[3:]],  # the local id where the pseudonym belongs
            lambda row: [*row[:3], "sick", *row[4:]],
            lambda row: [*row[:4], "FL-999", *row[5:]],
            lambda row: [*row[:5], f"look at {row[0]}", *row[6:]],
            lambda row: [*row[:6], "see /srv/export/one.nii.gz", *row[7:]],
            lambda row: row[:5],
            lambda row: [*row[:3], "ready", *row[4:]],
        ],
    )
    def test_a_line_that_ingest_did_not_write_is_counted_and_never_shown(self, home, spoil):
        folder, check = home
        self.rewrite(folder, lambda rows: [rows[0], spoil(rows[1]), *rows[2:]])
        seen, page = check()
        assert len(seen.result.cases) == 29
        assert any("1 of its 30 lines" in f.what for f in seen.result.findings)
        assert leaks(page.with_name("check.json"), [local(n) for n in range(30)]) == []
        assert "/srv/export" not in page.with_name("check.json").read_text()

    def test_a_case_that_stands_twice_is_counted_once(self, home):
        folder, check = home
        self.rewrite(folder, lambda rows: [*rows, rows[1]])
        result = check()[0].result
        assert len(result.cases) == 30
        assert any("1 of its 31 lines" in f.what for f in result.findings)


class TestBesideAStore:
    def test_an_earlier_store_is_checked_and_the_failure_is_a_warning(self, healthy, failed, tmp_path, monkeypatch):
        monkeypatch.setattr("fedloupe_client.preflight.check.rehearse", dry_round)
        home = tmp_path / "home"
        shutil.copytree(healthy.hospital.home, home)
        shutil.copy(failed[0].home / FILE, home)
        result = preflight(home, healthy.study).result
        assert result.ready and result.ingested
        assert result.statuses["ready"] == 30
        found = [f for f in result.findings if f.code == "FL-209"]
        assert [f.severity for f in found] == ["warning"]
        assert "27 x FL-214" in found[0].what


class TestWithoutTheFile:
    def test_the_check_asks_for_an_ingest_as_before(self, home):
        folder, check = home
        (folder / FILE).unlink()
        with pytest.raises(StoreMissing):
            check()


def test_the_command_ends_with_one_and_json_on_the_screen_is_that_of_the_file(failed, tmp_path):
    from typer.testing import CliRunner

    from fedloupe_client.cli import app

    hospital, study, *_ = failed
    (tmp_path / "study.yaml").write_text(study.canonical)
    done = CliRunner().invoke(app, ["check", str(hospital.home), str(tmp_path / "study.yaml"), "--json"])
    assert done.exit_code == 1
    assert len(json.loads(done.stdout)["cases"]) == 30
