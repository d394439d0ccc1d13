"""The pages for IT say commands that our command lines take, files that are there, and the code's own numbers."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from commands import parsed
from fedloupe.messages import MAX_BYTES
from fedloupe_client.health import CONTACT_S
from fedloupe_server.hub.service import Ports

PAGES = ("hospital-it.md", "coordinator-it.md")


@pytest.fixture(params=PAGES)
def page(request, docker) -> str:
    return (docker.parent / "docs" / request.param).read_text(encoding="utf-8")


def commands_of(page: str) -> list[list[str]]:
    """Words of each of our commands, in blocks and between backticks, with whatever starts it taken off."""
    blocks = [re.sub(r"\\\n\s*", " ", block) for block in re.findall(r"```\n(.*?)```", page, re.DOTALL)]
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL))
    found = []
    for said in lines:
        line = said.replace("run --rm setup ", "run --rm site fedloupe-site ")
        if begins := re.search(r"(?:^|[\s/])(fedloupe(?:-site)?) ([a-z]+ .*)$", line):
            words = shlex.split(f"{begins[1]} {begins[2]}")
            if "..." not in words:
                found.append(words)
    return found


class TestCommands:
    def test_are_taken_by_the_command_line(self, page):
        found = commands_of(page)
        assert len(found) >= 6
        for words in found:
            assert parsed(words)["command"] == words[1]

    def test_files_of_the_repository_are_there(self, page, docker):
        named = set(re.findall(r"(docker/[\w./-]+|benchmarks/[\w.]+|constraints\.txt)", page))
        files = {name.rstrip(".") for name in named} - {"docker/hospital"}
        assert len(files) >= 3
        assert {name for name in files if not (docker.parent / name).exists()} == set()


class TestNumbers:
    def test_of_the_coordinator_are_the_codes(self, docker):
        page = (docker.parent / "docs" / "coordinator-it.md").read_text(encoding="utf-8")
        ports = Ports()
        assert f"TCP {ports.proxy} (`--port`, `--host`)" in page
        assert f"127.0.0.1:{ports.superlink} (`--superlink-port`)" in page
        assert MAX_BYTES == 512 * 2**20 and "at most 512 MiB" in page
        assert f"{MAX_BYTES / 4e6:.0f} million parameters with `plain`, {MAX_BYTES / 8e6:.0f} million" in page

    def test_of_sizes_are_what_their_rule_gives(self, docker):
        page = (docker.parent / "docs" / "coordinator-it.md").read_text(encoding="utf-8")
        rows = re.findall(
            r"^\|[^|]*\| (\d+) \| (\d+) / (\d+) (MB|GB) \|[^|]*\| (\d+) (?:MB|GB) \| (\d+)", page, re.MULTILINE
        )
        assert [row[0] for row in rows] == ["5", "20", "70"] * 2
        for sites, plain, secure, unit, disk, journal in rows:
            model = 1.28 if unit == "MB" else 1.0
            assert float(plain) == round(2 * int(sites) * model)
            assert float(secure) == float(disk) == round(3 * int(sites) * model)
            assert float(journal) == round(20 * model)

    def test_of_the_hospital_are_the_codes(self, docker):
        page = (docker.parent / "docs" / "hospital-it.md").read_text(encoding="utf-8")
        assert f"within {CONTACT_S:.0f} s" in page
        assert f"127.0.0.1:{parsed(['fedloupe-site', 'courier', 'C', '--socket', 'S'])['port']} " in page

    def test_the_units_and_images_live_where_the_pages_say(self, docker):
        page = (docker.parent / "docs" / "hospital-it.md").read_text(encoding="utf-8")
        for name in ("site", "courier"):
            unit = (docker / "systemd" / f"fedloupe-{name}.service").read_text(encoding="utf-8")
            (user,) = re.findall(r"^User=(.+)$", unit, re.MULTILINE)
            assert f"/usr/sbin/nologin {user}\n" in page
            ((program, folder),) = re.findall(r"^ExecStart=(\S+) \w+ (\S+)", unit, re.MULTILINE)
            assert Path(program).parent == Path("/opt/fedloupe/bin")
            assert f"install -d -o {user} -g fedloupe -m 0700 {folder}\n" in page
            assert f"chown -R {user}:fedloupe {folder}\n" in page
