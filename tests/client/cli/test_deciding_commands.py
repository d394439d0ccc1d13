"""What a person types to decide, what it says, and its exit codes."""

from __future__ import annotations

import json

import pytest
import yaml
from typer.testing import CliRunner

import fedloupe
from fedloupe.errors import FedLoupeError
from fedloupe.messages import HelloRequest, encode
from fedloupe.signing import Signer, spoken
from fedloupe.study import parse_study
from fedloupe_client.cli import app
from fedloupe_client.gate import Gate
from fedloupe_client.gate.trust import trust

STUDY = {
    "study": "deciding",
    "title": "Synthetic",
    "synthetic": True,
    "endpoint": {"name": "response", "column": "y", "positive": ["1"], "negative": ["0"]},
    "aggregation": "plain",
    "sites": [{"name": "north", "role": "train"}, {"name": "south", "role": "train"}],
    "radiomics": {"source": "table"},
    "model": {"image": False},
}
SITE = "site: north\nsource: {format: table, root: ., clinical: {file: a.csv}, features: a.csv}\n"


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "site.yaml").write_text(SITE)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    return folder


@pytest.fixture
def key(home, tmp_path):
    made = Signer.make(tmp_path / "coordinator.key")
    trust(home, "Coordinating Hospital", made.public, by="Dr Ito")
    return made


@pytest.fixture
def ask(home, key):
    """The gate's code for a hello; `ok` where it is admitted."""

    def hello():
        study = parse_study(STUDY)
        request = HelloRequest(version=fedloupe.__version__, fingerprint=study.fingerprint, run="first", site="north")
        try:
            Gate(home, "north").admit(encode(request), key.public)
        except FedLoupeError as error:
            return error.code
        return "ok"

    return hello


def site(*words):
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


def names(home, level):
    items = json.loads(site("inbox", home, "--json").output)["items"]
    return [item["name"] for item in items if item["item"]["level"] == level]


class TestInbox:
    def test_it_is_empty_at_first(self, home):
        done = site("inbox", home)
        assert done.exit_code == 0 and "Nothing was asked yet" in done.output

    def test_a_study_that_waits_for_somebody_is_exit_code_three(self, home, ask):
        assert ask() == "FL-501"
        done = site("inbox", home)
        assert done.exit_code == 3 and "waits" in done.output and "Coordinating Hospital" in done.output

    def test_an_approved_study_waits_no_longer(self, home, ask, tmp_path):
        ask()
        assert site("approve", home, tmp_path / "study.yaml", "--by", "Dr Ito").exit_code == 0
        assert ask() == "ok" and site("inbox", home).exit_code == 0


class TestDecisions:
    @pytest.fixture(autouse=True)
    def approved(self, home, tmp_path):
        assert site("approve", home, tmp_path / "study.yaml", "--by", "Dr Ito").exit_code == 0

    def test_a_run_is_approved_by_its_item(self, home, ask):
        (home / "policy.yaml").write_text("approval: run\n")
        assert ask() == "FL-530"
        (name,) = names(home, "run")
        assert site("approve", home, name, "--by", "Dr Ito").exit_code == 0
        assert ask() == "ok"

    def test_and_denied(self, home, ask):
        ask()
        (name,) = names(home, "run")
        assert site("deny", home, name, "--by", "Dr Ito", "--reason", "not tonight").exit_code == 0
        assert ask() == "FL-531"
        assert "denied Dr Ito" in site("inbox", home).output

    def test_an_approval_is_withdrawn_by_its_fingerprint(self, home, ask):
        done = site("withdraw", home, parse_study(STUDY).fingerprint[:12], "--by", "Dr Ito")
        assert done.exit_code == 0 and ask() == "FL-501"

    def test_a_site_pauses_and_resumes(self, home, ask):
        assert site("pause", home, "--by", "Dr Ito", "--reason", "board meets").exit_code == 0
        assert ask() == "FL-532"
        assert "board meets" in site("inbox", home).output
        assert site("resume", home, "--by", "Dr Ito").exit_code == 0
        assert ask() == "ok"

    @pytest.mark.parametrize(
        ("words", "code"),
        [
            (("approve", "0" * 12), "FL-534"),
            (("approve", "missing.yaml"), "FL-101"),
            (("deny", "0" * 12), "FL-534"),
            (("withdraw", "0" * 12), "FL-534"),
            (("resume",), "FL-534"),
        ],
        ids=str,
    )
    def test_what_is_not_there_is_an_error_with_a_code(self, home, words, code):
        command, *rest = words
        done = site(command, home, *rest, "--by", "Dr Ito")
        assert done.exit_code == 1 and code in done.output

    def test_nobody_decides_without_a_name(self, home):
        assert site("pause", home).exit_code == 2


def test_the_policy_is_shown_with_whose_requests_are_taken(home, key):
    output = site("policy", home).output
    assert "approval: study" in output and "hours: -" in output
    assert f"coordinator: Coordinating Hospital, {spoken(key.public)}  (compared by Dr Ito" in output


def test_a_coordinator_is_distrusted_by_what_was_compared(home, key):
    assert site("distrust", home, "0000 1111", "--by", "Dr Ito").exit_code == 1
    assert site("distrust", home, spoken(key.public), "--by", "Dr Ito").exit_code == 0
    assert "coordinator:" not in site("policy", home).output
