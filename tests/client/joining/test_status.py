"""What a site says of itself: each line by itself, and what cannot be read is a line as well."""

from __future__ import annotations

import importlib.util
from datetime import timedelta

import pytest

from federations import install, kit_for, small_study
from fedloupe.certificates import utc_now
from fedloupe_client.config import Connection
from fedloupe_client.gate import approve
from fedloupe_client.joining import initialise
from fedloupe_client.joining.status import look
from fedloupe_client.preflight.joined import look_at_kit


@pytest.fixture
def home(fed, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    install(fed, tmp_path / "home", kit_for(fed, tmp_path / "home").kit)
    return tmp_path / "home"


def lines(home, days=0.5):  # half a day, so that no second decides how many whole ones are left
    return {line.name: line for line in look(home, utc_now() + timedelta(days=days))}


class TestStatus:
    def test_says_site_kit_certificate_coordinator_and_address(self, home):
        said = lines(home)
        assert said["site"].value == "north"
        assert said["kit"].value["number"] == 1 and said["kit"].value["by"] == "Dr Ito"
        assert said["certificate"].words.endswith("in 364 days")
        assert said["coordinator"].value["name"] == "Coordinating Hospital"
        assert said["address"].value == "fl.example.org:443"

    @pytest.mark.parametrize(
        ("days", "state", "words"), [(340.5, "ok", "in 24"), (355.5, "soon", "in 9 days"), (370.5, "wrong", "expired")]
    )
    def test_the_certificates_end_is_seen_coming(self, home, days, state, words):
        line = lines(home, days)["certificate"]
        assert line.state == state and words in line.words

    def test_the_kits_study_waits_for_its_approval(self, home):
        assert lines(home)["study"].state == "soon"
        approve(home, small_study(), by="Dr Roy")
        line = lines(home)["study"]
        assert (line.state, line.value["by"]) == ("ok", "Dr Roy")

    def test_a_bundle_without_a_flower_home_is_told(self, home):
        assert lines(home)["bundle"].value["approved"] is False

    def test_new_keys_that_wait_are_told(self, home):
        assert "new_keys" not in lines(home)
        initialise(home, "north", home / "courier", new_keys=True)
        assert lines(home)["new_keys"].value is True

    def test_without_a_kit_it_says_what_to_do(self, tmp_path):
        said = lines(tmp_path)
        assert said["kit"].state == "wrong" and "fedloupe-site init" in said["kit"].words
        assert said["site"].value is None and "certificate" not in said

    @pytest.mark.parametrize(
        ("name", "code"),
        [("kit.json", "FL-658"), ("gate/coordinators/x.json", "FL-540"), ("gate/approved/x.json", "FL-514")],
    )
    def test_a_damaged_record_is_a_line_and_the_others_still_speak(self, home, name, code):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text("{")
        said = look(home, utc_now())
        assert next(line.value for line in said if line.name == "error") == code
        assert any(line.name in ("coordinator", "kit") for line in said)

    def test_a_certificate_of_another_authority_is_wrong(self, home, fed, tmp_path):
        (home / "gate" / "authority.pem").write_text((home / "gate" / "certificate.pem").read_text())
        assert any(line.state == "wrong" and line.value == "FL-132" for line in look(home, utc_now()))


class TestCheckOfTheKit:
    @pytest.mark.parametrize(
        ("days", "severities", "words"),
        [(340.5, [], ""), (355.5, ["warning"], "in 9 days"), (370.5, ["fix"], "expired")],
    )
    def test_the_certificates_end_is_a_finding(self, home, days, severities, words):
        findings = look_at_kit(Connection(), home, utc_now() + timedelta(days=days))
        assert [finding.severity for finding in findings] == severities
        assert all(finding.code == "FL-666" and words in finding.what for finding in findings)

    def test_an_expected_coordinator_without_a_kit_is_a_note(self, tmp_path):
        (finding,) = look_at_kit(Connection(server="fl.example.org:443"), tmp_path, utc_now())
        assert finding.severity == "note" and "fedloupe-site join" in finding.remedy

    def test_where_no_coordinator_is_expected_nothing_is_said(self, tmp_path):
        assert look_at_kit(Connection(), tmp_path, utc_now()) == []
