"""`fedloupe provision` to `revoke`: words, JSON, exit codes."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from federations import ADDRESS, found, kit_for, small_study, told
from fedloupe.signing import spoken
from fedloupe_client.joining import initialise
from fedloupe_server.cli import app


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


def read_out(request):
    """What the hospital says on the telephone."""
    return spoken(json.loads(request.read_text())["content"]["site_key"])


@pytest.fixture
def fed(tmp_path):
    found(tmp_path / "FED")
    return tmp_path / "FED"


class TestProvision:
    def test_tells_fingerprints_of_key_bundle_and_study_in_words_and_json(self, tmp_path):
        study, fed = tmp_path / "study.json", tmp_path / "FED"
        study.write_text(small_study().canonical)
        words = ("provision", study, "--out", fed, "--address", ADDRESS, "--name", "Coordinating Hospital")
        said = json.loads(call(*words, "--json").stdout)
        assert said["coordinator"] == told(fed) and said["new"] is True
        assert said["study"] == small_study().fingerprint
        done = call(*words)
        assert done.exit_code == 0
        for part in (told(fed), said["bundle"], said["study"], ADDRESS, "by telephone"):
            assert part in done.stdout

    def test_a_wrong_address_exits_with_1(self, tmp_path):
        study = tmp_path / "study.json"
        study.write_text(small_study().canonical)
        done = call("provision", study, "--out", tmp_path / "FED", "--address", "nowhere", "--json")
        assert done.exit_code == 1
        assert json.loads(done.stdout)["error"]["code"] == "FL-751"


class TestHospitals:
    def test_come_again_and_go(self, fed, tmp_path):
        home = tmp_path / "home"
        request = initialise(home, "north", home / "courier")
        done = call("enrol", fed, request, "--key", read_out(request))
        assert done.exit_code == 0 and "number 1" in done.stdout and "as told" in done.stdout
        again = json.loads(call("enrol", fed, request, "--json").stdout)
        assert (again["fresh"], again["number"]) == (False, 1)
        initialise(home, "north", home / "courier", new_keys=True)
        key = ("--key", read_out(request))
        assert call("enrol", fed, request, *key).exit_code == 1
        assert json.loads(call("rotate", fed, "north", request, *key, "--json").stdout)["number"] == 2
        assert json.loads(call("rotate", fed, "north", request, "--json").stdout)["number"] == 3  # the key in force
        assert call("rotate", fed, "south", request, *key).exit_code == 1
        assert "new key and certificate" in call("rotate", fed, "server").stdout
        assert call("rotate", fed, "north").exit_code == 2
        done = call("revoke", fed, "north", "--reason", "left the study")
        assert done.exit_code == 0 and "north" in done.stdout
        assert call("revoke", fed, "north", "--reason", "again").exit_code == 1

    def test_a_new_key_that_nobody_told_is_refused(self, fed, tmp_path):
        home = tmp_path / "home"
        request = initialise(home, "north", home / "courier")
        refused = call("enrol", fed, request, "--json")
        assert json.loads(refused.stdout)["error"]["code"] == "FL-759"
        assert read_out(request) not in refused.stdout, "it is to be heard, not copied from here"
        assert not (fed / "kits" / "north.kit").exists()
        call("enrol", fed, request, "--key", read_out(request))
        request = initialise(home, "north", home / "courier", new_keys=True)
        assert json.loads(call("rotate", fed, "north", request, "--json").stdout)["error"]["code"] == "FL-759"

    def test_a_key_that_was_told_is_compared(self, fed, tmp_path):
        request = initialise(tmp_path / "home", "north", tmp_path / "home" / "courier")
        done = call("enrol", fed, request, "--key", told(fed), "--json")
        assert json.loads(done.stdout)["error"]["code"] == "FL-756"
        assert not (fed / "kits" / "north.kit").exists()


class TestSites:
    def test_table_and_json_say_the_same(self, fed, tmp_path):
        kit_for(fed, tmp_path / "home", days=100)
        done = call("sites", fed)
        assert done.exit_code == 0
        assert re.search(r"kit issued, (99|100) days left", done.stdout)
        assert done.stdout.count("invited") == 2
        rows = json.loads(call("sites", fed, "--json").stdout)["sites"]
        assert [(row["site"], row["state"], row["kit"]) for row in rows] == [
            ("north", "kit issued", 1),
            ("south", "invited", None),
            ("west", "invited", None),
        ]

    def test_exits_with_1_where_a_certificate_needs_care(self, fed, tmp_path):
        kit_for(fed, tmp_path / "home", days=20)
        assert call("sites", fed).exit_code == 0
        done = call("sites", fed, "--within", "30")
        assert done.exit_code == 1 and re.search(r"expires in (19|20) days", done.stdout)
        assert call("sites", fed, "--within", "400").stdout.count("expires in") == 2, "the server's own too"

    def test_a_stale_kit_is_named(self, fed, tmp_path):
        kit_for(fed, tmp_path / "home")
        found(fed, study=small_study(seed=9))
        assert "stale kit: study" in call("sites", fed).stdout
