"""`fedloupe-site courier`: the supervised courier, from the folder that `join` filled, without HOME."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import stat
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from fedloupe_client.cli import app
from fedloupe_client.courier.service import Courier
from fedloupe_client.joining import installed
from fedloupe_client.joining.courier_file import read_courier_file
from fedloupe_client.joining.errors import CourierNotJoined
from fedloupe_server.hub.processes import free_ports


@pytest.fixture
def run(monkeypatch):
    """What the command would become."""
    became = []
    monkeypatch.setattr(os, "execv", lambda program, words: became.append([program, *words[1:]]))

    def invoke(*arguments):
        became.clear()
        done = CliRunner().invoke(app, ["courier", *map(str, arguments)], env={"COLUMNS": "300"})
        return done, became[0] if became else None

    return invoke


class TestTheFileOfTheKit:
    def test_says_where_to_dial_and_until_when_and_no_more(self, hospital):
        kit, told = installed(hospital.home), read_courier_file(hospital.courier)
        assert (told.site, told.address, told.expires, told.number) == ("north", kit.address, kit.expires, kit.number)
        content = json.loads((hospital.courier / "courier.json").read_text())
        assert set(content) == {"format", "number", "site", "address", "expires"}
        assert (hospital.courier / "courier.json").stat().st_mode & 0o777 == 0o644
        assert stat.S_IMODE((hospital.courier / "state").stat().st_mode) == 0o700

    @pytest.mark.parametrize("content", ["", "{", '{"format": "fedloupe-courier-1"}'])
    def test_damaged_it_is_refused(self, hospital, content):
        (hospital.courier / "courier.json").write_text(content)
        with pytest.raises(CourierNotJoined, match="FL-678"):
            read_courier_file(hospital.courier)

    def test_an_address_that_is_an_option_is_none(self, hospital):
        path = hospital.courier / "courier.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "address": "--insecure:443"}))
        with pytest.raises(CourierNotJoined, match="address"):
            read_courier_file(hospital.courier)


class TestTheCommand:
    def test_becomes_the_supervisor_with_every_file_of_the_folder(self, hospital, run):
        done, became = run(hospital.courier, "--socket", hospital.socket, "--port", 9100, "--log", "json")
        assert done.exit_code == 0, done.output
        assert became[:5] == [sys.executable, "-P", "-m", "fedloupe_client.courier", "start"]
        given = dict(zip(became[5::2], became[6::2], strict=True))
        courier = hospital.courier
        assert given == {
            "--coordinator": "fl.example.org:443",
            "--authority": str(courier / "ca.crt"),
            "--key": str(courier / "courier.key"),
            "--socket": str(hospital.socket),
            "--home": str(courier / "flower"),
            "--state": str(courier / "state"),
            "--port": "9100",
            "--log": "json",
        }
        for name in ("--authority", "--key", "--home", "--state"):
            assert os.path.exists(given[name]), name

    def test_without_a_kit_it_says_what_to_do(self, hospital, run):
        (hospital.courier / "courier.json").unlink()
        done, became = run(hospital.courier, "--socket", hospital.socket)
        assert done.exit_code == 1 and became is None and "FL-678" in done.output and "join" in done.output

    def test_without_flower_it_says_what_to_do(self, hospital, run, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
        done, became = run(hospital.courier, "--socket", hospital.socket)
        assert done.exit_code == 1 and became is None and "FL-679" in done.output

    def test_its_processes_write_their_log_in_the_same_form(self, hospital):
        paths = dict.fromkeys(("authority", "key", "socket", "home", "state"), hospital.courier)
        for form in ("words", "json"):
            commands = Courier(coordinator="host:443", **paths, log=form).commands
            for command in commands.values():
                words = command(3)
                assert words[:3] == [sys.executable, "-P", "-m"]
                assert words[words.index("--log") + 1] == form


@pytest.mark.deployed
class TestTheProcess:
    def test_runs_in_the_same_process_with_json_lines_and_stops_when_told(self, hospital):
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        words = [sys.executable, "-m", "fedloupe_client.cli", "courier", str(hospital.courier)]
        path = hospital.courier / "courier.json"  # nobody listens there: it waits, and says so
        path.write_text(json.dumps({**json.loads(path.read_text()), "address": "127.0.0.1:9"}))
        state = hospital.courier / "state" / "courier-state.json"
        state.unlink()
        courier = subprocess.Popen(
            [*words, "--socket", str(hospital.socket), "--log", "json", "--port", str(free_ports(1)[0])],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        end = time.monotonic() + 180.0
        while not (state.exists() and json.loads(state.read_text())["state"] == "waiting"):
            assert courier.poll() is None and time.monotonic() < end
            time.sleep(0.1)
        assert json.loads(state.read_text())["pid"] == courier.pid
        courier.send_signal(signal.SIGTERM)
        said, _ = courier.communicate(timeout=30)
        lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        events = [line["event"] for line in lines if line["room"] == "fedloupe_client.courier.supervise"]
        assert events[0] == "courier-started" and events[-1] == "courier-ended" and "state" in events
        assert courier.returncode == 0
        assert json.loads(state.read_text())["state"] == "stopped"
