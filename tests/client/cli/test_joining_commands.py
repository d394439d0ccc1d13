"""`fedloupe-site init`, `join`, `status`: words, JSON, exit codes."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from federations import found, told
from fedloupe.enrolment import read_request
from fedloupe.signing import spoken
from fedloupe_client.cli import app
from fedloupe_server.provision import enrol


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def fed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands") / "FED"
    found(folder)
    return folder


class TestFromKeysToAKit:
    def test_all_three_commands(self, fed, tmp_path):
        home = tmp_path / "home"
        done = call("init", home, "north")
        request = home / "north.request.json"
        assert done.exit_code == 0
        assert spoken(read_request(request).site_key) in done.stdout and "site-example.yaml" in done.stdout
        assert json.loads(call("init", home, "north", "--json").stdout)["request"] == str(request)
        assert call("status", home).exit_code == 1, "no kit yet"
        kit = enrol(fed, request).kit

        done = call("join", home, kit, "--by", "Dr Ito")
        assert done.exit_code == 1
        assert told(fed) in done.stdout and "fl.example.org:443" in done.stdout
        assert "FL-647" in done.stderr and "telephone" in done.stderr
        assert not (home / "kit.json").exists()

        done = call("join", home, kit, "--by", "Dr Ito", "--coordinator", told(fed))
        assert done.exit_code == 0, done.stderr
        assert f"fedloupe-site approve {home}" in done.stdout
        done = call("status", home)
        assert done.exit_code == 0
        assert "Coordinating Hospital" in done.stdout and "is not approved" in done.stdout
        assert call("approve", home, home / "study.json", "--by", "Dr Roy").exit_code == 1, "site.yaml is not written"
        said = json.loads(call("status", home, "--json").stdout)
        assert said["kit"][0]["value"]["number"] == 1 and said["address"][0]["value"] == "fl.example.org:443"

    def test_a_wrong_fingerprint_is_one_json_document(self, fed, tmp_path):
        home = tmp_path / "home"
        call("init", home, "south")
        kit = enrol(fed, home / "south.request.json").kit
        done = call("join", home, kit, "--by", "Dr Ito", "--coordinator", "0000 " * 8, "--json")
        assert done.exit_code == 1
        assert json.loads(done.stdout)["error"]["code"] == "FL-648"

    def test_status_of_a_folder_that_is_not_there(self, tmp_path):
        done = call("status", tmp_path / "nowhere")
        assert done.exit_code == 1 and "FL-645" in done.stderr
