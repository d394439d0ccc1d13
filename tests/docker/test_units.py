"""The systemd units: what each may see, checked against our command lines and by systemd itself."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from commands import parsed

UNITS = ("fedloupe-site", "fedloupe-courier", "fedloupe-coordinator")
EXPOSURE = {"fedloupe-site": 1.0, "fedloupe-courier": 2.0, "fedloupe-coordinator": 2.0}
"""Of `systemd-analyze security`, 0 to 10: the highest that is accepted."""


@pytest.fixture(scope="module")
def units(docker) -> dict[str, dict[str, list[str]]]:
    """Every setting of each unit, with all of its values."""
    found: dict[str, dict[str, list[str]]] = {}
    for name in UNITS:
        lines = (docker / "systemd" / f"{name}.service").read_text(encoding="utf-8").splitlines()
        for key, value in (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#")):
            found.setdefault(name, {}).setdefault(key, []).append(value)
    return found


@pytest.fixture(scope="module")
def started(units):
    """What each unit's command line means to ours."""
    found = {}
    for name, unit in units.items():
        (line,) = unit["ExecStart"]
        program, *words = line.split()
        assert Path(program).parent == Path("/opt/fedloupe/bin")
        found[name] = parsed([Path(program).name, *words])
    return found


@pytest.fixture
def analyze():
    if (program := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is not installed")
    return lambda *words: subprocess.run([program, *words], capture_output=True, text=True, check=False)


class TestTheWall:
    def test_three_services_start_three_commands(self, started):
        assert {name: one["command"] for name, one in started.items()} == {
            "fedloupe-site": "start",
            "fedloupe-courier": "courier",
            "fedloupe-coordinator": "start",
        }

    def test_site_and_courier_are_two_users_of_one_group_and_meet_at_one_socket(self, units, started):
        site, courier = (units[f"fedloupe-{name}"] for name in ("site", "courier"))
        assert site["User"] != courier["User"] and site["Group"] == courier["Group"]
        assert started["fedloupe-site"]["group"] is True
        assert started["fedloupe-site"]["socket"] == started["fedloupe-courier"]["socket"]
        assert Path(started["fedloupe-site"]["socket"]).parent == Path("/run") / site["RuntimeDirectory"][0]
        assert site["RuntimeDirectoryMode"] == ["0750"] and site["RuntimeDirectoryPreserve"] == ["yes"]

    def test_the_site_has_no_network(self, units):
        site = units["fedloupe-site"]
        assert site["PrivateNetwork"] == ["yes"] and site["RestrictAddressFamilies"] == ["AF_UNIX"]

    def test_each_writes_in_its_own_folder_alone(self, units, started):
        assert {name: unit["ReadWritePaths"] for name, unit in units.items()} == {
            "fedloupe-site": [started["fedloupe-site"]["home"]],
            "fedloupe-courier": [f"{started['fedloupe-courier']['courier']}/state"],
            "fedloupe-coordinator": [started["fedloupe-coordinator"]["folder"]],
        }
        assert all(unit["ProtectSystem"] == ["strict"] for unit in units.values())

    def test_the_courier_cannot_enter_the_sites_home_nor_the_site_the_couriers(self, units, started):
        assert started["fedloupe-site"]["home"] in units["fedloupe-courier"]["InaccessiblePaths"]
        assert f"-{started['fedloupe-courier']['courier']}" in units["fedloupe-site"]["InaccessiblePaths"]
        assert not started["fedloupe-courier"]["courier"].startswith(f"{started['fedloupe-site']['home']}/")

    def test_the_coordinators_service_cannot_read_the_authoritys_key(self, units, started):
        key = f"-{started['fedloupe-coordinator']['folder']}/authority/ca.key"
        assert units["fedloupe-coordinator"]["InaccessiblePaths"] == [key]

    def test_only_the_coordinator_has_a_right_and_only_for_its_port(self, units):
        rights = {name: unit["CapabilityBoundingSet"] for name, unit in units.items()}
        assert rights == {
            "fedloupe-site": [""],
            "fedloupe-courier": [""],
            "fedloupe-coordinator": ["CAP_NET_BIND_SERVICE"],
        }
        assert all(unit["NoNewPrivileges"] == ["yes"] for unit in units.values())


class TestTheyComeBack:
    def test_for_ever_and_not_at_once(self, units):
        for name, unit in units.items():
            assert unit["Restart"] == ["always"], name
            assert 5 <= int(unit["RestartSec"][0]) <= 60, name
            assert unit["StartLimitIntervalSec"] == ["0"], f"{name} would be given up after a few starts"

    def test_who_has_processes_of_its_own_ends_them_itself(self, units):
        for name in ("fedloupe-courier", "fedloupe-coordinator"):
            assert units[name]["KillMode"] == ["mixed"]

    def test_logs_are_json_lines(self, started):
        assert {one["log"] for one in started.values()} == {"json"}


@pytest.mark.parametrize("name", UNITS)
class TestSystemd:
    def test_understands_every_line(self, docker, analyze, tmp_path, name):
        text = (docker / "systemd" / f"{name}.service").read_text(encoding="utf-8")
        for program in ("fedloupe", "fedloupe-site"):  # it looks whether the program is there
            (tmp_path / program).write_text("#!/bin/sh\n")
            (tmp_path / program).chmod(0o755)
        copy = tmp_path / f"{name}.service"
        copy.write_text(text.replace("/opt/fedloupe/bin", str(tmp_path)))
        done = analyze("verify", str(copy))
        assert (done.returncode, done.stdout + done.stderr) == (0, "")

    def test_finds_little_exposed(self, docker, analyze, name):
        limit = f"--threshold={EXPOSURE[name] * 10:.0f}"
        done = analyze("security", "--offline=yes", limit, str(docker / "systemd" / f"{name}.service"))
        assert done.returncode == 0, done.stdout[-400:] + done.stderr
