"""`fedloupe-site start`: a real site process without a network, its socket for the group, its log in JSON."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time

import pytest
import yaml
from typer.testing import CliRunner

from fedloupe_client.cli import app
from fedloupe_client.site.server import ask


def without_network() -> list[str]:
    """Words before a command that give it an empty network namespace, where this user may make one."""
    words = ["unshare", "--net", "--map-root-user"]
    if shutil.which("unshare") and subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0:
        return words
    return []


@pytest.mark.deployed
@pytest.mark.parametrize(("more", "mode"), [(["--group"], 0o660), ([], 0o600)])
def test_without_a_network_it_is_healthy_and_says_so_in_json(hospital, more, mode):
    hospital.stop_site()
    source = {"format": "table", "root": ".", "clinical": {"file": "c.csv"}, "features": "c.csv"}
    (hospital.home / "site.yaml").write_text(yaml.safe_dump({"site": "north", "source": source}))
    words = [sys.executable, "-m", "fedloupe_client.cli", "start", str(hospital.home), "--socket", str(hospital.socket)]
    site = subprocess.Popen(
        [*without_network(), *words, "--log", "json", *more],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 90.0
    while not hospital.socket.exists():
        assert site.poll() is None and time.monotonic() < end
        time.sleep(0.1)
    look = ["health", str(hospital.home), str(hospital.courier), "--socket", str(hospital.socket)]
    done = CliRunner().invoke(app, look)
    second = CliRunner().invoke(app, ["start", str(hospital.home), "--socket", f"{hospital.socket}.2"])
    found = stat.S_IMODE(hospital.socket.stat().st_mode)
    ask(hospital.socket, b"no message", 10.0)  # refused, with a line in the log
    site.send_signal(signal.SIGTERM)
    said, log = site.communicate(timeout=30)
    assert done.exit_code == 0, done.output
    assert second.exit_code == 1 and "FL-667" in second.output and str(site.pid) in second.output
    assert found == mode
    assert "listening" in said and site.returncode == 0
    lines = [json.loads(line) for line in log.splitlines()]
    assert lines and all({"time", "level", "room", "event"} <= set(line) for line in lines)
