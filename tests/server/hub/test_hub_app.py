"""The ServerApp: job in, outcome out; and the preflight, with sites in one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from flwr.app import Context, RecordDict

import fedloupe
from fedloupe.messages import Failure, HelloReply, PrepareReply, decode, encode
from fedloupe.signing import Signer
from fedloupe.study import parse_study
from fedloupe_client.courier.app import courier
from fedloupe_server.federation.opening import run_name
from fedloupe_server.hub.app import app, ping
from fedloupe_server.hub.inprocess import InProcessGrid, inprocess_exchange
from fedloupe_server.hub.job import Job, JobInvalid, NodeTable, read_job, write_job
from fedloupe_server.hub.processes import alive

STUDY = {
    "study": "wire",
    "title": "wire test",
    "endpoint": {"name": "response", "column": "y", "positive": ["1"], "negative": ["0"]},
    "aggregation": "plain",
    "sites": [
        {"name": "north", "role": "train"},
        {"name": "south", "role": "train"},
        {"name": "east", "role": "validate"},
    ],
    "radiomics": {"source": "table"},
}


def header(request):
    return {
        "version": fedloupe.__version__,
        "fingerprint": request.fingerprint,
        "run": request.run,
        "site": request.site,
    }


def ready(blob):
    request = decode(blob)
    counts = {"train": 20, "tune": 5, "test": 7, "positives": 9, "excluded": {}}
    return encode(HelloReply(**header(request), **counts, features=(), groups=(), data_digest="00"))


def inner(blob):
    """What a seal holds."""
    return decode(blob).inner.tobytes()


def unapproved(blob):
    return encode(Failure(**header(decode(blob)), code="FL-501", title="study not approved"))


def dead(blob):
    raise OSError("gone")


class TestPing:
    def test_each_site_is_described_by_what_it_answered(self):
        exchange = inprocess_exchange({"north": ready, "south": unapproved, "east": dead})
        assert ping(parse_study(STUDY), exchange, 0.2) == {
            "north": "ready: 32 patients",
            "south": "FL-501 study not approved",
            "east": "silent",
        }

    def test_an_answer_that_is_no_message_or_another_one_is_told(self):
        def another(blob):
            return encode(PrepareReply(**header(decode(blob)), preparation="00"))

        exchange = inprocess_exchange({"north": lambda blob: b"junk", "south": another, "east": ready})
        answers = ping(parse_study(STUDY), exchange, 0.2)
        assert answers["north"] == "FL-601 not a valid FedLoupe message"
        assert answers["south"] == "unexpected answer `prepare-reply`"


@pytest.fixture
def job(tmp_path):
    """A job folder as `Federation.run` makes it, and a function that runs it in process."""
    (tmp_path / "study.yaml").write_text(json.dumps(STUDY))
    (tmp_path / "nodes.json").write_text(json.dumps({"north": 2, "south": 3, "east": 4}))
    Signer.make(tmp_path / "coordinator.key")
    write_job(tmp_path, Job(tmp_path / "coordinator.key", tmp_path / "nodes.json"))
    grid = InProcessGrid({node: courier(lambda _: lambda blob, timeout_s: ready(inner(blob))) for node in (2, 3, 4)})
    config = {"study": str(tmp_path / "study.yaml"), "run-dir": str(tmp_path / "run"), "work": str(tmp_path)}

    def run(**changes):
        context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={**config, **changes})
        app(grid, context)

    return tmp_path, run


class TestTheJob:
    def test_ping_writes_its_answers_and_a_completed_outcome(self, job):
        folder, run = job
        run(task="ping")
        assert set(json.loads((folder / "run" / "ping.json").read_text())) == {"north", "south", "east"}
        assert json.loads((folder / "outcome.json").read_text()) == {"state": "completed"}
        assert "asked 3, answered 3" in (folder / "progress.log").read_text()

    def test_a_study_is_run_with_the_sites_behind_the_grid_and_its_steps_are_told(self, job, monkeypatch):
        folder, run = job
        seen = {}

        def run_study(study, exchange, run_dir, *, observer, patient, key):
            from fedloupe_server.federation import Event

            assert patient, "a deployed run pauses where it lacks a site"
            seen.update(name=study.study, run_dir=run_dir, replies=set(ping(study, exchange)))
            observer(Event("rounds", 3, 20, "north, south"))

        monkeypatch.setattr("fedloupe_server.federation.run_study", run_study)

        class Written:
            notes = ("no PDF",)

        reports = []
        monkeypatch.setattr("fedloupe_server.pack.write_pack", lambda folder: reports.append(folder) or Written())
        run(task="study")
        assert reports == [folder / "run"]
        assert seen == {"name": "wire", "run_dir": folder / "run", "replies": {"north", "south", "east"}}
        assert "rounds 3/20 north, south" in (folder / "progress.log").read_text().splitlines()

    def test_until_it_is_sealed_no_report_is_written(self, job, monkeypatch):
        folder, run = job

        class Sealed:
            digest = "ab" * 32

        def freeze_study(study, exchange, run_dir, *, observer, patient, key):
            assert patient and key.public == Signer.load(folder / "coordinator.key").public
            (run_dir / "seen").touch()
            return Sealed()

        monkeypatch.setattr("fedloupe_server.federation.freeze_study", freeze_study)
        monkeypatch.setattr("fedloupe_server.pack.write_pack", None)
        run(task="freeze")
        assert (folder / "run" / "seen").exists() and f"sealed {'ab' * 32}" in (folder / "progress.log").read_text()

    def test_a_sealed_run_is_validated_under_a_name_of_its_own(self, job, monkeypatch):
        folder, run = job
        seen = []

        def validate_run(sealed, study, exchange, run_dir, *, observer, patient, key):
            assert patient and key.public == Signer.load(folder / "coordinator.key").public
            seen.extend((sealed, run_dir, run_name(run_dir)))

        class Written:
            notes = ()

        monkeypatch.setattr("fedloupe_server.federation.validate_run", validate_run)
        monkeypatch.setattr("fedloupe_server.pack.write_pack", lambda run_dir: seen.append(run_dir) or Written())
        with pytest.raises(JobInvalid, match="no sealed run"):
            run(task="validate")
        write_job(folder, replace(read_job(folder), name="wire-12", sealed=folder / "sealed"))
        run(task="validate")
        assert seen == [folder / "sealed", folder / "run", "wire-12", folder / "run"]

    def test_a_failure_is_recorded_with_its_code_and_raised(self, job):
        folder, run = job
        with pytest.raises(JobInvalid, match="FL-722"):
            run(task="dance")
        outcome = json.loads((folder / "outcome.json").read_text())
        assert (outcome["state"], outcome["code"]) == ("failed", "FL-722")
        assert "`dance`" in outcome["message"]

    def test_an_unforeseen_failure_is_recorded_too(self, job, monkeypatch):
        folder, run = job

        def broken(*_, **__):
            raise ZeroDivisionError("by zero")

        monkeypatch.setattr("fedloupe_server.federation.run_study", broken)
        with pytest.raises(ZeroDivisionError):
            run(task="study")
        assert json.loads((folder / "outcome.json").read_text())["code"] == "FL-723"

    def test_a_relative_work_folder_is_refused(self, job):
        _, run = job
        with pytest.raises(JobInvalid, match="absolute"):
            run(task="ping", work="")

    @pytest.mark.parametrize("text", ["", "[]", '{"north": "x"}', "{"])
    def test_a_damaged_table_of_nodes_is_named(self, tmp_path, text):
        (tmp_path / "nodes.json").write_text(text)
        with pytest.raises(JobInvalid, match=r"nodes\.json"):
            NodeTable(tmp_path / "nodes.json")

    def test_a_table_that_changes_is_read_again(self, job):
        folder, _ = job
        table = read_job(folder).table
        assert dict(table) == {"north": 2, "south": 3, "east": 4}
        (folder / "nodes.json").write_text('{"north": 2, "west": 9}')
        os.utime(folder / "nodes.json", ns=(1, 1))
        assert dict(table) == {"north": 2, "west": 9}

    def test_the_job_says_that_its_process_lives(self, job):
        folder, run = job
        run(task="ping")
        server = json.loads((folder / "server.json").read_text())
        assert alive(server["pid"], server["began"]) and server["pid"] == os.getpid()

    def test_a_server_app_ends_with_who_keeps_its_run(self, tmp_path):
        keeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        write_job(tmp_path, Job(tmp_path, tmp_path).kept_by(keeper.pid))
        script = (
            "import sys; from pathlib import Path; from fedloupe_server.hub.app import _end_with_keeper\n"
            "from fedloupe_server.hub.job import read_job\n"
            "print('up', flush=True); _end_with_keeper(read_job(Path(sys.argv[1])), 0.05)"
        )
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", script, str(tmp_path)]
        server = subprocess.Popen(command, env=env, stdout=subprocess.PIPE)
        assert server.stdout.readline() == b"up\n"
        with pytest.raises(subprocess.TimeoutExpired):
            server.wait(1)
        keeper.kill()
        keeper.wait()
        assert server.wait(60) == 1

    def test_one_that_nobody_keeps_goes_on_by_itself(self, job):
        assert read_job(job[0]).kept

    @pytest.mark.parametrize("text", ["", "[]", "{", '{"key": 1}', '{"key": "k", "nodes": "n", "keeper": [1]}'])
    def test_a_damaged_job_is_named(self, tmp_path, text):
        (tmp_path / "job.json").write_text(text)
        with pytest.raises(JobInvalid, match=r"job\.json"):
            read_job(tmp_path)
